"""Sagas: what a run did is undone when it fails or is cancelled, on every store and over worker changes."""

from __future__ import annotations

import asyncio

import pytest

from durable import Client, Context, Retry, RunCancelled, RunFailed, Worker, step, workflow
from durable_testing import Environment

DONE: list[str] = []
GATES: list[asyncio.Event] = []
"""The gate of the test that is running: an event belongs to the loop that it is first awaited on."""


@pytest.fixture(autouse=True)
def _empty() -> None:
    DONE.clear()
    GATES[:] = [asyncio.Event()]


@step
async def undo(name: str) -> None:
    DONE.append(f"undo {name}")


@step(compensate=undo)
async def act(name: str) -> str:
    DONE.append(name)
    return name


@step(retry=Retry(max_attempts=3, initial=0.01))
async def undo_at_last(name: str) -> None:
    DONE.append(f"try {name}")
    if DONE.count(f"try {name}") < 3:
        raise ConnectionError(name)
    DONE.append(f"undo {name}")


@step(compensate=undo_at_last)
async def act_stubbornly(name: str) -> str:
    DONE.append(name)
    return name


@step
async def cannot_undo(name: str) -> None:
    raise RuntimeError(name)


@step(compensate=cannot_undo)
async def act_for_good(name: str) -> str:
    DONE.append(name)
    return name


@step(compensate=undo)
async def act_slowly(name: str) -> str:
    await GATES[0].wait()
    DONE.append(name)
    return name


@workflow
async def fails(ctx: Context) -> None:
    await ctx.step(act, "a")
    await ctx.step(act_stubbornly, "b")
    async with ctx.saga():
        await ctx.step(act, "c")
        ctx.compensate(undo, "registered")
    raise KeyError("d")


@workflow
async def catches(ctx: Context) -> str:
    await ctx.step(act, "a")
    try:
        async with ctx.saga():
            await ctx.step(act, "b")
            raise KeyError
    except KeyError:
        return "caught"


@workflow
async def partly(ctx: Context) -> None:
    await ctx.step(act, "a")
    await ctx.step(act_for_good, "b")
    await ctx.step(act, "c")
    raise KeyError("d")


@workflow
async def side_by_side(ctx: Context) -> None:
    async def breaks() -> None:
        await ctx.step(act, "quick")
        raise KeyError

    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.step(act_slowly, "slow"))
        group.create_task(breaks())


@workflow
async def gives_up(ctx: Context) -> str:
    try:
        async with ctx.timeout(0.05):
            return await ctx.step(act_slowly, "late")
    except TimeoutError:
        return "given up"


ALL = [fails, catches, partly, side_by_side, gives_up]


def undone() -> list[str]:
    return [entry.removeprefix("undo ") for entry in DONE if entry.startswith("undo ")]


async def test_a_failed_run_is_undone(client: Client) -> None:
    """Last completed first; it ends as `compensated`, and says what was undone."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(fails)
        with pytest.raises(KeyError) as raised:
            await handle.result(timeout=20)
        assert isinstance(raised.value, RunFailed)
    assert undone() == ["registered", "c", "b", "a"]
    run = await client.get(handle.id)
    assert run.status == "compensated"
    assert [(one.name, one.status) for one in run.compensations] == [
        ("undo", "completed"),
        ("undo", "completed"),
        ("undo_at_last", "completed"),
        ("undo", "completed"),
    ]
    assert run.compensations[2].attempts == 3
    assert run.compensations[2].step == "act_stubbornly"


async def test_a_block_that_is_caught(client: Client) -> None:
    """It is undone, and changes no status."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(catches)
        assert await handle.result(timeout=20) == "caught"
    assert undone() == ["b"]
    assert await handle.status() == "completed"


async def test_an_undo_that_fails(client: Client) -> None:
    """The rest is undone; the run ends as `compensation_failed`."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(partly)
        with pytest.raises(KeyError):
            await handle.result(timeout=20)
    assert undone() == ["c", "a"]
    run = await client.get(handle.id)
    assert run.status == "compensation_failed"
    assert [one.status for one in run.compensations] == ["completed", "failed", "completed"]


async def test_a_running_step_is_awaited_and_undone_first(client: Client) -> None:
    """It is not interrupted: its outcome is awaited."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(side_by_side)
        async with asyncio.timeout(20):
            while await handle.status() != "compensating":
                await asyncio.sleep(0.01)
        assert undone() == []
        GATES[0].set()
        with pytest.raises(RunFailed):
            await handle.result(timeout=20)
    assert undone() == ["slow", "quick"]


async def test_a_step_that_was_given_up_is_undone_when_it_completes(client: Client) -> None:
    """Even when the run succeeds."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(gives_up)
        await asyncio.sleep(0.2)
        GATES[0].set()
        assert await handle.result(timeout=20) == "given up"
    assert undone() == ["late"]
    assert await handle.status() == "completed"


async def test_undoing_goes_on_under_another_worker(client: Client) -> None:
    """A worker that drains in the middle leaves the rest to the next one."""
    async with Worker(client, workflows=[fails]):
        handle = await client.start(fails)
        async with asyncio.timeout(20):
            while not undone():
                await asyncio.sleep(0.001)
    async with Worker(client, workflows=[fails]):
        with pytest.raises(KeyError):
            await handle.result(timeout=20)
    assert list(dict.fromkeys(undone())) == ["registered", "c", "b", "a"]
    assert await handle.status() == "compensated"


@workflow
async def does_one_thing(ctx: Context, name: str) -> str:
    return await ctx.step(act, name)


async def test_what_a_dead_worker_was_at_when_the_cancel_came_is_undone() -> None:
    """Nobody knows whether it had happened: the step runs again, is recorded, and is undone."""

    async def act_and_die(name: str) -> str:
        DONE.append(name)
        if len(DONE) == 1:
            await handle.cancel()
            await env.crash()
        return name

    async with Environment(workflows=[does_one_thing]) as env:
        env.mock(act, using=act_and_die)
        handle = await env.client.start(does_one_thing, "a")
        with pytest.raises(RunCancelled):
            await handle.result()
    assert DONE == ["a", "a", "undo a"]
