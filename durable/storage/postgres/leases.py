"""Workers: their leases, and taking over from the ones that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import psycopg

from durable.errors import StoreUnavailable
from durable.model.rows import Lease, Reaped, WorkerInfo
from durable.model.wire import EventRow
from durable.storage.postgres import failures
from durable.storage.postgres.arrays import PG_EPOCH, int8s, texts
from durable.storage.postgres.batches import event_scalars
from durable.storage.postgres.database import Database

_LOOK: Final = 0.2
"""Seconds between looks at who holds off the eviction of a worker."""


class Leases(Database):
    """Verbs on leases."""

    async def register(self, worker: WorkerInfo, ttl: float) -> Lease:
        """A new worker id, never used before, leased for `ttl` seconds."""
        known = [worker.name, worker.host, worker.pid, worker.boot, worker.code]
        parameters = [
            self._now(),
            float(ttl),
            *known,
            texts(worker.queues),
            texts(worker.workflows),
        ]
        [(number, expires, now)] = await self._working.ask(self._sql.register, parameters)
        return Lease(number, expires + PG_EPOCH, now + PG_EPOCH)

    def renew(self, worker: int, ttl: float) -> Lease | None:
        """Extend a lease; None when it is gone. From any thread, over a connection of its own."""
        parameters = [float(ttl), float(ttl), self._now(), worker]
        rows = self._beating.ask(self._sql.renew, parameters)
        return Lease(worker, rows[0][0] + PG_EPOCH, rows[0][1] + PG_EPOCH) if rows else None

    async def unregister(self, worker: int) -> None:
        """Give back whatever the worker still owns, ready at once, and end its lease."""
        await self._working.ask(self._sql.unregister, [self._now(), worker])

    async def leased(self) -> Sequence[tuple[int, WorkerInfo]]:
        """All registered workers."""
        rows = await self._working.ask(self._sql.leased)
        return [(row[0], WorkerInfo(*row[1:])) for row in rows]

    async def worker_names(self) -> dict[int, str]:
        """Names of the workers that ever registered, by id; the newest thousand."""
        return dict(await self._working.ask(self._sql.worker_names))

    async def reap(
        self,
        blocked: EventRow,
        max_recoveries: int,
        gone: Sequence[int] = (),
        *,
        expired: bool = True,
    ) -> Reaped:
        """Free the runs of workers whose lease has expired, and of `gone` (known to be dead)."""
        parameters = [self._now(), expired, int8s(gone), max_recoveries, *event_scalars(blocked)]
        [(workers, freed, stopped)] = await self._working.ask(self._sql.reap, parameters)
        if expired:
            for worker, *_ in await self._working.ask(self._sql.stuck, [self._now()]):
                await self._evict(worker)
        return Reaped(workers, freed, stopped)

    async def _evict(self, worker: int) -> None:
        """Delete a lease that stays locked long after its end, against whoever sleeps on the lock.

        A process that was stopped inside a transaction holds its row; nobody can take over its runs
        until the server ends that session. Best effort: the next reaper tries again.
        """
        deletion = asyncio.ensure_future(self._second.try_once(self._sql.evict, [worker]))
        try:
            while not (await asyncio.wait([deletion], timeout=_LOOK))[0]:
                await self._working.ask(self._sql.unstick, [self._second.backend])
            await deletion
        except psycopg.Error as error:
            if not failures.may_retry(error):
                raise failures.translate(error, self._settings.where) from error
        except StoreUnavailable:
            # Other users' sessions may not be ours to end.
            await asyncio.wait([deletion])
