"""Schedules are checked when they are made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from durable import Cron, Every, days, hours


@pytest.mark.parametrize(
    "expression",
    [
        "0 9 * * *",
        "*/5 1-5 1,15 jan-MAR mon#1",
        "0 0 l * *",
        "0 0 * * l5",
        "0 0 29 2 *",
        "0 0 31 2 mon",
        "@daily",
    ],
)
def test_five_fields_or_a_word(expression: str):
    assert Cron(expression).expression == expression


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "0 9 * *",
        "0 0 9 * * *",
        "0 0 9 * * * 2026",
        "@reboot",
        "61 * * * *",
        "*/0 * * * *",
        "5-1-2 * * * *",
        "x * * * *",
        "0 0 31 2 *",
        "R 9 * * *",
        "r(1-5) 9 * * *",
        "H 9 * * *",
        "0 0 15W * *",
        "0 9 * * abc",
    ],
)
def test_what_is_no_crontab_is_refused(expression: str):
    with pytest.raises(ValueError, match="Cron"):
        Cron(expression)


def test_an_expression_is_a_string():
    wrong: Any = 5
    with pytest.raises(TypeError):
        Cron(wrong)


def test_the_time_zone_of_a_cron():
    assert Cron("@daily").zone is UTC
    assert Cron("@daily", tz="Europe/Berlin").zone == ZoneInfo("Europe/Berlin")
    assert Cron("@daily", tz=ZoneInfo("Asia/Tokyo")).zone == ZoneInfo("Asia/Tokyo")
    for wrong in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(ValueError, match="time zone"):
            Cron("@daily", tz=wrong)


@pytest.mark.parametrize("make", [lambda **k: Cron("@daily", **k), lambda **k: Every(60, **k)])
def test_bounds_are_aware_and_in_order(make: Any):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert make(start=start, end=start + days(1)).start == start
    for option in ("start", "end"):
        with pytest.raises(ValueError, match=f"{option}= is naive"):
            make(**{option: datetime(2026, 1, 1)})  # noqa: DTZ001
    with pytest.raises(ValueError, match="later than"):
        make(start=start, end=start)
    with pytest.raises(ValueError, match="overlap="):
        make(overlap="both")


@pytest.mark.parametrize("option", [{"catch_up": -1}, {"jitter": -1}, {"max_failures": 0}])
def test_numbers_of_a_cron(option: Any):
    with pytest.raises(ValueError, match=next(iter(option))):
        Cron("@daily", **option)


@pytest.mark.parametrize("interval", [0, -1, timedelta(0), float("nan")])
def test_an_interval_is_positive(interval: Any):
    with pytest.raises(ValueError, match="interval"):
        Every(interval)


def test_schedules_are_values():
    assert Every(3600) == Every(3600)
    assert Every(hours(1)).interval == timedelta(hours=1)
    assert Cron("0 9 * * *") == Cron("0 9 * * *")
