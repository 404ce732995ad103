"""What a step can ask about its own attempt: `current_step()`."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from durable.clock import to_datetime
from durable.errors import NotAllowedInWorkflow
from durable.model.scope import STEP

_log = logging.getLogger("durable.step")


class StepContext:
    """One attempt of a step."""

    __slots__ = (
        "_deadline",
        "_log",
        "attempt",
        "cancelled",
        "idempotency_key",
        "name",
        "run_id",
        "workflow",
    )

    def __init__(
        self, run_id: str, workflow: str, name: str, cmd: int, attempt: int, deadline: int | None
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.name = name
        self.attempt = attempt
        """1 for the first."""
        self.idempotency_key = f"{run_id}:{cmd}"
        """The same for every attempt of this call, and for no other call."""
        self.cancelled = False
        """Nobody waits for the result any more. A thread cannot be stopped: look here."""
        self._deadline = deadline
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out."""
        return None if self._deadline is None else to_datetime(self._deadline)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run, the step and the attempt."""
        if self._log is None:
            extra = {"run_id": self.run_id, "step": self.name, "attempt": self.attempt}
            self._log = logging.LoggerAdapter(_log, extra)
        return self._log

    def heartbeat(self, details: object = None, /) -> None:
        """Progress that the next attempt can read; not built yet."""
        message = "heartbeats of steps cannot be used yet"
        raise NotImplementedError(message)

    def last_heartbeat(self, type: Any = None, /) -> Any:
        """What the last attempt reported, read as `type`; not built yet."""
        self.heartbeat(type)

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
