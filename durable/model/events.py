"""What passes between a run and the world: events, requests with an answer, decisions, outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, overload

from durable.model.naming import checked_name
from durable.model.packing import LEAVES
from durable.model.shape import ANY, Shape
from durable.model.shapes import shape_of

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
A = TypeVar("A")
T_co = TypeVar("T_co", covariant=True)

RESERVED: Final = "~"
"""What the names of durable's own messages begin with; those of events must not."""
NO_PAYLOAD: Final[Any] = object()
"""Where an event is an object itself, or has no payload."""
_PLAIN: Final = LEAVES | {list, dict, tuple, set, frozenset}


class Event(Generic[T]):
    """An event's name and the type of its payload: `Event("paid", Paid)`; no type: any payload."""

    __slots__ = ("name", "type")

    name: str
    type: Any

    @overload
    def __init__(self: Event[Any], name: str, /) -> None: ...
    @overload
    def __init__(self, name: str, type: TypeForm[T], /) -> None: ...
    def __init__(self, name: str, type: Any = Any, /) -> None:
        self.name = checked_event_name(name)
        self.type = type

    def __repr__(self) -> str:
        return (
            f"Event({self.name!r})" if self.type is Any else f"Event({self.name!r}, {self.type!r})"
        )


class Request(Generic[T, A]):
    """A question to a running workflow: a `T` goes in, an `A` comes back."""

    __slots__ = ("answers", "asks", "name")

    name: str
    asks: Any
    answers: Any

    def __init__(self, name: str, asks: TypeForm[T], answers: TypeForm[A], /) -> None:
        self.name = checked_name(name, "Request")
        self.asks = asks
        self.answers = answers

    def __repr__(self) -> str:
        return f"Request({self.name!r}, {self.asks!r}, {self.answers!r})"


class PendingRequest(Generic[T_co, A]):
    """A request that a workflow took and has not answered yet. Answer it once."""

    __slots__ = ("_answer", "_answered", "_payload", "_request")

    def __init__(
        self,
        request: Request[T_co, A],
        payload: T_co,
        answer: Callable[[bytes | None, str | None], None],
    ) -> None:
        """`answer` takes the encoded answer, or the reason why there is none."""
        self._request = request
        self._payload = payload
        self._answer = answer
        self._answered = False

    @property
    def payload(self) -> T_co:
        """What was asked."""
        return self._payload

    def reply(self, answer: A, /) -> None:
        """Answer it. `PayloadError` when the answer is not of the request's type; `RuntimeError` the second time."""
        self._check()
        name = self._request.name
        encoded = shape_of(self._request.answers).encode(answer, f"answer to request {name}")
        self._answered = True
        self._answer(encoded, None)

    def reject(self, reason: str, /) -> None:
        """Refuse it: the asker gets `RequestRejected`. `RuntimeError` when it was answered before."""
        self._check()
        self._answered = True
        self._answer(None, str(reason))

    def _check(self) -> None:
        if self._answered:
            message = f"request {self._request.name} was answered already"
            raise RuntimeError(message)

    def __repr__(self) -> str:
        return f"<request {self._request.name}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to `wait_for_approval`; true when approved."""

    approved: bool
    comment: str | None = None
    by: str | None = None
    """Who decided."""
    at: datetime

    def __bool__(self) -> bool:
        return self.approved


@dataclass(frozen=True, slots=True)
class Ok(Generic[T_co]):
    """A call that succeeded, among several (`on_error="complete_all"`)."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Err:
    """A call that failed, among several (`on_error="complete_all"`)."""

    error: Exception


Outcome: TypeAlias = Ok[T_co] | Err
"""What became of a call: `match` it, or ask `isinstance(outcome, Ok)`."""


def checked_event_name(name: object) -> str:
    """`name`, if an event may have it; `TypeError` or `ValueError` otherwise."""
    checked = checked_name(name, "an event")
    if checked.startswith(RESERVED):
        message = f"the name of an event must not begin with {RESERVED!r}, as {checked!r} does"
        raise ValueError(message)
    return checked


def awaited(event: object, type: Any = Any) -> tuple[str, Shape]:
    """The name and shape of an event that is waited for: by its name, as an `Event`, or by its class."""
    if isinstance(event, Event):
        return event.name, shape_of(event.type)  # pyright: ignore[reportUnknownMemberType]
    if isinstance(event, str):
        return checked_event_name(event), shape_of(type)
    name = getattr(event, "__name__", None)
    if not callable(event) or not isinstance(name, str):
        message = f"an event is a name, an Event or a class, not {event!r}"
        raise TypeError(message)
    return checked_event_name(name), shape_of(event)


def sent(event: object, payload: Any) -> tuple[str, bytes]:
    """The name and encoded payload of an event that is sent; `PayloadError` when it does not fit."""
    if not isinstance(event, str | Event):
        if isinstance(event, type):
            message = f"to send {event.__name__}, give an object of that class, not the class"
            raise TypeError(message)
        if payload is not NO_PAYLOAD:
            message = f"an object that is an event has no other payload: {event!r}"
            raise TypeError(message)
        name = checked_event_name(type(event).__name__)
        return name, shape_of(type(event)).encode(event, f"event {name}")
    payload = None if payload is NO_PAYLOAD else payload
    if isinstance(event, str):
        # Without a type to go by, an object is written as what it is.
        shape = ANY if type(payload) in _PLAIN else shape_of(type(payload))
        name = checked_event_name(event)
    else:
        shape, name = shape_of(event.type), event.name
    return name, shape.encode(payload, f"event {name}")
