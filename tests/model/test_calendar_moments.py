"""Moments by the clock on the wall: the next business day, the next Friday, the end of the day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from durable.model.walltime import end_of_day, next_business_day, next_weekday

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # the clocks skipped midnight
    "America/Havana",  # and showed it twice
    "America/St_Johns",  # put back over midnight, at 00:01, until 2011
    "America/Scoresbysund",
    "Africa/Cairo",  # put back at midnight: 23:00 to 24:00 twice
    "Africa/Casablanca",
    "Asia/Gaza",
    "Asia/Beirut",
    "Asia/Kathmandu",  # +05:45
    "Asia/Tehran",
    "Australia/Lord_Howe",  # half an hour
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Kwajalein",  # had no 21 August 1993
    "Pacific/Kiritimati",
]
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(1975, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
hours, minutes = st.integers(0, 23), st.integers(0, 59)


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    """A time on the clocks of a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def business(now: datetime, **options: Any) -> datetime:
    return next_business_day(
        now, **{"hour": 0, "minute": 0, "tz": "UTC", "holidays": (), **options}
    )


def weekday(now: datetime, day: str, **options: Any) -> datetime:
    return next_weekday(now, day, **{"hour": 0, "minute": 0, "tz": "UTC", **options})


# -- what is next


@pytest.mark.parametrize(
    "now, hour, expected",
    [
        ("2026-01-03 12:00", 9, "2026-01-05 09:00"),  # Saturday
        ("2026-01-05 08:59", 9, "2026-01-05 09:00"),  # Monday, still ahead
        ("2026-01-05 09:00", 9, "2026-01-06 09:00"),  # strictly after now
        ("2026-01-05 09:01", 9, "2026-01-06 09:00"),
        ("2026-01-05 00:00", 0, "2026-01-06 00:00"),
        ("2026-01-09 17:00", 9, "2026-01-12 09:00"),  # Friday
    ],
)
def test_the_next_business_day_is_the_first_such_time_after_now(now, hour, expected):
    """Monday to Friday; today's when that is still ahead."""
    assert business(at(now), hour=hour) == at(expected)


@pytest.mark.parametrize(
    "now, day, hour, expected",
    [
        ("2026-01-05 08:00", "monday", 9, "2026-01-05 09:00"),
        ("2026-01-05 09:00", "monday", 9, "2026-01-12 09:00"),
        ("2026-01-05 00:00", "monday", 0, "2026-01-12 00:00"),
        ("2026-01-05 12:00", "friday", 17, "2026-01-09 17:00"),
        ("2026-01-05 12:00", "sunday", 0, "2026-01-11 00:00"),
    ],
)
def test_the_next_weekday_is_the_first_such_time_after_now(now, day, hour, expected):
    """Today's when that is still ahead, else that of next week."""
    assert weekday(at(now), day, hour=hour) == at(expected)


def test_it_is_read_by_the_clocks_of_the_zone_and_answered_in_it():
    """Late in the evening in Berlin it is tomorrow in Tokyo."""
    now = at("2026-01-05 20:00", "Europe/Berlin")
    found = business(now, hour=9, tz="Asia/Tokyo")
    assert found.isoformat() == "2026-01-06T09:00:00+09:00"
    assert found.tzinfo == ZoneInfo("Asia/Tokyo")
    fixed = timezone(timedelta(hours=-3))
    assert weekday(now, "monday", hour=17, tz=fixed).isoformat() == "2026-01-05T17:00:00-03:00"
    assert end_of_day(now, tz="Asia/Tokyo").isoformat() == "2026-01-06T23:59:59.999999+09:00"
    assert business(now).tzinfo is UTC


@pytest.mark.parametrize(
    "holidays",
    [
        [date(2026, 12, 25), date(2026, 12, 28)],
        ["2026-12-25", "20261228"],
        [datetime(2026, 12, 24, 23, 30, tzinfo=UTC), "2026-12-28T00:00:00+01:00"],
        (datetime(2026, 12, day) for day in (25, 28)),  # noqa: DTZ001
        {date(2026, 12, 25): "Christmas", date(2026, 12, 28): "off"},
    ],
    ids=["dates", "strings", "aware", "naive", "mapping"],
)
def test_holidays_are_no_business_days(holidays):
    """Dates, datetimes (their date in the zone), ISO strings of either."""
    now = at("2026-12-24 18:00", "Europe/Berlin")
    found = business(now, hour=9, tz="Europe/Berlin", holidays=holidays)
    assert found == at("2026-12-29 09:00", "Europe/Berlin")


def test_the_end_of_the_day_is_its_last_microsecond():
    """The last moment that has today's date."""
    assert end_of_day(at("2026-01-03 00:00"), tz="UTC") == at("2026-01-03 23:59:59.999999")
    last = at("2026-01-03 23:59:59.999999")
    assert end_of_day(last, tz="UTC") == last


# -- clocks that are put forward and back


@pytest.mark.parametrize(
    "zone, now, at_time, expected",
    [
        ("Europe/Berlin", "2026-03-28 12:00", (2, 30), "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "2026-10-24 12:00", (2, 30), "2026-10-25T02:30:00+02:00"),
        ("Australia/Lord_Howe", "2026-10-03 12:00", (2, 15), "2026-10-04T02:30:00+11:00"),
        ("Australia/Lord_Howe", "2026-04-04 12:00", (1, 45), "2026-04-05T01:45:00+11:00"),
        ("America/Sao_Paulo", "2018-11-03 12:00", (0, 0), "2018-11-04T01:00:00-02:00"),
        ("Asia/Kathmandu", "2026-01-03 12:00", (9, 0), "2026-01-04T09:00:00+05:45"),
    ],
)
def test_times_that_clocks_skip_or_show_twice(zone, now, at_time, expected):
    """What does not exist moves to the first moment that does; of two the earlier."""
    hour, minute = at_time
    found = weekday(at(now, zone), "sunday", hour=hour, minute=minute, tz=zone)
    assert found.isoformat() == expected


def test_between_the_two_of_a_repeated_time_it_is_that_of_next_week():
    """The earlier one counts, and it has passed."""
    now = at("2026-10-25 02:10", "Europe/Berlin", fold=1)
    found = weekday(now, "sunday", hour=2, minute=30, tz="Europe/Berlin")
    assert found.isoformat() == "2026-11-01T02:30:00+01:00"


def test_a_day_that_a_zone_skipped_is_no_day():
    """Apia had no Friday, 30 December 2011: neither a business day nor a Friday."""
    now = at("2011-12-29 12:00", "Pacific/Apia")
    zone = "Pacific/Apia"
    assert business(now, hour=9, tz=zone).isoformat() == "2012-01-02T09:00:00+14:00"
    assert weekday(now, "friday", hour=9, tz=zone).isoformat() == "2012-01-06T09:00:00+14:00"
    assert end_of_day(now, tz=zone).isoformat() == "2011-12-29T23:59:59.999999-10:00"


@pytest.mark.parametrize(
    "zone, now, fold, expected",
    [
        ("Africa/Cairo", "2023-10-26 23:30", 0, "2023-10-26T23:59:59.999999+02:00"),
        ("America/Havana", "2026-10-31 12:00", 0, "2026-10-31T23:59:59.999999-04:00"),
        ("America/St_Johns", "2010-11-06 12:00", 0, "2010-11-06T23:59:59.999999-03:30"),
        ("America/Sao_Paulo", "2018-11-03 12:00", 0, "2018-11-03T23:59:59.999999-03:00"),
    ],
)
def test_the_end_of_a_day_whose_midnight_is_odd(zone, now, fold, expected):
    """It is the last moment with that date, also where the clocks go back over midnight."""
    assert end_of_day(at(now, zone, fold), tz=zone).isoformat() == expected


# -- what holds for all zones and times


def resolve(day: date, hour: int, minute: int, zone: tzinfo) -> datetime:
    """When the clocks show it, by what the standard library says of `fold`."""
    naive = datetime.combine(day, time(hour, minute))
    earlier, later = (naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if earlier.astimezone(zone).replace(tzinfo=None) == naive:
        return earlier
    # A gap: PEP 495 gives a moment on each side of it; the clocks jump somewhere between them.
    low, high = later, earlier
    while high - low > timedelta(microseconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < naive:
            low = middle
        else:
            high = middle
    return high


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(moments, zones, st.sampled_from(DAYS), hours, minutes)
@example(at("2011-12-29 12:00", "Pacific/Apia"), "Pacific/Apia", "saturday", 0, 0)
@example(at("2026-10-03 12:00", "Australia/Lord_Howe"), "Australia/Lord_Howe", "sunday", 2, 15)
def test_the_next_weekday_is_the_first_of_all_that_come(now, zone, day, hour, minute):
    """Strictly after now, within eight days (15 where one was skipped), by an independent reckoning."""
    place = ZoneInfo(zone)
    found = weekday(now, day, hour=hour, minute=minute, tz=zone)
    start = now.astimezone(place).date()
    dates = (start + timedelta(days=n) for n in range(16))
    expected = [
        moment
        for each in dates
        if each.weekday() == DAYS.index(day) and has(each, place)
        if (moment := resolve(each, hour, minute, place)) > now
    ]
    assert found.astimezone(UTC) == expected[0]


def has(day: date, zone: tzinfo) -> bool:
    """Whether any quarter of an hour of two days and a half round it has that date."""
    middle = datetime.combine(day, time(12), UTC)
    return any(
        (middle + timedelta(minutes=15 * n)).astimezone(zone).date() == day
        for n in range(-120, 121)
    )


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(moments, zones, hours, minutes, st.sets(st.integers(0, 12)))
def test_the_next_business_day_is_never_a_day_off(now, zone, hour, minute, off):
    """It is after now, on a working day, and on no earlier one it would have been."""
    place = ZoneInfo(zone)
    start = now.astimezone(place).date()
    holidays = [start + timedelta(days=n) for n in off]
    found = business(now, hour=hour, minute=minute, tz=zone, holidays=holidays)
    assert found > now
    day = start
    while (
        day.weekday() > 4
        or day in holidays
        or not has(day, place)
        or (resolve(day, hour, minute, place) <= now)
    ):
        day += timedelta(days=1)
    assert found.astimezone(UTC) == resolve(day, hour, minute, place)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(moments, zones, st.integers(0, 2 * 24 * 60 * 60))
@example(at("2010-11-06 12:00", "America/St_Johns"), "America/St_Johns", 1)
@example(at("2011-12-29 12:00", "Pacific/Apia"), "Pacific/Apia", 1)
def test_after_the_end_of_the_day_its_date_never_comes_again(now, zone, later):
    """And at its end it still is that date."""
    place = ZoneInfo(zone)
    today = now.astimezone(place).date()
    end = end_of_day(now, tz=zone)
    assert end >= now
    assert end.date() == today
    for seconds in (0, later):
        after = end.astimezone(UTC) + timedelta(microseconds=1, seconds=seconds)
        assert after.astimezone(place).date() > today


class NoFold(tzinfo):
    """A zone that knows nothing of `fold`, as those of older libraries: an hour is skipped in March."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        assert when is not None
        return timedelta(hours=2 if when.replace(tzinfo=None) >= datetime(2026, 3, 29, 2) else 1)  # noqa: DTZ001

    def dst(self, when: datetime | None) -> timedelta:
        return self.utcoffset(when) - timedelta(hours=1)

    def fromutc(self, when: datetime) -> datetime:
        summer = when.replace(tzinfo=None) >= datetime(2026, 3, 29, 1)  # noqa: DTZ001
        return when + timedelta(hours=2 if summer else 1)


def test_a_zone_that_knows_no_fold():
    """Only the way from moments to clocks is asked for."""
    found = weekday(at("2026-03-28 12:00"), "sunday", hour=2, minute=30, tz=NoFold())
    assert found.astimezone(UTC).isoformat() == "2026-03-29T01:00:00+00:00"


# -- what is refused


@pytest.mark.parametrize("option", ["hour", "minute"])
@pytest.mark.parametrize("wrong", [-1, 60, 9.5, "9", True, None])
def test_an_hour_and_a_minute_are_ints_of_a_clock(option, wrong):
    """`ValueError`, naming the argument."""
    for find in (business, lambda now, **options: weekday(now, "monday", **options)):
        with pytest.raises(ValueError, match=f"{option}= must be an int from 0 to"):
            find(at("2026-01-05 00:00"), **{option: wrong})


@pytest.mark.parametrize("wrong", ["Mars/Olympus", "", "../etc/passwd", "Europe", 5, None])
def test_a_zone_that_is_unknown(wrong):
    """`ValueError`, naming the argument and what to write."""
    now = at("2026-01-05 00:00")
    for find in (business, lambda now, tz: weekday(now, "monday", tz=tz), end_of_day):
        with pytest.raises(ValueError, match=r"tz= is an unknown time zone .* 'Europe/Berlin'"):
            find(now, tz=wrong)


@pytest.mark.parametrize("wrong", ["Monday", "mon", 0, None])
def test_a_day_that_is_none(wrong):
    """`ValueError` with the seven that there are."""
    with pytest.raises(ValueError, match="day must be one of monday, tuesday"):
        weekday(at("2026-01-05 00:00"), wrong)


@pytest.mark.parametrize("wrong", ["2026-12-25", ["Christmas"], [25], [None], ["2026-13-01"]])
def test_holidays_that_are_none(wrong):
    """`ValueError`, naming the argument."""
    with pytest.raises(ValueError, match="holidays= must be"):
        business(at("2026-01-05 00:00"), holidays=wrong)


def test_a_year_without_business_days_is_waited_out():
    """However many holidays there are."""
    off = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    assert business(at("2025-12-31 23:00"), holidays=off) == at("2027-01-01 00:00")


@given(moments, st.integers(0, 23))
def test_in_utc_it_is_plain_arithmetic(now, hour):
    """Without any zone there is nothing to skip or repeat."""
    assume(now.year < 2037)
    found = business(now, hour=hour)
    assert timedelta(0) < found - now <= timedelta(days=3)
    assert (found.hour, found.minute, found.second) == (hour, 0, 0)
