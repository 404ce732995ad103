"""Trying again while the database is away: every verb of a client is idempotent, so it may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable.clock import Clock
from durable.errors import DurableError, StoreUnavailable

T = TypeVar("T")
PATIENCE_SECONDS = 30.0
"""How long a client goes on trying before it gives up with `StoreUnavailable`."""
_PAUSES = (0.02, 1.0)
"""Shortest and longest, in seconds, between two tries."""


class Patience:
    """How a client goes on trying: for `PATIENCE_SECONDS`, and until it is closed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self._closed

    def check(self) -> None:
        """`DurableError` once the client is closed."""
        if self._closed:
            raise closed()

    def close(self) -> None:
        """No more tries: whoever pauses between two of them is told at once."""
        self._closed = True
        for pause in self._pauses:
            pause.cancel()

    def deadline(self) -> float:
        """When somebody who asks now gives up, by the monotonic clock."""
        return self._clock.monotonic() + PATIENCE_SECONDS

    async def __call__(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The answer of `attempt`, tried again while the store is unavailable."""
        deadline = self.deadline()
        pauses = Pauses(self)
        while True:
            self.check()
            try:
                return await attempt()
            except StoreUnavailable:
                self.check()
                if pauses.end() > deadline:
                    raise
            await pauses.pause()

    async def pause(self, seconds: float) -> None:
        """Let so much time pass; no longer than until the client is closed."""
        if self._closed:
            return
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        self._pauses.add(pause)
        try:
            await asyncio.wait((pause,))
        finally:
            pause.cancel()
            self._pauses.discard(pause)
        if not pause.cancelled():
            pause.result()

    def after(self, seconds: float) -> float:
        """When so much time has passed, by the monotonic clock."""
        return self._clock.monotonic() + seconds


class Pauses:
    """The pauses between the tries of one thing, each longer than the one before."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._next = _PAUSES[0]

    def end(self) -> float:
        """When the next try would be made, by the monotonic clock."""
        return self._patience.after(self._next)

    async def pause(self) -> None:
        """Wait for the next try."""
        pause, self._next = self._next, min(self._next * 2, _PAUSES[1])
        await self._patience.pause(pause)

    def reset(self) -> None:
        """It was answered: the next pause is a short one."""
        self._next = _PAUSES[0]


async def patiently(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """The answer of `attempt`, tried again while the store is unavailable, for `PATIENCE_SECONDS`."""
    return await Patience(clock)(attempt)


def closed() -> DurableError:
    """What everybody gets whose call is under way when the client is closed."""
    return DurableError(
        "the client was closed before this call had its answer: ask again with an open one"
    )
