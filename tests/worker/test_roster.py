"""Runs in the hands of a worker: how they start over, change hands and come in several versions."""

from __future__ import annotations

from typing import Any

from durable import Context, step, workflow
from durable.model.history import CODES, RunTerminated
from durable.model.messages import pack_cancel
from durable.model.wire import encode_event
from durable_testing.faults import CRASH_AFTER, Delay, Operation
from tests.worker.world import World, world_with

RAN: list[str] = []


@step
async def act(name: str) -> str:
    RAN.append(name)
    return name


@workflow
async def one_step(ctx: Context) -> str:
    return await ctx.step(act, ctx.run_id)


@workflow
async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_event("note")


@workflow(name="versioned")
async def first_version(ctx: Context) -> str:
    await ctx.wait_for_event("note")
    return "first"


@workflow(name="versioned", version=2)
async def second_version(ctx: Context) -> str:
    await ctx.wait_for_event("note")
    return "second"


@workflow
async def lingers(ctx: Context) -> str:
    first = await ctx.step(act, "before")
    await ctx.sleep(5)
    return first + await ctx.step(act, "after")


async def test_a_cancel_that_meets_the_end_of_a_run_comes_first():
    """The run starts over and reads the cancel; its step is not run again."""
    RAN.clear()
    async with World() as world:
        held: list[Operation] = []

        def slow_last_commit(operation: Operation) -> Any:
            if operation.verb == "commit" and not held:
                held.append(operation)
                return Delay(1.0)
            return None

        process = await world.process(one_step, plan=slow_last_commit)
        outside = await world.process()
        await world.run(process.client.start(one_step, id="a"))
        await world.until(lambda: held)
        await world.run(outside.client.cancel("a"))
        await world.until(lambda: process.worker is not None and not process.worker.holds("a"))
        await world.pass_time(5)
        assert await world.types("a") == ["RunStarted", "CancelRequested", "RunCancelled"]
        assert RAN == ["a"]


async def test_what_steps_have_brought_is_kept_when_a_run_starts_over():
    """A cancel that is held back comes first, and the result of the step that met it is not lost."""
    RAN.clear()

    @workflow
    async def shielded(ctx: Context) -> str:
        async with ctx.shield():
            return await ctx.step(act, "once")

    async with World() as world:
        held: list[Operation] = []

        def slow_last_commit(operation: Operation) -> Any:
            if operation.verb == "commit" and not held:
                held.append(operation)
                return Delay(1.0)
            return None

        process = await world.process(shielded, plan=slow_last_commit)
        outside = await world.process()
        await world.run(process.client.start(shielded, id="a"))
        await world.until(lambda: held)
        await world.run(outside.client.cancel("a"))
        await world.pass_time(5)
        assert (await world.types("a"))[:3] == ["RunStarted", "CancelRequested", "StepCompleted"]
        assert RAN == ["once"]


async def test_a_run_that_is_cancelled_before_its_first_claim_starts_no_step():
    """What has come for a run is read before anything of it begins."""
    RAN.clear()
    async with World() as world:
        outside = await world.process()
        await world.run(outside.client.start(one_step, id="a"))
        await world.run(outside.client.cancel("a"))
        await world.process(one_step)
        await world.until_status("a", "cancelled")
        assert RAN == []


async def test_several_versions_of_a_workflow_live_in_one_worker():
    """A run goes on with the version that it began with."""
    async with World() as world:
        process = await world.process(first_version, second_version)
        for id, wf in (("one", first_version), ("two", second_version)):
            await world.run(process.client.start(wf, id=id))
        await world.pass_time(2)
        results = []
        for id in ("one", "two"):
            await world.run(process.client.send_event(id, "note"))
            results.append(await world.result(process.client.handle(id)))
        assert results == ["first", "second"]


async def test_a_deadline_that_passed_while_nobody_drove_the_run():
    """A run without a worker is late when one comes."""
    async with World() as world:
        outside = await world.process()
        await world.run(outside.client.start(lingers, id="a", timeout=4))
        await world.pass_time(60)
        RAN.clear()
        await world.process(lingers)
        await world.until_status("a", "failed")
        assert "DeadlinePassed" in await world.types("a")
        assert RAN == []


async def test_a_paused_run_whose_worker_dies_before_it_let_go_stays_paused():
    """And it goes on where somebody resumes it."""
    RAN.clear()
    async with World() as world:
        paused = []

        def dies_with_the_pause(operation: Operation) -> Any:
            if operation.verb == "commit" and paused:
                return CRASH_AFTER
            return None

        process = await world.process(lingers, plan=dies_with_the_pause)
        outside = await world.process()
        await world.run(process.client.start(lingers, id="a"))
        await world.pass_time(0.5)
        paused.append(True)
        await world.run(outside.client.pause("a"))
        await world.process(lingers)
        await world.pass_time(30)
        assert await world.status("a") == "paused"
        assert RAN == ["before"]
        await world.run(outside.client.resume("a"))
        await world.until_status("a", "completed")
        assert RAN == ["before", "after"]


async def test_resume_reaches_a_run_whose_worker_died_with_the_pause_in_its_history():
    """The pause is durable, nobody holds the run yet: a resume is no less durable."""

    @workflow
    async def long_step(ctx: Context) -> str:
        await ctx.step(linger)
        return "done"

    @step
    async def linger() -> None:
        await world.clock.sleep(6)

    async with World() as world:
        died: list[Operation] = []

        def dies_after_the_pause(operation: Operation) -> Any:
            if operation.verb == "commit" and not died and _carries_a_pause(operation):
                died.append(operation)
                return CRASH_AFTER
            return None

        process = await world.process(long_step, plan=dies_after_the_pause)
        outside = await world.process()
        await world.run(process.client.start(long_step, id="a"))
        await world.pass_time(0.5)
        await world.run(outside.client.pause("a"))
        await world.until(lambda: died)
        reaper = await world.process(waits)  # serves other workflows: it only frees the run
        await world.pass_time(10)
        assert reaper.worker is not None
        await world.run(outside.client.resume("a"))
        await world.process(long_step)
        await world.until_status("a", "completed")


def _carries_a_pause(operation: Operation) -> bool:
    (_, batch, *_) = operation.arguments
    return any(row.type == CODES["Paused"] for item in batch for row in item.events)  # type: ignore[attr-defined]


async def test_a_start_that_is_given_up_leaves_another_of_its_id_expected():
    """Two have asked for the same run; the answer to the one that is left hands it over."""
    async with world_with(one_step) as (world, process):
        run = process.client._new_run(one_step, None, "a", None, 0, None, None)
        process.worker.expect("a")
        process.worker.expect("a")
        process.worker.expect_no_more("a")
        (answer,) = await world.run(world.database.start([run]))
        process.worker.started(answer.key, run)
        process.worker.expect_no_more("a")
        await world.pass_time(1)
        assert await world.status("a") == "completed"
        assert not process.worker._roster._starts


async def test_a_run_that_was_found_is_not_expected_anew_by_another_start_of_its_id():
    """It is driven already when the answer to its own start comes: nothing of it begins again."""
    async with world_with(lingers) as (world, process):
        RAN.clear()
        run = process.client._new_run(lingers, None, "a", None, 0, None, None)
        process.worker.expect("a")
        (answer,) = await world.run(world.database.start([run]))
        await world.until(lambda: RAN)
        process.worker.expect("a")
        process.worker.started(answer.key, run)
        await world.pass_time(20)
        assert RAN == ["before", "after"]


async def test_a_restart_is_handed_over_though_the_run_before_it_is_found_meanwhile():
    """Both have one id: what is found is the old run, and the new one has not begun yet."""
    async with world_with(lingers) as (world, process):
        RAN.clear()
        outside = await world.process()
        run = process.client._new_run(lingers, None, "a", None, 0, None, None, seed="anew")
        process.worker.expect("a")
        await world.run(outside.client.start(lingers, id="a"))
        await world.until(lambda: RAN)
        ended = encode_event(0, RunTerminated(0, "restarted"))
        answer = await world.run(world.database.restart(run, ended, pack_cancel("restarted")))
        process.worker.started(answer.key, run)
        process.worker.expect_no_more("a")
        await world.until(lambda: RAN.count("before") == 2, within=1)
