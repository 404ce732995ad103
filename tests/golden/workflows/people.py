"""Questions to people.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from pydantic import BaseModel

from durable import Context, WaitTimeout, days, hours, workflow
from tests.golden.workflows.steps import note


class Carrier(Enum):
    POST = "post"
    VAN = "van"


class Address(BaseModel):
    street: str
    number: int


@workflow
async def input_approved(ctx: Context) -> list[Any]:
    decision = await ctx.wait_for_approval("manager", prompt="Ship?", to="ann", metadata={"n": 1})
    return [bool(decision), decision.by, decision.comment, decision.at == ctx.now()]


@workflow
async def input_escalated(ctx: Context) -> str:
    decision = await ctx.wait_for_approval("manager", remind=days(1), timeout=days(3), default=None)
    if decision is None:
        decision = await ctx.wait_for_approval("manager", to=["boss", "owner"])
    return await ctx.step(note, "yes" if decision else f"no: {decision.comment}")


@workflow
async def input_of_every_kind(ctx: Context) -> list[Any]:
    return [
        await ctx.wait_for_input("count", int),
        (await ctx.wait_for_form("address", Address)).number,
        (await ctx.wait_for_choice("carrier", Carrier)).value,
        await ctx.wait_for_choice("colour", ["red", "blue"]),
        await ctx.wait_for_choices("extras", {1: "gift wrap", 2: "insured"}),
        await ctx.wait_for_text("words"),
    ]


@workflow
async def input_timed_out(ctx: Context) -> str:
    try:
        await ctx.wait_for_text("words", timeout=hours(1))
    except WaitTimeout:
        return await ctx.step(note, "nobody said a word")
    return "not here"


@workflow
async def input_of_two_people(ctx: Context) -> list[bool]:
    answers = await asyncio.gather(ctx.wait_for_approval("ann"), ctx.wait_for_approval("bob"))
    return [bool(answer) for answer in answers]


@workflow
async def input_withdrawn_by_the_run(ctx: Context) -> str:
    name, _ = await ctx.race(answer=ctx.wait_for_text("words"), event=ctx.wait_for_event("done"))
    return await ctx.step(note, name)
