"""Features together, as programs have them.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from durable import ChildFailed, Context, WaitTimeout, days, hours, minutes, workflow
from tests.golden.workflows.children import failing_leaf, leaf, sleepy_leaf
from tests.golden.workflows.events import ADD, Paid
from tests.golden.workflows.sagas import book_flight, cancel_hotel
from tests.golden.workflows.steps import decline, double, flaky, note
from tests.golden.workflows.values import Line, Money, Size, pack


@workflow
async def mixed_order(ctx: Context, lines: list[Line]) -> dict[str, Any]:
    """Prices side by side, a payment or a time-out, a person, a child, a saga."""
    ctx.set_state("stage", "pricing")
    weights = await asyncio.gather(*(ctx.step(double, len(line.item)) for line in lines))
    ctx.set_state("stage", "paying")
    try:
        async with ctx.timeout(days(3)):
            paid = await ctx.wait_for_event(Paid, where=lambda paid: paid.amount > 0)
    except TimeoutError:
        return {"late": True}
    decision = await ctx.wait_for_approval("manager", timeout=days(1), default=None)
    async with ctx.saga():
        flight = await ctx.step(book_flight, "Oslo")
        packed = await ctx.call(leaf, f"{paid.amount} {flight}")
    money = await ctx.step(pack, Money(sum((line.price for line in lines), Decimal(0))))
    return {
        "weights": weights,
        "approved": bool(decision),
        "packed": packed,
        "by": money.parts[0].currency,
    }


@workflow
async def mixed_race_of_everything(ctx: Context) -> list[Any]:
    """A step, a child, an event, an answer and a timer against each other, several times."""
    seen: list[Any] = []
    for seconds in (30, 10**7):
        name, _ = await ctx.race(
            child=ctx.call(sleepy_leaf, str(seconds)),
            event=ctx.wait_for_event("go"),
            answer=ctx.wait_for_text("words"),
            timer=ctx.sleep(seconds),
        )
        seen.append(await ctx.step(note, name))
    return seen


@workflow
async def mixed_saga_with_children(ctx: Context) -> str:
    """A child fails in a group in a saga, and what was done is undone in order."""
    try:
        async with ctx.saga():
            await ctx.step(book_flight, "first")
            ctx.compensate(cancel_hotel, "hotel", fee=3)
            await ctx.parallel(
                [ctx.call(leaf, "a"), ctx.call(failing_leaf, 9), ctx.step(book_flight, "second")]
            )
    except ChildFailed as error:
        return await ctx.step(note, str(error))
    return "not here"


@workflow
async def mixed_actor(ctx: Context, total: int) -> int:
    """Requests and events in one loop, a new generation after some, chance on the way."""
    for _ in range(2):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(ctx.wait_for_request(ADD, timeout=hours(2), default=None))
            told = group.create_task(ctx.wait_for_event("add", int, timeout=hours(2), default=0))
        request = asked.result()
        total += told.result() + ctx.random.randrange(10)
        if request is not None:
            total += request.payload
            request.reply(await ctx.step(double, total))
        ctx.set_state("total", total)
    if total < 100:
        await ctx.continue_as_new(total)
    return total


@workflow
async def mixed_retries_and_limits(ctx: Context) -> list[Any]:
    """Retries under time-outs, in a group with a limit, with a default at the end."""

    async def attempt(name: str) -> str:
        try:
            async with ctx.timeout(minutes(3)):
                return await ctx.step(flaky, name)
        except TimeoutError:
            return await ctx.step(note, f"{name} too slow")

    seen: list[Any] = await ctx.parallel([attempt(name) for name in "abc"], limit=2)
    try:
        seen.append(await ctx.wait_for_event("never", timeout=1))
    except WaitTimeout:
        seen.append(str(ctx.uuid()))
    return seen


@workflow
async def mixed_cancel_in_the_middle(ctx: Context) -> None:
    """A cancel meets a group with a child, a question and a step with an undo."""
    async with ctx.saga():
        await ctx.step(book_flight, "to be undone")
        async with ctx.shield():
            await ctx.sleep(1)
        await ctx.parallel(
            {
                "child": ctx.call(sleepy_leaf, "cancelled"),
                "answer": ctx.wait_for_approval("manager"),
                "event": ctx.wait_for_event("never"),
            }
        )


@workflow
async def mixed_pipeline(ctx: Context, count: int) -> list[str]:
    """A queue between stages, with side values, sizes and a failure that is passed over."""
    stage: asyncio.Queue[int | None] = asyncio.Queue()
    seen: list[str] = []
    sizes = {Size.SMALL: 0, Size.LARGE: 0}

    async def fill() -> None:
        for number in range(count):
            await stage.put(await ctx.step(double, number))
            await ctx.sleep(0.5)
        await stage.put(None)

    async def drain() -> None:
        while (item := await stage.get()) is not None:
            size = Size.LARGE if item > 3 else Size.SMALL
            sizes[size] += 1
            try:
                if item == 4:
                    await ctx.step(decline, item)
                seen.append(await ctx.step(note, f"{item} {size.value} {sizes[size]}"))
            except Exception as error:
                seen.append(str(error))

    async with asyncio.TaskGroup() as group:
        group.create_task(fill())
        group.create_task(drain())
    return seen


@workflow
async def mixed_generations_of_children(ctx: Context, round: int) -> list[Any]:
    """A child outlives the generation that started it."""
    if round == 1:
        await ctx.start(sleepy_leaf, "outlives", id="outlives")
        await ctx.sleep(1)
        await ctx.continue_as_new(2)
    await ctx.sleep(days(3))
    return [round, await ctx.step(note, "second generation")]


@workflow
async def mixed_patches_in_groups(ctx: Context) -> list[str]:
    async def one(name: str) -> str:
        await ctx.step(note, name)
        if ctx.patched(f"twice-{name}"):
            return await ctx.step(note, f"{name} again")
        return name

    return await asyncio.gather(*(one(name) for name in "abc"))
