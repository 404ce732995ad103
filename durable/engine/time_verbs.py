"""The verbs of time: sleeping, time-outs, and moments by the calendar."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from durable.clock import SECOND, to_datetime, to_micros
from durable.engine.calls import Call
from durable.engine.verbs import Verbs
from durable.model import walltime
from durable.model.duration import Duration, seconds_of


class TimeVerbs(Verbs):
    """Time is that of history: the same on every replay."""

    if TYPE_CHECKING:
        # What a checker must see to type `gather(ctx.step(...), ctx.sleep(1))` and a forgotten await.

        async def sleep(self, duration: Duration, /) -> None: ...
        async def sleep_until(self, when: datetime, /) -> None: ...

    else:

        def sleep(self, duration: Duration, /) -> Call:
            """Sleep for a timedelta or seconds; days cost nothing, and it survives restarts."""
            return Call(self._instance.calls, self._begin_sleep, (seconds_of(duration, "sleep"),))

        def sleep_until(self, when: datetime, /) -> Call:
            """Sleep until an aware datetime; one that has passed is no wait. Naive: `ValueError`."""
            return Call(self._instance.calls, self._begin_sleep_until, (to_micros(when),))

    def _begin_sleep(self, _call: Call, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)

    def _begin_sleep_until(self, _call: Call, when: int) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(max(0.0, (when - self._instance.now) / SECOND))

    def timeout(self, duration: Duration | None, /) -> asyncio.Timeout:
        """`asyncio.timeout` for a timedelta or seconds; use it with `async with`."""
        return asyncio.timeout(None if duration is None else seconds_of(duration, "timeout"))

    def now(self) -> datetime:
        """The time of the event that is being handled, in UTC. The same on every replay; never goes back."""
        return to_datetime(self._instance.now)

    def next_business_day(
        self,
        *,
        hour: int = 0,
        minute: int = 0,
        tz: str | tzinfo = "UTC",
        holidays: Iterable[Any] = (),
    ) -> datetime:
        """The next `hour:minute`, after now, of a Monday to Friday that is no holiday; a datetime in `tz`.

        It is today's when that is still ahead. `holidays` are dates, datetimes (their date in `tz`) or ISO
        strings of either. A time that the clocks skip is the first moment after the gap, one that they show
        twice is the earlier; a whole day that a zone skips is no day. Raises `ValueError` for what is no
        such time, zone or date.
        """
        now = self.now()
        return walltime.next_business_day(now, hour=hour, minute=minute, tz=tz, holidays=holidays)

    def next_weekday(
        self,
        day: walltime.Weekday,
        /,
        *,
        hour: int = 0,
        minute: int = 0,
        tz: str | tzinfo = "UTC",
    ) -> datetime:
        """The next `hour:minute`, after now, of that day of the week ("monday"); a datetime in `tz`.

        On that day itself it is today's when that is still ahead, else that of next week. Times that clocks
        skip or show twice, and errors, as in `next_business_day`.
        """
        return walltime.next_weekday(self.now(), day, hour=hour, minute=minute, tz=tz)

    def end_of_day(self, *, tz: str | tzinfo = "UTC") -> datetime:
        """The last microsecond that has today's date by the clocks of `tz`; `ValueError`: an unknown zone."""
        return walltime.end_of_day(self.now(), tz=tz)
