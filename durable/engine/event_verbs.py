"""Verbs for events and requests: waiting for them, and sending them to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from durable.engine.calls import Call
from durable.engine.verbs import Verbs
from durable.engine.waits import NO_DEFAULT, checked_timeout, due_at
from durable.model.commands import StartWait
from durable.model.duration import Duration
from durable.model.events import NO_PAYLOAD, Event, PendingRequest, Request, awaited, sent
from durable.model.history import WaitMode
from durable.model.naming import checked_text, is_async
from durable.model.payload import Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from typing_extensions import TypeForm

    from durable.model.history import EventReceived, RequestReceived

T = TypeVar("T")
A = TypeVar("A")
D = TypeVar("D")


class EventVerbs(Verbs):
    """Verbs for events and requests: waiting for them, and sending them to others."""

    # -- one event

    @overload
    async def wait_for_event(
        self,
        event: type[T] | Event[T],
        /,
        *,
        timeout: Duration | None = None,
        where: Callable[[T], bool] | None = None,
        key: str | None = None,
    ) -> T: ...
    @overload
    async def wait_for_event(
        self,
        event: type[T] | Event[T],
        /,
        *,
        timeout: Duration,
        default: D,
        where: Callable[[T], bool] | None = None,
        key: str | None = None,
    ) -> T | D: ...
    @overload
    async def wait_for_event(
        self,
        event: str,
        type: TypeForm[T],
        /,
        *,
        timeout: Duration | None = None,
        where: Callable[[T], bool] | None = None,
        key: str | None = None,
    ) -> T: ...
    @overload
    async def wait_for_event(
        self,
        event: str,
        type: TypeForm[T],
        /,
        *,
        timeout: Duration,
        default: D,
        where: Callable[[T], bool] | None = None,
        key: str | None = None,
    ) -> T | D: ...
    @overload
    async def wait_for_event(
        self,
        event: str,
        /,
        *,
        timeout: Duration | None = None,
        default: Any = ...,
        where: Callable[[Any], bool] | None = None,
        key: str | None = None,
    ) -> Any: ...
    def wait_for_event(
        self,
        event: Any,
        type: Any = Any,
        /,
        *,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
        where: Callable[[Any], object] | None = None,
        key: str | None = None,
    ) -> Any:
        """Wait for an event: by its name (and type), as an `Event`, or as a class, whose name it has.

        It gives the oldest one that came for this run and that nobody took, before or after this call. One
        that is not of the type stays in the inbox, and so does one that `where` refuses, a pure function of the
        payload. With `key` it also takes what was published under that key. After `timeout` (seconds or a
        timedelta) it raises `WaitTimeout`, or gives `default`.
        """
        name, shape = awaited(event, type)
        if where is not None and is_async(where):
            message = f"wait_for_event(where=) of {name} must be a plain function, not a coroutine"
            raise TypeError(message)
        seconds = checked_timeout(timeout, default, "wait_for_event")
        arguments = ({name: shape}, "one", seconds, default, where, _checked_key(key))
        return Call(self._instance.calls, self._begin_wait, arguments)

    # -- one or all of several

    @overload
    async def wait_for_any(
        self,
        events: Sequence[type[T] | Event[T]],
        /,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> tuple[str, T]: ...
    @overload
    async def wait_for_any(
        self,
        events: Sequence[type[T] | Event[T]],
        /,
        *,
        timeout: Duration,
        default: D,
        key: str | None = None,
    ) -> tuple[str, T] | D: ...
    @overload
    async def wait_for_any(
        self,
        events: Sequence[str],
        /,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> tuple[str, Any]: ...
    @overload
    async def wait_for_any(
        self,
        events: Sequence[str],
        /,
        *,
        timeout: Duration,
        default: D,
        key: str | None = None,
    ) -> tuple[str, Any] | D: ...
    def wait_for_any(
        self,
        events: Sequence[Any],
        /,
        *,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
        key: str | None = None,
    ) -> Any:
        """Wait for whichever of these events came first; gives its name and its payload. As `wait_for_event`."""
        shapes = _several(events, "wait_for_any")
        seconds = checked_timeout(timeout, default, "wait_for_any")
        arguments = (shapes, "any", seconds, default, None, _checked_key(key))
        return Call(self._instance.calls, self._begin_wait, arguments)

    @overload
    async def wait_for_all(
        self,
        events: Sequence[type[T] | Event[T]],
        /,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> dict[str, T]: ...
    @overload
    async def wait_for_all(
        self,
        events: Sequence[type[T] | Event[T]],
        /,
        *,
        timeout: Duration,
        default: D,
        key: str | None = None,
    ) -> dict[str, T] | D: ...
    @overload
    async def wait_for_all(
        self,
        events: Sequence[str],
        /,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> dict[str, Any]: ...
    @overload
    async def wait_for_all(
        self,
        events: Sequence[str],
        /,
        *,
        timeout: Duration,
        default: D,
        key: str | None = None,
    ) -> dict[str, Any] | D: ...
    def wait_for_all(
        self,
        events: Sequence[Any],
        /,
        *,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
        key: str | None = None,
    ) -> Any:
        """Wait until each of these events has come once; gives their payloads by name. As `wait_for_event`.

        What had come when it times out or is cancelled stays for others.
        """
        shapes = _several(events, "wait_for_all")
        seconds = checked_timeout(timeout, default, "wait_for_all")
        arguments = (shapes, "all", seconds, default, None, _checked_key(key))
        return Call(self._instance.calls, self._begin_wait, arguments)

    def _begin_wait(
        self,
        call: Call,
        shapes: dict[str, Shape],
        mode: WaitMode,
        seconds: float | None,
        default: Any,
        where: Callable[[Any], object] | None,
        key: str | None,
    ) -> Awaitable[Any]:
        for shape in shapes.values():
            shape.resolve()
        instance = self._instance
        names, due = tuple(shapes), due_at(instance.now, seconds)

        def accept(event: EventReceived) -> Any:
            return shapes[event.name].decode(event.payload, f"event {event.name}")

        return instance.mailbox.wait(
            lambda cmd: StartWait(cmd, "event", names, mode, key, due, call.site),
            accept,
            where=where,
            default=default,
        )

    # -- to others

    @overload
    async def send_event(self, run_id: str, event: Event[T], payload: T, /) -> None: ...
    @overload
    async def send_event(self, run_id: str, event: str, payload: object = None, /) -> None: ...
    @overload
    async def send_event(self, run_id: str, event: object, /) -> None: ...
    def send_event(self, run_id: str, event: Any, payload: Any = NO_PAYLOAD, /) -> Any:
        """Send an event to another run, exactly once; done when it lies in that run's inbox.

        Raises `RunNotFound`, `IllegalTransition` when that run has ended, and `PayloadError`.
        """
        target = checked_text(run_id, "a run id")
        return Call(self._instance.calls, self._begin_send, (*sent(event, payload), target, None))

    @overload
    async def publish(self, event: Event[T], payload: T, /, *, key: str) -> None: ...
    @overload
    async def publish(self, event: str, payload: object = None, /, *, key: str) -> None: ...
    @overload
    async def publish(self, event: object, /, *, key: str) -> None: ...
    def publish(self, event: Any, payload: Any = NO_PAYLOAD, /, *, key: str) -> Any:
        """Publish an event, exactly once, for every run that waits for it under `key`, or will within 7 days."""
        key = checked_text(key, "publish(key=)")
        return Call(self._instance.calls, self._begin_send, (*sent(event, payload), None, key))

    def _begin_send(
        self, call: Call, name: str, payload: bytes, target: str | None, key: str | None
    ) -> Awaitable[None]:
        mailbox = self._instance.mailbox
        return mailbox.send(name, payload, target=target, key=key, site=call.site)

    # -- requests

    @overload
    async def wait_for_request(
        self, request: Request[T, A], /, *, timeout: Duration | None = None
    ) -> PendingRequest[T, A]: ...
    @overload
    async def wait_for_request(
        self, request: Request[T, A], /, *, timeout: Duration, default: D
    ) -> PendingRequest[T, A] | D: ...
    def wait_for_request(
        self,
        request: Any,
        /,
        *,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Wait for a request from outside, the oldest that was not taken; answer it with `reply` or `reject`.

        After `timeout` (seconds or a timedelta) it raises `WaitTimeout`, or gives `default`.
        """
        seconds = checked_timeout(timeout, default, "wait_for_request")
        return Call(self._instance.calls, self._begin_request, (request, seconds, default))

    def _begin_request(
        self, call: Call, request: Any, seconds: float | None, default: Any
    ) -> Awaitable[Any]:
        if not isinstance(request, Request):
            message = f"wait_for_request takes a Request, not {request!r}"
            raise TypeError(message)
        wanted: Request[Any, Any] = request  # pyright: ignore[reportUnknownVariableType]
        asks = shape_of(wanted.asks)
        asks.resolve()
        shape_of(wanted.answers).resolve()
        instance = self._instance
        names, due = (wanted.name,), due_at(instance.now, seconds)

        def accept(event: RequestReceived) -> PendingRequest[Any, Any]:
            def answer(encoded: bytes | None, rejected: str | None) -> None:
                instance.mailbox.answer(event.number, event.name, encoded, rejected)

            payload = asks.decode(event.payload, f"request {event.name}")
            return PendingRequest(wanted, payload, answer)

        return instance.mailbox.wait(
            lambda cmd: StartWait(cmd, "request", names, "one", None, due, call.site),
            accept,
            default=default,
        )


def _checked_key(key: str | None) -> str | None:
    return None if key is None else checked_text(key, "the key of a wait")


def _several(events: object, verb: str) -> dict[str, Shape]:
    """Their shapes by name; an event that is named twice is meant once."""
    if isinstance(events, str | bytes) or not isinstance(events, Sequence) or not events:
        message = f"{verb} takes a list of events with at least one in it, not {events!r}"
        raise TypeError(message)
    shapes: dict[str, Shape] = {}
    for name, shape in map(awaited, cast("Sequence[object]", events)):
        if shapes.setdefault(name, shape) is not shape:
            message = f"{verb} names {name} twice, with different types"
            raise TypeError(message)
    return shapes
