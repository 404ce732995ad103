"""Getting hold of runs: claims, adoption of claims whose answer was lost, and messages for runs held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from durable.errors import StoreUnavailable
from durable.model.rows import Claim, Held, Message

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.wire import EventRow
    from durable.storage.base import Storage
    from durable.worker.execution import Execution

MAX_CLAIM = 200
"""Runs per claim."""
_IDLE_SECONDS = (0.02, 1.0)
"""Shortest and longest pause between polls that find nothing."""
_log = logging.getLogger("durable.worker")


class Host(Protocol):
    """What claiming needs of its worker."""

    @property
    def worker_id(self) -> int: ...
    def healthy(self) -> bool: ...
    def room(self) -> int: ...
    def held(self, key: int) -> Execution | None: ...
    def resume(self, claim: Claim) -> bool: ...
    def replay(self, claim: Claim, rows: Sequence[EventRow]) -> None: ...
    def receive(self, execution: Execution, messages: Sequence[Message]) -> None: ...


class Claimer:
    """Polls for due runs. Hints make it faster; the poll is the truth."""

    def __init__(self, store: Storage, host: Host, clock: Clock, lanes: Sequence[int]) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._lanes = lanes
        self._poke = asyncio.Event()
        self._pause = _IDLE_SECONDS[0]
        self.claimed = 0
        self.adopted = 0

    def poke(self) -> None:
        """There may be work: look now."""
        self._pause = _IDLE_SECONDS[0]
        self._poke.set()

    async def run(self) -> None:
        """Claim for ever; survives every error."""
        while True:
            self._poke.clear()
            found = 0
            try:
                found = await self._round()
            except StoreUnavailable as error:
                _log.warning("claiming runs failed, trying again: %s", error)
            except Exception:
                _log.exception("claiming runs failed, trying again")
            if found:
                self._pause = _IDLE_SECONDS[0]
            else:
                await self._wait(self._pause)
                self._pause = min(self._pause * 2, _IDLE_SECONDS[1])

    async def _wait(self, seconds: float) -> None:
        timer = self._clock.call_later(seconds, self._poke.set)
        try:
            await self._poke.wait()
        finally:
            timer.cancel()

    async def _round(self) -> int:
        worker = self._host.worker_id
        if not self._host.healthy():
            return 0
        await self._look_after(worker)
        room = min(self._host.room(), MAX_CLAIM)
        if room <= 0 or not self._lanes:
            return 0
        claims = await self._store.claim(worker, self._lanes, room)
        self.claimed += len(claims)
        await self.take_up(worker, claims)
        return len(claims)

    async def take_up(self, worker: int, claims: Sequence[Claim]) -> None:
        """Bring claimed runs to life: from the cache, or by replaying their history."""
        if not claims or worker != self._host.worker_id:
            return
        missing = [claim for claim in claims if not self._host.resume(claim)]
        if missing:
            histories = await self._store.load([(claim.key, 0) for claim in missing])
            if worker != self._host.worker_id:
                return
            for claim in missing:
                rows = histories.get(claim.key, [])
                # Our own commits cannot have moved it: nobody drives it yet.
                self._host.replay(claim, rows[: claim.seq])
                await asyncio.sleep(0)
        behind = [(claim.key, claim.consumed) for claim in claims if claim.inbox_head > claim.consumed]
        await self._read(behind)

    async def _look_after(self, worker: int) -> None:
        """Messages for runs that are held, and runs that are ours without our knowing."""
        due = await self._store.owned(worker)
        if not due or worker != self._host.worker_id:
            return
        unknown: list[int] = []
        quiet: list[Held] = []
        behind: list[tuple[int, int]] = []
        for held in due:
            execution = self._host.held(held.key)
            if execution is None or execution.epoch < held.epoch:
                unknown.append(held.key)
            elif held.inbox_head > execution.consumed:
                behind.append((held.key, execution.consumed))
            else:
                quiet.append(held)
        if unknown:
            claims = await self._store.adopt(worker, unknown)
            self.adopted += len(claims)
            await self.take_up(worker, claims)
        if quiet:
            await self._store.acknowledge(worker, quiet)
        await self._read(behind)

    async def _read(self, behind: Sequence[tuple[int, int]]) -> None:
        if not behind:
            return
        by_run: dict[int, list[Message]] = {}
        for message in await self._store.inbox(behind):
            by_run.setdefault(message.key, []).append(message)
        for key, messages in by_run.items():
            execution = self._host.held(key)
            if execution is not None:
                self._host.receive(execution, messages)
