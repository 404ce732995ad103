"""Cancelling runs: seen once, cleaned up, undone; deadlines; and what a cancel does not do."""

from __future__ import annotations

import asyncio

import pytest

from durable import (
    Client,
    Context,
    IllegalTransition,
    Retry,
    RunCancelled,
    RunNotFound,
    RunTerminated,
    RunTimeout,
    Worker,
    step,
    workflow,
)

DONE: list[str] = []
GATES: list[asyncio.Event] = []
"""The gates of the test that is running: an event belongs to the loop that it is first awaited on."""


@pytest.fixture(autouse=True)
def _empty() -> None:
    DONE.clear()
    GATES[:] = [asyncio.Event(), asyncio.Event()]


@step
async def undo(name: str) -> None:
    DONE.append(f"undo {name}")


@step(compensate=undo)
async def act(name: str) -> str:
    DONE.append(name)
    return name


@step
async def hold(name: str) -> str:
    DONE.append(name)
    await GATES[0].wait()
    return name


@step
async def never_ends() -> None:
    DONE.append("began")
    GATES[0].set()
    try:
        await asyncio.Event().wait()
    finally:
        DONE.append("stopped")
        GATES[1].set()


@workflow
async def is_in_a_step(ctx: Context) -> None:
    await ctx.step(never_ends)


@workflow
async def sleeps(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "awake"


@workflow
async def has_done_things(ctx: Context) -> str:
    await ctx.step(act, "a")
    await ctx.start(sleeps, 1000.0, id="child")
    try:
        await ctx.call(sleeps, 1000.0, id="called")
    finally:
        await ctx.step(act, "cleanup")
    return "done"


@workflow
async def swallows(ctx: Context) -> str:
    try:
        await ctx.sleep(1000)
    except asyncio.CancelledError:
        async with asyncio.timeout(5):
            await ctx.step(act, "swallowed")
    return "swallowed"


@workflow
async def shields(ctx: Context) -> str:
    async with ctx.shield():
        await ctx.step(hold, "held")
        await ctx.step(act, "still")
    return await ctx.step(act, "behind")


@workflow(timeout=0.1)
async def too_slow(ctx: Context) -> str:
    await ctx.step(act, "a")
    await ctx.sleep(1000)
    return "in time"


@workflow(retry=Retry(max_attempts=3, initial=1000))
async def tries(ctx: Context) -> None:
    await ctx.step(act, "a")
    raise ConnectionError


ALL = [is_in_a_step, sleeps, has_done_things, swallows, shields, too_slow, tries]


async def until(client: Client, run_id: str, status: str) -> None:
    async with asyncio.timeout(20):
        while not await has_status(client, run_id, status):
            await asyncio.sleep(0.01)


async def has_status(client: Client, run_id: str, status: str) -> bool:
    try:
        return (await client.get(run_id)).status == status
    except RunNotFound:  # a child that has yet to be started
        return False


async def test_a_cancel_cleans_up_and_undoes(client: Client) -> None:
    """It raises `CancelledError` at the awaited point, cancels children, runs compensations."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(has_done_things, id="parent")
        await until(client, "called", "waiting")
        await client.cancel("parent", reason="changed my mind")
        with pytest.raises(RunCancelled) as raised:
            await handle.result(timeout=20)
        assert (raised.value.reason, raised.value.run_id) == ("changed my mind", "parent")
        assert not isinstance(raised.value, RunTerminated)
        await until(client, "child", "cancelled")
        await until(client, "called", "cancelled")
    assert DONE == ["a", "cleanup", "undo cleanup", "undo a"]
    assert await handle.status() == "cancelled"


async def test_a_second_cancel_changes_nothing(client: Client) -> None:
    """Only `terminate` does."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(has_done_things, id="parent")
        await until(client, "called", "waiting")
        await asyncio.gather(
            *(handle.cancel(reason=f"{n}") for n in range(5)), return_exceptions=True
        )
        with pytest.raises(RunCancelled):
            await handle.result(timeout=20)
    assert DONE == ["a", "cleanup", "undo cleanup", "undo a"]


async def test_a_step_of_a_terminated_run_is_stopped(client: Client) -> None:
    """Not only when it ends by itself and its outcome is refused: it may never end."""
    async with Worker(client, workflows=ALL, lease=1):
        handle = await client.start(is_in_a_step)
        await asyncio.wait_for(GATES[0].wait(), 20)
        await handle.terminate()
        await asyncio.wait_for(GATES[1].wait(), 20)
        assert DONE == ["began", "stopped"]
        assert await handle.status() == "terminated"


async def test_a_cancel_that_is_swallowed(client: Client) -> None:
    """If the function swallows it and returns, the run is `completed`."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(swallows)
        await until(client, handle.id, "waiting")
        await handle.cancel()
        assert await handle.result(timeout=20) == "swallowed"
    assert DONE == ["swallowed"]


async def test_a_cancel_of_a_run_that_nobody_has_begun(client: Client) -> None:
    """It is obeyed as soon as somebody drives the run."""
    handle = await client.start(sleeps, 1000.0)
    await handle.cancel(reason="never mind")
    async with Worker(client, workflows=ALL):
        with pytest.raises(RunCancelled, match="never mind"):
            await handle.result(timeout=20)


async def test_a_cancel_of_a_run_that_has_ended_says_so(client: Client) -> None:
    """It does nothing and says so; of no run at all, too."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(sleeps, 0.0)
        await handle.result(timeout=20)
        with pytest.raises(IllegalTransition, match="completed"):
            await handle.cancel()
    assert await handle.status() == "completed"
    with pytest.raises(RunNotFound):
        await client.cancel("nobody")


async def test_cancel_and_completion_have_one_winner(client: Client) -> None:
    """Both callers learn which it was; a cancel that was accepted is seen by code that still waits."""
    async with Worker(client, workflows=ALL):
        for _ in range(20):
            handle = await client.start(sleeps, 0.001)
            try:
                await handle.cancel()
            except IllegalTransition:
                assert await handle.result(timeout=20) == "awake"
                continue
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)


async def test_a_shield_holds_a_cancel_back(client: Client) -> None:
    """`ctx.shield()` holds a cancel back until the block ends."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(shields)
        async with asyncio.timeout(20):
            while not DONE:
                await asyncio.sleep(0.01)
        await handle.cancel()
        await asyncio.sleep(0.1)
        GATES[0].set()
        with pytest.raises(RunCancelled):
            await handle.result(timeout=20)
    assert DONE == ["held", "still", "undo still"]


async def test_a_deadline(client: Client) -> None:
    """The `timeout` of a workflow is durable: it acts as a cancel whose end is failed with `RunTimeout`."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(too_slow)
        with pytest.raises(RunTimeout) as raised:
            await handle.result(timeout=20)
        assert isinstance(raised.value, TimeoutError)
    assert DONE == ["a", "undo a"]
    assert await handle.status() == "compensated"


async def test_a_deadline_holds_while_nobody_runs_it(client: Client) -> None:
    """It has passed when the next worker takes the run."""
    handle = await client.start(too_slow)
    await asyncio.sleep(0.2)
    async with Worker(client, workflows=ALL):
        with pytest.raises(RunTimeout):
            await handle.result(timeout=20)


async def test_a_cancel_while_a_run_waits_for_its_next_attempt(client: Client) -> None:
    """There is none."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(tries)
        await until(client, handle.id, "waiting")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result(timeout=20)
    assert DONE == ["a", "undo a"]
