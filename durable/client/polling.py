"""Waiting for something in the database: one query per tick for all waiters of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from durable.client.patience import closed
from durable.errors import DurableError, StoreUnavailable

if TYPE_CHECKING:
    from durable.clock import Clock

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")

_TICK_SECONDS = (0.02, 0.5)
"""Shortest and longest pause between two looks."""
_LOCAL_TICKS = 20
"""What this process will be told anyway is looked up only every so many ticks."""
_log = logging.getLogger("durable.client")


class Waiters(Generic[Key, Found]):
    """Who waits for what."""

    def __init__(
        self,
        look: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Found]]],
        clock: Clock,
        what: str,
        is_local: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        """`look` answers what is there; `what` is waited for, in words; `is_local`: this process will be told."""
        self._look_up = look
        self._clock = clock
        self._what = what
        self._is_local = is_local
        self._waiters: dict[Key, list[asyncio.Future[Found]]] = {}
        self._poll: asyncio.Task[None] | None = None
        self._poke = asyncio.Event()
        self._newcomer = False
        self._closed = False

    @property
    def poll(self) -> asyncio.Task[None] | None:
        """The task that looks, while somebody waits."""
        return self._poll

    async def wait(self, key: Key) -> Found:
        """What there is, as soon as it is there."""
        if self._closed:
            raise closed()
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(key, [])
        waiters.append(future)
        if self._poll is None:
            self._poll = asyncio.create_task(self._run(), name=f"durable-{self._what}")
            self._poll.add_done_callback(self._never_ran)
        elif not self._is_local(key):
            self.look()
        try:
            return await future
        finally:
            waiters.remove(future)
            if not waiters:
                self._waiters.pop(key, None)

    def resolve(self, key: Key, found: Found) -> None:
        """It is there, durably."""
        for future in self._waiters.get(key, ()):
            if not future.done():
                future.set_result(found)

    def close(self) -> None:
        """Nobody will be told any more."""
        self._closed = True
        if self._poll is not None:
            self._poll.cancel()
        self._give_up(closed)

    def look(self) -> None:
        """Something has happened of which this process may not be told otherwise: look now."""
        if self._poll is not None:
            self._newcomer = True
            self._poke.set()

    def _give_up(self, error: Callable[[], DurableError]) -> None:
        """Whoever waits gets an error of his own."""
        for waiters in self._waiters.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(error())

    def _never_ran(self, poll: asyncio.Task[None]) -> None:
        """It was cancelled before it had begun."""
        if self._poll is poll:
            self._poll = None
            self._give_up(self._stopped)

    def _stopped(self) -> DurableError:
        return DurableError(f"the task that looks for {self._what} was cancelled: ask again")

    async def _run(self) -> None:
        tick = 0
        pause = _TICK_SECONDS[0]
        try:
            while self._waiters:
                everyone = tick % _LOCAL_TICKS == _LOCAL_TICKS - 1
                asked = [key for key in self._waiters if everyone or not self._is_local(key)]
                found = await self._look(asked)
                pause = _TICK_SECONDS[0] if found else min(pause * 1.5, _TICK_SECONDS[1])
                tick += 1
                if await self._wait(pause):
                    pause = _TICK_SECONDS[0]
        except asyncio.CancelledError:  # from outside, or closed: nobody looks any more
            self._give_up(self._stopped)
            raise
        finally:
            self._poll = None

    async def _look(self, keys: Sequence[Key]) -> int:
        if not keys:
            return 0
        try:
            found = await self._look_up(keys)
        except StoreUnavailable as error:
            _log.warning("looking for %s failed, trying again: %s", self._what, error)
            return 0
        except Exception:
            _log.exception("looking for %s failed, trying again", self._what)
            return 0
        for key, one in found.items():
            self.resolve(key, one)
        return len(found)

    async def _wait(self, seconds: float) -> bool:
        """Pause; True when somebody new waits, or something has happened."""
        if not self._newcomer:
            self._poke.clear()
            timer = self._clock.look_later(seconds, self._poke.set)
            try:
                await self._poke.wait()
            finally:
                timer.cancel()
        newcomer, self._newcomer = self._newcomer, False
        return newcomer
