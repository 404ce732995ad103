"""A small world for tests: one database, processes with a client and a worker, and a clock that tests move.

Every process reaches the database through a `FaultyStorage` of its own. Nothing waits for real time: the
clock jumps to whatever falls due next as soon as nobody has anything left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, TypeVar

from durable import Client, Handle, Worker
from durable.clock import SECOND, VirtualClock
from durable.errors import StoreUnavailable
from durable.model.history import FINAL_CODES, NAMES, RunCancelled, RunCompleted, RunFailed
from durable.model.lifecycle import FINAL
from durable.model.rows import RunFilter, RunRow
from durable.model.wire import EventRow, decode_event
from durable.storage import open_storage
from durable_testing.activity import Activity, Quiet
from durable_testing.faults import Crash, FaultyStorage
from durable_testing.port import Port
from durable_testing.process import Process

T = TypeVar("T")
LEASE = 3.0
REAL_SECONDS = 20
"""No wait of these tests lasts longer on a real clock."""


def _end_status(last: EventRow) -> str:
    """The status of a run that ended so."""
    event = decode_event(last)
    if isinstance(event, RunCompleted):
        return "completed"
    if isinstance(event, RunFailed | RunCancelled):
        return event.status
    return "terminated"


class Guest(Process):
    """A process whose door to the database is faulty; it dies with the door."""

    def __init__(self, world: World, storage: FaultyStorage, options: dict[str, Any]) -> None:
        client = Client("sqlite://")
        client.clock = world.clock
        client.storage = storage
        super().__init__(
            client, (lambda own: Worker(own, **options)) if options.get("workflows") else None
        )
        self.storage = storage

    async def die(self) -> None:
        self.storage.crashed = True
        await super().die()


class World:
    """Use `async with World() as world`."""

    def __init__(self, url: str = "sqlite://", schema: str = "durable") -> None:
        self.clock = VirtualClock()
        self.activity = Activity()
        self.database = Port(open_storage(url, schema=schema), self.clock, self.activity)
        self.processes: list[Guest] = []

    async def __aenter__(self) -> Self:
        await self.database.inner.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in self.processes:
            if not process.dead:
                await process.die()
        await self.database.inner.close()

    # -- processes

    async def process(
        self,
        *workflows: Any,
        plan: Any = (),
        at: int | None = None,
        fault: Any = None,
        **options: Any,
    ) -> Guest:
        """Start one; it may have died on the way when its plan says so."""
        database: Any = self.database
        storage = FaultyStorage(database, plan, at=at, fault=fault, clock=self.clock)
        options = {"lease": LEASE, "workflows": workflows, **options}
        process = Guest(self, storage, options)
        self.processes.append(process)
        with contextlib.suppress(Crash):
            await self.run_with_threads(process.start())
        await self._bury()
        return process

    async def drain(self, process: Guest) -> None:
        """Stop a worker in the orderly way, and close its client."""
        assert process.worker is not None
        await self.run_with_threads(process.worker.stop())
        await self.run_with_threads(process.client.close())
        process.dead = True

    async def _bury(self) -> None:
        for process in self.processes:
            if process.storage.crashed and not process.dead:
                await process.die()

    # -- time

    async def settle(self) -> None:
        """Let everybody do what can be done at this moment."""
        async with asyncio.timeout(REAL_SECONDS):
            await Quiet(self.activity).reached()
        await self._bury()

    async def until(self, condition: Callable[[], object], within: float = 120.0) -> None:
        """Move the clock from one due time to the next until the condition holds."""
        end = self.clock.now() + round(within * SECOND)
        while True:
            await self.settle()
            if condition():
                return
            due = self.clock.next_due
            if due is None or due > end:
                raise AssertionError(f"not within {within:g} virtual seconds")
            self.clock.jump(due)

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, with everybody at work."""
        end = self.clock.now() + round(seconds * SECOND)
        await self.settle()
        while (due := self.clock.next_due) is not None and due <= end:
            self.clock.jump(due)
            await self.settle()
        self.clock.jump(end)
        await self.settle()

    async def run(self, act: Awaitable[T], within: float = 120.0) -> T:
        """The value of something awaited, with time passing meanwhile."""
        task = asyncio.ensure_future(act)
        try:
            await self.until(task.done, within)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return task.result()

    async def run_with_threads(self, act: Awaitable[T]) -> T:
        """The same for what waits for threads, which the virtual clock knows nothing of."""
        task = asyncio.ensure_future(act)
        async with asyncio.timeout(REAL_SECONDS):
            while True:
                await self.settle()
                if (await asyncio.wait({task}, timeout=0.002))[0]:
                    return task.result()
                if self.clock.next_due is not None:
                    self.clock.jump(self.clock.next_due)

    async def result(self, handle: Handle[T], within: float = 120.0) -> T:
        return await self.run(handle.result(), within)

    # -- what the database says

    async def rows(self) -> list[RunRow]:
        return await self.database.inner.runs(RunFilter(limit=1000))

    async def row(self, run_id: str) -> RunRow:
        row = await self.database.inner.run(run_id)
        assert row is not None
        return row

    async def status(self, run_id: str) -> str:
        return (await self.row(run_id)).status

    async def history(self, run_id: str) -> list[EventRow]:
        rows = await self.database.inner.history(run_id, 0, 100_000)
        assert rows is not None
        return rows

    async def types(self, run_id: str) -> list[str]:
        return [NAMES[event.type] for event in await self.history(run_id)]

    async def until_status(self, run_id: str, status: str, within: float = 120.0) -> None:
        end = self.clock.now() + round(within * SECOND)
        while await self.status(run_id) != status:
            assert self.clock.now() < end, f"{run_id} is {await self.status(run_id)}, not {status}"
            await self.pass_time(0.05)

    async def check(self) -> None:
        """Histories are gapless, end once, and say what the rows say."""
        for row in await self.rows():
            events = await self.history(row.id)
            assert [event.seq for event in events] == list(range(1, row.seq + 1)), row.id
            ends = [event for event in events if event.type in FINAL_CODES]
            assert len(ends) == (row.status in FINAL), (row, events)
            if ends:
                assert ends == events[-1:], row.id
                assert _end_status(ends[0]) == row.status
            ats = [event.at for event in events]
            assert ats == sorted(ats), row.id


@contextlib.asynccontextmanager
async def world_with(*workflows: Any, **options: Any) -> AsyncIterator[tuple[World, Guest]]:
    """A world with one process in it."""
    async with World() as world:
        yield world, await world.process(*workflows, **options)


def unavailable(*_: Any) -> None:
    raise StoreUnavailable("the database is away")
