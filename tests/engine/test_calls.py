"""A verb of the context is a coroutine that begins when it is awaited, and knows its call site."""

from __future__ import annotations

import asyncio
import sys

import pytest

from durable.engine.context import Context
from durable.model.definition import workflow
from tests.engine.driver import failure, live, result
from tests.engine.workflows import double, note


def line() -> int:
    """The line that calls this."""
    return sys._getframe(1).f_lineno


def test_a_verb_does_nothing_until_it_is_awaited():
    """It takes its command number at that moment."""

    @workflow
    async def awaits_backwards(ctx: Context) -> list[str]:
        first, second = ctx.step(note, "first"), ctx.step(note, "second")
        return [await second, await first]

    recording = live(awaits_backwards)
    assert recording.names == ["note", "note"]
    assert recording.outcome == ["second", "first"]


def test_tasks_start_in_the_order_of_their_creation():
    """So command numbers are deterministic."""

    @workflow
    async def makes_tasks(ctx: Context) -> list[int]:
        tasks = [asyncio.create_task(ctx.step(double, number)) for number in range(5)]
        timer = asyncio.create_task(ctx.sleep(1))
        await timer
        return [await task for task in tasks]

    recording = live(makes_tasks)
    assert [told[1] for told in recording.commands("step")] == [1, 2, 3, 4, 5]
    assert recording.commands("timer")[0][1] == 6
    assert result(makes_tasks) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    "way", ["await", "create_task", "gather", "TaskGroup", "wait_for", "shield", "as_completed"]
)
def test_every_way_of_asyncio_to_run_a_coroutine_runs_a_call(way):
    """`gather`, `create_task`, `TaskGroup`, `wait_for`, `shield`, `as_completed` take it."""

    @workflow
    async def runs_a_call(ctx: Context, way: str) -> int:
        call = ctx.step(double, 21)
        match way:
            case "await":
                return await call
            case "create_task":
                return await asyncio.create_task(call)
            case "gather":
                return (await asyncio.gather(call))[0]
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(call)
                return task.result()
            case "wait_for":
                return await asyncio.wait_for(call, 100)
            case "shield":
                return await asyncio.shield(call)
            case _:
                (task,) = asyncio.as_completed([call])
                return await task

    assert result(runs_a_call, way) == 42


@pytest.mark.parametrize(
    "again", ["await, await", "task, await", "await, task", "task, task", "ended, await"]
)
def test_a_call_is_awaited_once(again):
    """Awaiting one call twice is `RuntimeError`."""

    @workflow
    async def awaits_twice(ctx: Context, again: str) -> str:
        call = ctx.step(double, 1)
        match again:
            case "await, await":
                iterator = call.__await__()
                try:
                    await call
                finally:
                    iterator.close()
            case "task, await":
                task = asyncio.create_task(call)
                try:
                    await call
                finally:
                    await task
            case "await, task":
                iterator = call.__await__()
                try:
                    await asyncio.create_task(call)
                finally:
                    iterator.close()
            case "task, task":
                task = asyncio.create_task(call)
                try:
                    await asyncio.create_task(call)
                finally:
                    await task
            case _:
                await call
                await call
        return "no error"

    told = failure(awaits_twice, again)
    assert told.type == "builtins:RuntimeError"
    assert "test_calls.py:" in told.message
    assert "was awaited already" in told.message


def test_one_call_twice_in_a_gather_runs_once():
    """As with a coroutine, `gather` takes equal ones for one."""

    @workflow
    async def gathers_one_twice(ctx: Context) -> list[int]:
        call = ctx.step(double, 2)
        return await asyncio.gather(call, call)

    assert result(gathers_one_twice) == [4, 4]
    assert live(gathers_one_twice).names == ["double"]


def test_a_call_that_is_never_awaited_fails_the_run():
    """At a normal return it fails the run with `NotAwaited`: all call sites are listed."""
    lines: list[int] = []

    @workflow
    async def forgets_await(ctx: Context) -> str:
        ctx.step(double, 1)
        lines.append(line() - 1)
        ctx.sleep(1)
        lines.append(line() - 1)
        return await ctx.step(note, "done")

    told = failure(forgets_await)
    assert told.type == "durable.errors:NotAwaited"
    assert f"test_calls.py:{lines[0]}" in told.message
    assert f"test_calls.py:{lines[1]}" in told.message


def test_a_call_that_became_a_task_is_not_reported_as_never_awaited():
    """A verb does nothing until awaited or made a task; tasks still pending are cancelled, with a warning."""

    @workflow
    async def leaves_a_task(ctx: Context) -> str:
        ctx.now()
        background = {asyncio.create_task(ctx.step(double, 1), name="background")}
        return f"{len(background)} left"

    recording = live(leaves_a_task)
    assert recording.outcome == "1 left"
    assert recording.names == []
    (warning,) = recording.logs
    assert "background (test_calls.py:" in warning


def test_when_an_exception_leaves_calls_that_were_never_awaited_are_not_reported():
    """When an exception leaves, neither is reported."""

    @workflow
    async def fails_first(ctx: Context) -> str:
        ctx.step(double, 1)
        task = asyncio.create_task(ctx.sleep(100))
        await ctx.step(note, "begun")
        raise KeyError(task.get_name())

    recording = live(fails_first)
    assert recording.outcome.type == "builtins:KeyError"
    assert recording.logs == []


def test_a_call_cancelled_before_it_began_is_no_command():
    """A verb does nothing until it is awaited; a task that never ran never awaited it."""

    @workflow
    async def cancels_at_once(ctx: Context) -> str:
        task = asyncio.create_task(ctx.step(double, 1))
        task.cancel()
        await asyncio.wait([task])
        return str(task.cancelled())

    recording = live(cancels_at_once)
    assert recording.outcome == "True"
    assert recording.names == []


def test_a_call_knows_its_site_also_as_a_task():
    """It is a small object with the coroutine protocol that knows its call site."""

    @workflow
    async def sleeps_in_a_task(ctx: Context) -> int:
        await asyncio.gather(ctx.sleep(1), ctx.step(double, 2))
        return line() - 1

    from durable.model.commands import RunStep, StartTimer
    from tests.engine.driver import Driver

    driver = Driver(sleeps_in_a_task)
    sites = {type(command): command.site for _, command in driver.under_way.values()}
    expected = driver.finish().outcome
    assert str(sites[StartTimer]) == str(sites[RunStep]) == f"test_calls.py:{expected}"


def test_a_timer_of_a_callback_has_the_workflow_for_a_site():
    """Where there is no line of the user's, messages still name the workflow."""

    @workflow
    async def schedules(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        loop.call_soon(loop.call_later, 5, done.set)
        await done.wait()

    from tests.engine.driver import Driver

    driver = Driver(schedules)
    ((_, command),) = driver.under_way.values()
    assert str(command.site) == "test_calls.py:0"
    assert driver.finish().outcome is None
