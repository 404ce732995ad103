"""One wait for what comes from outside, one event under way to others, one question that reminds."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from durable.clock import after
from durable.engine.operations import OperationFuture
from durable.model import history
from durable.model.commands import Send, Site, StartWait
from durable.model.duration import Duration, seconds_of
from durable.model.history import Kind

if TYPE_CHECKING:
    from durable.engine.loop import LoopTimer, WorkflowLoop

Arrival: TypeAlias = history.EventReceived | history.RequestReceived
"""What lies in the inbox until a wait takes it."""
Accept: TypeAlias = Callable[[Any], Any]
"""Makes the value that the awaiter gets of an event; `PayloadError` when the event does not fit."""
Given: TypeAlias = dict[str, tuple[Arrival, Any]]
"""By name: what a wait has taken, and the value that it became."""

NO_DEFAULT: Final[Any] = object()
"""A wait that has none: its time-out is an error."""


def checked_timeout(timeout: Duration | None, default: Any, verb: str) -> float | None:
    """The time-out of a wait in seconds; `TypeError` for a default that could never be given."""
    if timeout is not None:
        return seconds_of(timeout, f"{verb}(timeout=)")
    if default is not NO_DEFAULT:
        message = (
            f"{verb}(default=) is what a wait gives that passes its timeout: give timeout= too"
        )
        raise TypeError(message)
    return None


def due_at(now: int, seconds: float | None) -> int | None:
    """When a wait that begins `now` times out."""
    return None if seconds is None else after(now, seconds)


class Home(Protocol):
    """The mailbox, as a wait sees it."""

    def give_up(self, operation: WaitOperation) -> None: ...
    def take_back(self, future: WaitFuture) -> None: ...
    def put_back(self, given: tuple[Arrival, ...]) -> None: ...
    def arrived(self, future: WaitFuture) -> None: ...


class WaitFuture(OperationFuture):
    """What the awaiter of a wait holds.

    An awaiter that is cancelled between the moment when its wait was given something and the moment when
    it would have seen it gives it back: nothing that came for the run is lost on the way.
    """

    home: Home
    """Set by who makes it."""
    found: tuple[Arrival, ...] = ()
    """What had come already when the wait began."""

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            self.home.take_back(self)
        return super().cancel(msg)

    def result(self) -> Any:
        """Whoever asks has it from here on, whatever he does next: a new generation must not have it too."""
        self.home.arrived(self)
        return super().result()

    @property
    def came(self) -> int:
        """The place in the inbox of the last of what it found."""
        return max(event.number for event in self.found)

    def give_back(self) -> None:
        """Nobody makes anything of what it found: it has not come to this wait."""
        found, self.found = self.found, ()
        self.home.put_back(found)


class WaitOperation:
    """A wait for one event, for any or all of several, for a request, or for a person's input."""

    __slots__ = (
        "_home",
        "accept",
        "command",
        "default",
        "future",
        "given",
        "reminder",
        "under_way",
        "where",
    )

    def __init__(
        self,
        home: Home,
        future: WaitFuture,
        command: StartWait,
        accept: Accept,
        *,
        where: Callable[[Any], object] | None,
        default: Any,
    ) -> None:
        self._home = home
        self.command = command
        self.accept = accept
        self.where = where
        self.default = default
        self.future = future
        future.operation = self
        self.given: Given = {}
        """Of a wait for all of several: what has come so far."""
        self.under_way = False
        """It was asked for: it found nothing at once."""
        self.reminder: Reminder | None = None

    @property
    def kind(self) -> Kind:
        return self.command.kind

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site

    def abandon(self) -> None:
        """Nobody waits any more: what it has not given away goes back."""
        self._home.give_up(self)

    def settle(self, value: Any) -> None:
        self.future.operation = None
        if not self.future.done():
            self.future.set_result(value)

    def refuse(self, error: BaseException) -> None:
        self.future.operation = None
        if not self.future.done():
            self.future.set_exception(_bearable(error))


def _bearable(error: BaseException) -> BaseException:
    """What a future can hold: not a `StopIteration`, which would end the coroutine that awaits it as a result."""
    if not isinstance(error, StopIteration):
        return error
    instead = RuntimeError("where= raised StopIteration: give next() a default")
    instead.__cause__ = error
    return instead


class SendOperation:
    """An event under way to another run, or to whoever waits under a key."""

    __slots__ = ("command", "future")

    def __init__(self, command: Send, future: OperationFuture) -> None:
        self.command = command
        self.future = future

    @property
    def kind(self) -> Kind:
        return "message"

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site


class Reminder:
    """A timer that says again and again that a question is open, until it is stopped."""

    __slots__ = ("_loop", "_say", "_seconds", "_timer")

    def __init__(self, loop: WorkflowLoop, seconds: float, say: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._say = say
        self._timer: LoopTimer | None = None
        self._set()

    def _set(self) -> None:
        # An empty context: the first reminder is set in that of the caller, the others in nobody's.
        context = contextvars.Context()
        self._timer = self._loop.call_later(self._seconds, self._remind, context=context)

    def _remind(self) -> None:
        if self._timer is not None:
            self._say()
            self._set()

    def stop(self) -> None:
        """The question is closed."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
