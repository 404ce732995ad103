"""Getting hold of runs: back-off, lost answers, messages, suspects."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from durable import Context, Retry, step, workflow
from durable.clock import SECOND, VirtualClock
from durable.model.payload import ANY
from durable.model.rows import Delivery
from durable.worker.claims import Claimer
from durable_testing.faults import COMMIT_THEN_ERROR, ERROR_BEFORE, Operation
from tests.worker.world import World, world_with


@step
async def add(n: int) -> int:
    return n + 1


@workflow
async def single(ctx: Context, n: int) -> int:
    return await ctx.step(add, n)


@workflow
async def sleeper(ctx: Context, n: int) -> int:
    await ctx.sleep(3600)
    return n


async def test_idle_polls_back_off_from_20_ms_to_a_second() -> None:
    """Idle polls back off from 20 ms to 1 s."""
    async with world_with(single) as (world, process):
        times: list[int] = []
        process.storage._fault_of = lambda operation: (
            times.append(world.clock.now()) if operation.verb == "claim" else None
        )
        await world.pass_time(6)
        pauses = [(b - a) / SECOND for a, b in itertools.pairwise(times)]
        assert pauses[0] == pytest.approx(0.04, abs=0.021)
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(1)
        times.clear()
        process.worker.poke()
        await world.pass_time(0.3)
        assert len(times) >= 3


async def test_after_an_error_it_looks_again_soon_and_then_less_and_less_often() -> None:
    """What a poll had come for waits for 20 ms more, not for another poll."""
    async with world_with(single) as (world, process):
        await world.pass_time(6)  # it polls once a second now
        times: list[int] = []
        away = True

        def fault(operation: Operation) -> str | None:
            if operation.verb != "claim":
                return None
            times.append(world.clock.now())
            return ERROR_BEFORE if away else None

        process.storage._fault_of = fault
        await world.pass_time(6)
        pauses = [(b - a) / SECOND for a, b in itertools.pairwise(times)]
        assert pauses[0] == pytest.approx(0.03, abs=0.011)
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(1)
        away = False
        await world.pass_time(3)
        assert times[-1] - times[-2] == pytest.approx(SECOND)


@pytest.mark.parametrize("read_here", [True, False])
async def test_messages_that_are_gone_were_read_here_or_by_another_owner(read_here: bool) -> None:
    """Only the latter makes this owner a stale one."""
    run: Any = SimpleNamespace(consumed=0)
    lost: list[Any] = []

    class Store:
        async def inbox(self, behind: object) -> list[Any]:
            run.consumed = int(read_here)
            return []

    host: Any = SimpleNamespace(held=lambda key: run, lost=lost.append)
    store: Any = Store()
    await Claimer(store, host, VirtualClock())._read([(1, 0)])
    assert lost == ([] if read_here else [run])


BEGUN: list[int] = []


@step
async def hangs_once() -> int:
    BEGUN.append(1)
    if len(BEGUN) == 1:
        await asyncio.Event().wait()
    return len(BEGUN)


@workflow
async def goes_on(ctx: Context) -> int:
    await ctx.step(add, 1)
    return await ctx.step(hangs_once)


@pytest.mark.parametrize("what", ["an error", "no history"])
async def test_a_run_that_could_not_be_adopted_is_looked_at_again(what: str) -> None:
    """It is ours, and not due: nobody else will ask for it."""
    BEGUN.clear()
    async with world_with(goes_on) as (world, process):
        handle = await world.run(process.client.start(goes_on, id="a"))
        await world.until(lambda: BEGUN)
        claimer: Any = process.worker._claimer
        store: Any = process.client.storage
        take_up, load = claimer.take_up, store.load

        async def breaks(worker: int, claims: Any) -> None:
            if claims:
                claimer.take_up = take_up
                raise ValueError("once")

        async def nothing(runs: object) -> dict[int, Any]:
            store.load = load
            return {}

        if what == "an error":
            claimer.take_up = breaks
        else:
            store.load = nothing
        roster = process.worker._roster
        (execution,) = roster.executions()
        roster.lost(execution)
        assert await world.result(handle) == 2
        assert (claimer.take_up, store.load) == (take_up, load)


async def test_a_claim_whose_answer_was_lost_is_adopted() -> None:
    """The owner polls its own rows with due `ready_at`: a row that it does not know is adopted."""
    async with World() as world:
        outside = await world.process()
        handle = await world.run(outside.client.start(single, 1, id="a"))
        process = await world.process(single, plan=[("claim", 1, COMMIT_THEN_ERROR)])
        assert await world.result(handle) == 2
        assert process.storage.fired
        assert process.worker._claimer.adopted == 1
        assert await world.types("a") == ["RunStarted", "StepCompleted", "RunCompleted"]


@pytest.mark.parametrize(
    "plan", [["load"], ["inbox"], ["load", "adopt"], ["inbox", "load", "adopt"]]
)
async def test_a_run_that_was_claimed_and_could_not_be_read_is_read_soon(plan: list[str]) -> None:
    """It is known to be ours: nobody has to wait until it is due for a look."""
    async with World() as world:
        outside = await world.process()
        handle = await world.run(outside.client.start(single, 1, id="a"))
        await world.run(outside.client.send_event("a", "note"))
        faults = [(verb, 1, ERROR_BEFORE) for verb in plan]
        process = await world.process(single, plan=faults)
        assert await world.result(handle, within=2) == 2
        assert len(process.storage.fired) == len(plan)


async def test_an_eager_start_whose_answer_was_lost_is_adopted() -> None:
    """The same for a run that was ours from its first moment on; it was created by us."""
    async with world_with(single, plan=[("start", 1, COMMIT_THEN_ERROR)]) as (world, process):
        handle = await world.run(process.client.start(single, 1, id="a"))
        assert handle.created
        assert await world.result(handle) == 2
        assert process.worker._claimer.adopted == 1


slow_world: list[World] = []


@step
async def very_long() -> None:
    await slow_world[-1].clock.sleep(1000)


@workflow
async def waits(ctx: Context) -> None:
    await ctx.step(very_long)


async def test_a_start_whose_answer_comes_after_its_adoption_changes_nothing() -> None:
    """The run is driven already: a second instance of it would overwrite what it has done."""
    async with world_with(waits) as (world, process):
        slow_world.append(world)
        run = process.client._new_run(waits, None, "a", None, 0, None, None)
        process.worker.expect("a")
        (answer,) = await world.run(world.database.start([run]))
        assert answer.owned
        await world.pass_time(12)
        execution = process.worker.held(answer.key)
        assert execution is not None
        process.worker.started(answer.key, run)
        assert process.worker.held(answer.key) is execution


calls: list[int] = []


@step
async def noted(n: int) -> int:
    calls.append(n)
    return n


@workflow
async def notes(ctx: Context, n: int) -> int:
    await ctx.step(noted, n)
    if n:
        await ctx.sleep(3600)
    return n


@pytest.mark.parametrize("n", [0, 1])
async def test_a_start_whose_answer_comes_after_the_run_has_gone_runs_no_step_again(n: int) -> None:
    """It was adopted, and has ended or parked since: nothing of it is held here any more."""
    calls.clear()
    async with world_with(notes) as (world, process):
        run = process.client._new_run(notes, n, "a", None, 0, None, None)
        process.worker.expect("a")
        (answer,) = await world.run(world.database.start([run]))
        assert answer.owned
        await world.pass_time(30)
        assert process.worker.held(answer.key) is None
        process.worker.started(answer.key, run)
        await world.pass_time(30)
        assert calls == [n]


async def deliver(world: World, run_id: str, *payloads: object) -> None:
    await world.run(
        world.database.deliver([Delivery(run_id, "news", ANY.encode(p, "")) for p in payloads])
    )


async def test_messages_become_history_and_do_not_make_a_run_spin() -> None:
    """Messages become `EventReceived` at once, awaited or not, and advance `consumed`."""
    async with world_with(sleeper) as (world, process):
        await world.run(process.client.start(sleeper, 1, id="a"))
        await world.until_status("a", "waiting")
        await deliver(world, "a", 1, 2)
        await world.pass_time(3)
        assert await world.types("a") == [
            "RunStarted",
            "TimerStarted",
            "EventReceived",
            "EventReceived",
        ]
        commits = process.storage.calls["commit"]
        await world.pass_time(60)
        assert process.storage.calls["commit"] == commits
        assert await world.status("a") == "waiting"


async def test_a_thousand_messages_survive_a_crash_at_any_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An acknowledged event is consumed exactly once, in order; never dropped in silence."""
    from durable.worker import drafts
    from durable_testing.faults import CRASH_AFTER

    monkeypatch.setattr(drafts, "MAX_EVENTS_PER_COMMIT", 10)
    for nth in range(1, 7):
        async with World() as world:
            outside = await world.process()
            await world.run(outside.client.start(sleeper, 1, id="a"))
            await deliver(world, "a", *range(40))
            first = await world.process(sleeper, plan=[("commit", nth, CRASH_AFTER)])
            await world.pass_time(1)
            assert first.dead == bool(first.storage.fired)
            await world.process(sleeper)
            await world.pass_time(15)
            events = [e for e in await world.history("a") if e.name == "news"]
            assert len(events) == 40, nth
            await world.check()


@workflow
async def two(ctx: Context, n: int) -> int:
    await ctx.sleep(5)
    return await ctx.step(add, n)


async def test_a_hole_in_the_inbox_drops_a_stale_owner() -> None:
    """A hole means "I am stale": drop the instance; it must not fail the run."""
    async with world_with(two) as (world, process):
        handle = await world.run(process.client.start(two, 1, id="a"))
        await world.until_status("a", "waiting")
        await deliver(world, "a", 1)
        await world.pass_time(2)
        row = await world.row("a")
        execution = process.worker.held(row.key) or process.worker._roster.cache._parked[row.key]
        execution.consumed = 0  # as of an owner that has slept through another's work
        await deliver(world, "a", 2)
        assert await world.result(handle) == 2
        await world.check()


running: list[str] = []


@step(retry=Retry(max_attempts=1))
async def long() -> None:
    from durable import current_step

    running.append(current_step().run_id)
    await slow_world[-1].clock.sleep(20)
    running.remove(current_step().run_id)


@workflow
async def suspect(ctx: Context) -> None:
    await ctx.step(long)


@workflow
async def harmless(ctx: Context) -> None:
    await ctx.step(add, 1)


async def test_suspects_are_driven_one_at_a_time() -> None:
    """From the second recovery on a run is claimed alone of its kind."""
    running.clear()
    async with World() as world:
        slow_world.append(world)
        outside = await world.process()
        for n in range(3):
            await world.run(outside.client.start(suspect, id=f"s{n}"))
        for _ in range(2):
            process = await world.process(suspect)
            await world.pass_time(5)
            assert len(running) == 3
            await process.die()
            await world.pass_time(1)
            running.clear()
        process = await world.process(suspect, harmless)
        await world.pass_time(12)
        most = 0
        handle = await world.run(outside.client.start(harmless, id="h"))
        await world.result(handle)
        while [row for row in await world.rows() if row.status != "completed"]:
            most = max(most, len(running))
            await world.pass_time(1)
        assert most == 1
        await world.check()


async def test_a_suspect_with_a_message_is_not_claimed_and_handed_back_all_the_time() -> None:
    """What has come makes it due again at once, for as long as another one is looked at."""
    running.clear()
    async with World() as world:
        slow_world.append(world)
        outside = await world.process()
        for n in range(2):
            await world.run(outside.client.start(suspect, id=f"s{n}"))
        for _ in range(2):
            process = await world.process(suspect)
            await world.pass_time(5)
            await process.die()
            await world.pass_time(1)
            running.clear()
        await deliver(world, "s1", 1)
        process = await world.process(suspect)
        await world.pass_time(8)
        assert len(running) == 1
        before = process.storage.calls["claim"]
        await world.pass_time(10)
        assert len(running) == 1
        assert process.storage.calls["claim"] - before <= 30


async def test_claiming_goes_on_after_any_error() -> None:
    """Errors of a round are survived, and show in `health` until a round has succeeded."""
    async with world_with(single) as (world, process):
        process.storage._fault_of = lambda operation: (
            ERROR_BEFORE if operation.verb == "owned" else None
        )
        await world.pass_time(3)  # a worker that holds nothing looks once a second
        health = process.worker.health()
        assert not health.ready
        assert "injected" in health.details["trouble"]["claims"]
        process.storage._fault_of = lambda operation: None
        await world.pass_time(2)
        assert process.worker.health().ready
