"""A test environment: time that jumps, and everything real that happens between two jumps."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable import Context, Request, Retry, days, hours, minutes, step, workflow
from durable.errors import (
    DefinitionError,
    DurableError,
    InputNotPending,
    RequestNotAnswered,
    RunFailed,
    StepTimeout,
    StoreUnavailable,
)
from durable_testing import Environment, step_context
from durable_testing.faults import ERROR_BEFORE, FaultyStorage

START = datetime(2026, 1, 1, tzinfo=UTC)


@step
async def charge(order: str) -> str:
    return f"charged {order}"


@step
def ship(order: str) -> str:
    return f"shipped {order}"


@workflow
async def order(ctx: Context, name: str) -> list[str]:
    charged = await ctx.step(charge, name)
    await ctx.sleep(days(30))
    return [charged, await ctx.step(ship, name)]


@workflow
async def approval(ctx: Context, name: str) -> str:
    decision = await ctx.wait_for_approval("manager", timeout=days(3), default=None)
    return "in time" if decision else "too late"


# -- time


async def test_a_run_of_thirty_days_is_over_at_once(url: str) -> None:
    async with Environment(workflows=[order], url=url) as env:
        assert env.now() == START
        assert await env.run(order, "a") == ["charged a", "shipped a"]
        assert env.now() == START + days(30)


async def test_time_begins_where_it_is_told_to() -> None:
    start = datetime(2030, 2, 28, 23, 0, tzinfo=UTC)
    async with Environment(workflows=[order], start_at=start) as env:
        await env.run(order, "a")
        assert env.now() == start + days(30)


async def test_a_result_that_somebody_waits_for_makes_time_pass(url: str) -> None:
    async with Environment(workflows=[order], url=url) as env:
        handle = await env.client.start(order, "a")
        await env.settle()
        assert (env.now(), await handle.status()) == (START, "waiting")
        await handle.result()
        assert env.now() == START + days(30)


async def test_time_is_advanced_to_the_moment_that_is_asked_for(url: str) -> None:
    async with Environment(workflows=[order], url=url) as env:
        handle = await env.client.start(order, "a")
        await env.advance(days(29))
        assert (env.now(), await handle.status()) == (START + days(29), "waiting")
        await env.advance(86_400)
        assert (env.now(), await handle.status()) == (START + days(30), "completed")


async def test_what_falls_due_on_the_way_happens_at_its_own_time() -> None:
    async with Environment(workflows=[order, approval]) as env:
        early = await env.client.start(approval, "a")
        late = await env.client.start(order, "a")
        await env.advance(days(100))
        ended = [(await handle.get()).finished_at for handle in (early, late)]
        assert ended == [START + days(3), START + days(30)]


async def test_a_start_that_is_put_off_is_waited_for(url: str) -> None:
    async with Environment(workflows=[approval], url=url) as env:
        handle = await env.client.start(approval, "a", delay=hours(5))
        await handle.result()
        assert env.now() == START + hours(5) + days(3)


async def test_retries_wait_as_long_as_they_should() -> None:
    tries = []

    @step(retry=Retry(max_attempts=3, initial=60, factor=10, jitter=0))
    async def flaky() -> str:
        tries.append(env.now() - START)
        if len(tries) < 3:
            raise OSError("no network")
        return "there"

    @workflow
    async def trying(ctx: Context) -> str:
        return await ctx.step(flaky)

    async with Environment(workflows=[trying]) as env:
        assert await env.run(trying) == "there"
    assert tries == [timedelta(0), minutes(1), minutes(6)]


async def test_two_runs_side_by_side_share_the_time() -> None:
    async with Environment(workflows=[order, approval]) as env:
        both = await asyncio.gather(env.run(order, "a"), env.run(approval, "b"))
        assert both == [["charged a", "shipped a"], "too late"]
        assert env.now() == START + days(30)


async def test_a_limit_on_a_result_is_one_of_the_environments_time() -> None:
    async with Environment(workflows=[order]) as env:
        handle = await env.client.start(order, "a", id="a")
        with pytest.raises(TimeoutError, match="run a has not ended within 3600 s"):
            await handle.result(timeout=hours(1))
        assert env.now() == START + hours(1)
        assert await handle.result(timeout=days(30)) == ["charged a", "shipped a"]


# -- what comes from outside


async def test_an_answer_is_given_at_the_moment_that_the_test_chooses(url: str) -> None:
    async with Environment(workflows=[approval], url=url) as env:
        handle = await env.client.start(approval, "a")
        await env.advance(days(2))
        await handle.provide_input("manager", True)
        assert await handle.result() == "in time"
        assert env.now() == START + days(2)


async def test_a_question_is_waited_for_as_long_as_it_takes_and_no_longer() -> None:
    @workflow
    async def later(ctx: Context) -> bool:
        await ctx.sleep(days(5))
        return bool(await ctx.wait_for_approval("manager"))

    async with Environment(workflows=[later]) as env:
        handle = await env.client.start(later)
        with pytest.raises(InputNotPending):
            await handle.provide_input("manager", True, wait=days(4))
        assert env.now() == START + days(4)
        await handle.provide_input("manager", True, wait=days(4))
        assert env.now() == START + days(5)
        assert await handle.result() is True


async def test_a_request_is_answered_and_one_that_is_not_times_out() -> None:
    price = Request("price", str, int)

    @workflow
    async def shop(ctx: Context) -> None:
        asked = await ctx.wait_for_request(price)
        asked.reply(len(asked.payload))
        await ctx.sleep(days(1))

    async with Environment(workflows=[shop]) as env:
        handle = await env.client.start(shop)
        assert await handle.request(price, "lamp") == 4
        with pytest.raises(TimeoutError, match="has not answered request price within 30 s"):
            await handle.request(price, "book")
        assert env.now() == START + timedelta(seconds=30)
        with pytest.raises(RequestNotAnswered):
            await handle.request(price, "book", timeout=None)


async def test_settled_is_only_when_a_message_has_done_all_it_can(url: str) -> None:
    @workflow
    async def echo(ctx: Context) -> None:
        for _ in range(5):
            name = await ctx.wait_for_event("go", str)
            ctx.set_state("name", await ctx.step(charge, name))

    async with Environment(workflows=[echo], url=url) as env:
        handle = await env.client.start(echo)
        for name in "abcd":
            await handle.send_event("go", name)
            await env.settle()
            assert await env.client.state(handle.id) == {"name": f"charged {name}"}
        assert env.now() == START


async def test_children_are_real_runs(url: str) -> None:
    @workflow
    async def parent(ctx: Context) -> str:
        return f"child {await ctx.call(approval, 'c', timeout=days(10))}"

    async with Environment(workflows=[parent, approval], url=url) as env:
        assert await env.run(parent) == "child too late"
        assert env.now() == START + days(3)


# -- steps take no time, however long they take


async def test_time_stands_still_until_a_thread_has_returned() -> None:
    entered, leave = threading.Event(), threading.Event()

    @step
    def slow() -> str:
        entered.set()
        assert leave.wait(30)
        return "slow"

    @workflow
    async def racing(ctx: Context) -> str:
        try:
            async with ctx.timeout(1):
                return await ctx.step(slow)
        except TimeoutError:
            return "time-out"

    async with Environment(workflows=[racing]) as env:
        waiting = asyncio.ensure_future(env.run(racing))
        await asyncio.to_thread(entered.wait, 30)
        assert env.now() == START
        leave.set()
        assert await waiting == "slow"
        assert env.now() == START


async def test_time_stands_still_until_a_coroutine_has_returned() -> None:
    leave = asyncio.Event()

    @step
    async def slow() -> str:
        await leave.wait()
        return "slow"

    @workflow
    async def racing(ctx: Context) -> str:
        name, _ = await ctx.race(step=ctx.step(slow), sleep=ctx.sleep(1))
        return name

    async with Environment(workflows=[racing]) as env:
        waiting = asyncio.ensure_future(env.run(racing))
        asyncio.get_running_loop().call_later(0.01, leave.set)
        assert await waiting == "step"
        assert env.now() == START


async def test_a_thread_that_nobody_waits_for_is_waited_for_all_the_same() -> None:
    """It was given up, but what it does is still a part of the test."""
    entered, release, done = threading.Event(), threading.Event(), []

    @step
    def left_behind() -> None:
        entered.set()
        assert release.wait(30)
        done.append(env.now())

    @workflow
    async def losing(ctx: Context) -> str:
        name, _ = await ctx.race(slow=ctx.step(left_behind), event=ctx.wait_for_event("go"))
        await ctx.sleep(days(1))
        return name

    async with Environment(workflows=[losing]) as env:
        handle = await env.client.start(losing)
        await asyncio.to_thread(entered.wait, 30)
        await handle.send_event("go")
        asyncio.get_running_loop().call_later(0.01, release.set)
        assert await handle.result() == "event"
        assert done == [START]
        assert env.now() == START + days(1)


async def test_a_step_that_waits_for_the_environment_is_not_waited_for() -> None:
    """It takes a virtual hour, and its time-out is a virtual one."""

    @step(timeout=minutes(90))
    async def long(hours_: int) -> str:
        await env.advance(hours(hours_))
        return f"{hours_} h"

    @workflow
    async def working(ctx: Context, hours_: int) -> str:
        return await ctx.step(long, hours_)

    async with Environment(workflows=[working]) as env:
        assert await env.run(working, 1) == "1 h"
        assert env.now() == START + hours(1)
        with pytest.raises(RunFailed) as failed:
            await env.run(working, 2)
        assert isinstance(failed.value, StepTimeout | TimeoutError)
        assert env.now() == START + hours(2.5)


async def test_a_step_may_wait_for_another_run() -> None:
    @step
    async def ask(name: str) -> str:
        return await env.run(approval, name)

    @workflow
    async def asking(ctx: Context) -> str:
        return await ctx.step(ask, "a")

    async with Environment(workflows=[asking, approval]) as env:
        assert await env.run(asking) == "too late"
        assert env.now() == START + days(3)


# -- its life


async def test_it_is_used_once_and_only_while_it_is_open() -> None:
    env = Environment(workflows=[order])
    with pytest.raises(DurableError, match="not open"):
        _ = env.client
    with pytest.raises(DurableError, match="not open"):
        await env.settle()
    with pytest.raises(DurableError, match="not open"):
        await env.crash()
    async with env:
        handle = await env.client.start(order, "a")
        waiting = asyncio.ensure_future(env.advance(days(40)))
    for act in (env.advance(1), env.settle(), env.crash(), handle.result(), waiting):
        with pytest.raises(DurableError, match=r"is closed|is not open"):
            await act
    with pytest.raises(RuntimeError, match="used once"):
        async with env:
            pass


async def test_runs_that_have_not_ended_are_left_as_they_are(url: str) -> None:
    async with Environment(workflows=[order], url=url) as env:
        await env.client.start(order, "a")
        await env.settle()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("durable")]


async def test_the_seed_decides_what_is_left_to_chance() -> None:
    @step(retry=Retry(max_attempts=4, initial=60, jitter=0.5))
    async def failing() -> None:
        raise OSError("away")

    @workflow
    async def trying(ctx: Context) -> None:
        await ctx.step(failing)

    async def ended(seed: int) -> tuple[str, datetime]:
        async with Environment(workflows=[trying], seed=seed) as env:
            handle = await env.client.start(trying)
            with pytest.raises(OSError, match="away"):
                await handle.result()
            return handle.id, env.now()

    once, again, other = await ended(1), await ended(1), await ended(2)
    assert once == again
    assert once[0] != other[0]
    assert once[1] != other[1]


async def test_a_step_context_is_no_step_of_the_environment() -> None:
    """Whoever waits in one is no work that time would wait for."""
    async with Environment(workflows=[order]) as env:
        with step_context():
            assert await env.run(order, "a") == ["charged a", "shipped a"]
            await env.crash()
            await env.settle()
        assert env.now() == START + days(30)


async def test_one_environment_inside_a_step_of_another() -> None:
    @step
    async def nested() -> datetime:
        async with Environment(workflows=[order]) as inner:
            await inner.run(order, "a")
            return inner.now()

    @workflow
    async def nesting(ctx: Context) -> datetime:
        return await ctx.step(nested)

    async with Environment(workflows=[nesting]) as env:
        assert await env.run(nesting) == START + days(30)
        assert env.now() == START


async def test_time_has_an_end() -> None:
    async with Environment(workflows=[order]) as env:
        with pytest.raises(ValueError, match="ends 200 years after"):
            await env.advance(days(365 * 201))
        await env.advance(days(365 * 199))
        assert await env.run(order, "a") == ["charged a", "shipped a"]


async def test_whoever_tries_again_makes_time_pass() -> None:
    """A database that is away for a moment is none for the test."""
    async with Environment(workflows=[order]) as env:
        storage = FaultyStorage(env._port.inner, [("start", n, ERROR_BEFORE) for n in (1, 2)])
        env._port.__dict__["start"] = lambda runs: env._port._pass("start", storage.start(runs))
        handle = await env.client.start(order, "a")
        assert storage.calls["start"] == 3
        assert env.now() > START
        assert await handle.result() == ["charged a", "shipped a"]


async def test_a_database_is_left_to_others_in_good_order(durable_postgres: str) -> None:
    async with Environment(workflows=[order], url=durable_postgres, start_at=START) as env:
        handle = await env.client.start(order, "a", id="a")
        await env.settle()
    async with Environment(workflows=[order], url=durable_postgres, start_at=START) as env:
        handle = env.client.handle("a", order)
        assert await handle.result() == ["charged a", "shipped a"]
        assert await env.client.count() == {"completed": 1}


@pytest.mark.parametrize(
    "given", [{"steps": [charge.options(queue="gpu")]}, {"resources": [object()]}]
)
async def test_what_a_worker_cannot_use_yet_is_refused(given: dict[str, list[Any]]) -> None:
    with pytest.raises(NotImplementedError, match="cannot be used yet"):
        async with Environment(workflows=[order], **given):
            pass


async def test_a_workflow_that_cannot_be_run_is_named() -> None:
    @workflow
    async def unfinished(ctx: Context, given: Undefined) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Nobody knows what it takes."""

    with pytest.raises(DefinitionError, match="Undefined"):
        async with Environment(workflows=[unfinished]):
            pass


async def test_a_database_that_is_not_there_is_named() -> None:
    with pytest.raises(StoreUnavailable):
        async with Environment(workflows=[order], url="sqlite:///nowhere/at/all.db"):
            pass
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("durable")]
