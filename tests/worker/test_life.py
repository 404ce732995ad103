"""Start, drain and stop in every state; every background loop survives whatever happens in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import Any

import pytest

from durable import Client, Context, Worker, step, workflow
from durable.errors import DefinitionError, DurableError, StoreUnavailable
from durable_testing.faults import COMMIT_THEN_ERROR, ERROR_BEFORE, FaultyStorage, Gate, Hold
from tests.worker.world import World, world_with

worlds: list[World] = []


@step
async def add(n: int) -> int:
    return n + 1


@step
async def takes(seconds: float) -> float:
    await worlds[-1].clock.sleep(seconds)
    return seconds


@workflow
async def single(ctx: Context, n: int) -> int:
    return await ctx.step(add, n)


@workflow
async def slow(ctx: Context, seconds: float) -> float:
    return await ctx.step(takes, seconds)


@workflow
async def slow_in_the_end(ctx: Context, seconds: float) -> float:
    await ctx.step(add, 1)
    return await ctx.step(takes, seconds)


@pytest.fixture
async def client() -> Any:
    async with Client("sqlite://") as client:
        client.storage = FaultyStorage(client.storage)
        yield client


def durable_threads() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith(("durable-lease", "durable-step"))}


def worker_tasks() -> set[str]:
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith("durable-")}


async def test_a_constructor_does_no_io_and_a_worker_is_used_once(client: Client) -> None:
    """A worker is used once; its row has a new id at every start."""
    worker = Worker(client, workflows=[single])
    assert len(client.storage.log) == 0  # type: ignore[attr-defined]
    assert worker.health().live
    assert not worker.health().ready
    async with worker:
        assert worker.health().ready
    with pytest.raises(RuntimeError, match="used already"):
        await worker.__aenter__()


async def test_a_worker_needs_an_open_client() -> None:
    worker = Worker(Client("sqlite://"), workflows=[single])
    with pytest.raises(DurableError, match="not open"):
        await worker.__aenter__()


async def test_stop_before_start(client: Client) -> None:
    """Stop in every state: before it began."""
    worker = Worker(client, workflows=[single])
    await worker.stop()
    assert not worker.health().live
    assert worker.health().details["state"] == "stopped"
    with pytest.raises(RuntimeError, match="used already"):
        await worker.__aenter__()


async def test_stop_twice_and_at_once(client: Client) -> None:
    """Double stop: whoever comes second waits for the first."""
    worker = Worker(client, workflows=[single])
    await worker.__aenter__()
    await asyncio.gather(worker.stop(), worker.stop(), worker.stop())
    await worker.stop()
    assert client.storage.calls["unregister"] == 1  # type: ignore[attr-defined]
    assert not durable_threads()
    assert not worker_tasks()


@pytest.mark.parametrize("verb", ["lanes", "register", "unblock"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_stop_at_every_await_of_start(client: Client, verb: str, when: Any) -> None:
    """A stop during start-up is not erased by what start-up does next; no lease and no thread is left."""
    gate = Gate()
    client.storage._fault_of = (  # type: ignore[attr-defined]
        lambda operation: Hold(gate, when) if operation.verb == verb else None
    )
    worker = Worker(client, workflows=[single])
    start = asyncio.create_task(worker.__aenter__())
    async with asyncio.timeout(10):
        await gate.reached.wait()
        await worker.stop()
        with pytest.raises(RuntimeError, match="stopped while it started"):
            await start
    gate.release()
    assert worker.health().details["state"] == "stopped"
    assert not durable_threads()
    assert not worker_tasks()
    if verb != "register":  # that one was under way: its row expires by itself
        assert await client.storage.leased() == []


async def test_a_start_that_failed_leaves_nothing_and_can_be_stopped(client: Client) -> None:
    def broken(operation: Any) -> None:
        if operation.verb == "unblock":
            raise ValueError("a bug")

    client.storage._fault_of = broken  # type: ignore[attr-defined]
    worker = Worker(client, workflows=[single])
    with pytest.raises(ValueError, match="a bug"):
        await worker.__aenter__()
    await worker.stop()
    assert worker.health().details["state"] == "stopped"
    assert await client.storage.leased() == []
    assert not durable_threads()


async def test_a_start_that_is_tried_again_keeps_one_lease() -> None:
    """The database fails in the middle of start-up: it goes on, with one heartbeat."""
    async with World() as world:
        plan = [("lanes", 1, ERROR_BEFORE), ("register", 1, COMMIT_THEN_ERROR)]
        process = await world.process(single, plan=[*plan, ("unblock", 1, COMMIT_THEN_ERROR)])
        handle = await world.run(process.client.start(single, 1, id="a"))
        assert await world.result(handle) == 2
        before = process.storage.calls["renew"]
        await world.pass_time(5.9)
        assert process.storage.calls["renew"] - before <= 6


async def test_drain_lets_steps_end_and_hands_everything_back() -> None:
    """Stop: claim nothing, let running steps end within `grace`, commit, hand everything back."""
    async with World() as world:
        worlds.append(world)
        first = await world.process(slow, grace=10)
        quick = await world.run(first.client.start(slow, 2.0, id="quick"))
        await world.run(first.client.start(slow, 60.0, id="long"))
        await world.pass_time(1)
        await world.drain(first)
        assert await world.status("quick") == "completed"
        row = await world.row("long")
        assert row.status == "running"
        second = await world.process(slow)
        assert await world.result(second.client.handle("long")) == 60
        assert quick.created
        assert (await world.row("long")).recoveries == 0
        await world.check()


async def test_a_stop_that_is_cancelled_while_it_leaves_gives_its_lease_back(
    client: Client,
) -> None:
    """Else the thread that renews it would hold its runs for ever."""
    leaves = asyncio.Event()

    async def lingers() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            leaves.set()
            await asyncio.Event().wait()

    worker = Worker(client, workflows=[])
    await worker.__aenter__()
    worker._tasks.append(asyncio.create_task(lingers()))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        stop = asyncio.create_task(worker.stop())
        await leaves.wait()
        stop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stop
    assert not durable_threads()
    assert await client.storage.leased() == []


async def test_a_stop_that_is_cancelled_still_leaves(client: Client) -> None:
    """Nobody waits for the grace any more: tasks, thread and lease are gone all the same."""

    @step
    async def endless() -> None:
        await asyncio.Event().wait()

    @workflow(name="waits")
    async def waits(ctx: Context) -> None:
        await ctx.step(endless)

    worker = Worker(client, workflows=[waits])
    await worker.__aenter__()
    await client.start(waits)
    async with asyncio.timeout(10):
        while not worker.health().details["steps"]:
            await asyncio.sleep(0)
        stop = asyncio.create_task(worker.stop())
        while worker.health().details["state"] != "draining":
            await asyncio.sleep(0)
        stop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stop
    assert not durable_threads()
    assert not worker_tasks()
    assert await client.storage.leased() == []


@pytest.mark.parametrize("hangs", [False, True])
async def test_stop_with_the_database_away_ends(client: Client, hangs: bool) -> None:
    """From any state, stop ends within bounds; the lease is left to expire."""
    worker = Worker(client, workflows=[single], lease=1)
    gate = Gate()

    def away(operation: Any) -> Any:
        return Hold(gate) if hangs and operation.verb != "renew" else ERROR_BEFORE

    await worker.__aenter__()
    client.storage._fault_of = away  # type: ignore[attr-defined]
    async with asyncio.timeout(8):
        await worker.stop()
    assert worker.health().details["state"] == "stopped"
    gate.release()
    client.storage._fault_of = lambda operation: None  # type: ignore[attr-defined]


async def test_a_lost_commit_at_the_end_does_not_lose_the_run() -> None:
    """Stopping while commits fail: what was not written is done again by the next worker."""
    async with World() as world:
        worlds.append(world)
        first = await world.process(slow, plan=[("commit", 1, COMMIT_THEN_ERROR)], grace=10)
        await world.run(first.client.start(slow, 2.0, id="a"))
        await world.drain(first)
        second = await world.process(slow)
        assert await world.result(second.client.handle("a")) == 2
        await world.check()


LOOPS = {
    "claims": ("owned", "claim"),
    "reaper": ("leased", "reap"),
    "renewal": ("renew",),
    "journal": ("commit", "probe"),
}


@pytest.mark.parametrize("error", [StoreUnavailable("away"), TypeError("a bug")], ids=repr)
@pytest.mark.parametrize("loop", LOOPS)
async def test_every_loop_survives_an_exception_in_each_iteration(
    loop: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Every background loop survives any exception and shows it in health."""
    caplog.set_level(logging.CRITICAL, "durable.worker")
    async with world_with(single) as (world, process):
        seen: set[str] = set()
        left = 6

        def strike(operation: Any) -> None:
            nonlocal left
            if operation.verb in LOOPS[loop] and left:
                left -= 1
                raise error

        process.storage._fault_of = strike
        handle = await world.run(process.client.start(single, 1, id="a"))
        for _ in range(150):
            await world.pass_time(0.1)
            seen |= set(process.worker.health().details["trouble"])
            if loop == "renewal" and not process.worker.health().details["lease"]:
                seen.add("renewal")
            if not left:
                break
        assert not left
        assert loop in seen
        assert await world.result(handle) == 2
        await world.pass_time(3)
        assert process.worker.health().ready
        again = await world.run(process.client.start(single, 5, id="b"))
        assert await world.result(again) == 6
        await world.check()


async def test_a_line_of_the_log_that_cannot_be_written_loses_no_run() -> None:
    """A log line raised TypeError: the run goes on."""

    @workflow(name="chatty")
    async def chatty(ctx: Context) -> int:
        ctx.log.info("clash", extra={"name": "mine"})  # noqa: G101
        n = await ctx.step(add, 1)
        ctx.log.info("none", extra=None)
        return n

    logging.getLogger("durable.workflow").setLevel(logging.INFO)
    async with world_with(chatty) as (world, process):
        handle = await world.run(process.client.start(chatty, id="a"))
        assert await world.result(handle, 30) == 2


async def test_an_answer_that_cannot_be_handled_does_not_strand_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that was dropped here and is still ours is taken up anew, also where nothing makes it due."""
    async with world_with(slow_in_the_end) as (world, process):
        worlds.append(world)
        parked, times = process.worker._roster.ended, []

        def once(execution: Any, commit: Any) -> None:
            times.append(1)
            parked(execution, commit)

        monkeypatch.setattr(process.worker._roster, "ended", once)
        handle = await world.run(process.client.start(slow_in_the_end, 1.0, id="a"))
        await world.settle()
        execution = process.worker.held((await world.row("a")).key)
        assert execution is not None
        process.worker._roster.lost(execution)
        assert await world.result(handle, 30) == 1
        assert times == [1]


async def test_a_database_that_is_away_while_a_run_parks_strands_nothing() -> None:
    """Its timer fell due during the outage: the run goes on as soon as the database is back."""

    @workflow(name="sleeps")
    async def sleeps(ctx: Context) -> str:
        await ctx.sleep(3)
        return "awake"

    async with world_with(sleeps, lease=60) as (world, process):

        def away(operation: Any) -> Any:
            return ERROR_BEFORE if operation.verb in {"commit", "probe"} else None

        process.storage._fault_of = away
        handle = await world.run(process.client.start(sleeps, id="a"))
        await world.pass_time(8)
        process.storage._fault_of = lambda operation: None
        assert await world.result(handle, 30) == "awake"


def test_what_a_worker_refuses(tmp_path: Any) -> None:
    client = Client(f"sqlite:///{tmp_path}/never-opened.db")

    @workflow(name="single")
    async def other(ctx: Context) -> None: ...

    with pytest.raises(DefinitionError, match="two workflows"):
        Worker(client, workflows=[single, other])
    with pytest.raises(TypeError, match="not the string"):
        Worker(client, queues="default")
    with pytest.raises(ValueError, match="whole number"):
        Worker(client, queues={"default": 0})
    with pytest.raises(ValueError, match="at least 1 second"):
        Worker(client, lease=0.5)
    assert list(tmp_path.iterdir()) == []
