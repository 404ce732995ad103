"""Runs that call and start others.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from durable import (
    ChildCancelled,
    ChildFailed,
    Context,
    RunAlreadyExists,
    WaitTimeout,
    days,
    hours,
    workflow,
)
from tests.golden.workflows.steps import CardDeclinedError, decline, note


@workflow
async def leaf(ctx: Context, name: str) -> str:
    return await ctx.step(note, f"leaf {name}")


@workflow
async def sleepy_leaf(ctx: Context, name: str) -> str:
    await ctx.sleep(days(2))
    return f"slept {name}"


@workflow
async def failing_leaf(ctx: Context, code: int) -> str:
    return await ctx.step(decline, code)


@workflow
async def branch(ctx: Context, name: str) -> list[str]:
    return [await ctx.call(leaf, f"{name}{number}") for number in range(2)]


@workflow
async def child_called(ctx: Context) -> str:
    return await ctx.call(leaf, "a")


@workflow
async def child_called_by_name(ctx: Context) -> list[Any]:
    return [await ctx.call("leaf", "a"), await ctx.call("leaf", "b", id="leaf_b", queue="default")]


@workflow
async def child_started(ctx: Context) -> list[Any]:
    handle = await ctx.start(sleepy_leaf, "a", id="sleepy-1")
    early = await handle.result(timeout=hours(1), default=None)
    await ctx.step(note, handle.id)
    return [early, await handle.result()]


@workflow
async def child_left_behind(ctx: Context) -> str:
    await ctx.start(sleepy_leaf, "cancelled")
    await ctx.start(sleepy_leaf, "goes on", on_parent_close="abandon")
    return await ctx.step(note, "parent ends")


@workflow
async def child_failed(ctx: Context) -> list[Any]:
    try:
        await ctx.call(failing_leaf, 51)
    except CardDeclinedError as error:
        assert isinstance(error, ChildFailed)
        return [error.code, await ctx.step(note, "caught")]
    return []


@workflow
async def child_failed_and_so_did_the_parent(ctx: Context) -> str:
    return await ctx.call(failing_leaf, 7)


@workflow
async def child_cancelled(ctx: Context) -> str:
    handle = await ctx.start(sleepy_leaf, "a", id="to_be_cancelled")
    try:
        return await handle.result()
    except ChildCancelled as error:
        return await ctx.step(note, f"{error}")


@workflow
async def child_cancelled_by_its_parent(ctx: Context) -> str:
    handle = await ctx.start(sleepy_leaf, "a")
    await ctx.sleep(hours(1))
    await handle.cancel(reason="no longer needed")
    try:
        return await handle.result()
    except ChildCancelled as error:
        return await ctx.step(note, f"{error}")


@workflow
async def child_timed_out(ctx: Context) -> list[str]:
    seen = [await ctx.call(sleepy_leaf, "a", timeout=hours(1), default="none yet")]
    try:
        await ctx.call(sleepy_leaf, "b", timeout=hours(1))
    except WaitTimeout:
        seen.append(await ctx.step(note, "timed out"))
    return seen


@workflow
async def child_of_child(ctx: Context) -> list[list[str]]:
    return [await ctx.call(branch, "a"), await ctx.call(branch, "b")]


@workflow
async def children_side_by_side(ctx: Context) -> list[Any]:
    mapped = await ctx.map(leaf, ["a", "b", "c"], limit=2)
    gathered = await asyncio.gather(
        ctx.call(sleepy_leaf, "d"), ctx.call(failing_leaf, 1), return_exceptions=True
    )
    return [*mapped, *(str(each) for each in gathered)]


@workflow
async def child_whose_id_is_taken(ctx: Context) -> list[str]:
    seen = []
    try:
        await ctx.call(leaf, "a", id="taken")
    except RunAlreadyExists:
        seen.append(await ctx.step(note, "taken"))
    seen.append(await ctx.call(leaf, "first", id="taken", on_conflict="return_existing"))
    seen.append(await ctx.call(leaf, "anew", id="taken", on_conflict="restart"))
    return seen


@workflow
async def child_gets_an_event(ctx: Context) -> str:
    handle = await ctx.start(listener, None)
    await handle.send_event("go", "from the parent")
    return await handle.result()


@workflow
async def listener(ctx: Context, _: None) -> str:
    return await ctx.step(note, await ctx.wait_for_event("go", str))


@workflow
async def child_that_was_mocked(ctx: Context) -> list[str]:
    return [await ctx.call(leaf, "mocked"), await ctx.step(note, "after")]
