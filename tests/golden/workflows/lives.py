"""How runs are stopped, begin anew, show themselves, and go with changed code.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Context, Retry, days, hours, workflow
from tests.golden.workflows.sagas import book_flight
from tests.golden.workflows.steps import decline, flaky, note


@workflow
async def cancelled(ctx: Context) -> None:
    await ctx.step(note, "begins")
    await ctx.sleep(days(30))


@workflow
async def cancelled_and_cleans_up(ctx: Context) -> None:
    try:
        await ctx.sleep(hours(8))
    finally:
        await ctx.step(note, "closed")
        async with ctx.timeout(5):
            await ctx.sleep(1)


@workflow
async def cancelled_in_vain(ctx: Context) -> str:
    try:
        await ctx.sleep(hours(8))
    except asyncio.CancelledError:
        return await ctx.step(note, "completes all the same")
    return "not here"


@workflow
async def cancelled_under_a_shield(ctx: Context) -> None:
    async with ctx.shield():
        await ctx.step(note, "taken from one account")
        await ctx.sleep(hours(1))
        await ctx.step(note, "given to the other")
    await ctx.sleep(hours(1))


@workflow
async def cancelled_with_groups(ctx: Context) -> None:
    async def worker(name: str) -> None:
        try:
            await ctx.sleep(days(1))
        finally:
            await ctx.step(note, f"clean {name}")

    async with asyncio.TaskGroup() as group:
        group.create_task(worker("a"))
        await ctx.parallel([worker("b"), worker("c")])


@workflow
async def cancelled_while_it_retries(ctx: Context) -> str:
    return await ctx.step(flaky, "away")


@workflow(timeout=hours(1))
async def deadline_passed(ctx: Context) -> None:
    await ctx.step(book_flight, "south")
    await ctx.sleep(hours(2))


@workflow(timeout=hours(1))
async def deadline_kept(ctx: Context) -> str:
    assert ctx.info.deadline is not None
    return await ctx.step(note, ctx.info.deadline.isoformat())


@workflow(timeout=hours(1))
async def deadline_and_cleanup(ctx: Context) -> None:
    try:
        await ctx.wait_for_event("never")
    finally:
        await ctx.step(note, "too late")


@workflow
async def paused_and_resumed(ctx: Context) -> str:
    await ctx.sleep(hours(1))
    return await ctx.step(note, ctx.now().isoformat())


@workflow
async def generations(ctx: Context, round: int) -> list[Any]:
    """Chance, state and time begin anew; what has come and was not taken stays."""
    ctx.set_state("round", round)
    await ctx.step(note, f"{round} {ctx.random.randrange(1000)} {ctx.uuid()}")
    await ctx.sleep(hours(1))
    if round < 3:
        await ctx.continue_as_new(round + 1)
    return [round, await ctx.wait_for_event("go", str)]


@workflow(retry=Retry(max_attempts=3, initial=60, jitter=0))
async def retried_as_a_whole(ctx: Context) -> str:
    await ctx.step(book_flight, "again")
    return await ctx.step(note.options(name="fails twice"), ctx.now().isoformat())


@workflow
async def failed(ctx: Context) -> None:
    await ctx.step(note, "a step")
    message = "no such book"
    raise LookupError(message)


@workflow
async def state_shown(ctx: Context) -> str:
    ctx.set_state("progress", 0)
    for done in range(1, 4):
        await ctx.step(note, str(done))
        ctx.set_state("progress", done)
        ctx.set_state("details", {"last": ctx.now(), "names": [str(done)]})
    await ctx.sleep(1)
    return "shown"


@workflow
async def patched_the_new_way(ctx: Context) -> list[str]:
    seen = []
    for number in range(2):
        if ctx.patched("note-first"):
            seen.append(await ctx.step(note, f"new {number}"))
        await ctx.sleep(1)
    if ctx.patched("another"):
        seen.append(await ctx.step(note, "another"))
    return seen


@workflow
async def patched_the_old_way(ctx: Context) -> str:
    if ctx.patched("flaky-first"):
        await ctx.step(flaky, "new")
    first = await ctx.step(note, "old")
    await ctx.sleep(days(1))
    return first


@workflow(name="patched_the_old_way")
async def before_the_patch(ctx: Context) -> str:
    """What ran when the history of `patched_the_old_way` was recorded."""
    first = await ctx.step(note, "old")
    await ctx.sleep(days(1))
    return first


@workflow
async def patched_on_the_way(ctx: Context) -> list[str]:
    """The run had begun before the patch, and comes to it after."""
    seen = [await ctx.step(note, "old")]
    await ctx.sleep(days(1))
    if ctx.patched("one-more"):
        seen.append(await ctx.step(note, "new"))
    return seen


@workflow(name="patched_on_the_way")
async def on_the_way_to_the_patch(ctx: Context) -> list[str]:
    """What ran when it began."""
    seen = [await ctx.step(note, "old")]
    await ctx.sleep(days(1))
    return seen


@workflow(name="versioned", version=1)
async def versioned_once(ctx: Context) -> str:
    return await ctx.step(note, "one")


@workflow(name="versioned", version=2)
async def versioned_twice(ctx: Context) -> list[str]:
    return [await ctx.step(note, "two"), await ctx.step(note, "and more")]


@workflow
async def open_at_a_wait(ctx: Context) -> str:
    """Its history has no end: it waits still."""
    await ctx.step(note, "before")
    return await ctx.step(note, await ctx.wait_for_event("go", str))


@workflow
async def open_in_a_retry(ctx: Context) -> str:
    return await ctx.step(flaky, "open")


@workflow
async def deep_failure(ctx: Context) -> list[str]:
    """A chain of causes, and a group of errors."""
    seen = []
    try:
        await ctx.step(decline.options(name="has a cause"), 1)
    except Exception as error:
        seen.append(f"{type(error).__mro__[1].__name__}: {error}")
    try:
        await asyncio.gather(ctx.step(decline, 1), ctx.step(decline, 2))
    except Exception as error:
        seen.append(str(error))
    return [*seen, await ctx.step(note, "after")]
