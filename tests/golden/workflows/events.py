"""Events and requests from outside, and to others.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from durable import Context, Event, Request, RunNotFound, WaitTimeout, days, hours, workflow
from tests.golden.workflows.steps import note


class Paid(BaseModel):
    amount: int


@dataclass
class Withdrawn:
    why: str


DELIVERED = Event("parcel.delivered", str)
ADD = Request("add", int, int)


@workflow
async def event_found(ctx: Context) -> str:
    told = await ctx.wait_for_event("go", str)
    return await ctx.step(note, told)


@workflow
async def event_that_came_early(ctx: Context) -> list[str]:
    await ctx.sleep(days(1))
    return [await ctx.wait_for_event("go", str), await ctx.wait_for_event("go", str)]


@workflow
async def event_of_a_class(ctx: Context) -> tuple[Paid, Withdrawn, str]:
    paid = await ctx.wait_for_event(Paid)
    why = await ctx.wait_for_event(Withdrawn)
    return paid, why, await ctx.wait_for_event(DELIVERED)


@workflow
async def event_chosen_by_where(ctx: Context) -> list[int]:
    large = await ctx.wait_for_event(Paid, where=lambda paid: paid.amount > 10)
    small = await ctx.wait_for_event(Paid)
    return [large.amount, small.amount]


@workflow
async def event_of_the_wrong_type_stays(ctx: Context) -> list[Any]:
    number = await ctx.wait_for_event("count", int)
    return [number, await ctx.wait_for_event("count", str)]


@workflow
async def event_timed_out(ctx: Context) -> str:
    try:
        await ctx.wait_for_event("never", str, timeout=days(3))
    except WaitTimeout as error:
        return await ctx.step(note, type(error).__name__)
    return "not here"


@workflow
async def event_default(ctx: Context) -> list[Any]:
    first = await ctx.wait_for_event("never", str, timeout=hours(5), default=None)
    second = await ctx.wait_for_event("go", str, timeout=days(5), default="nobody")
    return [first, second]


@workflow
async def event_any_of_several(ctx: Context) -> list[Any]:
    first = await ctx.wait_for_any(["signed", "withdrawn"])
    second = await ctx.wait_for_any([Paid, Withdrawn], timeout=days(1))
    third = await ctx.wait_for_any(["signed"], timeout=days(1), default=("none", 0))
    return [first, second[0], third]


@workflow
async def event_all_of_several(ctx: Context) -> dict[str, Any]:
    papers = await ctx.wait_for_all(["income", "identity"])
    late = await ctx.wait_for_all(["income", "never"], timeout=days(2), default={})
    return {**papers, "late": late, "left": await ctx.wait_for_event("income")}


@workflow
async def event_by_key(ctx: Context, key: str) -> list[Any]:
    early = await ctx.wait_for_event(Paid, key=key)
    return [early.amount, (await ctx.wait_for_event(Paid, key=key)).amount]


@workflow
async def event_withdrawn(ctx: Context) -> str:
    """Somebody ends the wait from outside."""
    try:
        return await ctx.wait_for_event("go", str)
    except Exception as error:
        return await ctx.step(note, type(error).__name__)


@workflow
async def events_awaited_side_by_side(ctx: Context) -> list[str]:
    """Who waits first gets the first."""
    return await asyncio.gather(*(ctx.wait_for_event("go", str) for _ in range(3)))


@workflow
async def event_taken_by_loops(ctx: Context) -> list[str]:
    """One loop reads orders until somebody stops it."""
    seen: list[str] = []

    async def read() -> None:
        while True:
            seen.append(await ctx.step(note, await ctx.wait_for_event("order", str)))

    reader = asyncio.create_task(read())
    await ctx.wait_for_event("stop")
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return seen


@workflow
async def event_sent_to_another(ctx: Context, target: str) -> str:
    await ctx.send_event(target, "go", "from another run")
    await ctx.send_event(target, Paid(amount=4))
    try:
        await ctx.send_event("nobody", DELIVERED, "Ann")
    except RunNotFound as error:
        return await ctx.step(note, type(error).__name__)
    return "not here"


@workflow
async def event_published(ctx: Context) -> str:
    await ctx.publish(Paid(amount=12), key="o-2")
    await ctx.publish("told", {"all": [1, 2]}, key="o-2")
    return await ctx.step(note, "published")


@workflow
async def request_answered(ctx: Context) -> int:
    total = 0
    while total < 10:
        asked = await ctx.wait_for_request(ADD)
        if asked.payload < 0:
            asked.reject("no less than nothing")
            continue
        total += asked.payload
        await ctx.step(note, f"{total}")
        asked.reply(total)
    return total


@workflow
async def request_that_never_came(ctx: Context) -> str:
    asked = await ctx.wait_for_request(ADD, timeout=hours(1), default=None)
    try:
        await ctx.wait_for_request(ADD, timeout=hours(1))
    except WaitTimeout:
        return await ctx.step(note, f"{asked} and none")
    return "not here"
