"""Trying again while the database is away: every verb of a client is idempotent, so it may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable.clock import Clock
from durable.errors import StoreUnavailable

T = TypeVar("T")
PATIENCE_SECONDS = 30.0
"""How long a client goes on trying before it gives up with `StoreUnavailable`."""


async def patiently(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """The answer of `attempt`, tried again while the store is unavailable, for `PATIENCE_SECONDS`."""
    start = clock.monotonic()
    pause = 0.02
    while True:
        try:
            return await attempt()
        except StoreUnavailable:
            if clock.monotonic() - start + pause > PATIENCE_SECONDS:
                raise
        await clock.sleep(pause)
        pause = min(pause * 2, 1.0)
