"""What happens to a cluster at given times: people act, and the world is not kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.programs import NEWEST

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process


class Nemesis:
    """Carries out what is on the menu for a time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = cluster.random

    def arm(self) -> None:
        cluster = self._cluster
        for when, kind in cluster.menu.times:
            cluster.loop.call_later(when, self._strike, kind, context=cluster.loop.kernel.context)

    def _strike(self, kind: str) -> None:
        cluster = self._cluster
        if not cluster.menu.on:
            return
        workers = cluster.workers()
        act = getattr(self, "_" + kind.replace(" ", "_"))
        victim = self._random.choice(workers) if workers else None
        if victim is not None and act(victim) is not False:
            cluster.menu.fired[kind] += 1
            cluster.note("world", kind)

    def _crash(self, victim: Process) -> None:
        self._cluster.crash(victim)

    def _stall(self, victim: Process) -> None:
        self._cluster.stall(victim)

    def _graceful_stop(self, victim: Process) -> bool:
        return self._cluster.stop(victim) is not None

    def _outage(self, victim: Process) -> None:
        self._cluster.down_until = self._later(0.1, 6.0)

    def _partition(self, victim: Process) -> None:
        victim.door.cut_until = self._later(0.1, 3 * self._cluster.lease)

    def _missed_heartbeats(self, victim: Process) -> None:
        lease = self._cluster.lease
        victim.heartless_until = self._later(lease, 3 * lease)

    def _database_clock_forward(self, victim: Process) -> None:
        cluster = self._cluster
        cluster.clock_offset += round(
            self._random.choice((0.5, 3.0, 20.0)) * self._random.random() * 1e6
        )
        cluster.clock_jumped_at = cluster.loop.micros

    def _database_clock_back(self, victim: Process) -> None:
        cluster = self._cluster
        cluster.clock_offset -= round(
            self._random.choice((0.1, 1.0, 5.0)) * self._random.random() * 1e6
        )
        cluster.clock_jumped_at = cluster.loop.micros

    def _wall_clock_jump(self, victim: Process) -> None:
        victim.clock.offset += self._random.randint(-(10**12), 10**12)

    def _forced_eviction(self, victim: Process) -> bool:
        worker = victim.worker
        if worker is None or not worker.running:
            return False
        worker.evict()
        return True

    def _new_code(self, victim: Process) -> bool:
        cluster = self._cluster
        if cluster.version < NEWEST:
            cluster.version += 1
        if victim.version == cluster.version:
            return False
        if self._random.random() < 0.5:
            cluster.crash(victim)
            return True
        return cluster.stop(victim) is not None

    def _later(self, least: float, most: float) -> int:
        return self._cluster.loop.micros + round(self._random.uniform(least, most) * 1e6)
