"""What passes between a run and the world: events, requests with an answer, decisions, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar, overload

from durable.model.naming import checked_name

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
A = TypeVar("A")
T_co = TypeVar("T_co", covariant=True)


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
        self.name = checked_name(name, "Event")
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
    """A request that a workflow took and has not answered yet."""

    __slots__ = ()

    def __init__(self) -> None:
        self._not_built()

    @property
    def payload(self) -> T_co:
        """What was asked."""
        self._not_built()

    def reply(self, answer: A, /) -> None:  # noqa: ARG002
        """Answer it."""
        self._not_built()

    def reject(self, reason: str, /) -> None:  # noqa: ARG002
        """Refuse it: the asker gets `RequestRejected`."""
        self._not_built()

    @staticmethod
    def _not_built() -> NoReturn:
        message = "requests to workflows cannot be used yet"
        raise NotImplementedError(message)


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
