"""`Handle`: one run, as its starter holds it."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durable.client.correspondence import Correspondence, Runs
from durable.client.later import refuse
from durable.clock import TimeLimit
from durable.errors import (
    DurableError,
    RunCancelled,
    RunFailed,
    RunTerminated,
    RunTimeout,
)
from durable.model import history
from durable.model.duration import Duration, seconds_of
from durable.model.failure import decode_failure, rebuild
from durable.model.payload import ANY
from durable.model.wire import EventRow, decode_event

if TYPE_CHECKING:
    from durable.model.lifecycle import RunStatus
    from durable.model.records import RunDetail
    from durable.model.rows import Lane
    from durable.model.runnable import Runnable

R_co = TypeVar("R_co", covariant=True)
_RUN_TIMEOUT = f"{RunTimeout.__module__}:{RunTimeout.__qualname__}"
_WARN_AFTER_SECONDS = 5.0


class Handle(Correspondence, Generic[R_co]):
    """A run by its id. Cheap; holds no connection."""

    def __init__(
        self,
        client: Runs,
        run_id: str,
        runnable: Runnable[Any, R_co] | None,
        *,
        created: bool,
        lane: Lane | None = None,
    ) -> None:
        self.id = run_id
        self.created = created
        """False when the id belonged to an older run, which this is."""
        self._client = client
        self._runnable = runnable
        self._lane = lane

    async def result(self, *, timeout: Duration | None = None) -> R_co:
        """Wait for the run to end and give its result.

        Raises the run's own exception, which is also a `RunFailed`; `RunCancelled`; `RunTerminated`;
        `RunNotFound`; and `TimeoutError` after `timeout` (seconds or a timedelta), which leaves the run
        alone; with 0 it looks once. A blocked or paused run has not ended.
        """
        if timeout is None:
            return self._outcome(*await self._ended())
        seconds = seconds_of(timeout, "result(timeout=)")
        if not seconds and (end := await self._client.end_of(self.id)) is not None:
            return self._outcome(*end)
        try:
            async with TimeLimit(self._client.clock, seconds):
                status, last = await self._ended()
        except TimeoutError:
            message = f"run {self.id} has not ended within {seconds:g} s; it goes on"
            raise TimeoutError(message) from None
        return self._outcome(status, last)

    async def _ended(self) -> tuple[RunStatus, EventRow]:
        if self._client.drives(self.id):
            return await self._client.ended(self.id, known=True)
        waiting = asyncio.ensure_future(self._client.ended(self.id, known=self.created))
        try:
            done, _ = await asyncio.wait((waiting,), timeout=_WARN_AFTER_SECONDS)
            if not done:
                await self._warn_if_unserved()
            return await waiting
        finally:
            waiting.cancel()

    async def _warn_if_unserved(self) -> None:
        try:
            missing = await self._client.unserved(self.id, self._lane)
        except DurableError:
            return  # a result can be waited for while the database is away
        if missing:
            warnings.warn(missing, RuntimeWarning, stacklevel=2)

    def _outcome(self, status: RunStatus, last: EventRow) -> R_co:
        event = decode_event(last)
        if isinstance(event, history.RunCompleted):
            shape = ANY if self._runnable is None else self._runnable.result
            return shape.decode(event.result, f"result of run {self.id}")  # type: ignore[no-any-return]
        if isinstance(event, history.RunFailed):
            failure = decode_failure(event.failure)
            base = RunTimeout if failure.type == _RUN_TIMEOUT else RunFailed
            raise rebuild(failure, base, run_id=self.id)
        reason = getattr(event, "reason", None)
        kind = RunTerminated if isinstance(event, history.RunTerminated) else RunCancelled
        message = f"run {self.id} was {status}" + (f": {reason}" if reason else "")
        raise kind(message, run_id=self.id, reason=reason)

    async def status(self) -> RunStatus:
        """Where the run stands; `RunNotFound`."""
        return (await self._client.get(self.id, steps=False)).status

    async def get(self, *, steps: bool = True, logs: bool = False) -> RunDetail:
        """The run with what happened in it; `RunNotFound`."""
        return await self._client.get(self.id, steps=steps, logs=logs)

    async def cancel(self, *, reason: str | None = None) -> None:
        """Ask the run to stop; see `Client.cancel`."""
        await self._client.cancel(self.id, reason=reason)

    async def terminate(self, *, reason: str | None = None) -> None:
        """End the run at once; see `Client.terminate`."""
        await self._client.terminate(self.id, reason=reason)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise refuse("handle", name)

    def __repr__(self) -> str:
        return f"<run {self.id}>"
