"""A small world for tests: one database, processes with a client and a worker, and a clock that tests move.

Every process reaches the database through a `FaultyStorage` of its own. Nothing waits for real time: the
clock jumps to whatever falls due next as soon as nobody has anything left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

from durable import Client, Handle, Worker
from durable.clock import SECOND, VirtualClock
from durable.errors import StoreUnavailable
from durable.model.history import FINAL_CODES, NAMES, RunCancelled, RunCompleted, RunFailed
from durable.model.lifecycle import FINAL
from durable.model.rows import RunFilter, RunRow
from durable.model.wire import EventRow, decode_event
from durable.storage import open_storage
from durable_testing.faults import Crash, FaultyStorage

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


class Database:
    """The store that all processes share; knows what is under way and what was committed."""

    def __init__(self, url: str, schema: str, clock: VirtualClock) -> None:
        self.inner = open_storage(url, schema=schema)
        self.inner.time = clock.now
        self.calm = asyncio.Event()
        self.under_way = 0
        self.on_events: Callable[[int, Sequence[EventRow]], object] = lambda key, events: None
        """Told of events that have become durable by a commit."""

    async def open(self) -> None:
        """Open already: it outlives its processes."""

    async def close(self) -> None:
        """Stays open: it outlives its processes."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return functools.partial(self._call, found) if inspect.iscoroutinefunction(found) else found

    async def commit(self, worker: int, batch: Sequence[Any], *, wait: bool = False) -> Any:
        answers = await self._call(self.inner.commit, worker, batch, wait=wait)
        for item, answer in zip(batch, answers, strict=True):
            if answer.code == 0:
                self.on_events(item.key, item.events)
        return answers

    async def _call(self, verb: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        self.under_way += 1
        self.calm.clear()
        try:
            return await verb(*args, **options)
        finally:
            self.under_way -= 1
            if not self.under_way:
                self.calm.set()


class Process:
    """A client and (mostly) a worker behind one faulty door to the database."""

    def __init__(self, world: World, storage: FaultyStorage, options: dict[str, Any]) -> None:
        self.world = world
        self.storage = storage
        self.client = Client("sqlite://")
        self.client.clock = world.clock
        self.client.storage = storage
        self.worker = Worker(self.client, **options) if options.get("workflows") else None
        self.dead = False

    async def start(self) -> None:
        await self.client.open()
        if self.worker is not None:
            await self.worker.__aenter__()

    async def die(self) -> None:
        """Every task dropped, nothing said to the database; the lease is left to expire."""
        self.dead = True
        self.storage.crashed = True
        tasks = [*self._client_tasks()]
        if self.worker is not None:
            tasks += self._worker_tasks(self.worker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.client.is_open:
            self.client._results.close()
            self.client._replies.close()

    def _client_tasks(self) -> Iterable[asyncio.Task[Any]]:
        if self.client.is_open:
            client = self.client
            batches = (client._starter.batches, client._post.deliveries, client._post.publications)
            polls = (client._results.poll, client._replies.poll)
            yield from filter(None, (*(each.pump for each in batches), *polls))

    def _worker_tasks(self, worker: Worker) -> list[asyncio.Task[Any]]:
        if worker._state == "new":
            return []
        self.client.detach(worker)
        worker._keeper.stop()
        worker._watchdog.stop()
        tasks = [*worker._tasks, *worker._journal._alone]
        for runner in worker._runners.values():
            runner.refuse()
            tasks += [attempt.task for attempt in runner._running.values() if attempt.task]
            runner.close()
        worker._roster.forget_all()
        if hasattr(worker, "_alarm"):
            worker._alarm.stop()
        worker._state = "stopped"
        return tasks


class World:
    """Use `async with World() as world`."""

    def __init__(self, url: str = "sqlite://", schema: str = "durable") -> None:
        self.clock = VirtualClock()
        self.database = Database(url, schema, self.clock)
        self.processes: list[Process] = []

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
    ) -> Process:
        """Start one; it may have died on the way when its plan says so."""
        database: Any = self.database
        storage = FaultyStorage(database, plan, at=at, fault=fault, clock=self.clock)
        options = {"lease": LEASE, "workflows": workflows, **options}
        process = Process(self, storage, options)
        self.processes.append(process)
        with contextlib.suppress(Crash):
            await self.run_with_threads(process.start())
        await self._bury()
        return process

    async def drain(self, process: Process) -> None:
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
        loop: Any = asyncio.get_running_loop()
        async with asyncio.timeout(REAL_SECONDS):
            while True:
                await asyncio.sleep(0)
                if self.database.under_way:
                    await self.database.calm.wait()
                elif not loop._ready:
                    break
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
async def world_with(*workflows: Any, **options: Any) -> AsyncIterator[tuple[World, Process]]:
    """A world with one process in it."""
    async with World() as world:
        yield world, await world.process(*workflows, **options)


def unavailable(*_: Any) -> None:
    raise StoreUnavailable("the database is away")
