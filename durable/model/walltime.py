"""Moments by the clock on the wall of some place: the next business day, the next Friday, the end of today.

A wall time becomes a moment by two rules: what the clocks skip is the first moment after the gap, and of
what they show twice the earlier counts. A date that a place skips as a whole is no date there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

Weekday: TypeAlias = Literal[
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
]

_WEEKDAYS: Final = get_args(Weekday)
_SATURDAY: Final = 5
_DAY: Final = timedelta(days=1)
_TWO_DAYS: Final = 2 * 86_400


def next_business_day(
    now: datetime, *, hour: int, minute: int, tz: str | tzinfo, holidays: Iterable[Any]
) -> datetime:
    """The first `hour:minute` after `now` of a Monday to Friday that is not in `holidays`."""
    zone = zone_of(tz)
    free = _dates(holidays, zone)
    return _next(
        now, zone, _time(hour, minute), lambda day: day.weekday() < _SATURDAY and day not in free
    )


def next_weekday(now: datetime, day: str, *, hour: int, minute: int, tz: str | tzinfo) -> datetime:
    """The first `hour:minute` after `now` of a date that is such a day of the week."""
    if day not in _WEEKDAYS:
        message = f"day must be one of {', '.join(_WEEKDAYS)}, not {day!r}"
        raise ValueError(message)
    wanted = _WEEKDAYS.index(day)
    return _next(now, zone_of(tz), _time(hour, minute), lambda each: each.weekday() == wanted)


def end_of_day(now: datetime, *, tz: str | tzinfo) -> datetime:
    """The last microsecond that has the date of `now` in that zone."""
    zone = zone_of(tz)
    today = now.astimezone(zone).date()
    midnights = _moments(datetime.combine(today + _DAY, time()), zone)
    ends = [midnight - datetime.resolution for midnight in midnights]
    # Clocks that are put back over midnight show the next date for a while, and then this one again.
    return max(end for end in ends if end.astimezone(zone).date() == today).astimezone(zone)


def zone_of(tz: str | tzinfo) -> tzinfo:
    """The zone of that name; `ValueError` where there is none."""
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        message = f"tz= is an unknown time zone {tz!r}: write a name such as 'Europe/Berlin'"
        raise ValueError(message) from None


def _next(now: datetime, zone: tzinfo, at: time, wanted: Callable[[date], bool]) -> datetime:
    day = now.astimezone(zone).date()
    while True:
        if wanted(day) and _exists(day, zone):
            moment = _moments(datetime.combine(day, at), zone)[0]
            # In UTC: datetimes of one zone are compared by their wall times.
            if moment > now.astimezone(UTC):
                return moment.astimezone(zone)
        day += _DAY


def _exists(day: date, zone: tzinfo) -> bool:
    first = _moments(datetime.combine(day, time()), zone)[0]
    return first.astimezone(zone).date() == day


def _moments(wall: datetime, zone: tzinfo) -> list[datetime]:
    """When the clocks of a zone show a (naive) time, in UTC: once, twice, or as they pass over it."""
    as_utc = wall.replace(tzinfo=UTC)
    offsets = {_wall(as_utc + shift, zone) - wall - shift for shift in (-_DAY, timedelta(), _DAY)}
    found = [moment for offset in offsets if _wall(moment := as_utc - offset, zone) == wall]
    return sorted(found) or [_after_gap(wall, zone)]


def _after_gap(wall: datetime, zone: tzinfo) -> datetime:
    before = wall.replace(tzinfo=UTC) - _DAY
    seconds = bisect_left(
        range(_TWO_DAYS), True, key=lambda s: _wall(before + timedelta(seconds=s), zone) >= wall
    )
    return before + timedelta(seconds=seconds)


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


# -- what users give


def _time(hour: object, minute: object) -> time:
    return time(_number("hour", hour, 24), _number("minute", minute, 60))


def _number(option: str, number: object, end: int) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < end:
        return number
    message = f"{option}= must be an int from 0 to {end - 1}, not {number!r}"
    raise ValueError(message)


def _dates(holidays: Iterable[Any], zone: tzinfo) -> frozenset[date]:
    if isinstance(holidays, str):
        message = f"holidays= must be several dates, e.g. a list, not the string {holidays!r}"
        raise ValueError(message)  # noqa: TRY004  a wrong value of an option, as the others here
    return frozenset(_date(holiday, zone) for holiday in holidays)


def _date(holiday: object, zone: tzinfo) -> date:
    day = _read(holiday) if isinstance(holiday, str) else holiday
    if isinstance(day, datetime):
        return day.date() if day.tzinfo is None else day.astimezone(zone).date()
    if isinstance(day, date):
        return day
    message = f"holidays= must be dates, datetimes or ISO strings of them, not {holiday!r}"
    raise ValueError(message)


def _read(text: str) -> date | None:
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    return None
