"""A worker dies without any clean-up, and another one goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from durable import Context, days, step, workflow
from durable_testing import Environment

START = datetime(2026, 1, 1, tzinfo=UTC)


async def types(env: Environment, run_id: str) -> list[str]:
    return [event.type async for event in env.client.history(run_id)]


@step
async def note(word: str) -> str:
    return word


@workflow
async def diary(ctx: Context) -> list[str]:
    words = [await ctx.step(note, "a")]
    await ctx.sleep(days(10))
    words.append(await ctx.step(note, "b"))
    return [*words, await ctx.wait_for_event("last", str)]


async def test_a_sleeping_run_wakes_up_in_the_other_worker(url: str) -> None:
    async with Environment(workflows=[diary], url=url) as env:
        noted = env.mock(note, using=lambda word: word.upper())
        handle = await env.client.start(diary, id="d")
        await env.advance(days(3))
        await env.crash()
        assert env.now() == START + days(3)
        await env.advance(days(8))
        await env.crash()
        await handle.send_event("last", "c")
        assert await handle.result() == ["A", "B", "c"]
        assert [call.args for call in noted.calls] == [("a",), ("b",)]


async def test_a_step_that_was_running_runs_again(url: str) -> None:
    entered = asyncio.Event()

    async def dying(word: str) -> str:
        if len(noted.calls) == 1:
            entered.set()
            await asyncio.Event().wait()
        return word

    async with Environment(workflows=[diary], url=url) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await entered.wait()
        await env.crash()
        await env.settle()
        assert (await types(env, "d"))[:3] == ["RunStarted", "Recovered", "StepCompleted"]
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert [call.args for call in noted.calls] == [("a",), ("a",), ("b",)]


async def test_a_step_may_die_with_its_worker(url: str) -> None:
    async def dying(word: str) -> str:
        if word == "b" and len(noted.calls) < 4:
            await env.crash()
            raise AssertionError("it goes on after its death")
        return word

    async with Environment(workflows=[diary], url=url) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert [call.args[0] for call in noted.calls] == ["a", "b", "b", "b"]
        history = await env.client.get("d")
        assert [one.name for one in history.steps] == ["note", "note"]
        assert "Recovered" in await types(env, "d")


async def test_time_stands_still_while_a_worker_dies() -> None:
    """What it listened by may take the machine's own time to be closed, as a socket does."""

    async def hints() -> AsyncIterator[None]:
        try:
            yield
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)

    class Lingering(Environment):
        def _door(self, port: Any) -> Any:
            port.hints = hints
            return port

    async def dying(word: str) -> str:
        if len(noted.calls) == 1:
            await env.crash()
        return word

    async with Lingering(workflows=[diary]) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert env.now() == START + days(10)


async def test_a_step_may_take_its_time_to_die(url: str) -> None:
    """Its clean-up is carried out, though a process that is killed would have none; time passes for it."""
    entered = asyncio.Event()

    async def dying(word: str) -> str:
        if len(noted.calls) == 1:
            try:
                entered.set()
                await asyncio.Event().wait()
            finally:
                await env.advance(5)
        return word

    async with Environment(workflows=[diary], url=url) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await entered.wait()
        await env.crash()
        assert env.now() == START + timedelta(seconds=5)
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]


async def test_a_step_that_dies_while_it_waits_is_no_longer_at_work(url: str) -> None:
    """Nor is it less than that: the steps after it have all of their time."""

    @workflow
    async def forever(ctx: Context) -> None:
        await ctx.wait_for_event("end")

    async def waiting(word: str) -> str:
        if word == "a" and len(noted.calls) == 1:
            await env.client.handle("other").result()
        await asyncio.sleep(0.02)  # of the machine's own time
        return word

    async with Environment(workflows=[diary, forever], url=url) as env:
        noted = env.mock(note, using=waiting)
        await env.client.start(forever, id="other")
        handle = await env.client.start(diary, id="d")
        await env.settle()
        await env.crash()
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert env.now() == START + days(10)


async def test_what_a_dead_workers_thread_brings_is_dropped() -> None:
    entered, leave = threading.Event(), threading.Event()
    seen = []

    @step
    def slow() -> int:
        seen.append(1)
        if len(seen) == 1:
            entered.set()
            assert leave.wait(30)
        return len(seen)

    @workflow
    async def working(ctx: Context) -> int:
        return await ctx.step(slow)

    async with Environment(workflows=[working]) as env:
        handle = await env.client.start(working)
        await asyncio.to_thread(entered.wait, 30)
        await env.crash()
        asyncio.get_running_loop().call_later(0.01, leave.set)
        assert await handle.result() == 2


async def test_a_crash_right_after_a_start(url: str) -> None:
    async with Environment(workflows=[diary], url=url) as env:
        handle = await env.client.start(diary)
        await env.crash()
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]


async def test_whoever_waits_for_a_result_goes_on_waiting() -> None:
    async with Environment(workflows=[diary]) as env:
        handle = await env.client.start(diary)
        waiting = asyncio.ensure_future(handle.result())
        await env.crash()
        await handle.send_event("last", "c")
        assert await waiting == ["a", "b", "c"]


@workflow
async def trio(ctx: Context) -> str:
    await ctx.parallel([ctx.step(note, word) for word in "abc"])
    await ctx.wait_for_event("go")
    await ctx.step(note, "after")
    return await ctx.call(confirmed)


@workflow
async def confirmed(ctx: Context) -> str:
    raise AssertionError("the real one")


async def test_steps_that_crash_their_worker_at_once_crash_it_once(url: str) -> None:
    """Each worker that is left behind would hold runs that no later crash, and no mock, reaches."""

    async def dying_once(word: str) -> str:
        if [call.args[0] for call in noted.calls].count(word) == 1:
            await env.crash()
        return word

    async with Environment(workflows=[trio, confirmed], url=url) as env:
        noted = env.mock(note, using=dying_once)
        runs = [await env.client.start(trio, id=f"t{n}") for n in range(3)]
        await env.settle()
        assert len([each for each in env._processes if not each.dead]) == 1
        env.mock(confirmed, returns="mocked")
        for run in runs:
            await run.send_event("go")
        assert [await run.result() for run in runs] == ["mocked"] * 3
        assert [call.args[0] for call in noted.calls].count("after") > 3
        assert len([each for each in env._processes if not each.dead]) == 1


async def test_crashes_that_a_test_asks_for_at_once_are_one(url: str) -> None:
    async with Environment(workflows=[diary], url=url) as env:
        handle = await env.client.start(diary, id="d")
        await env.settle()
        await asyncio.gather(env.crash(), env.crash(), env.crash())
        assert [each.dead for each in env._processes] == [True, False]
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]


async def test_a_dying_step_that_asks_for_a_crash_dies_and_nobody_else_does() -> None:
    async def dying(word: str) -> str:
        if len(noted.calls) == 1:
            try:
                await env.crash()
            finally:
                await env.crash()
        return word

    async with Environment(workflows=[diary]) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert [each.dead for each in env._processes] == [True, False]


async def test_a_step_of_the_next_worker_crashes_that_one() -> None:
    """Also while the crash of the worker before is not over."""

    async def dying(word: str) -> str:
        if len(noted.calls) < 4:
            await env.crash()
        return word

    async with Environment(workflows=[diary]) as env:
        noted = env.mock(note, using=dying)
        handle = await env.client.start(diary, id="d")
        await handle.send_event("last", "c")
        assert await handle.result() == ["a", "b", "c"]
        assert [each.dead for each in env._processes] == [True, True, True, False]


async def test_an_environment_may_be_left_while_its_worker_dies() -> None:
    entered = asyncio.Event()

    async def dying(word: str) -> str:
        entered.set()
        await env.crash()
        return word

    async with Environment(workflows=[diary]) as env:
        env.mock(note, using=dying)
        await env.client.start(diary, id="d")
        await entered.wait()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
