"""The lease: a thread that renews it, the database's time that comes with it, and the reaper of others'.

The thread has a connection of its own, so that user code that blocks the event loop loses no lease.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from durable.clock import SECOND, SystemClock
from durable.errors import StoreUnavailable
from durable.model.history import Blocked
from durable.model.rows import Lease, WorkerInfo
from durable.model.wire import encode_event

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage

_log = logging.getLogger("durable.worker")
_DRIFT = 0.0005
"""Seconds of doubt that each second adds to what was read of the database's clock."""


class LeaseKeeper:
    """Keeps one worker's lease alive and knows whether it still holds."""

    def __init__(
        self,
        store: Storage,
        clock: Clock,
        ttl: float,
        *,
        on_fenced: Callable[[], None],
        on_healthy: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._ttl = ttl
        self._on_fenced = on_fenced
        self._on_healthy = on_healthy
        self._offset = 0
        self._doubt = math.inf
        self._read_at = 0.0
        self._valid_until = 0.0
        self._healthy_since: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self.worker_id = 0
        self.lost = False
        """The database has said that the current lease is gone."""
        self.renewals = 0

    async def register(self, info: WorkerInfo) -> None:
        """Become a worker with a new id and start renewing its lease."""
        self.stop()  # an earlier attempt may have got as far as this
        before = self._clock.monotonic()
        lease = await self._store.register(info, self._ttl)
        self.worker_id = lease.worker
        self.lost = False
        self._renewed(lease, before)
        self._healthy_since = before
        self._stop = threading.Event()
        if isinstance(self._clock, SystemClock):
            loop = asyncio.get_running_loop()
            name = f"durable-lease-{lease.worker}"
            args = (lease.worker, loop, self._stop)
            self._thread = threading.Thread(target=self._run, args=args, name=name, daemon=True)
            self._thread.start()
        else:
            self._task = asyncio.get_running_loop().create_task(self._renew_virtually(lease.worker))

    def stop(self) -> None:
        """Renew no more. The lease ends by itself unless the worker unregisters."""
        self._stop.set()
        self._valid_until = 0.0
        if self._task is not None:
            self._task.cancel()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(min(self._ttl, threading.TIMEOUT_MAX))

    def healthy(self) -> bool:
        """The lease holds, with a margin: new work may begin."""
        return self._clock.monotonic() < self._valid_until

    @property
    def steady(self) -> bool:
        """Renewals have held for a whole lease: only then may this worker judge others."""
        since = self._healthy_since
        return since is not None and self._clock.monotonic() - since >= self._ttl

    def now(self) -> int:
        """The database's time: its clock at the last renewal plus what has passed here since."""
        return round(self._clock.monotonic() * SECOND) + self._offset

    def _renewed(self, lease: Lease, before: float) -> None:
        after = self._clock.monotonic()
        if after >= self._valid_until:
            self._healthy_since = after  # it had lapsed meanwhile: so may have those of others
        self._read_clock(lease.now, before, after)
        self._valid_until = before + self._ttl * 5 / 6
        self.renewals += 1

    def _read_clock(self, told: int, before: float, after: float) -> None:
        """Believe the answer that came fastest: a slow one may be off by half of what it took."""
        doubt = (after - before) / 2
        if doubt <= self._doubt + (after - self._read_at) * _DRIFT:
            self._offset = told - round((before + after) / 2 * SECOND)
            self._doubt, self._read_at = doubt, after

    def at_least(self, told: int) -> None:
        """The database's clock showed this a moment ago: ours must not be behind it."""
        self._offset += max(0, told - self.now())

    # -- renewing

    def _run(self, worker: int, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        wait = self._ttl / 3
        while not stop.wait(min(wait, threading.TIMEOUT_MAX)):
            alive = self._renew(worker)
            if stop.is_set():
                return
            if alive:
                # Always: the lease may have been doubtful for a moment while this renewal was under way.
                _call(loop, self._on_healthy)
            if alive is False:
                self.lost = True
                _call(loop, self._on_fenced)
                return
            wait = self._ttl / 3 if alive else min(0.2, self._ttl / 10)

    def _renew(self, worker: int) -> bool | None:
        """True: renewed; False: fenced; None: no answer, try again soon."""
        before = self._clock.monotonic()
        try:
            lease = self._store.renew(worker, self._ttl)
        except StoreUnavailable as error:
            _log.warning("the lease of worker %d could not be renewed: %s", worker, error)
            self._healthy_since = None
            return None
        except Exception:
            _log.exception("the lease of worker %d could not be renewed", worker)
            self._healthy_since = None
            return None
        if lease is None:
            return False
        self._renewed(lease, before)
        if self._healthy_since is None:
            self._healthy_since = before
        return True

    async def _renew_virtually(self, worker: int) -> None:
        while True:
            await self._clock.sleep(self._ttl / 3)
            alive = self._renew(worker)
            if alive is False:
                self.lost = True
                self._on_fenced()
                return
            if alive:
                self._on_healthy()


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        _log.debug("the event loop was closed before the lease was")


class Reaper:
    """Frees the runs of workers that are gone."""

    def __init__(self, store: Storage, keeper: LeaseKeeper, max_recoveries: int) -> None:
        self._store = store
        self._keeper = keeper
        self._max_recoveries = max_recoveries
        self.reaped = 0

    async def reap(self, known: Sequence[int] = ()) -> int:
        """One round; how many runs were freed. `known` are workers that the caller knows to be dead."""
        gone = [*known, *await self._provably_gone()]
        if not gone and not self._keeper.steady:
            return 0
        reason = (
            f"its worker was lost more than {self._max_recoveries} times without progress: "
            "this run may be what kills them"
        )
        blocked = encode_event(0, Blocked(self._keeper.now(), reason))
        result = await self._store.reap(
            blocked, self._max_recoveries, gone, expired=self._keeper.steady
        )
        for worker in result.workers:
            _log.warning("worker %d is gone: its runs go on elsewhere", worker)
        self.reaped += result.freed
        return result.freed

    async def _provably_gone(self) -> Sequence[int]:
        """Workers of this host, boot and pid namespace whose process does not exist any more."""
        mine = machine()
        return [
            worker
            for worker, info in await self._store.leased()
            if info.boot and (info.host, info.boot) == mine and not _alive(info.pid)
        ]


def machine() -> tuple[str, str]:
    """This host, and what tells its boots and pid namespaces apart; the latter empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname(), ""
    return socket.gethostname(), f"{boot} {namespace}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        # A process that was killed but not waited for yet has no future either.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in {"Z", "X"}
