"""A simulated process: a client, mostly a worker, a clock of its own that may be wrong, and a door to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from durable.client import Client
from durable.clock import Timer
from durable.worker.roster import Roster
from durable.worker.steps import StepRunner
from durable.worker.worker import Worker
from tests.simulation.door import Door
from tests.simulation.loop import Site

if TYPE_CHECKING:
    from durable.model.commands import RunStep
    from durable.worker.execution import Execution
    from tests.simulation.cluster import Cluster


class SkewedClock:
    """A machine's clock: off by anything, and it may jump; what counts for leases only goes on."""

    def __init__(self, loop: Any, random: Random) -> None:
        self._loop = loop
        self.offset = random.choice((0, random.randint(-86_400_000_000, 86_400_000_000)))
        self._boot = random.randint(0, 10**9)

    def now(self) -> int:
        return self._loop.micros + self.offset  # type: ignore[no-any-return]

    def monotonic(self) -> float:
        return (self._loop.micros - self._boot) / 1e6  # type: ignore[no-any-return]

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self._loop.call_later(delay, callback)  # type: ignore[no-any-return]

    look_later = call_later

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)


class Process(Site):
    """One life of a process; a restart makes another one."""

    def __init__(self, cluster: Cluster, name: str, number: int, *, version: int = 1) -> None:
        super().__init__(name)
        self.number = number
        self.version = version
        self.trusted = False
        """Its operations meet no faults: who watches, and everybody once the world is healed."""
        self.heartless_until = 0
        """Its heartbeats are lost before this time."""
        self.stalls: list[tuple[int, int]] = []
        self.stopping = False
        self.clock = SkewedClock(cluster.loop, cluster.random)
        self.door = Door(cluster, self)
        self.client = Client("sqlite://")
        self.client.clock = self.clock
        self.client.storage = self.door  # type: ignore[assignment]
        self.worker: SimulatedWorker | None = None
        self.tasks: set[asyncio.Task[Any]] = set()
        """What the simulation itself has begun in it."""

    @property
    def alive(self) -> bool:
        return not self.dead

    def executions(self) -> list[Any]:
        """The runs that its worker has in memory."""
        roster = None if self.worker is None else getattr(self.worker, "_roster", None)
        return [] if roster is None else [*roster.executions(), *roster.cache._parked.values()]


class SimulatedWorker(Worker):
    """A worker without threads, whose steps are watched."""

    def __init__(self, cluster: Cluster, process: Process, **options: Any) -> None:
        super().__init__(process.client, **options)
        self._cluster = cluster
        self._process = process

    def _runner(self, roster: Roster, slots: int) -> StepRunner:
        return WatchedRunner(roster, slots, self._cluster, self._process)

    @property
    def cached(self) -> int:
        return len(self._roster.cache)

    def evict(self) -> None:
        """Forget the runs that are parked here."""
        self._roster.cache.clear()


class WatchedRunner(StepRunner):
    """Tells of every attempt, when it is due and when it begins."""

    def __init__(self, roster: Roster, slots: int, cluster: Cluster, process: Process) -> None:
        super().__init__(roster, slots, cluster.random, process.clock)
        self._cluster = cluster
        self._process = process

    def submit(self, execution: Execution, command: RunStep) -> None:
        self._cluster.watch.is_due(execution, command)
        super().submit(execution, command)

    def _begin(self, execution: Execution, command: RunStep) -> None:
        self._cluster.watch.begins(self._process, execution, command)
        super()._begin(execution, command)
