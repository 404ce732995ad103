"""A test never waits for ever: where nothing can happen it is told why."""

from __future__ import annotations

import asyncio

import pytest

from durable import (
    Context,
    DurableError,
    NondeterminismError,
    days,
    hours,
    minutes,
    step,
    workflow,
)
from durable_testing import Environment, Stuck, stuck, timing
from durable_testing.faults import FaultyStorage, Gate, Hold


@step
async def work(word: str) -> str:
    return word


@workflow
async def waiting(ctx: Context) -> str:
    await ctx.sleep(hours(1))
    return await ctx.wait_for_event("paid", str)


@workflow
async def asking(ctx: Context) -> bool:
    return bool(await ctx.wait_for_approval("manager", to="ann"))


async def test_an_event_that_nobody_sends(url: str) -> None:
    async with Environment(workflows=[waiting, asking], url=url) as env:
        await env.client.start(asking, id="b")
        with pytest.raises(Stuck) as error:
            await env.run(waiting, id="a")
        assert str(error.value).splitlines() == [
            "nothing can happen any more: no step runs, no timer is due, and these runs wait:",
            "  b (asking, waiting): input manager from ann",
            "  a (waiting, waiting): event paid",
        ]


async def test_everybody_who_waits_is_told_and_what_is_done_then_counts() -> None:
    async with Environment(workflows=[waiting, asking]) as env:
        first, second = await env.client.start(waiting), await env.client.start(asking)
        told = await asyncio.gather(first.result(), second.result(), return_exceptions=True)
        assert [type(one) for one in told] == [Stuck, Stuck]
        await first.send_event("paid", "now")
        assert await first.result() == "now"


async def test_a_workflow_that_nobody_runs(url: str) -> None:
    async with Environment(workflows=[waiting], url=url) as env:
        await env.client.start(waiting, id="q", queue="gpu")
        handle = await env.client.start(asking, id="a")
        with pytest.raises(Stuck) as error:
            await handle.result()
        advice = "add it to Environment(workflows=)"
        assert str(error.value).splitlines()[1:] == [
            f"  q (waiting, pending): nobody runs waiting on queue gpu: {advice}",
            f"  a (asking, pending): nobody runs asking on queue default: {advice}",
        ]


async def test_a_paused_run() -> None:
    async with Environment(workflows=[waiting]) as env:
        handle = await env.client.start(waiting, id="a")
        await env.settle()
        await env.client.pause("a")
        with pytest.raises(Stuck, match=r"a \(waiting, paused\): is paused: client.resume it"):
            await handle.result()
        await env.client.resume("a")
        await handle.send_event("paid", "now")
        assert await handle.result() == "now"


async def test_a_blocked_run_is_an_error_at_once(url: str) -> None:
    turns = []

    @workflow
    async def fickle(ctx: Context) -> None:
        turns.append(1)
        if len(turns) == 1:
            await ctx.step(work, "a")
            await ctx.sleep(days(1))
        else:
            await ctx.wait_for_event("other")

    async with Environment(workflows=[fickle], url=url) as env:
        handle = await env.client.start(fickle, id="f")
        await env.settle()
        await env.crash()
        with pytest.raises(NondeterminismError, match="run f"):
            await handle.result()
        assert await handle.status() == "blocked"


async def test_a_run_that_is_blocked_for_another_reason() -> None:
    @workflow
    async def greedy(ctx: Context, number: int) -> None:
        """Its input cannot be read."""

    async with Environment(workflows=[greedy]) as env:
        handle = await env.client.start("greedy", "no number", id="g")
        with pytest.raises(DurableError, match="run g is blocked: PayloadError: input of workflow"):
            await handle.result()


async def test_time_that_jumps_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "MAX_JUMPS", 20)

    @workflow
    async def ticking(ctx: Context) -> None:
        while True:
            await ctx.sleep(days(1))

    async with Environment(workflows=[ticking, waiting]) as env:
        await env.client.start(ticking, id="t")
        with pytest.raises(Stuck) as error:
            await env.run(waiting, id="a")
        head, *runs = str(error.value).splitlines()
        assert head == "time has jumped 20 times, and run a has not ended:"
        assert runs[1] == "  a (waiting, waiting): event paid"
        assert runs[-1].endswith("`await env.advance(...)` has no such limit")
        await env.advance(days(100))  # what is asked for by name has no limit


async def test_a_look_each_minute_for_thirty_days_is_not_for_ever() -> None:
    async with Environment(workflows=[waiting]) as env:
        await env.client.start(waiting, id="a")
        await env.settle()
        waiter = timing.Waiter("a")
        waiter.jumps = days(30) // minutes(1)
        await stuck.Troubles(env._port, lambda: env._worker).look([waiter])
        assert not waiter.told.done()


async def test_a_step_that_never_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(stuck, "STEP_SECONDS", 0.05)

    @step
    async def hanging() -> None:
        await asyncio.Event().wait()

    @workflow
    async def hangs(ctx: Context) -> None:
        await ctx.step(hanging)

    async with Environment(workflows=[hangs]) as env:
        with pytest.raises(Stuck, match=r"step \S*hanging of run h \(attempt 1\) has not returned"):
            await env.run(hangs, id="h")


async def test_a_task_that_never_comes_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEP_SECONDS", 0.05)
    over = False

    async def spinning() -> None:
        while not over:
            await asyncio.sleep(0)

    async with Environment(workflows=[waiting]) as env:
        task = asyncio.ensure_future(spinning())
        with pytest.raises(Stuck, match="the event loop has never come to rest"):
            await env.settle()
        over = True
        await task


async def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEP_SECONDS", 0.05)
    async with Environment(workflows=[waiting]) as env:
        gate = Gate()
        storage = FaultyStorage(env._port.inner, [("runs", 1, Hold(gate))])
        env._port.__dict__["runs"] = lambda where: env._port._pass("runs", storage.runs(where))
        listing = asyncio.ensure_future(asyncio.wait_for(env.client.list(), 20))
        with pytest.raises(Stuck, match="the database has not answered"):
            await env.settle()
        gate.release()
        await listing
