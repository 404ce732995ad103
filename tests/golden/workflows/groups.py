"""Many calls at once: groups of durable, and those of asyncio.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from durable import Context, Err, Ok, minutes, workflow
from tests.golden.workflows.steps import decline, double, flaky, note


async def chain(ctx: Context, name: str, length: int = 2) -> str:
    """Several steps, one after the other."""
    for number in range(length):
        await ctx.step(note, f"{name}{number}")
    return name


@workflow
async def group_parallel(ctx: Context) -> list[Any]:
    return [
        await ctx.parallel([ctx.step(note, "a"), ctx.step(double, 2), chain(ctx, "c")]),
        await ctx.parallel({"x": ctx.step(note, "x"), "y": ctx.sleep(3)}),
        list(await ctx.parallel((ctx.step(double, 3), ctx.step(note, "z")))),
    ]


@workflow
async def group_with_a_limit(ctx: Context) -> list[int]:
    return await ctx.map(double, range(7), limit=2)


@workflow
async def group_that_fails_fast(ctx: Context) -> list[str]:
    cleaned: list[str] = []

    async def worker(name: str) -> None:
        try:
            await ctx.sleep(60)
        finally:
            cleaned.append(await ctx.step(note, f"clean {name}"))

    try:
        await ctx.parallel([worker("a"), worker("b"), ctx.step(decline, 5)])
    except Exception as error:
        cleaned.append(str(error))
    return cleaned


@workflow
async def group_that_completes_all(ctx: Context) -> list[str]:
    outcomes = await ctx.parallel(
        [ctx.step(note, "a"), ctx.step(decline, 5), chain(ctx, "c")], on_error="complete_all"
    )
    seen = []
    for outcome in outcomes:
        match outcome:
            case Ok(value):
                seen.append(f"ok {value}")
            case Err(error):
                seen.append(f"error {error}")
    return seen


@workflow
async def group_race(ctx: Context) -> list[Any]:
    first = await ctx.race(slow=ctx.sleep(minutes(5)), quick=ctx.sleep(1))
    second = await ctx.race(event=ctx.wait_for_event("never"), step=ctx.step(note, "step"))
    return [first, second]


@workflow
async def group_gather(ctx: Context) -> list[str]:
    return await asyncio.gather(*(chain(ctx, name, 3) for name in "abcd"))


@workflow
async def group_gather_with_failures(ctx: Context) -> list[str]:
    found = await asyncio.gather(
        chain(ctx, "a"), ctx.step(decline, 1), ctx.step(flaky, "again"), return_exceptions=True
    )
    return [str(each) for each in found]


@workflow
async def group_task_group(ctx: Context) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain(ctx, name)) for name in "abc"]
        tasks.append(group.create_task(ctx.step(note, "call")))
    return [task.result() for task in tasks]


@workflow
async def group_task_group_that_fails(ctx: Context) -> list[str]:
    cleaned: list[str] = []

    async def worker(name: str) -> None:
        try:
            await ctx.sleep(60)
        finally:
            cleaned.append(await ctx.step(note, f"clean {name}"))

    try:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))
            await ctx.step(double, 1)
            group.create_task(ctx.step(decline, 5))
    except* Exception as errors:
        cleaned.append(str(errors.exceptions[0]))
    return [*cleaned, await ctx.step(note, "after")]


@workflow
async def group_as_completed(ctx: Context) -> list[str]:
    chains = [chain(ctx, name, 3 - place) for place, name in enumerate("abc")]
    return [await ctx.step(note, f"after {await each}") for each in asyncio.as_completed(chains)]


@workflow
async def group_as_completed_with_a_timeout(ctx: Context) -> list[str]:
    seen = []

    async def after(seconds: float) -> str:
        await ctx.sleep(seconds)
        return await ctx.step(note, str(seconds))

    tasks = [asyncio.create_task(after(seconds)) for seconds in (50, 1, 2)]
    try:
        for each in asyncio.as_completed(tasks, timeout=10):
            seen += [await each]
    except TimeoutError:
        seen.append(await ctx.step(note, "timed out"))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


@workflow
async def group_wait(ctx: Context) -> list[str]:
    pending = {asyncio.create_task(chain(ctx, name), name=name) for name in "abcde"}
    seen: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        seen += [await ctx.step(note, f"after {task.get_name()}") for task in done]
    return seen


@workflow
async def group_wait_with_a_timeout(ctx: Context) -> list[int]:
    tasks = [asyncio.create_task(asyncio.sleep(seconds, seconds)) for seconds in (9, 1, 2)]
    done, pending = await asyncio.wait(tasks, timeout=5)
    await ctx.step(note, f"{len(done)} done")
    return [len(done), len(pending), *await asyncio.gather(*tasks)]


@workflow
async def group_wait_for(ctx: Context) -> list[str]:
    seen = [await asyncio.wait_for(ctx.step(note, "in time"), 60)]
    try:
        await asyncio.wait_for(ctx.sleep(100), 5)
    except TimeoutError:
        seen.append(await ctx.step(note, "timed out"))
    seen.append(await asyncio.wait_for(chain(ctx, "no limit"), None))
    return seen


@workflow
async def group_wait_for_side_by_side(ctx: Context) -> list[str]:
    """Several limits at once, of chains of different lengths, beside calls without one."""
    return await asyncio.gather(
        asyncio.wait_for(chain(ctx, "a", 3), 60),
        chain(ctx, "b", 3),
        asyncio.wait_for(ctx.step(note, "c"), 60),
        asyncio.wait_for(asyncio.create_task(chain(ctx, "d")), 60),
        asyncio.wait_for(asyncio.wait_for(chain(ctx, "e"), 30), 60),
        chain(ctx, "f", 1),
    )


@workflow
async def group_shield(ctx: Context) -> list[str]:
    seen = []
    protected = asyncio.create_task(ctx.step(flaky, "kept"))
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(protected)
    except TimeoutError:
        seen.append("timed out")
    return [*seen, await protected]


@workflow
async def group_queue(ctx: Context) -> list[str]:
    work: asyncio.Queue[str] = asyncio.Queue(maxsize=2)
    seen: list[str] = []

    async def produce(name: str) -> None:
        for number in range(3):
            await work.put(await ctx.step(note, f"{name}{number}"))

    async def consume() -> None:
        while True:
            seen.append(await ctx.step(note, f"ate {await work.get()}"))
            work.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(2)]
    await asyncio.gather(*(produce(name) for name in "xy"))
    await work.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return seen


@workflow
async def group_locks(ctx: Context) -> list[str]:
    """Event, lock, semaphore, condition and barrier."""
    go, lock, few = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
    changed, gate = asyncio.Condition(), asyncio.Barrier(3)
    seen: list[str] = []

    async def worker(name: str) -> None:
        await go.wait()
        async with few:
            await ctx.step(note, f"{name} in")
        async with lock:
            seen.append(await ctx.step(note, name))
        async with changed:
            changed.notify_all()
        await gate.wait()
        await ctx.step(note, f"{name} past")

    async def start() -> None:
        await ctx.sleep(2)
        go.set()
        async with changed:
            await changed.wait_for(lambda: len(seen) == 3)
        seen.append("all")

    await asyncio.gather(*(worker(name) for name in "abc"), start())
    return seen


@workflow
async def group_generators(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def items(name: str) -> AsyncIterator[str]:
        try:
            for number in range(3):
                yield await ctx.step(note, f"{name}{number}")
        finally:
            seen.append(await ctx.step(note, f"{name} closed"))

    seen += [item async for item in items("a")]
    async for item in items("b"):
        seen.append(item)
        break
    return [*seen, await ctx.step(note, "last")]
