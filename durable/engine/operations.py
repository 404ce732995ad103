"""What a run has under way: one small machine per command that was issued and has not ended.

A machine takes the event that its command waits for and settles the future that the workflow awaits.
Whatever else comes is a mismatch between history and code (see `replay`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durable.engine.loop import LoopTimer, WorkflowLoop
from durable.engine.numbered import WorkflowFuture
from durable.errors import Failure, StepFailed, StepTimeout
from durable.model.commands import CancelStep, RunStep, SetState, SettleStep, Site, StartTimer
from durable.model.failure import decode_failure, rebuild
from durable.model.history import (
    CompensationCompleted,
    CompensationFailed,
    Kind,
    StepCompleted,
)
from durable.model.history import StepFailed as StepFailedEvent

if TYPE_CHECKING:
    from durable.model.commands import Command

F = TypeVar("F", bound="OperationFuture")
_STEP_TIMEOUT = f"{StepTimeout.__module__}:{StepTimeout.__qualname__}"


class Host(Protocol):
    """The instance, as an operation sees it."""

    def emit(self, command: Command) -> None: ...
    def close(self, cmd: int) -> bool:
        """Forget what is open under this number; False when nothing is."""
        ...


class Undoing(Protocol):
    """Where a step with `compensate` is undone, if it has to be."""

    def completed(self, operation: StepOperation, result: bytes) -> None: ...
    def failed(self, operation: StepOperation) -> None: ...


class Operation(Protocol):
    """What history can be matched against."""

    @property
    def kind(self) -> Kind: ...
    @property
    def cmd(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def site(self) -> Site: ...


class Awaited(Operation, Protocol):
    """An operation that somebody awaits."""

    def abandon(self) -> None:
        """Its awaiter is gone."""
        ...


class OperationFuture(WorkflowFuture[Any]):
    """The future that a command's awaiter holds; cancelling it abandons the command."""

    __slots__ = ("operation",)
    operation: Awaited | None

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled and self.operation is not None:
            operation, self.operation = self.operation, None
            operation.abandon()
        return cancelled


def operation_future(kind: type[F], loop: WorkflowLoop) -> F:
    """A new one, of no operation yet."""
    future = kind(loop=loop)
    future.number = loop.next_number()
    future.operation = None
    return future


class StepOperation:
    """A step: attempts that fail go round until one completes or the last one fails."""

    __slots__ = ("command", "future", "given_up", "host", "scope")

    def __init__(
        self, host: Host, command: RunStep, future: OperationFuture, scope: Undoing | None
    ) -> None:
        self.host = host
        self.command = command
        self.future = future
        self.scope = scope
        """Of a step with `compensate`: where it is undone."""
        self.given_up = False
        """Nobody waits for it any more, but what becomes of it must be known, to undo it."""
        future.operation = self

    @property
    def kind(self) -> Kind:
        return "step" if self.command.undoes is None else "undo"

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.step.name

    @property
    def site(self) -> Site:
        return self.command.site

    def fits(self, event: StepCompleted | CompensationCompleted) -> bool:
        """Whether an event of its number is what this step asked for, to the last detail."""
        command = self.command
        return (
            event.fingerprint == command.fingerprint
            and event.name == command.step.name
            and (command.undoes is None) is (type(event) is StepCompleted)
        )

    def complete(self, event: StepCompleted | CompensationCompleted) -> None:
        """The awaiter gets the decoded form of what was recorded, live and on replay alike."""
        step = self.command.step
        value = step.result.decode(event.result, f"result of step {step.name}")
        self.future.operation = None
        if self.scope is not None:
            self.scope.completed(self, event.result)
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, event: StepFailedEvent | CompensationFailed) -> None:
        """The last attempt failed: its exception arrives as its own class and as `StepFailed`."""
        failure = decode_failure(event.failure)
        base = StepTimeout if failure.type == _STEP_TIMEOUT else StepFailed
        self.future.operation = None
        if self.scope is not None:
            self.scope.failed(self)
        if not self.future.done():
            self.future.set_exception(self._error(failure, base, event.attempt))

    def _error(self, failure: Failure, base: type[StepFailed], attempts: int) -> StepFailed:
        error = rebuild(failure, base, step=self.name, attempts=attempts)
        assert isinstance(error, StepFailed)
        return error

    def retry(self, event: StepFailedEvent | CompensationFailed) -> RunStep:
        """The next attempt, due when the event says."""
        command = self.command
        command.attempt = event.attempt + 1
        command.not_before = event.retry_at
        return command

    def abandon(self) -> None:
        """A result that comes later never enters history, unless the step may have to be undone."""
        if self.scope is not None:
            self.given_up = True
            self.host.emit(SettleStep(self.cmd))
        elif self.host.close(self.cmd):
            self.host.emit(CancelStep(self.cmd))


class TimerOperation:
    """A timer of the loop: `asyncio.sleep`, `asyncio.timeout`, `call_later`, `ctx.sleep`."""

    __slots__ = ("command", "timer")

    def __init__(self, command: StartTimer, timer: LoopTimer) -> None:
        self.command = command
        self.timer = timer

    @property
    def kind(self) -> Kind:
        return "timer"

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site


class StateOperation:
    """A value that the run publishes: its event follows at once, and nobody awaits it."""

    __slots__ = ("command",)

    def __init__(self, command: SetState) -> None:
        self.command = command

    @property
    def kind(self) -> Kind:
        return "state"

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site
