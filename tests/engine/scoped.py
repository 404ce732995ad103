"""A driver for runs with children, sagas, cancels and generations; otherwise as `tests.engine.driver`.

What enters the history with the event that led to it (a child's start, a state, a patch, the beginning of
the compensations) is written right after it, in order, as a worker does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeAlias

from durable.engine.instance import Instance
from durable.model import history
from durable.model.commands import (
    BeginCompensation,
    CancelChild,
    CancelRun,
    Command,
    CompleteRun,
    ContinueRun,
    EndChildWait,
    FailRun,
    MarkPatched,
    RunStep,
    SetState,
    SettleStep,
    StartChild,
)
from durable.model.failure import decode_failure, encode_failure, failure_of
from durable.model.payload import ANY
from durable.model.runnable import Workflow
from tests.engine.driver import MOST_EVENTS, START, Driver, Recording, Stuck, same_on_replay

ChildEnds: TypeAlias = Callable[[StartChild], Any]
"""How a child ends: a value, an exception, `CANCELLED`, or `NEVER` unless it is cancelled."""
CANCELLED = object()
NEVER = object()
REFUSED = object()
FAR = START * 100


def gives_its_input(command: StartChild) -> Any:
    """A child that returns what it was given."""
    return ANY.decode(command.started.input, "input of a child")


class Scoped(Driver):
    """One live run with all that surrounds it.

    `cancel_at` and `late_at` are lengths of the history at which it is cancelled, and its deadline passes.
    """

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        input: Any = None,
        *,
        children: ChildEnds = gives_its_input,
        cancel_at: int | None = None,
        late_at: int | None = None,
        **options: Any,
    ) -> None:
        self.children = children
        self.cancel_at = cancel_at
        self.late_at = late_at
        self.to_write: deque[history.Event] = deque()
        self.child_ends: dict[int, tuple[StartChild, Any]] = {}
        """Children that have not ended, by command, and how they will."""
        self.cancelled_children: list[str] = []
        self.unbegun: set[int] = set()
        """Steps that were given up before their attempt began."""
        self.end: Any = None
        self._writing = False
        super().__init__(workflow, input, **options)

    # -- events

    def record(self, event: history.Event) -> list[Command]:
        commands = super().record(event)
        if not self._writing:
            self._writing = True
            inside = []
            while self.to_write:
                inside.append(len(self.recording.rows))
                if isinstance(self.to_write[0], history.Patched):
                    # Cut before it, the history would say that the code has gone the old way.
                    self.recording.inseparable.update(inside[1:])
                super().record(replace(self.to_write.popleft(), at=self.now))  # type: ignore[type-var]
            self._writing = False
        return commands

    def take(self, command: Command) -> None:
        match command:
            case SettleStep():
                self.settle(command.cmd)
            case StartChild():
                self.start_child(command)
            case EndChildWait():
                del self.under_way[command.cmd]
            case CancelChild():
                self.cancel_child(command.child_id)
            case SetState():
                self.to_write.append(
                    history.StateSet(self.now, command.cmd, command.name, command.payload)
                )
            case MarkPatched():
                self.to_write.append(history.Patched(self.now, command.name))
            case BeginCompensation():
                self.to_write.append(history.CompensationStarted(self.now))
            case CompleteRun() | FailRun() | CancelRun() | ContinueRun():
                assert self.end is None, "it ends twice"
                self.end = command
            case _:
                super().take(command)

    def settle(self, cmd: int) -> None:
        """An attempt that has not begun is not begun any more."""
        ends, command = self.under_way[cmd]
        assert isinstance(command, RunStep)
        if command.not_before is not None and command.not_before > self.now:
            self.unbegun.add(cmd)
            ends = self.now
        self.under_way[cmd] = ends, command

    def start_child(self, command: StartChild) -> None:
        self.to_write.append(
            history.ChildStarted(
                self.now,
                command.cmd,
                command.name,
                command.child_id,
                command.fingerprint,
                str(command.site),
                command.abandoned,
            )
        )
        end = self.children(command)
        ends = FAR if end is NEVER else self.now + self.random.choice(self.latencies)
        self.child_ends[command.cmd] = command, end
        self.under_way[-command.cmd] = ends, command  # type: ignore[assignment]
        if command.due is not None:
            self.under_way[command.cmd] = command.due, command  # type: ignore[assignment]

    def cancel_child(self, child_id: str) -> None:
        self.cancelled_children.append(child_id)
        for cmd, (command, end) in self.child_ends.items():
            if command.child_id == child_id:
                if end is NEVER or self.random.random() < 0.7:
                    self.child_ends[cmd] = command, CANCELLED
                soon = self.now + self.random.choice(self.latencies)
                self.under_way[-cmd] = soon, command  # type: ignore[assignment]

    # -- driving it

    def step_forward(self) -> bool:
        length = len(self.recording.rows)
        if self.end is not None:
            return self.next_generation()
        if self.cancel_at is not None and length >= self.cancel_at:
            self.cancel_at = None
            self.cancel()
            return True
        if self.late_at is not None and length >= self.late_at:
            self.late_at = None
            self.record(history.DeadlinePassed(self.now))
            return True
        if all(ends >= FAR for ends, _ in self.under_way.values()):
            return False
        return super().step_forward()

    def cancel(self, reason: str | None = "because") -> list[Command]:
        """Somebody cancels the run."""
        self._messages += 1
        return self.record(history.CancelRequested(self.now, reason, self._messages))

    def happen(self, cmd: int) -> list[Command]:
        ends, command = self.under_way[cmd]
        if not isinstance(command, StartChild):
            return super().happen(cmd)
        del self.under_way[cmd]
        self.now = max(self.now, ends)
        if cmd > 0:
            return self.record(history.WaitTimedOut(self.now, cmd, command.name, "child"))
        return self.record(self.child_end(-cmd))

    def child_end(self, cmd: int) -> history.Event:
        """What the parent hears of a child's end."""
        command, end = self.child_ends.pop(cmd)
        self._messages += 1
        if end is REFUSED:
            return history.ChildRefused(self.now, cmd, command.child_id)
        if end is CANCELLED:
            number = self._messages
            return history.ChildFailed(self.now, cmd, "cancelled", None, "because", number)
        if isinstance(end, BaseException):
            failure = encode_failure(failure_of(end))
            return history.ChildFailed(self.now, cmd, "failed", failure, None, self._messages)
        return history.ChildCompleted(self.now, cmd, ANY.encode(end, "result"), self._messages)

    def attempt(self, command: RunStep) -> history.Event:
        if command.cmd in self.unbegun:
            self.unbegun.discard(command.cmd)
            event: Any = history.StepFailed(
                self.now,
                command.cmd,
                command.step.name,
                encode_failure(failure_of(asyncio.CancelledError("it was not begun"))),
                command.fingerprint,
                0,
                1,
                str(command.site),
                command.attempt,
            )
        else:
            event = super().attempt(command)
        if command.undoes is None:
            return event  # type: ignore[no-any-return]
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        if isinstance(event, history.StepCompleted):
            return history.CompensationCompleted(**values, step=command.undoes)
        return history.CompensationFailed(**values, step=command.undoes)

    def next_generation(self) -> bool:
        """A run that ended to begin anew does so."""
        end = self.end
        if not isinstance(end, ContinueRun):
            return False
        self.end = None
        self.instance.discard()
        self.instance = Instance(self.workflow, self.recording.run_id)
        self.recording.instance = self.instance
        self.under_way = {cmd: item for cmd, item in self.under_way.items() if cmd < 0}
        self.promised.clear()
        name = self.workflow.name
        if end.failure is None:
            event: history.Event = history.ContinuedAsNew(
                self.now, name, end.input, end.base, end.carried
            )
        else:
            event = history.RunRetried(
                self.now,
                name,
                end.input,
                end.base,
                end.carried,
                end.failure,
                end.attempt,
                end.due,
            )
        self.record(event)
        return True

    def finish(self) -> Recording:
        while self.step_forward():
            if len(self.recording.rows) > MOST_EVENTS:
                message = f"more than {MOST_EVENTS} events"
                raise Stuck(message)
        end, recording = self.end, self.recording
        if isinstance(end, CompleteRun):
            recording.outcome = self.workflow.result.decode(end.result, "result")
            self.record(history.RunCompleted(self.now, end.result))
        elif isinstance(end, FailRun):
            recording.failed = True
            recording.outcome = decode_failure(end.failure)
            self.record(history.RunFailed(self.now, end.failure, end.status))
        elif isinstance(end, CancelRun):
            recording.failed = True
            recording.outcome = end.reason
            self.record(history.RunCancelled(self.now, end.reason, end.status))
        else:
            recording.outcome = Stuck("nothing is under way")
        self.instance.discard()
        self.made.remove(self)
        return recording


def scoped(workflow: Workflow[Any, Any], input: Any = None, **options: Any) -> Recording:
    """Run a workflow to its end; see `Scoped`."""
    return Scoped(workflow, input, **options).finish()


def ended(workflow: Workflow[Any, Any], input: Any = None, **options: Any) -> Recording:
    """The same; every replay, of any prefix, must be alike."""
    recording = scoped(workflow, input, **options)
    assert not isinstance(recording.outcome, Stuck), recording.outcome
    assert same_on_replay(workflow, recording)
    return recording


def status_of(recording: Recording) -> str:
    """The status with which a run ended."""
    told = next(
        told
        for commands in reversed(recording.trace)
        for told in commands
        if told[0] in ("complete", "fail", "cancelled")
    )
    return "completed" if told[0] == "complete" else str(told[-1])


def kinds(recording: Recording) -> list[str]:
    """The types of the events of a history, in order."""
    return [history.NAMES[row.type] for row in recording.rows]
