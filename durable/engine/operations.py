"""What a run has under way: one small machine per command that was issued and has not ended.

A machine takes the event that its command waits for and settles the future that the workflow awaits. Its
legal moves stand in a table; everything else is a mismatch between history and code (see `replay`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from durable.engine.loop import LoopTimer, WorkflowLoop
from durable.engine.numbered import WorkflowFuture
from durable.errors import Failure, StepFailed, StepTimeout
from durable.model.commands import RunStep, Site, StartTimer
from durable.model.failure import decode_failure, rebuild
from durable.model.history import Kind, StepCompleted
from durable.model.history import StepFailed as StepFailedEvent

if TYPE_CHECKING:
    from durable.model.commands import Command

_STEP_TIMEOUT = f"{StepTimeout.__module__}:{StepTimeout.__qualname__}"


class Host(Protocol):
    """The instance, as an operation sees it."""

    def emit(self, command: Command) -> None: ...
    def abandon(self, operation: Operation) -> None: ...


class Operation(Protocol):
    """What history can be matched against."""

    kind: ClassVar[Kind]

    @property
    def cmd(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def site(self) -> Site: ...


class OperationFuture(WorkflowFuture[Any]):
    """The future that a command's awaiter holds; cancelling it abandons the command."""

    __slots__ = ("_host", "operation")

    def __init__(self, *, loop: WorkflowLoop, host: Host) -> None:
        super().__init__(loop=loop)
        self._host = host
        self.operation: StepOperation | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled and self.operation is not None:
            self._host.abandon(self.operation)
        return cancelled


class StepOperation:
    """A step: attempts that fail go round until one completes or the last one fails."""

    kind: ClassVar[Kind] = "step"
    __slots__ = ("command", "future")

    def __init__(self, command: RunStep, future: OperationFuture) -> None:
        self.command = command
        self.future = future
        future.operation = self

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.step.name

    @property
    def site(self) -> Site:
        return self.command.site

    def complete(self, event: StepCompleted) -> None:
        """The awaiter gets the decoded form of what was recorded, live and on replay alike."""
        step = self.command.step
        value = step.result.decode(event.result, f"result of step {step.name}")
        self.future.operation = None
        self.future.set_result(value)

    def fail(self, event: StepFailedEvent) -> None:
        """The last attempt failed: its exception arrives as its own class and as `StepFailed`."""
        failure = decode_failure(event.failure)
        base = StepTimeout if failure.type == _STEP_TIMEOUT else StepFailed
        self.future.operation = None
        self.future.set_exception(self._error(failure, base, event.attempt))

    def _error(self, failure: Failure, base: type[StepFailed], attempts: int) -> StepFailed:
        error = rebuild(failure, base, step=self.name, attempts=attempts)
        assert isinstance(error, StepFailed)
        return error

    def retry(self, event: StepFailedEvent) -> RunStep:
        """The next attempt, due when the event says."""
        command = self.command
        command.attempt = event.attempt + 1
        command.not_before = event.retry_at
        return command


class TimerOperation:
    """A timer of the loop: `asyncio.sleep`, `asyncio.timeout`, `call_later`, `ctx.sleep`."""

    kind: ClassVar[Kind] = "timer"
    __slots__ = ("command", "timer")

    def __init__(self, command: StartTimer, timer: LoopTimer) -> None:
        self.command = command
        self.timer = timer

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site
