"""Waiting for results: one query per tick for all waiters, none for what ends in this process."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from durable import Client, Context, Worker, step, workflow
from durable.client import handle as handles
from durable.client.results import Results
from durable.clock import SECOND, VirtualClock
from durable.errors import DurableError, RunNotFound, RunTerminated, StoreUnavailable
from durable_testing.faults import ERROR_BEFORE, FaultyStorage, Gate, Hold
from tests.worker.world import World, world_with

worlds: list[World] = []


@step
async def takes(seconds: float) -> float:
    await worlds[-1].clock.sleep(seconds)
    return seconds


@workflow
async def slow(ctx: Context, seconds: float) -> float:
    return await ctx.step(takes, seconds)


@workflow
async def one_event(ctx: Context) -> int:
    return await ctx.wait_for_event("go", int)


async def test_all_waiters_of_a_process_share_one_query_per_tick() -> None:
    """One query per tick for all waiters; ticks grow from 20 ms to half a second."""
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        await world.process(slow)
        started = [await world.run(outside.client.start(slow, 10.0, id=f"r{n}")) for n in range(40)]
        asked = outside.storage.calls["finished"]
        results = await world.run(asyncio.gather(*(handle.result() for handle in started)))
        assert results == [10.0] * 40
        assert outside.storage.calls["finished"] - asked <= 35
        biggest = max(
            len(operation.arguments[0])  # type: ignore[arg-type]
            for operation in outside.storage.log
            if operation.verb == "finished"
        )
        assert biggest == 40


async def test_runs_that_end_in_this_process_are_not_asked_for() -> None:
    """None for local runs: the worker tells. Now and then they are looked at all the same."""
    async with world_with(slow) as (world, process):
        worlds.append(world)
        handle = await world.run(process.client.start(slow, 3.0))
        assert await world.result(handle) == 3
        assert process.storage.calls["finished"] == 0
        handle = await world.run(process.client.start(slow, 60.0))
        assert await world.result(handle) == 60
        assert process.storage.calls["finished"] <= 7


async def test_a_run_that_leaves_this_process_is_asked_for_again() -> None:
    """A waiter is told wherever the run ends."""
    async with World() as world:
        worlds.append(world)
        first = await world.process(slow)
        handle = await world.run(first.client.start(slow, 5.0, id="a"))
        waiting = asyncio.ensure_future(handle.result())
        await world.pass_time(1)
        assert first.worker is not None
        await world.run_with_threads(first.worker.stop())
        await world.process(slow)
        await world.until(waiting.done)
        assert waiting.result() == 5


@pytest.mark.parametrize("error", [StoreUnavailable("away"), TypeError("a bug")], ids=repr)
async def test_the_watcher_survives_any_error(error: Exception) -> None:
    """No loop dies: whoever waits is told in the end."""
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        await world.process(slow)
        left = 5

        def strike(operation: Any) -> None:
            nonlocal left
            if operation.verb == "finished" and left:
                left -= 1
                raise error

        outside.storage._fault_of = strike
        handle = await world.run(outside.client.start(slow, 1.0))
        assert await world.result(handle) == 1
        assert not left


async def test_a_waiter_that_gave_up_leaves_nothing_behind() -> None:
    """A cancelled wait leaves no entry: it is not asked for any more."""
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        handle = await world.run(outside.client.start(slow, 1.0))
        waiting = asyncio.ensure_future(handle.result())
        await world.pass_time(0.3)
        waiting.cancel()
        await world.pass_time(2)
        asked = outside.storage.calls["finished"]
        await world.pass_time(20)
        assert outside.storage.calls["finished"] == asked
        assert not outside.client._results._waiters


async def test_closing_ends_all_waits_with_an_error() -> None:
    """Nobody has cancelled whoever still waits for a result; and nobody polls a closed database."""
    async with Client("sqlite://") as client:
        handle = await client.start(slow, 1.0)
        waiting = asyncio.create_task(handle.result())
        async with asyncio.timeout(5):
            while not client._results._waiters:
                await asyncio.sleep(0)
            await client.close()
            await client.close()
            with pytest.raises(DurableError, match="client was closed"):
                await waiting


async def test_a_task_group_hears_of_a_client_that_was_closed() -> None:
    """A `CancelledError` in a task that nobody cancelled would pass for its end."""
    async with asyncio.timeout(5), Client("sqlite://") as client:
        handle = await client.start(slow, 1.0)

        async def close_while_somebody_waits() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(handle.result())
                while not client._results._waiters:
                    await asyncio.sleep(0)
                await client.close()

        with pytest.raises(ExceptionGroup) as caught:
            await close_while_somebody_waits()
        (error,) = caught.value.exceptions
        assert isinstance(error, DurableError)


async def test_closing_while_somebody_is_about_to_wait() -> None:
    """He has asked for the run and not begun to wait: he is told as well."""
    async with Client("sqlite://") as client:
        handle = await client.start(slow, 1.0)
        gate = Gate()
        client.storage = FaultyStorage(client.storage, [("run", 1, Hold(gate, "after"))])
        waiting = asyncio.create_task(client.handle(handle.id).result())
        async with asyncio.timeout(5):
            await gate.reached.wait()
            await client.close()
            gate.release()
            with pytest.raises(DurableError, match="client was closed"):
                await waiting
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "durable-results" not in names


async def test_a_database_that_is_away_for_long_does_not_end_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The question whether anybody serves a run is no reason to stop waiting for it."""
    monkeypatch.setattr(handles, "_WARN_AFTER_SECONDS", 0.0)
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        await world.process(slow)
        handle = await world.run(outside.client.start(slow, 2.0))
        waiting = asyncio.ensure_future(handle.result())
        await world.pass_time(0.1)
        outside.storage._fault_of = lambda operation: ERROR_BEFORE
        await world.pass_time(100)
        outside.storage._fault_of = lambda operation: None
        await world.until(waiting.done)
        assert waiting.result() == 2


async def test_a_newcomer_is_looked_up_at_once_and_a_tick_is_not_taken_for_one() -> None:
    """Pauses grow whatever the clock rounds to; somebody new makes them short again."""
    clock = VirtualClock()
    looks: list[float] = []

    class Store:
        async def finished(self, run_ids: Any) -> dict[str, Any]:
            looks.append(clock.monotonic())
            return {}

    store: Any = Store()
    results = Results(store, clock, lambda run_id: False)
    first = asyncio.create_task(results.wait("a"))

    async def passes(seconds: float) -> None:
        end = clock.now() + round(seconds * SECOND)
        for _ in range(5):
            await asyncio.sleep(0)
        while (due := clock.next_due) is not None and due <= end:
            clock.jump(due)
            for _ in range(5):
                await asyncio.sleep(0)
        clock.jump(end)

    await passes(10)
    pauses = [b - a for a, b in itertools.pairwise(looks)]
    assert pauses == pytest.approx(sorted(pauses))
    assert pauses[-1] == pytest.approx(0.5, abs=0.001)
    count = len(looks)
    second = asyncio.create_task(results.wait("b"))
    await passes(0)
    assert len(looks) == count + 1
    results.close()
    for error in await asyncio.gather(first, second, return_exceptions=True):
        assert isinstance(error, DurableError)


async def test_whoever_has_told_a_run_and_awaits_its_end_leaves_the_database_alone() -> None:
    """The worker next door takes the run up and tells; to look would only be in its way."""
    async with World() as world:
        worlds.append(world)
        inside = await world.process(one_event)
        handle = await world.run(inside.client.start(one_event))
        await world.pass_time(1)
        asked = inside.storage.calls["finished"]

        async def tell_and_wait() -> int:
            await handle.send_event("go", 5)
            return await handle.result()

        assert await world.run(tell_and_wait()) == 5
        assert inside.storage.calls["finished"] == asked


@pytest.mark.parametrize("waits_first", [True, False])
async def test_whoever_terminates_a_run_of_this_process_has_its_end_at_once(
    waits_first: bool,
) -> None:
    """Its worker need not have noticed: the end is durable, and is looked up without it."""
    async with world_with(slow) as (world, process):
        worlds.append(world)
        handle = await world.run(process.client.start(slow, 60.0))
        await world.pass_time(3)
        assert process.client.drives(handle.id)
        waiting = [asyncio.ensure_future(handle.result())] if waits_first else []
        await world.pass_time(1)
        await world.run(handle.terminate(reason="enough"))
        with pytest.raises(RunTerminated, match="enough"):
            await world.run(waiting[0] if waits_first else handle.result(), within=0.5)


@workflow
async def quick(ctx: Context) -> str:
    return "done"


async def test_a_result_that_is_asked_for_without_patience_is_looked_for_once() -> None:
    """`timeout=0` says what there is: a result, nothing yet, or no such run."""
    async with asyncio.timeout(20), Client("sqlite://") as client:
        handle = await client.start(quick)
        with pytest.raises(TimeoutError, match="has not ended"):
            await handle.result(timeout=0)
        async with Worker(client, workflows=[quick]):
            assert await handle.result() == "done"
        assert await handle.result(timeout=0) == "done"
        assert await client.handle(handle.id).result(timeout=0) == "done"
        with pytest.raises(RunNotFound):
            await client.handle("no").result(timeout=0)


async def test_a_watcher_that_is_cancelled_from_outside_leaves_nobody_waiting() -> None:
    """Nobody would look for them any more; whoever comes later gets a new one."""
    async with asyncio.timeout(5), Client("sqlite://") as client:
        handle = await client.start(slow, 1.0)
        for turns in (0, 5):  # before it has begun to look, and after
            waiting = asyncio.create_task(handle.result())
            while client._results.poll is None:
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            client._results.poll.cancel()
            with pytest.raises(DurableError, match="cancelled"):
                await waiting


async def test_each_workflow_that_nobody_serves_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """That somebody has just asked for another one keeps nobody from being warned."""
    monkeypatch.setattr(handles, "_WARN_AFTER_SECONDS", 0.0)
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        await world.process(slow)
        served = await world.run(outside.client.start(slow, 5.0))
        unserved = await world.run(outside.client.start(one_event))
        asked = [served, unserved, unserved, outside.client.handle(unserved.id)]
        waiting = [asyncio.ensure_future(handle.result()) for handle in asked]
        with pytest.warns(RuntimeWarning, match="no live worker serves one_event") as caught:
            await world.pass_time(0.5)
        assert len(caught) == 1
        for one in waiting:
            one.cancel()
