"""Whose code is running here: that of a workflow, of an attempt of a step, or neither.

The engine sets `ACTIVATION` in the context of a run, a worker sets `STEP` round each attempt. Both
are context variables, so tasks and threads that are given a copy of the context know it too.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from datetime import datetime
from typing import Protocol, runtime_checkable

ACTIVATION: ContextVar[object | None] = ContextVar("durable_activation", default=None)
"""The `Context` of the workflow function that is running."""

STEP: ContextVar[object | None] = ContextVar("durable_step", default=None)
"""The `StepContext` of the attempt that is running."""


def in_workflow() -> bool:
    """Whether this is workflow code; a step is not, even with a copy of its workflow's context."""
    return ACTIVATION.get() is not None and STEP.get() is None


@runtime_checkable
class WorkflowContext(Protocol):
    """What definitions need to know of the engine's `Context`: enough to tell it from an input."""

    def now(self) -> datetime:
        """The time of the event that is being handled."""
        ...

    def sleep_until(self, when: datetime, /) -> Awaitable[None]:
        """Sleep until an aware datetime."""
        ...
