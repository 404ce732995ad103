"""A discarded instance is cut off before it is closed: its cleanup has no effect and makes no sound."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from durable.engine import loop
from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.errors import NotAllowedInWorkflow
from durable.model import history
from durable.model.definition import Workflow, workflow
from tests.engine import workflows
from tests.engine.driver import START, Driver, live, tell
from tests.engine.witness import ROOT
from tests.engine.workflows import chain, double, note

calls: list[str] = []
stubborn = True


@workflow
async def cleans_up(ctx: Context) -> None:
    """Every kind of cleanup, in the main task and in others."""

    async def background() -> None:
        try:
            await ctx.sleep(1000)
        finally:
            calls.append("background")
            await asyncio.gather(chain(ctx, "a"), ctx.step(note, "b"))
            calls.append("not reached")

    task = asyncio.create_task(background())
    try:
        async with asyncio.TaskGroup() as group, asyncio.timeout(500):
            group.create_task(chain(ctx, "group"))
            await ctx.step(note, "waits")
    finally:
        calls.append("main")
        ctx.log.warning("cleaning up at %s", ctx.now())
        ctx.step(note, "never awaited")
        late = asyncio.create_task(chain(ctx, "late"))
        asyncio.get_running_loop().call_later(5, calls.append, "timer")
        try:
            await ctx.step(note, "cleanup")
        finally:
            await ctx.sleep(5)
            await asyncio.wait([task, late])


@workflow
async def refuses_to_go(ctx: Context) -> None:
    """Swallows whatever is raised in it."""
    while True:
        try:
            await ctx.sleep(1000)
        except BaseException:
            calls.append("swallowed")
            if not stubborn:
                raise


@workflow
async def returns_on_close(ctx: Context) -> int:
    """Takes the end of the instance for the end of its wait."""
    asyncio.create_task(ctx.sleep(50))  # noqa: RUF006
    try:
        await ctx.step(double, 1)
    except BaseException:
        return 1
    return 2


@workflow
async def calls_a_step(ctx: Context) -> None:
    """A mistake that must stay without effect also while the instance is closed."""
    try:
        await ctx.sleep(5)
    finally:
        try:
            double(1)
        except NotAllowedInWorkflow:
            calls.append("refused")
        else:
            calls.append("called")


@workflow
async def in_a_generator(ctx: Context) -> None:
    async def items() -> AsyncIterator[int]:
        try:
            while True:
                yield await ctx.step(double, 1)
        finally:
            calls.append("generator")
            await ctx.step(note, "generator")

    abandoned = items()
    await anext(abandoned)
    async for _ in items():
        await ctx.sleep(100)


def begun(workflow: Workflow[None, object], events: int) -> Instance:
    """An instance in the middle of its run."""
    driver = Driver(workflow, latencies=[1000], noise=0, park=0)
    while len(driver.recording.rows) < events and driver.step_forward():
        pass
    driver.made.remove(driver)
    return driver.instance


@pytest.fixture(autouse=True)
def _no_calls(monkeypatch):
    calls.clear()
    yield
    monkeypatch.setattr(sys.modules[__name__], "stubborn", False)
    while loop._STUBBORN:
        with suppress(SystemExit):
            loop._STUBBORN.pop().throw(SystemExit())


ALL = [cleans_up, refuses_to_go, returns_on_close, calls_a_step, in_a_generator]


@pytest.mark.parametrize("workflow", ALL, ids=lambda workflow: workflow.name)
@pytest.mark.parametrize("events", [1, 2, 3])
def test_cleanup_of_a_discarded_instance_has_no_effect(workflow, events, capfd, recwarn):
    """`finally` blocks that call ctx.step, ctx.log or sleep ask for nothing, and nothing is printed."""
    instance = begun(workflow, events)
    last = instance._commands
    asked, issued = [tell(command) for command in last], instance.issued
    instance.discard()
    assert [tell(command) for command in last] == asked
    assert instance.issued - issued < 10
    del instance
    gc.collect()
    assert [tell(command) for command in last] == asked
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_cleanup_runs_once_in_every_task():
    """Python code that holds things open gets its chance to close them."""
    begun(cleans_up, 2).discard()
    assert sorted(calls) == ["background", "main"]


def test_a_step_called_directly_in_cleanup_is_refused():
    """Closing happens in the context of the task, so that it is known for workflow code."""
    begun(calls_a_step, 1).discard()
    assert calls == ["refused"]


def test_a_task_that_swallows_everything_is_left_alone_in_the_end():
    """It is not allowed to hold up the worker, and collecting it must not run it in somebody else's run."""
    begun(refuses_to_go, 1).discard()
    count = len(calls)
    gc.collect()
    assert 1 < len(calls) == count < 1000


def test_discarding_twice_or_before_the_start_is_fine():
    """There is nothing left to forget."""
    instance = Instance(cleans_up, "run")
    instance.discard()
    instance.discard()
    begun(cleans_up, 1).discard()


def test_a_discard_leaves_the_loop_of_the_worker_alone():
    """User code that runs while an instance is closed sees the run's loop; afterwards all is as before."""

    @workflow
    async def looks(ctx: Context) -> None:
        try:
            await ctx.sleep(5)
        finally:
            calls.append(type(asyncio.get_running_loop()).__name__)

    async def worker() -> None:
        instance = begun(looks, 1)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        instance.discard()
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        await asyncio.sleep(0)

    asyncio.run(worker())
    assert calls == ["WorkflowLoop"]


def test_a_thousand_discards_leak_nothing():
    """Everything that belonged to a discarded instance can be collected."""
    watched: list[weakref.ref[object]] = []
    leaky = [cleans_up, returns_on_close, in_a_generator, workflows.queue, workflows.task_group]
    for number in range(1000):
        instance = begun(leaky[number % len(leaky)], 1 + number % 7)
        watched += [weakref.ref(instance), weakref.ref(instance._loop)]
        watched += [weakref.ref(task) for task in instance._loop.tasks]
        instance.discard()
    del instance
    gc.collect()
    assert len(watched) > 2000
    assert not [one for one in watched if one() is not None]


def test_a_finished_run_leaks_nothing():
    """The same goes for a run that ended."""
    watched = []
    for name in ("cancels_a_task", "generators", "as_completed_coroutines", "waits_for_gatherings"):
        recording = live(getattr(workflows, name))
        watched.append(weakref.ref(recording.instance))
        del recording
    gc.collect()
    assert not [one for one in watched if one() is not None]


def test_a_thousand_runs_side_by_side_are_as_quick_as_one():
    """Tasks of different runs have the same numbers; asyncio's set of all tasks must not mind."""
    instances = []
    for number in range(1000):
        instance = Instance(workflows.gathers_chains, f"run{number}")
        instance.apply(history.RunStarted(START, "gathers_chains", b""))
        instances.append(instance)
    assert {hash(task) for task in instance._loop.tasks} == {1, 2, 3, 4, 5}
    known = getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", None))
    if known is not None:
        registered = [hash(reference) for reference in known.data]
        assert len(registered) >= 5000
        assert len(set(registered)) > 0.9 * len(registered)
    for instance in instances:
        instance.discard()


SCRIPT = """
import gc
from durable.model import history
from durable.engine.instance import Instance
from tests.engine import test_discard as here, workflows
for workflow in [*here.ALL, *workflows.ALL]:
    if workflow is here.refuses_to_go:
        continue  # heard once more when the interpreter ends
    for events in range(1, 9):
        here.begun(workflow, events).discard()
        gc.collect()
"""


def test_nothing_is_printed_with_every_warning_an_error():
    """No "Task was destroyed", no "never awaited", in a process of its own, with asyncio's debug mode."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
