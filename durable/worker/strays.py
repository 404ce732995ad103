"""Steps of runs that are not this worker's any more: whoever terminates a run does not tell its worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from durable.model.rows import Code

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage
    from durable.worker.execution import Execution

Holding: TypeAlias = tuple[int, int]
"""A run, by its key, in one epoch."""


class Host(Protocol):
    """The worker whose runs they are."""

    @property
    def worker_id(self) -> int: ...
    def executions(self) -> Iterable[Execution]: ...
    def lost(self, execution: Execution) -> None: ...


class Strays:
    """Asks the store about runs whose steps take long, and gives up those that have another owner, or none."""

    def __init__(self, store: Storage, host: Host, clock: Clock, interval: float) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._interval = interval

    async def run(self) -> None:
        """Look for ever, every `interval` seconds, at what had a step running the last time, too."""
        before: frozenset[Holding] = frozenset()
        while True:
            await self._clock.sleep(self._interval)
            now = self._with_steps()
            await self._ask({held: now[held] for held in before & now.keys()})
            before = frozenset(now)

    def _with_steps(self) -> dict[Holding, Execution]:
        return {(one.key, one.epoch): one for one in self._host.executions() if one.active}

    async def _ask(self, held: dict[Holding, Execution]) -> None:
        if not held:
            return
        keys, epochs = zip(*held, strict=True)
        answers = await self._store.probe(self._host.worker_id, keys, epochs)
        for (_, epoch), execution, answer in zip(held, held.values(), answers, strict=True):
            # One whose steps have ended meanwhile may have ended itself, or be about to be handed back.
            gone = answer.code is Code.LOST and execution.epoch == epoch
            if gone and execution.active and not execution.dead:
                self._host.lost(execution)
