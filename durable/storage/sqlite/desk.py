"""Threads that own a connection: one writes, in group commits, and one reads.

Whatever is asked while a transaction is under way waits in a queue and goes into the next one
together, so that commits, starts and claims of one process share one fsync.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

from durable.errors import StoreUnavailable
from durable.storage.sqlite.connection import Again, Database, translate
from durable.storage.sqlite.leases import Leases

T = TypeVar("T")
Item = TypeVar("Item")
Work = Callable[[Database, int], T]
"""Something to do with a database at a time (microseconds)."""

Merge = Callable[[Database, int, list[Any]], list[Any]]

GROUP: Final = 1000
"""Operations in one transaction at most, so that other processes get their turn."""

LONGEST: Final = 3600.0
"""Seconds of one wait at most: what a lock can wait for has an end."""


@dataclass(slots=True, eq=False)
class Job:
    """An operation, and whoever waits for its answer."""

    work: Work[Any]
    future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    merge: Merge | None = None
    """Does the work of many such jobs at once, given their `items`."""
    items: Any = None
    value: Any = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Forget what it answered: nothing of it happened."""
        self.value, self.error = None, error

    def settle(self) -> None:
        """Answer, unless nobody waits any more."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class Desk:
    """One thread, one connection, one queue. Belongs to the event loop that opened it."""

    def __init__(
        self,
        name: str,
        where: str,
        connect: Callable[[], Database],
        clock: Callable[[], int],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._where = where
        self._connect = connect
        self._clock = clock
        self._check = check
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._open = False
        self._ended = "is closed"
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Start the thread and wait until its connection stands."""
        self._refuse_a_fork()
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._ended = "is closed"
        opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        opened.set_running_or_notify_cancel()  # whoever gives up waiting does not cancel it
        self._thread = threading.Thread(
            target=self._main, args=(opened,), name=self._name, daemon=True
        )
        self._open = True
        self._thread.start()
        try:
            await asyncio.wrap_future(opened)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Answer everything asked before, then end the thread. Idempotent."""
        if self._forked():
            return
        with self._gate:
            if self._open:
                self._open = False
                self._jobs.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def ask(self, work: Work[T]) -> T:
        """Have `work` done and wait for its answer."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(Job(work, future))
        return await future

    async def ask_merged(
        self, merge: Callable[[Database, int, list[Item]], list[T]], items: Item
    ) -> T:
        """The same for work that can be done for many askers at once."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put(Job(lambda database, now: merge(database, now, [items])[0], future, merge, items))
        return await future

    def ask_blocking(self, work: Work[T], timeout: float) -> T:
        """The same from any thread, which it blocks."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._put(Job(work, future))
        try:
            return future.result(min(timeout, LONGEST))
        except TimeoutError:
            raise StoreUnavailable(f"{self._where}: no answer within {timeout:g} s") from None

    def _put(self, job: Job) -> None:
        self._refuse_a_fork()
        with self._gate:
            if not self._open:
                raise StoreUnavailable(f"{self._where} {self._ended}")
            self._jobs.put(job)

    def _forked(self) -> bool:
        """Whether the thread lives in another process, of which this one is a copy."""
        return self._open and self._process != os.getpid()

    def _refuse_a_fork(self) -> None:
        # Not even opened anew: SQLite would take the locks of the other process for its own.
        if self._forked():
            raise StoreUnavailable(
                f"{self._where} was opened before this process was forked off: open it after the fork"
            )

    # -- in the thread

    def _main(self, opened: concurrent.futures.Future[None]) -> None:
        try:
            database = self._connect()
        except Exception as error:
            self._leave()
            opened.set_exception(translate(error, self._where))
            return
        opened.set_result(None)
        try:
            while self._turn(database):
                pass
        finally:
            database.close()
            self._leave()

    def _leave(self) -> None:
        """The thread ends, whatever the reason: nobody may go on waiting for it."""
        with self._gate:
            if self._open:  # it was not asked to
                self._open = False
                self._ended = (
                    "is not served any more, its thread has ended: close it, open it again"
                )
        left: list[Job] = []
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job.fail(StoreUnavailable(f"{self._where} {self._ended}"))
                left.append(job)
        self._answer(left)

    def _turn(self, database: Database) -> bool:
        """Serve everything that waits; False when the last job has been served."""
        jobs, more = self._take()
        try:
            self._check()
            self._serve(database, jobs)
        except Exception as error:
            database.rollback()
            for job in jobs:
                job.fail(translate(error, self._where))
        except BaseException:
            for job in jobs:
                job.fail(StoreUnavailable(f"{self._where}: the thread that was at it has ended"))
            raise
        finally:
            self._answer(jobs)
        return more

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job and take all others that have come by then."""
        jobs: list[Job] = []
        try:
            job = self._jobs.get(timeout=min(self._patience(), LONGEST))
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP:
                    return jobs, True
                job = self._jobs.get_nowait()
        except queue.Empty:
            return jobs, True
        return jobs, False

    def _answer(self, jobs: list[Job]) -> None:
        here = [job for job in jobs if isinstance(job.future, concurrent.futures.Future)]
        there = [job for job in jobs if isinstance(job.future, asyncio.Future)]
        _settle(here)
        if there:
            try:
                self._loop.call_soon_threadsafe(_settle, there)
            except RuntimeError:
                return  # the loop is closed: nobody waits

    def _patience(self) -> float:
        """How long to wait for a job, in seconds."""
        return LONGEST

    def _serve(self, database: Database, jobs: list[Job]) -> None:
        raise NotImplementedError


class Reader(Desk):
    """Reads all that was asked from one snapshot."""

    def _serve(self, database: Database, jobs: list[Job]) -> None:
        database.execute("BEGIN")
        for job in jobs:
            try:
                job.value = job.work(database, self._clock())
            except Exception as error:
                job.fail(translate(error, self._where))
        database.rollback()


class Writer(Desk):
    """Writes all that was asked in one transaction, each operation all or nothing by itself."""

    def __init__(
        self,
        name: str,
        where: str,
        connect: Callable[[], Database],
        clock: Callable[[], int],
        leases: Leases,
        check: Callable[[], None] = lambda: None,
        tend: Callable[[Database], None] = lambda _: None,
    ) -> None:
        super().__init__(name, where, connect, clock, check)
        self._leases = leases
        self._tend = tend

    def _patience(self) -> float:
        patience = self._leases.patience()
        return LONGEST if patience is None else patience

    def _turn(self, database: Database) -> bool:
        more = super()._turn(database)
        if more:
            self._tend(database)  # behind the answers: nobody waits for it
        return more

    def _serve(self, database: Database, jobs: list[Job]) -> None:
        if not jobs and not self._leases.due():
            return
        try:
            self._transaction(database, jobs, careful=False)
        except Again:
            database.rollback()
            self._transaction(database, jobs, careful=True)

    def _transaction(self, database: Database, jobs: list[Job], *, careful: bool) -> None:
        """All jobs in one transaction; not `careful`: one that fails costs it, `Again`."""
        database.careful = careful
        # IMMEDIATE: a transaction that reads first and then wants to write fails without waiting.
        database.execute("BEGIN IMMEDIATE")
        extended = self._leases.keep(database, self._clock())
        if careful:
            for job in jobs:
                self._alone(database, job)
        else:
            with database.savepoint("group"):
                self._together(database, jobs)
        database.execute("COMMIT")
        self._leases.confirm(extended)

    def _together(self, database: Database, jobs: list[Job]) -> None:
        """Neighbours that can be merged go in one call: fewer statements for the same work."""
        for merge, some in groupby(jobs, key=lambda job: job.merge):
            same = list(some)
            if merge is None or len(same) == 1:
                for job in same:
                    job.value = job.work(database, self._clock())
                continue
            values = merge(database, self._clock(), [job.items for job in same])
            for job, value in zip(same, values, strict=True):
                job.value = value

    def _alone(self, database: Database, job: Job) -> None:
        try:
            with database.savepoint("job"):
                job.value = job.work(database, self._clock())
        except Exception as error:
            if not database.in_transaction:
                raise  # the whole group is gone
            job.fail(translate(error, self._where))


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        job.settle()
