# ruff: noqa: D102 - the port tells what every verb does
"""A store in one SQLite file, or in memory: the port's verbs, each a job for the writer or the reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from durable.model.lifecycle import RunStatus
from durable.model.rows import (
    Answer,
    Answered,
    Claim,
    Commit,
    Committed,
    Delivered,
    Delivery,
    Held,
    Lane,
    Lease,
    Message,
    MigrationStep,
    NewRun,
    Publication,
    Reaped,
    RunFilter,
    RunRow,
    ShapeRow,
    Started,
    Subscription,
    WaitFilter,
    WaitRow,
    WorkerInfo,
)
from durable.model.wire import EventRow
from durable.storage.migrations import report, steps
from durable.storage.sqlite import (
    claiming,
    committing,
    messaging,
    migrating,
    orders,
    publishing,
    reading,
    restarting,
    starting,
    waiting,
    workers,
)
from durable.storage.sqlite.connection import (
    Database,
    connect,
    prefix_of,
    printable,
    translated,
)
from durable.storage.sqlite.desk import Desk, Reader, Writer
from durable.storage.sqlite.leases import Leases
from durable.storage.sqlite.place import Place
from durable.storage.sqlite.wal import Wal


class SqliteStorage:
    """`durable.storage.base.Storage` on SQLite. `path` None: private, in memory.

    `schema` is put in front of every table's name: `durable_runs`.
    """

    time: Callable[[], int] | None = None

    def __init__(self, path: str | None, *, schema: str = "durable") -> None:
        self._path = None if path is None else Path(path).absolute()
        self._where = "SQLite in memory" if path is None else f"SQLite file {printable(self._path)}"
        self._prefix = prefix_of(schema)
        self._lanes: dict[Lane, int] = {}
        self._leases = Leases(active=lambda: self.time is None)
        self._place = Place(self._path, self._where)
        self._writer = Writer(
            "durable-sqlite-writer",
            self._where,
            self._connect,
            self._clock,
            self._leases,
            self._place.check,
            Wal(self._path).tend,
        )
        self._reader: Desk = self._writer
        if path is not None:
            self._reader = Reader(
                "durable-sqlite-reader",
                self._where,
                self._connect_reader,
                self._clock,
                self._place.check,
            )
        self._listeners: set[asyncio.Event] = set()
        self._open = False
        self._warned = False

    def _clock(self) -> int:
        return time.time_ns() // 1000 if self.time is None else self.time()

    def _connect(self) -> Database:
        database = connect(self._path, self._prefix)
        try:
            migrating.prepare(database, self._where)
        except BaseException:
            database.close()
            raise
        self._place.remember()
        return database

    def _connect_reader(self) -> Database:
        database = connect(self._path, self._prefix, reading=True)
        try:
            self._place.look()  # the file that the writer has
        except BaseException:
            database.close()
            raise
        return database

    # -- life

    async def open(self) -> None:
        # What is known of another opening says nothing of this one: the file may be another.
        self._lanes.clear()
        self._leases.clear()
        await self._writer.open()
        if self._reader is not self._writer:
            try:
                await self._reader.open()
            except BaseException:
                await self._writer.close()
                raise
        self._open = True

    async def close(self) -> None:
        self._open = False
        self.hint()  # whoever listens sees that it is over
        for desk in {self._reader, self._writer}:
            await desk.close()

    async def migrations(self) -> Sequence[MigrationStep]:
        return report(steps("sqlite"), await asyncio.to_thread(self._version))

    async def migrate(self, to: int | None = None) -> None:
        if self._path is not None:  # one in memory is migrated when it is opened
            await asyncio.to_thread(self._migrate, to)

    def _version(self) -> int:
        if self._path is None or not self._path.exists():
            return 0
        with translated(self._where):
            database = connect(self._path, self._prefix, reading=True)
            try:
                return migrating.version(database)
            finally:
                database.close()

    def _migrate(self, to: int | None) -> None:
        with translated(self._where):
            database = connect(self._path, self._prefix)
            try:
                migrating.migrate(database, to)
            finally:
                database.close()

    async def now(self) -> int:
        return self._clock()

    # -- workers

    async def register(self, worker: WorkerInfo, ttl: float) -> Lease:
        def work(database: Database, now: int) -> tuple[Lease, int]:
            strangers = workers.others(database, now, worker)
            return workers.register(database, now, worker, ttl), strangers

        lease, strangers = await self._writer.ask(work)
        self._leases.add(lease.worker, ttl)
        if strangers and self._path is not None and not self._warned:
            self._warned = True
            workers.warn_of_wal_reset(self._where)
        return lease

    def renew(self, worker: int, ttl: float) -> Lease | None:
        self._leases.heard(worker)
        return self._writer.ask_blocking(
            lambda database, now: workers.renew(database, now, worker, ttl), timeout=max(ttl, 1.0)
        )

    async def unregister(self, worker: int) -> None:
        self._leases.drop(worker)
        await self._writer.ask(lambda database, now: workers.unregister(database, now, worker))

    async def reap(
        self,
        blocked: EventRow,
        max_recoveries: int,
        gone: Sequence[int] = (),
        *,
        expired: bool = True,
    ) -> Reaped:
        def work(database: Database, now: int) -> Reaped:
            publishing.forget(database, now, publishing.IN_A_SWEEP)
            self._leases.keep_all(database, now)
            return workers.reap(database, now, blocked, max_recoveries, gone, expired=expired)

        return await self._writer.ask(work)

    async def leased(self) -> Sequence[tuple[int, WorkerInfo]]:
        return await self._reader.ask(lambda database, _now: workers.leased(database))

    async def worker_names(self) -> dict[int, str]:
        return await self._reader.ask(lambda database, _now: workers.names(database))

    async def lanes(self, lanes: Sequence[Lane]) -> dict[Lane, int]:
        new = [lane for lane in dict.fromkeys(lanes) if lane not in self._lanes]
        if new:
            self._lanes.update(
                await self._writer.ask(lambda database, _now: starting.lanes(database, new))
            )
        return {lane: self._lanes[lane] for lane in lanes}

    # -- runs

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        numbers = await self.lanes([run.lane for run in runs])
        return await self._writer.ask_merged(starting.start_all, (runs, numbers))

    async def restart(self, run: NewRun, ended: EventRow, cancel: bytes) -> Started:
        numbers = await self.lanes([run.lane])
        return await self._writer.ask(
            lambda database, now: restarting.restart(database, now, run, ended, cancel, numbers)
        )

    async def claim(self, worker: int, lanes: Sequence[int], limit: int) -> list[Claim]:
        self._leases.heard(worker)
        return await self._writer.ask(
            lambda database, now: claiming.claim(database, now, worker, lanes, limit)
        )

    async def owned(self, worker: int) -> list[Held]:
        return await self._reader.ask(lambda database, now: claiming.owned(database, now, worker))

    async def acknowledge(self, worker: int, runs: Sequence[Held]) -> None:
        await self._writer.ask(lambda database, _now: claiming.acknowledge(database, worker, runs))

    async def adopt(self, worker: int, keys: Sequence[int]) -> list[Claim]:
        return await self._reader.ask(
            lambda database, now: claiming.adopt(database, now, worker, keys)
        )

    async def load(self, runs: Sequence[tuple[int, int]]) -> dict[int, list[EventRow]]:
        return await self._reader.ask(lambda database, _now: reading.load(database, runs))

    async def inbox(self, runs: Sequence[tuple[int, int]]) -> list[Message]:
        return await self._reader.ask(lambda database, _now: reading.inbox(database, runs))

    async def commit(
        self, worker: int, batch: Sequence[Commit], *, wait: bool = False
    ) -> list[Committed]:
        # One lock for the whole file: a row is never locked by itself, so nothing answers BUSY.
        del wait
        self._leases.heard(worker)
        numbers = await self.lanes([child.lane for item in batch for child in item.children])
        return await self._writer.ask(
            lambda database, now: committing.commit(database, now, worker, batch, numbers)
        )

    async def probe(
        self, worker: int, keys: Sequence[int], epochs: Sequence[int]
    ) -> list[Committed]:
        # By the writer: behind every commit that is still under way.
        return await self._writer.ask(
            lambda database, _now: committing.probe(database, worker, keys, epochs)
        )

    async def children(self, parent: int, commands: Sequence[int]) -> dict[int, str]:
        return await self._reader.ask(
            lambda database, _now: reading.children(database, parent, commands)
        )

    # -- messages

    async def deliver(
        self, deliveries: Sequence[Delivery], *, wait: bool = False
    ) -> list[Delivered]:
        del wait  # as in a commit, no row is locked by itself
        return await self._writer.ask_merged(messaging.deliver_all, deliveries)

    async def answer(self, answer: Answer) -> Answered:
        return await self._writer.ask(lambda database, now: waiting.answer(database, now, answer))

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        return await self._writer.ask(
            lambda database, now: publishing.publish(database, now, publications)
        )

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        await self._writer.ask(
            lambda database, now: publishing.subscribe(database, now, subscriptions)
        )

    async def pause(self, run_id: str, event: EventRow) -> RunStatus | None:
        return await self._writer.ask(
            lambda database, now: orders.pause(database, now, run_id, event)
        )

    async def resume(self, run_id: str, event: EventRow) -> RunStatus | None:
        return await self._writer.ask(
            lambda database, now: orders.resume(database, now, run_id, event)
        )

    async def terminate(self, run_id: str, event: EventRow, cancel: bytes) -> RunStatus | None:
        return await self._writer.ask(
            lambda database, now: orders.terminate(database, now, run_id, event, cancel)
        )

    async def unblock(self, lanes: Sequence[int], codes: Sequence[str], event: EventRow) -> int:
        return await self._writer.ask(
            lambda database, now: orders.unblock(database, now, lanes, codes, event)
        )

    # -- reading

    async def run(self, run_id: str) -> RunRow | None:
        return await self._reader.ask(lambda database, _now: reading.run(database, run_id))

    async def runs(self, where: RunFilter) -> list[RunRow]:
        return await self._reader.ask(lambda database, _now: reading.runs(database, where))

    async def count(self, where: RunFilter) -> dict[RunStatus, int]:
        return await self._reader.ask(lambda database, _now: reading.count(database, where))

    async def history(self, run_id: str, after: int, limit: int) -> list[EventRow] | None:
        return await self._reader.ask(
            lambda database, _now: reading.history(database, run_id, after, limit)
        )

    async def waits(self, where: WaitFilter) -> list[WaitRow]:
        return await self._reader.ask(lambda database, _now: waiting.waits(database, where))

    async def states(self, run_ids: Sequence[str]) -> dict[str, dict[str, EventRow]]:
        return await self._reader.ask(lambda database, _now: reading.states(database, run_ids))

    async def newest(self, run_id: str, type: int, name: str) -> EventRow | None:
        return await self._reader.ask(
            lambda database, _now: reading.newest(database, run_id, type, name)
        )

    async def replies(self, asked: Sequence[tuple[str, int]]) -> dict[tuple[str, int], EventRow]:
        return await self._reader.ask(lambda database, _now: reading.replies(database, asked))

    async def finished(self, run_ids: Sequence[str]) -> dict[str, tuple[RunStatus, EventRow]]:
        return await self._reader.ask(lambda database, _now: reading.finished(database, run_ids))

    async def shapes(self, finished: int) -> list[ShapeRow]:
        return await self._reader.ask(lambda database, _now: reading.shapes(database, finished))

    async def next_due(self) -> int | None:
        return await self._reader.ask(reading.next_due)

    # -- hints

    def hint(self) -> None:
        for listener in self._listeners:
            listener.set()

    async def hints(self) -> AsyncIterator[None]:
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            while self._open:
                await listener.wait()
                listener.clear()
                if self._open:
                    yield
        finally:
            self._listeners.discard(listener)
