"""Golden workflows that somebody has changed: no way of replaying may let one of them pass."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from durable import Context, workflow
from tests.golden.workflows.children import leaf
from tests.golden.workflows.groups import chain
from tests.golden.workflows.steps import decline, describe, double, note
from tests.golden.workflows.values import decimals


@workflow(name="step_async_and_sync")
async def with_a_step_that_was_renamed(ctx: Context, number: int) -> list[Any]:
    remark = note.options(name="remark")
    return [await ctx.step(remark, "a"), await ctx.step(double, number)]


@workflow(name="step_arguments")
async def with_another_argument(ctx: Context) -> list[str]:
    return [
        await ctx.step(describe, "lamp"),
        await ctx.step(describe, "lamp", 3),
        await ctx.step(describe, "lamp", count=3, gift=True),
    ]


@workflow(name="group_gather")
async def with_calls_that_were_swapped(ctx: Context) -> list[str]:
    return await asyncio.gather(*(chain(ctx, name, 3) for name in "acbd"))


@workflow(name="event_found")
async def with_another_event(ctx: Context) -> str:
    return await ctx.step(note, await ctx.wait_for_event("going", str))


@workflow(name="child_of_child")
async def with_another_child(ctx: Context) -> list[str]:
    return [await ctx.call(leaf, "a"), await ctx.call(leaf, "b")]


@workflow(name="saga_undone")
async def with_nothing_to_undo(ctx: Context) -> None:
    await ctx.step(note.options(name="book_flight"), "Lisbon")
    await ctx.step(decline, 51)


@workflow(name="value_decimal")
async def with_a_call_that_was_removed(ctx: Context, value: Decimal) -> Decimal:
    return value


@workflow(name="value_enums")
async def with_a_call_that_was_added(ctx: Context, size: Any) -> Any:
    return await ctx.step(decimals, Decimal(1))


CHANGED = [
    "step_async_and_sync",
    "step_arguments",
    "group_gather",
    "event_found",
    "child_of_child",
    "saga_undone",
    "value_decimal",
    "value_enums",
]
