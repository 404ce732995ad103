"""A run is driven inside a task of the worker's own loop, which must not notice."""

from __future__ import annotations

import asyncio
import sys

import pytest

from durable.engine.context import Context
from durable.model.definition import workflow
from tests.engine import workflows
from tests.engine.driver import Driver, difference, live
from tests.engine.workflows import note


def alive() -> tuple[object, object, object]:
    """What belongs to the loop that is running."""
    return asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()


@pytest.mark.parametrize("workflow", workflows.ALL, ids=lambda workflow: workflow.name)
async def test_every_primitive_inside_a_task_of_another_loop(workflow):
    """`asyncio.current_task` of the outer loop is unharmed afterwards, and so are its hooks."""
    before = alive()
    async with asyncio.timeout(60):
        driver = Driver(workflow, seed=2)
        while driver.step_forward():
            assert alive() == before
            await asyncio.sleep(0)
        recording = driver.finish()
        assert difference(workflow, recording) is None
    assert alive() == before
    assert not recording.failed


async def test_runs_take_turns_on_one_loop():
    """A worker drives many runs at once; each keeps to its own loop."""

    async def drive(seed: int) -> object:
        driver = Driver(workflows.queue, seed=seed)
        while driver.step_forward():
            await asyncio.sleep(0)
        return driver.finish().trace

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(drive(seed)) for seed in range(8)]
    for seed, task in enumerate(tasks):
        assert task.result() == live(workflows.queue, seed=seed).trace


async def test_what_a_workflow_raises_leaves_the_outer_loop_alone():
    """Not even the exceptions that stop a loop."""

    @workflow
    async def raises(ctx: Context) -> None:
        await ctx.step(note, "x")
        raise KeyboardInterrupt

    before = alive()
    assert live(raises).outcome.type == "builtins:KeyboardInterrupt"
    assert alive() == before


async def test_an_async_generator_of_a_run_is_none_of_the_outer_loop(recwarn):
    """Async generators of a run are finished by the run, never by the worker's own loop."""
    finished: list[str] = []

    @workflow
    async def abandons(ctx: Context) -> None:
        async def items():
            try:
                yield 1
                yield 2
            finally:
                finished.append(type(asyncio.get_running_loop()).__name__)

        async for _ in items():
            break
        await ctx.step(note, "x")
        assert finished == []

    assert not live(abandons).failed
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert finished == ["WorkflowLoop"]
