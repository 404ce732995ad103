"""One attempt of a step, and what the step can ask about it: `current_step()`."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

from durable.clock import after, to_datetime
from durable.errors import NotAllowedInWorkflow
from durable.model.scope import STEP

if TYPE_CHECKING:
    from durable.model.commands import RunStep
    from durable.worker.execution import Execution
    from durable.worker.executors import Seats

_log = logging.getLogger("durable.step")


class StepContext:
    """One attempt of a step. What it tells is worked out when it is asked: few steps ask."""

    __slots__ = ("_log", "attempt", "cancelled", "command", "execution", "seats", "started", "task")

    def __init__(self, execution: Execution, command: RunStep, started: int) -> None:
        self.execution = execution
        self.command = command
        self.attempt = command.attempt
        """The number of this attempt, 1 for the first."""
        self.started = started
        """When the attempt began, in microseconds of the database's time."""
        self.task: asyncio.Task[None] | None = None
        self.seats: Seats | None = None
        """Where it holds a seat, until a thread or process has taken it over."""
        self.cancelled = False
        """Nobody waits for the result any more. A thread cannot be stopped: look here."""
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def run_id(self) -> str:
        """The run that the step belongs to."""
        return self.execution.id

    @property
    def workflow(self) -> str:
        """The name of the run's workflow."""
        return self.execution.workflow.name

    @property
    def name(self) -> str:
        """The step's name."""
        return self.command.step.name

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this call, and for no other call."""
        return f"{self.run_id}:{self.command.cmd}"

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out."""
        timeout = self.command.step.timeout
        return None if timeout is None else to_datetime(after(self.started, timeout))

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run, the step and the attempt."""
        if self._log is None:
            extra = {"run_id": self.run_id, "step": self.name, "attempt": self.attempt}
            self._log = logging.LoggerAdapter(_log, extra)
        return self._log

    def heartbeat(self, details: object = None, /) -> None:
        """Go on, or stop here: raises `asyncio.CancelledError` once nobody waits for the result any more.

        A thread cannot be stopped from outside: call this where the step can end. It costs next to nothing.
        Progress that the next attempt can read (`details`) is not built yet.
        """
        if details is not None:
            message = "progress that is saved with a heartbeat (details) cannot be used yet"
            raise NotImplementedError(message)
        if self.cancelled:
            message = (
                f"step {self.name} of run {self.run_id}: nobody waits for attempt {self.attempt} "
                "any more: it was cancelled or timed out, or its worker stops"
            )
            raise asyncio.CancelledError(message)

    def last_heartbeat(self, type: Any = None, /) -> Any:
        """What the last attempt reported, read as `type`; not built yet."""
        message = "progress that is saved with a heartbeat cannot be read yet"
        raise NotImplementedError(message)

    def emit(self, chunk: object, /, *, stream: str = "output") -> None:
        """Output streamed to a reader; not built yet."""
        message = "streams of steps cannot be used yet"
        raise NotImplementedError(message)


def current_step() -> StepContext:
    """The attempt that is running here; `NotAllowedInWorkflow` outside of a step."""
    context = STEP.get()
    if not isinstance(context, StepContext):
        message = "current_step() outside of a step: only a step that a worker runs has an attempt"
        raise NotAllowedInWorkflow(message)
    return context
