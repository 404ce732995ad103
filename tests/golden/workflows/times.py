"""Time, chance and identity: what a workflow is told instead of asking the machine.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any

from durable import Context, current_context, days, hours, minutes, workflow
from tests.golden.workflows.steps import flaky, note


@workflow
async def time_sleeps(ctx: Context) -> list[float]:
    began = ctx.now()
    spent = []
    for pause in (days(30), hours(1), 2.5, 0):
        await ctx.sleep(pause)
        spent.append((ctx.now() - began).total_seconds())
    await asyncio.sleep(7)
    return [*spent, (ctx.now() - began).total_seconds()]


@workflow
async def time_sleeps_until(ctx: Context, when: datetime) -> list[datetime]:
    await ctx.sleep_until(when)
    woken = ctx.now()
    await ctx.sleep_until(datetime(2020, 1, 1, tzinfo=UTC))
    return [woken, ctx.now()]


@workflow
async def time_of_the_calendar(ctx: Context) -> list[datetime]:
    """Into the arguments of steps, too, so that a replay compares them."""
    moments = [
        ctx.next_business_day(hour=9, tz="Europe/Berlin", holidays=[date(2026, 1, 2)]),
        ctx.next_weekday("sunday", hour=2, minute=15, tz="Australia/Lord_Howe"),
        ctx.end_of_day(tz="Asia/Kathmandu"),
    ]
    await ctx.step(note, " ".join(moment.isoformat() for moment in moments))
    await ctx.sleep_until(moments[0])
    return [*moments, ctx.end_of_day(tz="America/New_York")]


@workflow
async def time_limits(ctx: Context) -> list[str]:
    seen = []
    try:
        async with ctx.timeout(minutes(2)):
            await ctx.sleep(hours(1))
    except TimeoutError:
        seen.append("ctx.timeout")
    try:
        async with asyncio.timeout(5):
            await ctx.step(flaky, "away")
    except TimeoutError:
        seen.append(await ctx.step(note, "asyncio.timeout"))
    async with ctx.timeout(hours(1)):
        seen.append(await ctx.step(note, "in time"))
    return seen


@workflow
async def time_limits_in_one_another(ctx: Context) -> list[str]:
    seen = []
    try:
        async with asyncio.timeout(10):
            try:
                async with asyncio.timeout(2):
                    await ctx.sleep(5)
            except TimeoutError:
                seen.append("inner")
            await ctx.sleep(100)
    except TimeoutError:
        seen.append("outer")
    return [*seen, await ctx.step(note, "after")]


@workflow
async def time_is_told_by_history(ctx: Context) -> list[str]:
    told = [ctx.now().isoformat()]
    for _ in range(3):
        await ctx.sleep(0.123456)
        told.append(await ctx.step(note, ctx.now().isoformat()))
    return [*told, str(asyncio.get_running_loop().time())]


@workflow
async def chance_is_repeatable(ctx: Context) -> list[Any]:
    drawn: list[Any] = [ctx.random.randrange(10**6), ctx.random.random(), ctx.random.choice("abc")]
    deck = list(range(8))
    ctx.random.shuffle(deck)
    await ctx.step(note, f"{drawn} {deck}")
    drawn.append(await ctx.step(note, str(ctx.random.gauss(0, 1))))
    return [*drawn, deck, ctx.random.sample(range(100), 3)]


@workflow
async def ids_are_repeatable(ctx: Context) -> list[str]:
    first = str(ctx.uuid())
    await ctx.step(note, first)
    return [first, await ctx.step(note, str(ctx.uuid())), str(ctx.uuid())]


@workflow
async def run_knows_itself(ctx: Context) -> list[Any]:
    info = ctx.info
    assert current_context() is ctx
    ctx.log.info("a line, silent on replay: %s", info.run_id)
    await ctx.step(note, f"{ctx.run_id} {info.workflow} {info.queue} {sorted(info.tags.items())}")
    return [info.run_id, info.root_id, info.created_at, ctx.info.history_length > 1]
