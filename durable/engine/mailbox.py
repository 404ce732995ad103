"""What came for a run, and what its code waits for: each event goes to the oldest wait that it fits.

Events enter history when they arrive, awaited or not; which wait takes which one follows from history and
code alone. What nobody takes stays, in order, and moves on with `continue_as_new`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from durable.engine.operations import Operation, OperationFuture
from durable.errors import IllegalTransition, PayloadError, RunNotFound, WaitTimeout
from durable.model import history
from durable.model.commands import AnswerRequest, EndWait, Send, Site, StartWait, WriteLog
from durable.model.history import Kind

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.commands import Command

Arrival: TypeAlias = history.EventReceived | history.RequestReceived
"""What lies in the inbox until a wait takes it."""
Accept: TypeAlias = Callable[[Any], Any]
"""Makes the value that the awaiter gets of an event; `PayloadError` when the event does not fit."""

NO_DEFAULT: Any = object()
"""A wait that has none: its time-out is an error."""
UNKNOWN = "unknown"
ENDED = "ended"
"""Why an event could not be sent."""
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


class Host(Protocol):
    """The instance, as its mailbox sees it."""

    run_id: str

    @property
    def loop(self) -> WorkflowLoop: ...
    def next_command(self) -> int: ...
    def open(self, operation: Operation) -> None: ...
    def close(self, cmd: int) -> bool: ...
    def emit(self, command: Command) -> None: ...


class WaitOperation:
    """A wait for one event, for any or all of several, for a request, or for a person's input."""

    __slots__ = ("_mailbox", "accept", "command", "default", "future", "got", "where")

    def __init__(
        self,
        mailbox: Mailbox,
        command: StartWait,
        accept: Accept,
        where: Callable[[Any], object] | None,
        default: Any,
    ) -> None:
        self._mailbox = mailbox
        self.command = command
        self.accept = accept
        self.where = where
        self.default = default
        self.future = OperationFuture(loop=mailbox.loop)
        self.future.operation = self
        self.got: dict[str, tuple[Arrival, Any]] = {}
        """Of a wait for several: what has come, and the value that it became."""

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
        self._mailbox.give_up(self)

    def settle(self, value: Any) -> None:
        self.future.operation = None
        if not self.future.done():
            self.future.set_result(value)

    def refuse(self, error: BaseException) -> None:
        self.future.operation = None
        if not self.future.done():
            self.future.set_exception(error)


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


class Mailbox:
    """Arrivals that nobody has taken, and waits for which nothing has arrived."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unread: dict[tuple[str, str], list[Arrival]] = {}
        """By kind and name, in their order."""
        self._waiting: dict[tuple[str, str], dict[int, WaitOperation]] = {}
        """By kind and name; the oldest first."""

    @property
    def loop(self) -> WorkflowLoop:
        return self._host.loop

    # -- what the code asks for

    def wait(
        self,
        start: Callable[[int], StartWait],
        accept: Accept,
        *,
        where: Callable[[Any], object] | None = None,
        default: Any = NO_DEFAULT,
    ) -> OperationFuture:
        """A future of what is waited for; `start` makes the command for its number."""
        command = start(self._host.next_command())
        operation = WaitOperation(self, command, accept, where, default)
        self._host.open(operation)
        for name in command.names:
            self._waiting.setdefault((command.kind, name), {})[command.cmd] = operation
        self._host.emit(command)
        self._look_for(operation)
        return operation.future

    def send(
        self, name: str, payload: bytes, *, target: str | None, key: str | None, site: Site
    ) -> OperationFuture:
        """Send an event to run `target`, or publish it under `key`; done when it is there."""
        command = Send(self._host.next_command(), name, payload, target, key, site)
        # Whoever gives up waiting does not call it back: it may be there already.
        future = OperationFuture(loop=self.loop)
        self._host.open(SendOperation(command, future))
        self._host.emit(command)
        return future

    def answer(self, number: int, name: str, answer: bytes | None, rejected: str | None) -> None:
        """Answer a request that a wait has taken."""
        self._host.emit(AnswerRequest(number, name, answer, rejected))

    # -- what events do

    def on_event(self, event: history.EventReceived) -> None:
        self._arrived("event", event)

    def on_request(self, event: history.RequestReceived) -> None:
        self._arrived("request", event)

    def on_input(self, event: history.InputProvided) -> None:
        """A person answered. One that does not fit leaves the question open."""
        operation = self._waiting.get(("input", event.name), {}).get(event.cmd)
        if operation is None:
            return  # nobody asks any more
        try:
            value = operation.accept(event)
        except PayloadError as error:
            self._tell(f"input {event.name} does not fit and is asked for again: {error}")
            self._host.emit(operation.command)
            return
        self._end(operation)
        operation.settle(value)

    def on_started(
        self, operation: WaitOperation, event: history.WaitStarted | history.InputRequested
    ) -> None:
        command = operation.command
        if command.due != event.due:
            # What was promised when it was written down holds, whatever the code says now.
            operation.command = StartWait(
                command.cmd,
                command.kind,
                command.names,
                command.mode,
                command.key,
                event.due,
                command.site,
                command.form,
                command.to,
            )
            self._host.emit(operation.command)

    def on_timed_out(self, operation: WaitOperation) -> None:
        """Its time is up, or somebody ended it from outside."""
        self._end(operation)
        self._put_back(operation)
        if operation.default is not NO_DEFAULT:
            operation.settle(operation.default)
            return
        message = (
            f"run {self._host.run_id}: no {operation.kind} {operation.name} came in time "
            f"({operation.site})"
        )
        operation.refuse(WaitTimeout(message))

    def on_cancelled(self, event: history.WaitCancelled) -> None:
        """The oldest wait of this name times out now."""
        found = [
            operation
            for (_, name), waiting in self._waiting.items()
            if name == event.name
            for operation in waiting.values()
        ]
        if found:
            self.on_timed_out(min(found, key=lambda operation: operation.cmd))

    def on_sent(self, operation: Operation, event: history.MessageSent) -> None:
        assert isinstance(operation, SendOperation)
        future = operation.future
        if future.done():
            return
        if event.refused is None:
            future.set_result(None)
        elif event.refused == ENDED:
            message = f"run {event.target} has ended: it takes no event {event.name}"
            future.set_exception(IllegalTransition(message))
        else:
            future.set_exception(RunNotFound(f"there is no run {event.target}"))

    # -- matching

    def _arrived(self, kind: str, event: Arrival) -> None:
        waiting = self._waiting.get((kind, event.name))
        for operation in list(waiting.values()) if waiting else ():
            if self._take(operation, event):
                return
        self._unread.setdefault((kind, event.name), []).append(event)

    def _look_for(self, operation: WaitOperation) -> None:
        """Give a new wait what has come before it."""
        command = operation.command
        for event in list(self._candidates(command)):
            if operation.future.done():
                return
            if event.name not in operation.got and self._take(operation, event):
                self._unread[command.kind, event.name].remove(event)

    def _candidates(self, command: StartWait) -> Iterator[Arrival]:
        if len(command.names) == 1:
            yield from self._unread.get((command.kind, command.names[0]), ())
            return
        found = [
            event for name in command.names for event in self._unread.get((command.kind, name), ())
        ]
        yield from sorted(found, key=lambda event: event.number)

    def _take(self, operation: WaitOperation, event: Arrival) -> bool:
        """Give it to this wait, if it fits."""
        command = operation.command
        key = getattr(event, "key", None)
        if (key is not None and key != command.key) or event.name in operation.got:
            return False
        try:
            value = operation.accept(event)
        except PayloadError as error:
            self._tell(f"{command.kind} {event.name} stays unread, it does not fit: {error}")
            return False
        try:
            if operation.where is not None and not operation.where(value):
                return False
        except Exception as error:  # the predicate is the workflow's own code
            self._end(operation)
            operation.refuse(error)
            return False
        if command.mode == "all":
            operation.got[event.name] = event, value
            if len(operation.got) == len(command.names):
                self._end(operation)
                operation.settle({name: operation.got[name][1] for name in command.names})
            return True
        self._end(operation)
        operation.settle((event.name, value) if command.mode == "any" else value)
        return True

    def give_up(self, operation: WaitOperation) -> None:
        """Its awaiter is gone."""
        self._end(operation)
        self._put_back(operation)

    def _put_back(self, operation: WaitOperation) -> None:
        """What a wait for all had taken is there for others, in its old place."""
        for event, _ in operation.got.values():
            unread = self._unread.setdefault((operation.kind, event.name), [])
            unread.append(event)
            unread.sort(key=lambda event: event.number)
        operation.got = {}

    def _end(self, operation: WaitOperation) -> None:
        command = operation.command
        for name in command.names:
            waiting = self._waiting[command.kind, name]
            waiting.pop(command.cmd, None)
            if not waiting:
                del self._waiting[command.kind, name]
        self._host.close(command.cmd)
        self._host.emit(EndWait(command.cmd))

    def _tell(self, text: str) -> None:
        self._host.emit(WriteLog(_WARNING, "run %s: %s", (self._host.run_id, text), {}))

    # -- from one generation to the next

    @property
    def unread(self) -> list[Arrival]:
        """What nobody has taken, in the order of its arrival."""
        waiting = {
            id(operation): operation
            for operations in self._waiting.values()
            for operation in operations.values()
        }
        taken = [event for operation in waiting.values() for event, _ in operation.got.values()]
        unread = [event for events in self._unread.values() for event in events]
        return sorted(unread + taken, key=lambda event: event.number)

    def take_over(self, unread: tuple[Arrival, ...]) -> None:
        """They came for an earlier generation."""
        for event in unread:
            kind = "event" if isinstance(event, history.EventReceived) else "request"
            self._unread.setdefault((kind, event.name), []).append(event)
