"""What asyncio's own functions do in a workflow follows from its code alone; elsewhere they are what they were."""

from __future__ import annotations

import asyncio
import sys
from asyncio import wait_for  # under another name, as users import it
from random import Random

import pytest

from durable.engine.context import Context
from durable.model.definition import workflow
from tests.engine.driver import difference, live
from tests.engine.workflows import chain, note


@workflow
async def limits_side_by_side(ctx: Context) -> list[str]:
    return await asyncio.gather(
        asyncio.wait_for(chain(ctx, "a", 1), 60), wait_for(ctx.step(note, "b"), 60), chain(ctx, "c")
    )


def test_what_is_asked_for_is_numbered_in_the_order_of_the_code():
    """Python 3.11 by itself would set both limits first, and ask for c before a and b."""
    recording = live(limits_side_by_side, noise=0)
    first = [(told[0], told[1]) for told in recording.trace[0]]
    assert first == [("timer", 1), ("step", 2), ("timer", 3), ("step", 4), ("step", 5)]
    assert recording.names == ["note"] * 4
    assert recording.outcome == ["a", "b", "c"]
    assert difference(limits_side_by_side, recording) is None


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no task of its own from Python 3.12 on")
async def test_outside_of_workflows_it_is_that_of_python_3_11():
    async def own_task() -> bool:
        return asyncio.current_task() is not outer

    outer = asyncio.current_task()
    assert await wait_for(own_task(), 60)
    with pytest.raises(TimeoutError):
        await wait_for(asyncio.sleep(60), 0)


@workflow
async def times_out_in_cleanup(ctx: Context) -> list[str]:
    told: list[str] = []

    async def slow_to_leave(how: str) -> None:
        try:
            await ctx.sleep(10_000)
        finally:
            try:
                if how == "wait_for":
                    await asyncio.wait_for(ctx.sleep(1000), 5)
                else:
                    async with asyncio.timeout(5):
                        await ctx.sleep(1000)
            except BaseException as error:
                told.append(f"{how}: {type(error).__name__}")
                raise

    tasks = [asyncio.create_task(slow_to_leave(how)) for how in ("wait_for", "timeout")]
    await ctx.sleep(1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return told


def test_a_time_out_in_the_cleanup_of_a_cancelled_task_is_one():
    recording = live(times_out_in_cleanup, noise=0)
    assert sorted(recording.outcome) == ["timeout: TimeoutError", "wait_for: TimeoutError"]
    assert difference(times_out_in_cleanup, recording) is None


@workflow
async def stops_all(ctx: Context) -> list[str]:
    """Its tasks have numbers for which a set of this size has one place."""

    async def worker(name: str) -> None:
        try:
            await ctx.sleep(10_000)
        finally:
            await ctx.step(note, name)

    workers = []
    for name in "abcd":
        workers.append(asyncio.create_task(worker(name), name=name))
        await asyncio.gather(*[asyncio.sleep(0) for _ in range(31)])
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    names = [task.get_name() for task in rest]
    for task in rest:
        task.cancel()
    await asyncio.wait(rest)
    return names


async def test_all_tasks_have_an_order_that_follows_from_the_code():
    """Python keeps them by address: each replay would cancel them in another order."""
    recording = live(stops_all, noise=0)
    assert sorted(recording.outcome) == ["a", "b", "c", "d"]
    random, kept = Random(1), []
    for _ in range(20):  # other addresses for the tasks that are made next
        others = [asyncio.create_task(asyncio.sleep(0)) for _ in range(random.randrange(60))]
        random.shuffle(others)
        kept += others[: len(others) // 2]
        del others
        assert difference(stops_all, recording) is None
    await asyncio.gather(*kept)


async def test_all_tasks_outside_of_workflows():
    other = asyncio.create_task(asyncio.sleep(60))
    assert asyncio.all_tasks() == {asyncio.current_task(), other}
    other.cancel()
