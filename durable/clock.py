"""Time as everything above the ground sees it: the machine's, or a virtual one that tests move by hand.

Points in time are whole microseconds since the Unix epoch, in UTC; waits are seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

SECOND = 1_000_000
"""Microseconds in a second."""

NEVER = 253_402_300_799_000_000
"""The end of the year 9999: nothing is due later."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(micros: int) -> datetime:
    """The aware UTC datetime of a point in time."""
    return _EPOCH + timedelta(microseconds=micros)


def after(now: int, seconds: float) -> int:
    """The point in time that is so many seconds later; `NEVER` at most."""
    return NEVER if seconds > NEVER / SECOND else min(now + round(seconds * SECOND), NEVER)


def to_micros(when: datetime) -> int:
    """The point in time of an aware datetime; a naive one is refused with `ValueError`."""
    if when.tzinfo is None:
        message = (
            f"naive datetime {when.isoformat()}: durable needs a time zone, e.g. datetime.now(UTC)"
        )
        raise ValueError(message)
    return (when - _EPOCH) // _MICROSECOND


class Timer(Protocol):
    """A pending callback; `cancel` is idempotent."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What a worker waits by."""

    def now(self) -> int:
        """This machine's idea of now."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump; they go on while the machine sleeps, where it can tell."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` on the running event loop after `delay` seconds."""
        ...

    def look_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """The same for a look at the database that finds what no hint has told of: no time need pass for it."""
        ...

    async def sleep(self, delay: float) -> None: ...


_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's clock and the running asyncio loop."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        # CLOCK_MONOTONIC stands still while a laptop sleeps; a lease does not.
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)

    look_later = call_later

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)


class TimeLimit:
    """`asyncio.timeout` by a clock: `async with TimeLimit(clock, seconds) as limit`."""

    __slots__ = ("_clock", "_scope", "_seconds", "_timer")

    _timer: Timer

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._timer = self._clock.call_later(self._seconds, self._expire)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, traceback)

    def _expire(self) -> None:
        self._scope.reschedule(0)  # long past, by any loop's clock

    def expired(self) -> bool:
        """It was this limit that ended the block."""
        return self._scope.expired()


class _VirtualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """Time that stands still until a test moves it; callbacks run in the order of their due times."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = to_micros(start or datetime(2026, 1, 1, tzinfo=UTC))
        self._start = self._now
        self._heap: list[tuple[int, int, _VirtualTimer]] = []
        self._order = itertools.count()

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start) / SECOND

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = _VirtualTimer(callback)
        due = self._now + max(0, round(delay * SECOND))
        heapq.heappush(self._heap, (due, next(self._order), timer))
        return timer

    def look_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return self.call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    @property
    def next_due(self) -> int | None:
        """When the next pending callback is due, or None."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def jump(self, to: int) -> None:
        """Move to `to`, running what falls due on the way at its own time. Never goes back."""
        while (due := self.next_due) is not None and due <= to:
            _, _, timer = heapq.heappop(self._heap)
            callback, timer.callback = timer.callback, None
            self._now = max(self._now, due)
            if callback is not None:
                callback()
        self._now = max(self._now, to)

    def advance(self, delay: timedelta | float) -> None:
        """Move forward by `delay` (seconds or a timedelta)."""
        seconds: Any = delay.total_seconds() if isinstance(delay, timedelta) else delay
        self.jump(self._now + round(seconds * SECOND))
