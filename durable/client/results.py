"""Waiting for runs to end: one query per tick for all waiters of a process, none for what ends here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable.errors import StoreUnavailable
from durable.model.lifecycle import RunStatus
from durable.model.wire import EventRow

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage

End = tuple[RunStatus, EventRow]
"""How a run ended: its status and its last event."""

_TICK_SECONDS = (0.02, 0.5)
"""Shortest and longest pause between two looks."""
_LOCAL_TICKS = 20
"""A run that is driven in this process is looked up only every so many ticks."""
_log = logging.getLogger("durable.client")


class Results:
    """Who waits for which run."""

    def __init__(self, store: Storage, clock: Clock, is_local: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._is_local = is_local
        self._waiters: dict[str, list[asyncio.Future[End]]] = {}
        self._poll: asyncio.Task[None] | None = None
        self._poke = asyncio.Event()
        self._newcomer = False
        self._closed = False

    async def wait(self, run_id: str) -> End:
        """How the run ended, as soon as it has."""
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.cancel()
            return await future
        waiters = self._waiters.setdefault(run_id, [])
        waiters.append(future)
        if self._poll is None:
            self._poll = asyncio.create_task(self._run(), name="durable-results")
        elif not self._is_local(run_id):
            self._newcomer = True
            self._poke.set()
        try:
            return await future
        finally:
            waiters.remove(future)
            if not waiters:
                self._waiters.pop(run_id, None)

    def resolve(self, run_id: str, end: End) -> None:
        """A run has ended, durably, in this process."""
        for future in self._waiters.get(run_id, ()):
            if not future.done():
                future.set_result(end)

    def close(self) -> None:
        """Nobody will be told any more."""
        self._closed = True
        if self._poll is not None:
            self._poll.cancel()
        for waiters in self._waiters.values():
            for future in waiters:
                future.cancel()

    async def _run(self) -> None:
        tick = 0
        pause = _TICK_SECONDS[0]
        try:
            while self._waiters:
                everyone = tick % _LOCAL_TICKS == _LOCAL_TICKS - 1
                asked = [run for run in self._waiters if everyone or not self._is_local(run)]
                found = await self._look(asked)
                pause = _TICK_SECONDS[0] if found else min(pause * 1.5, _TICK_SECONDS[1])
                tick += 1
                if await self._wait(pause):
                    pause = _TICK_SECONDS[0]
        finally:
            self._poll = None

    async def _look(self, run_ids: list[str]) -> int:
        if not run_ids:
            return 0
        try:
            ended = await self._store.finished(run_ids)
        except StoreUnavailable as error:
            _log.warning("looking for results failed, trying again: %s", error)
            return 0
        except Exception:
            _log.exception("looking for results failed, trying again")
            return 0
        for run_id, end in ended.items():
            self.resolve(run_id, end)
        return len(ended)

    async def _wait(self, seconds: float) -> bool:
        """Pause; True when somebody new waits."""
        if not self._newcomer:
            self._poke.clear()
            timer = self._clock.call_later(seconds, self._poke.set)
            try:
                await self._poke.wait()
            finally:
                timer.cancel()
        newcomer, self._newcomer = self._newcomer, False
        return newcomer
