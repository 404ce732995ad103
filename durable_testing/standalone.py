"""A step without a run: what `current_step()` gives in a test that calls the step itself."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from datetime import datetime
from typing import Any

from durable.model.scope import STEP
from durable.worker.step_context import StepContext


class LoneAttempt(StepContext):
    """An attempt that no worker runs: nothing of it is recorded."""

    __slots__ = ("_key",)

    def __init__(self, attempt: int, idempotency_key: str) -> None:
        nowhere: Any = None
        command: Any = _Command(attempt)
        super().__init__(nowhere, command, 0)
        self._key = idempotency_key

    @property
    def run_id(self) -> str:
        """Always `test`."""
        return "test"

    @property
    def workflow(self) -> str:
        """Always `test`."""
        return "test"

    @property
    def name(self) -> str:
        """Always `test`."""
        return "test"

    @property
    def idempotency_key(self) -> str:
        """As the test has given it."""
        return self._key

    @property
    def deadline(self) -> datetime | None:
        """None: nobody waits."""
        return None


class _Command:
    """All that an attempt asks of its command."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt


@contextlib.contextmanager
def resources(*values: object) -> Generator[None]:
    """Inside of this block `resource(...)` finds these values, by their types."""
    if values:
        message = "resources of steps cannot be used yet"
        raise NotImplementedError(message)
    yield


_resources = resources


@contextlib.contextmanager
def step_context(
    *, attempt: int = 1, idempotency_key: str = "test", resources: Iterable[object] = ()
) -> Generator[StepContext]:
    """Inside of this block `current_step()` gives an attempt of these properties.

    Set its `cancelled` to True to see what the step does then. `resources` are what `resource(...)` finds.
    """
    with _resources(*resources):
        context = LoneAttempt(attempt, idempotency_key)
        token = STEP.set(context)
        try:
            yield context
        finally:
            STEP.reset(token)
