"""Why whoever waits in a test waits for nothing: in words, for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from durable.clock import to_datetime
from durable.errors import DurableError, NondeterminismError, NotAllowedInWorkflow
from durable.model.lifecycle import OPEN
from durable.model.rows import SEPARATOR, RunFilter, RunRow
from durable_testing.timing import MAX_JUMPS, STEP_SECONDS, Waiter

if TYPE_CHECKING:
    from durable_testing.port import Port
    from durable_testing.workers import TestWorker

MAX_RUNS: Final = 20
"""Runs that are told of."""


class Stuck(DurableError):
    """A test waits for something that will never happen."""


class Troubles:
    """Looks at the database of an environment, and says what is wrong."""

    def __init__(self, port: Port, worker: Callable[[], TestWorker]) -> None:
        self._port = port
        self._worker = worker

    async def look(self, waiters: Sequence[Waiter]) -> None:
        """Fail those who wait for runs that are blocked, or for which time has jumped too often."""
        for waiter in waiters:
            if waiter.run_id is None:
                continue
            if waiter.jumps >= MAX_JUMPS:
                waiter.fail(await self._endless(waiter.run_id))
            elif self._port.blocked:
                row: RunRow | None = await self._port.run(waiter.run_id)
                if row is not None and row.status == "blocked":
                    waiter.fail(_blocked(row))

    async def stuck(self) -> Stuck:
        """Nothing is due, and nobody has anything to do."""
        rows = await self._open()
        told = "nothing can happen any more: no step runs, no timer is due"
        if not rows:
            return Stuck(f"{told}, and no run is open")
        return Stuck("\n".join([f"{told}, and these runs wait:", *self._told(rows)]))

    async def _endless(self, run_id: str) -> Stuck:
        told = f"time has jumped {MAX_JUMPS:,} times, and run {run_id} has not ended:"
        advice = (
            "if that takes no longer than it should: `await env.advance(...)` has no such limit"
        )
        return Stuck("\n".join([told, *self._told(await self._open()), advice]))

    def slow(self) -> Stuck:
        """Something is at work and does not return."""
        steps = [
            f"step {one.name} of run {one.run_id} (attempt {one.attempt})"
            for one in self._worker().attempts()
        ]
        if not steps and self._port.activity.any:
            message = f"the database has not answered for {STEP_SECONDS:g} s of real time"
            return Stuck(message)
        if not steps:
            message = (
                f"for {STEP_SECONDS:g} s of real time the event loop has never come to rest: "
                "does a task of the test loop round `await asyncio.sleep(0)`?"
            )
            return Stuck(message)
        message = (
            f"{', '.join(steps)} has not returned for {STEP_SECONDS:g} s of real time, and until then "
            "time stands still here: mock it, and let `await env.advance(...)` in `using=` take long"
        )
        return Stuck(message)

    async def _open(self) -> Sequence[RunRow]:
        where = RunFilter(status=OPEN, limit=MAX_RUNS + 1)
        found: Sequence[RunRow] = await self._port.runs(where)
        return sorted(found, key=lambda row: row.key)

    def _told(self, rows: Sequence[RunRow]) -> Iterator[str]:
        for row in rows[:MAX_RUNS]:
            yield f"  {row.id} ({row.workflow}, {row.status}): {self._waits_for(row)}"
        if len(rows) > MAX_RUNS:
            yield "  and more"

    def _waits_for(self, row: RunRow) -> str:
        if row.status == "paused":
            return "is paused: client.resume it"
        if row.waiting_for:
            return ", ".join(row.waiting_for.split(SEPARATOR))
        if not self._worker().serves(row.workflow, row.version, row.queue):
            return f"nobody runs {row.workflow} on queue {row.queue}: add it to Environment(workflows=)"
        since = to_datetime(row.created_at)
        return f"has waited since {since:%Y-%m-%d %H:%M:%S} UTC to be taken up"


def _blocked(row: RunRow) -> Exception:
    reason = row.waiting_for or "no reason is known"
    kind, _, message = reason.partition(": ")
    for known in (NondeterminismError, NotAllowedInWorkflow):
        if kind == known.__name__:
            return known(message)
    return DurableError(f"run {row.id} is blocked: {reason}")
