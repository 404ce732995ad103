"""One run and a worker as it sees it: tests play the store and the step runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from durable.clock import SECOND, Timer, VirtualClock
from durable.model import history
from durable.model.history import NAMES
from durable.model.messages import CANCEL, pack_cancel
from durable.model.payload import ANY
from durable.model.rows import Commit, Message
from durable.model.wire import EventRow, encode_event
from durable.worker.effects import Effect
from durable.worker.execution import Execution
from durable.worker.guard import Guard, Watch


class Host:
    """A worker, as its executions see it."""

    worker_id = 7
    code = "code"

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ran: list[Any] = []
        self.cancelled: list[int] = []
        self.lines: list[Any] = []
        self.warnings: list[str] = []
        self.gone: list[Execution] = []
        self.effects: list[Effect] = []
        self.begun: list[Execution] = []

    def now(self) -> int:
        return self.clock.now()

    def watch(self, workflow: str) -> Watch:
        return Guard("raise", self.warnings.append).watch(workflow)

    def dirty(self, execution: Execution) -> None: ...

    def lost(self, execution: Execution) -> None:
        self.gone.append(execution)

    def run_step(self, execution: Execution, command: Any) -> None:
        self.ran.append(command)

    def cancel_step(self, execution: Execution, cmd: int) -> None:
        self.cancelled.append(cmd)

    def carry_out(self, execution: Execution, effect: Effect) -> None:
        self.effects.append(effect)

    def write_log(self, execution: Execution, command: Any) -> None:
        self.lines.append(command.message)

    def close(self) -> None:
        """No run is left for the garbage collector to end."""
        for execution in self.begun:
            if not execution.dead:
                execution.discard()

    def call_at(self, due: int, callback: Callable[[], object]) -> Timer:
        return self.clock.call_later(max(0, (due - self.now()) / SECOND), callback)

    def warn(self, message: str, *args: object) -> None:
        self.warnings.append(message % args)


def started(host: Host, wf: Any) -> EventRow:
    return encode_event(1, history.RunStarted(host.now(), wf.name, ANY.encode(None, "input")))


def begin(
    host: Host,
    wf: Any,
    *more: EventRow,
    epoch: int = 1,
    lost: int | None = None,
    messages: Sequence[Message] = (),
    again: Sequence[history.Event] = (),
) -> Execution:
    execution = Execution(host, wf, 1, "run", epoch, "default")
    host.begun.append(execution)
    execution.replay([started(host, wf), *more])
    execution.inbox_head = len(messages)
    execution.begin(lost, messages, again)
    return execution


def cancel(number: int = 1) -> Message:
    return Message(1, number, CANCEL, pack_cancel("enough"))


def event(number: int, name: str = "note", value: Any = None) -> Message:
    return Message(1, number, name, ANY.encode(value, name))


def completed(host: Host, cmd: int, value: int = 2, **more: Any) -> history.StepCompleted:
    return history.StepCompleted(
        host.now(), cmd, "add", ANY.encode(value, "result"), 0, 1, 7, "here", **more
    )


def report(execution: Execution, host: Host, cmd: int = 1, value: int = 2) -> None:
    """The step runner reports a result."""
    command = next(command for command in host.ran if command.cmd == cmd)
    assert execution.finished_step(cmd)
    at = host.now()
    payload = ANY.encode(value, "result")
    execution.record(
        history.StepCompleted(
            at, cmd, command.step.name, payload, command.fingerprint, 1, 7, "here"
        )
    )


def apply(execution: Execution) -> Commit | None:
    """What the journal does when all goes well."""
    commit = execution.next_commit()
    if commit is not None:
        execution.in_flight = None
        execution.advance(commit.seq + len(commit.events))
        execution.release()
    return commit


def types(commit: Commit | None) -> list[str]:
    assert commit is not None
    return [NAMES[event.type] for event in commit.events]
