"""The clients of a campaign: they keep a number of runs open and hand each that has ended to the oracle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

from durable import Client
from durable.client.patience import patiently
from durable.model.lifecycle import RunStatus
from tests.campaigns import labour
from tests.campaigns.fleet import PATIENCE_SECONDS, Stuck
from tests.campaigns.oracle import Oracle

MIX: Sequence[Any] = (labour.chain, labour.chain, labour.chain, labour.pairs)
LOOK_SECONDS = 0.05


class Load:
    """Starts runs whose ids it knows beforehand; each id is asked for until there is an answer."""

    def __init__(
        self, client: Client, oracle: Oracle, *, open: int, seed: int, mix: Sequence[Any] = MIX
    ) -> None:
        self._client = client
        self._oracle = oracle
        self._wanted = open
        self._random = Random(seed)
        self._mix = mix
        self._open: dict[str, tuple[str, int]] = {}
        self._number = 0
        self._closing = False
        self._starting: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []
        self.figures: Counter[str] = Counter()
        self.started: set[str] = set()
        """Ids that were acknowledged."""

    def begin(self) -> None:
        """Keep runs open from now on."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Whatever is open, leave it."""
        await _cancelled(self._running)

    async def _run(self) -> None:
        """Until `close`; then until nothing is open."""
        while self._open or self._starting or not self._closing:
            if self._failed:
                raise self._failed[0]
            if not self._closing:
                self._top_up()
            if not await self._collect():
                await asyncio.sleep(LOOK_SECONDS)

    def expect(self, run_id: str, workflow: Any, seed: int) -> None:
        """Others have started this run: see to its end."""
        self.started.add(run_id)
        self._open[run_id] = (workflow.name, seed)

    def close(self) -> None:
        """Start nothing more."""
        self._closing = True

    @property
    def ended(self) -> int:
        """Runs that have been judged."""
        return self._oracle.figures["runs"]

    def _top_up(self) -> None:
        while len(self._open) + len(self._starting) < self._wanted:
            self._number += 1
            task = asyncio.create_task(self._start(f"run-{self._number}"))
            self._starting.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed.append(error)

    async def _start(self, run_id: str) -> None:
        workflow, seed = self._random.choice(self._mix), self._random.randrange(labour.PRIME)
        handle = await self._client.start(workflow, seed, id=run_id)
        self.figures["starts"] += 1
        self.started.add(run_id)
        if not handle.created:
            self._oracle.violations.append(f"{run_id} was started once and says that it existed")
        self._open[run_id] = (workflow.name, seed)

    async def _collect(self) -> int:
        ids = list(self._open)
        store = self._client.storage
        ended = await patiently(self._client.clock, lambda: store.finished(ids)) if ids else {}
        for run_id in ended:
            await self._oracle.judge(run_id, *self._open.pop(run_id))
        self._oracle.read_ledger()
        return len(ended)

    async def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a round of the nemesis; when the load fails meanwhile, fail with it."""
        task = asyncio.create_task(work)
        await asyncio.wait((self._running, task), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await _cancelled(task)
            await self._running
        await task

    async def finish(self) -> None:
        """Let everything that is open end; what does not is a violation that says where it stands."""
        self.close()
        seen = -1
        while seen != self.ended:
            seen = self.ended
            done, _ = await asyncio.wait((self._running,), timeout=PATIENCE_SECONDS)
            if done:
                await self._running
                await self._count()
                return
        await self.stop()
        for run_id in list(self._open)[:10]:
            run = await self._client.get(run_id)
            self._oracle.violations.append(f"stuck: {run}")
        raise Stuck(f"{len(self._open)} runs have not ended")

    async def _count(self) -> None:
        """No run is lost, and there is none that nobody asked for."""
        counts: dict[RunStatus, int] = await self._client.count()
        if counts != {"completed": len(self.started)}:
            self._oracle.violations.append(f"{len(self.started)} starts, but runs: {counts}")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
