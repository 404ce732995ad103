"""What came for a run, and what its code waits for: each event goes to the oldest wait that it fits.

Events enter history when they arrive, awaited or not; which wait takes which one follows from history and
code alone. What nobody takes stays, in order, and moves on with `continue_as_new`.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from durable.engine.operations import Operation, OperationFuture, operation_future
from durable.engine.waits import (
    NO_DEFAULT,
    Accept,
    Arrival,
    Reminder,
    SendOperation,
    WaitFuture,
    WaitOperation,
)
from durable.errors import DurableError, IllegalTransition, PayloadError, RunNotFound, WaitTimeout
from durable.model import history
from durable.model.commands import AnswerRequest, EndWait, Send, Site, StartWait, WriteLog

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.commands import Command

UNKNOWN = "unknown"
ENDED = "ended"
FULL = "full"
"""Why an event could not be sent."""
_INFO = 20  # logging.INFO
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it

_Slot: TypeAlias = tuple[str, str]
"""A kind and a name."""
_UNFIT: Final[Any] = object()
_number: Callable[[Arrival], int] = attrgetter("number")


class Host(Protocol):
    """The instance, as its mailbox sees it."""

    run_id: str

    @property
    def loop(self) -> WorkflowLoop: ...
    def next_command(self) -> int: ...
    def open(self, operation: Operation) -> None: ...
    def close(self, cmd: int) -> bool: ...
    def emit(self, command: Command) -> None: ...


class Mailbox:
    """Arrivals that nobody has taken, and waits for which nothing has arrived."""

    # Both are taken from at their front, ten thousand times in a row: an OrderedDict leaves no holes there.

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unread: dict[_Slot, OrderedDict[int, Arrival]] = {}
        """By kind and name; then by number, in that order."""
        self._waiting: dict[_Slot, OrderedDict[int, WaitOperation]] = {}
        """By kind and name; then by command, the oldest first."""
        self._on_their_way: dict[WaitFuture, tuple[Arrival, ...]] = {}
        """What was given to awaiters that have not run since."""

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
        remind: float | None = None,
    ) -> OperationFuture:
        """A future of what is waited for; `start` makes the command for its number.

        A wait that finds at once what it waits for takes a number, and asks for nothing.
        """
        command = start(self._host.next_command())
        future = operation_future(WaitFuture, self.loop)
        future.home = self
        operation = WaitOperation(self, future, command, accept, where=where, default=default)
        self._look_for(operation)
        if future.done():
            return future
        operation.under_way = True
        self._host.open(operation)
        for name in command.names:
            self._waiting.setdefault((command.kind, name), OrderedDict())[command.cmd] = operation
        self._host.emit(command)
        if remind is not None:
            text = f"{command.kind} {command.name} has not come yet"
            whom = f"; asked of {', '.join(command.to)}" if command.to else ""
            operation.reminder = Reminder(self.loop, remind, lambda: self._tell(text + whom, _INFO))
        return future

    def send(
        self, name: str, payload: bytes, *, target: str | None, key: str | None, site: Site
    ) -> OperationFuture:
        """Send an event to run `target`, or publish it under `key`; done when it is there."""
        command = Send(self._host.next_command(), name, payload, target, key, site)
        # Whoever gives up waiting does not call it back: it may be there already.
        future = operation_future(OperationFuture, self.loop)
        self._host.open(SendOperation(command, future))
        self._host.emit(command)
        return future

    def answer(self, number: int, name: str, answer: bytes | None, rejected: str | None) -> None:
        """Answer a request that a wait has taken."""
        self._host.emit(AnswerRequest(number, name, answer, rejected))

    # -- what events do

    def on_event(self, event: Arrival) -> None:
        """An event or a request has come."""
        if not self._offer(event):
            self._keep(event)

    def on_input(self, event: history.InputProvided) -> None:
        """A person answered. One that does not fit leaves the question open."""
        asking = self._waiting.get(("input", event.name))
        operation = None if asking is None else asking.get(event.cmd)
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
        if operation.command.due != event.due:
            # What was promised when it was written down holds, whatever the code says now.
            operation.command = dataclasses.replace(operation.command, due=event.due)
            self._host.emit(operation.command)

    def on_timed_out(self, operation: WaitOperation) -> None:
        """Its time is up, or somebody ended it from outside."""
        given = self._end(operation)
        if operation.default is not NO_DEFAULT:
            operation.settle(operation.default)
        else:
            # Without its line: what the code makes of the text must be the same after an edit above it.
            message = f"run {self._host.run_id}: no {operation.kind} {operation.name} came in time"
            operation.refuse(WaitTimeout(message))
        self.put_back(given)

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
        elif event.refused == FULL:
            message = f"run {event.target} has too many unread events: it did not take {event.name}"
            future.set_exception(DurableError(message))
        else:
            future.set_exception(RunNotFound(f"there is no run {event.target}"))

    # -- matching

    def _offer(self, event: Arrival) -> bool:
        """Give it to the oldest open wait that it fits; False when there is none."""
        failed: list[tuple[WaitOperation, Exception]] = []
        taker: WaitOperation | None = None
        value = _UNFIT
        waiting = self._waiting.get(_slot(event))
        for operation in () if waiting is None else waiting.values():
            try:
                value = self._fitted(operation, event)
            except Exception as raised:  # its predicate is the workflow's own code
                failed.append((operation, raised))
                continue
            if value is not _UNFIT:
                taker = operation
                break
        if taker is not None:
            self._hand_over(taker, event, value)
        for operation, error in failed:
            given = self._end(operation)
            operation.refuse(error)
            self.put_back(given)
        return taker is not None

    def _look_for(self, operation: WaitOperation) -> None:
        """Give a new wait what has come before it."""
        kind, names = operation.command.kind, operation.command.names
        each: Sequence[tuple[str, ...]] = [(name,) for name in names]
        for together in each if operation.command.mode == "all" else [names]:
            try:
                found = self._first_fitting(operation, kind, together)
            except Exception as error:  # its predicate is the workflow's own code
                operation.refuse(error)
                return
            if found is not None:
                event, value = found
                self._unkeep(event)
                self._hand_over(operation, event, value)

    def _first_fitting(
        self, operation: WaitOperation, kind: str, names: tuple[str, ...]
    ) -> tuple[Arrival, Any] | None:
        unread = [
            self._unread[kind, name].values() for name in names if (kind, name) in self._unread
        ]
        events: Iterable[Arrival] = (
            unread[0] if len(unread) == 1 else heapq.merge(*unread, key=_number)
        )
        for event in events:
            value = self._fitted(operation, event)
            if value is not _UNFIT:
                return event, value
        return None

    def _fitted(self, operation: WaitOperation, event: Arrival) -> Any:
        """What the wait makes of it, `_UNFIT` if it may not have it; raises what its predicate raises."""
        key = event.key if isinstance(event, history.EventReceived) else None
        if (key is not None and key != operation.command.key) or event.name in operation.given:
            return _UNFIT
        try:
            value = operation.accept(event)
        except PayloadError as error:
            self._tell(f"{operation.kind} {event.name} stays unread, it does not fit: {error}")
            return _UNFIT
        if operation.where is not None and not operation.where(value):
            return _UNFIT
        return value

    def _hand_over(self, operation: WaitOperation, event: Arrival, value: Any) -> None:
        command = operation.command
        operation.given[event.name] = event, value
        if command.mode == "all":
            if len(operation.given) < len(command.names):
                return
            value = {name: operation.given[name][1] for name in command.names}
        elif command.mode == "any":
            value = event.name, value
        given = self._end(operation)
        if operation.under_way:
            future = operation.future
            self._on_their_way[future] = given
            future.add_done_callback(self.arrived)  # called after the awaiter
        else:
            operation.future.found = given
        operation.settle(value)

    def arrived(self, future: Any) -> None:
        """Its awaiter has run, and has seen what it was given."""
        self._on_their_way.pop(future, None)

    # -- what goes back

    def give_up(self, operation: WaitOperation) -> None:
        """Its awaiter is gone."""
        self.put_back(self._end(operation))

    def take_back(self, future: WaitFuture) -> None:
        """Its awaiter was cancelled before it saw what it was given."""
        self.put_back(self._on_their_way.pop(future, ()))

    def put_back(self, given: tuple[Arrival, ...]) -> None:
        """Others may have it: a wait that is open, or one to come, which finds it in its old place."""
        for event in sorted(given, key=_number):
            self.on_event(event)

    def _end(self, operation: WaitOperation) -> tuple[Arrival, ...]:
        """It waits no more; what it had taken."""
        given = tuple(event for event, _ in operation.given.values())
        operation.given = {}
        if not operation.under_way:
            return given
        command = operation.command
        for name in command.names:
            waiting = self._waiting.get((command.kind, name))
            if waiting is not None:
                waiting.pop(command.cmd, None)
                if not waiting:
                    del self._waiting[command.kind, name]
        if operation.reminder is not None:
            operation.reminder.stop()
        self._host.close(command.cmd)
        self._host.emit(EndWait(command.cmd))
        return given

    def _keep(self, event: Arrival) -> None:
        """It waits for its wait, after those that came before it."""
        unread = self._unread.setdefault(_slot(event), OrderedDict())
        in_place = not unread or next(reversed(unread)) < event.number
        unread[event.number] = event
        if not in_place:
            for number in sorted(unread):
                unread.move_to_end(number)

    def _unkeep(self, event: Arrival) -> None:
        unread = self._unread[_slot(event)]
        del unread[event.number]
        if not unread:
            del self._unread[_slot(event)]

    def _tell(self, text: str, level: int = _WARNING) -> None:
        self._host.emit(WriteLog(level, "run %s: %s", (self._host.run_id, text), {}))

    # -- from one generation to the next

    @property
    def unread(self) -> list[Arrival]:
        """What no awaiter has seen, in the order of its arrival."""
        open_waits = {
            operation.cmd: operation
            for operations in self._waiting.values()
            for operation in operations.values()
        }
        taken = [event for wait in open_waits.values() for event, _ in wait.given.values()]
        taken += [event for given in self._on_their_way.values() for event in given]
        unread = [event for events in self._unread.values() for event in events.values()]
        return sorted(unread + taken, key=_number)

    def take_over(self, unread: tuple[Arrival, ...]) -> None:
        """They came for an earlier generation."""
        for event in unread:
            self._keep(event)

    def discard(self) -> None:
        """The run is forgotten: no circle is left for the collector."""
        self._waiting.clear()
        self._on_their_way.clear()


def _slot(event: Arrival) -> _Slot:
    return "event" if isinstance(event, history.EventReceived) else "request", event.name
