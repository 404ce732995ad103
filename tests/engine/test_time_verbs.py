"""Moments by the calendar start from the time of history, so that they are the same on every replay."""

from __future__ import annotations

from datetime import datetime

import pytest

from durable.engine.context import Context
from tests.engine.bodies import of, run
from tests.engine.driver import failure


def test_moments_by_the_calendar_are_reckoned_from_the_time_of_history():
    """From `ctx.now()`: a Thursday, 1 January 2026, 00:00 UTC, and an hour of sleep."""

    async def body(ctx: Context) -> list[str]:
        await ctx.sleep(3600)
        found = [
            ctx.next_business_day(hour=9, tz="Europe/Berlin", holidays=["2026-01-01"]),
            ctx.next_weekday("thursday", hour=1, minute=30),
            ctx.end_of_day(tz="America/New_York"),
        ]
        return [moment.isoformat() for moment in found]

    assert run(body) == [
        "2026-01-02T09:00:00+01:00",
        "2026-01-01T01:30:00+00:00",
        "2025-12-31T23:59:59.999999-05:00",
    ]


def test_a_run_sleeps_until_such_a_moment():
    """`await ctx.sleep_until(ctx.next_weekday("monday", hour=9))`."""

    async def body(ctx: Context) -> list[datetime]:
        await ctx.sleep_until(ctx.next_weekday("monday", hour=9))
        first = ctx.now()
        await ctx.sleep_until(ctx.next_weekday("monday", hour=9))
        return [first, ctx.now()]

    first, second = run(body)
    assert first.isoformat() == "2026-01-05T09:00:00+00:00"
    assert (second - first).days == 7


@pytest.mark.parametrize(
    "ask, name",
    [
        (lambda ctx: ctx.next_business_day(hour=24), "hour="),
        (lambda ctx: ctx.next_weekday("friday", minute=60), "minute="),
        (lambda ctx: ctx.next_weekday("someday"), "day must be"),
        (lambda ctx: ctx.end_of_day(tz="Mars"), "tz="),
    ],
)
def test_what_is_no_such_moment_is_a_value_error(ask, name):
    """It names the argument."""

    async def body(ctx: Context) -> None:
        ask(ctx)

    told = failure(of(body))
    assert told.type == "builtins:ValueError"
    assert name in told.message
