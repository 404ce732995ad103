"""What `ctx` gives to workflow code is the same on every replay."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from durable.clock import to_datetime
from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.model import history
from durable.model.commands import WriteLog
from durable.model.definition import workflow
from durable.model.scope import STEP, in_workflow
from tests.engine.driver import START, Driver, live, replay, result
from tests.engine.workflows import chain, double, fail, note


def test_now_is_the_time_of_the_event_being_handled():
    """`ctx.now()` is the `at` of the event being applied, in UTC."""

    @workflow
    async def tells_the_time(ctx: Context) -> list[datetime]:
        first = ctx.now()
        await ctx.sleep(90)
        return [first, ctx.now()]

    first, second = result(tells_the_time, noise=0)
    assert first == to_datetime(START)
    assert first.tzinfo is UTC
    assert second - first == timedelta(seconds=90)


def test_now_never_goes_back():
    """Not even when an event's clock was behind."""

    @workflow
    async def tells_the_time(ctx: Context) -> list[datetime]:
        seen = [ctx.now()]
        for number in range(3):
            await ctx.step(double, number)
            seen.append(ctx.now())
        return seen

    driver = Driver(tells_the_time, latencies=[1000], noise=0, park=0)
    driver.happen(1)
    driver.now -= 500_000
    driver.under_way[2] = driver.now, driver.under_way[2][1]
    recording = driver.finish()
    assert recording.outcome == sorted(recording.outcome)
    assert recording.rows[2].at < recording.rows[1].at
    assert replay(tells_the_time, recording.rows) == recording.trace


def test_the_loops_time_goes_with_the_history():
    """A deterministic event loop whose clock is the history."""

    @workflow
    async def reads_the_loop(ctx: Context) -> list[float]:
        loop = asyncio.get_running_loop()
        first = loop.time()
        await asyncio.sleep(3)
        return [first, loop.time()]

    assert result(reads_the_loop, noise=0) == [0.0, 3.0]


def test_random_numbers_and_uuids_are_the_same_on_every_replay():
    """A random source that gives the same numbers on every replay."""

    @workflow
    async def draws(ctx: Context) -> list[str]:
        first = ctx.uuid()
        await ctx.step(note, str(ctx.random.random()))
        second = ctx.uuid()
        await ctx.step(note, str(ctx.random.randrange(10**9)))
        assert isinstance(first, uuid.UUID)
        assert first.version == 4
        return [str(first), str(second)]

    first = result(draws)
    assert len(set(first)) == 2
    assert result(draws) == first
    assert result(draws, run_id="another") != first


def test_random_numbers_and_uuids_do_not_disturb_each_other():
    """Using one more of these does not change those."""

    @workflow
    async def draws(ctx: Context, more: int) -> str:
        for _ in range(more):
            ctx.random.random()
        return str(ctx.uuid())

    assert result(draws, 0) == result(draws, 5)


def test_a_line_of_the_log_is_a_command():
    """`ctx.log` is silent on replay, and written only once what led to a line is durable."""

    @workflow
    async def logs(ctx: Context) -> None:
        ctx.log.info("begun with %s", 1)
        await ctx.step(note, "x")
        ctx.log.warning("half way", extra={"part": 1})
        try:
            await ctx.step(fail, "oh")
        except ValueError:
            ctx.log.exception("it failed")
        ctx.log.debug("done")

    driver = Driver(logs, noise=0, park=0)
    seen: list[WriteLog] = []
    commands = driver.instance.started
    while driver.under_way:
        applied = driver.happen(min(driver.under_way))
        seen += [command for command in applied if isinstance(command, WriteLog)]
    assert commands is not None
    recording = driver.finish()
    assert recording.logs == ["begun with 1", "half way", "it failed", "done"]
    levels = [told[1] for told in recording.commands("log")]
    assert levels == [logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG]
    assert seen[0].options == {"extra": {"part": 1}}
    assert isinstance(seen[1].options["exc_info"], ValueError)
    assert replay(logs, recording.rows) == recording.trace


def test_context_variables_belong_to_the_run():
    """Tasks get copies of the run's own context; what the worker's context holds is not seen."""
    outside = contextvars.ContextVar("outside", default="default")
    outside.set("the worker's")
    STEP.set(object())  # a worker applies events while it finishes an attempt of some other step

    @workflow
    async def looks(ctx: Context) -> list[str]:
        async def child(name: str) -> str:
            outside.set(name)
            await chain(ctx, name)
            return outside.get()

        before = outside.get()
        outside.set("main")
        children = await asyncio.gather(child("a"), child("b"))
        return [before, *children, outside.get(), str(in_workflow())]

    def judged() -> object:
        return result(looks)

    found = contextvars.copy_context().run(judged)
    STEP.set(None)
    assert found == ["default", "a", "b", "main", "True"]
    assert outside.get() == "the worker's"


def test_sleep_takes_durations_and_sleep_until_aware_datetimes():
    """`sleep(d)` takes a timedelta or seconds; a naive datetime raises `ValueError`."""

    @workflow
    async def sleeps(ctx: Context) -> list[float]:
        start = ctx.now()
        await ctx.sleep(timedelta(minutes=1))
        await ctx.sleep_until(start + timedelta(minutes=3))
        await ctx.sleep_until(start)  # has passed: no wait
        with pytest.raises(ValueError, match="naive"):
            ctx.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="sleep"):
            ctx.sleep(-1)
        with pytest.raises(TypeError):
            ctx.sleep("5")  # type: ignore[arg-type]
        async with ctx.timeout(timedelta(hours=1)):
            await ctx.sleep(1)
        return [(ctx.now() - start).total_seconds()]

    assert result(sleeps, noise=0) == [181.0]


def test_timers_fire_in_the_order_of_their_due_times():
    """A sleep that is asked for later can end sooner."""

    @workflow
    async def sleeps(ctx: Context) -> list[int]:
        seen: list[int] = []

        async def nap(seconds: int) -> None:
            await asyncio.sleep(seconds)
            seen.append(seconds)

        await asyncio.gather(nap(3), nap(1), nap(2))
        return seen

    assert result(sleeps) == [1, 2, 3]


def test_sleep_zero_lets_others_run_and_asks_for_nothing():
    """`asyncio.sleep(0)` is no timer."""

    @workflow
    async def yields(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def worker(name: str) -> None:
            for number in range(2):
                seen.append(f"{name}{number}")
                await (asyncio.sleep(0) if name == "a" else ctx.sleep(0))

        await asyncio.gather(worker("a"), worker("b"))
        return seen

    recording = live(yields)
    assert recording.outcome == ["a0", "b0", "a1", "b1"]
    assert len(recording.rows) == 2


def test_an_endless_sleep_is_a_sleep():
    """As in asyncio; it is due when the calendar ends."""

    @workflow
    async def waits_for_good(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.sleep(math.inf)
        except TimeoutError:
            return "woken"
        return "never"

    assert result(waits_for_good) == "woken"


def test_info_is_what_is_known_of_the_run():
    """A snapshot, the same on every replay."""

    @workflow
    async def introduces_itself(ctx: Context) -> list[object]:
        await ctx.step(note, "x")
        info = ctx.info
        return [ctx.run_id, info.run_id, info.workflow, info.root_id, info.history_length]

    found = result(introduces_itself, run_id="order-1", noise=0)
    assert found == ["order-1", "order-1", "introduces_itself", "order-1", 2]


def test_events_that_the_engine_has_no_use_for_change_nothing():
    """`Recovered`, `EventReceived` and the like are facts of the history, not of the code."""

    @workflow
    async def waits(ctx: Context) -> None:
        await ctx.sleep(10)

    instance = Instance(waits, "run")
    instance.apply(history.RunStarted(START, "waits", b""))
    for event in (
        history.Recovered(START + 1, 1, 2),
        history.EventReceived(START + 2, "noise", b"", 1),
        history.Blocked(START + 3, "because"),
        history.Unblocked(START + 4),
    ):
        assert instance.apply(event) == []
    assert instance.now == START + 4
    instance.discard()


def test_workflow_code_sees_no_other_loop():
    """The running loop is the run's own, and its tasks are all that there are."""

    @workflow
    async def looks(ctx: Context) -> list[object]:
        task = asyncio.create_task(chain(ctx, "a"))
        others = asyncio.all_tasks() - {task, asyncio.current_task()}
        await task
        return [len(others), type(asyncio.get_running_loop()).__name__]

    assert result(looks) == [0, "WorkflowLoop"]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")
def test_as_completed_as_an_async_iterator():
    """Python 3.13 yields the tasks themselves."""

    @workflow
    async def iterates(ctx: Context) -> list[str]:
        tasks = [asyncio.create_task(chain(ctx, name), name=name) for name in "abcd"]
        return [task.get_name() async for task in asyncio.as_completed(tasks)]

    assert sorted(result(iterates)) == list("abcd")
