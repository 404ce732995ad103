"""Cancelling tasks inside a workflow: what asyncio promises, as commands."""

from __future__ import annotations

import asyncio

import pytest

from durable.engine.context import Context
from durable.model.definition import workflow
from tests.engine.driver import Driver, failure, live, result
from tests.engine.workflows import chain, double, fail, note

SLOW = 10**9


def test_a_cancelled_call_raises_at_once_and_its_attempt_is_told_to_stop():
    """A cancelled call raises `CancelledError` at its awaiter at once; the attempt is told to stop."""

    @workflow
    async def cancels(ctx: Context) -> list[str]:
        task = asyncio.create_task(ctx.step(double, 1))
        await ctx.sleep(1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return [await ctx.step(note, "cancelled")]
        return []

    driver = Driver(cancels, latencies=[SLOW], park=0, noise=0)
    recording = driver.recording
    driver.happen(1)  # the timer; the task began after it
    assert recording.trace[-1][:1] == [("cancel step", 2)]
    assert list(driver.under_way) == [3]
    assert driver.finish().outcome == ["cancelled"]


def test_a_timeout_cancels_its_step_and_a_step_its_timeout():
    """`asyncio.timeout` is a durable timer; what loses is not needed any more."""

    @workflow
    async def limits(ctx: Context) -> str:
        try:
            async with asyncio.timeout(5):
                return await ctx.step(note, "in time")
        except TimeoutError:
            return "too late"

    late = Driver(limits, latencies=[SLOW], park=0, noise=0)
    late.happen(1)
    assert late.recording.trace[-1][0] == ("cancel step", 2)
    assert late.finish().outcome == "too late"
    early = Driver(limits, latencies=[1], park=0, noise=0)
    early.happen(2)
    assert early.recording.trace[-1][0] == ("cancel timer", 1)
    assert early.finish().outcome == "in time"


def test_cancel_in_the_same_activation_as_a_completion():
    """The result that came first is lost to the cancelled task, as in asyncio, and no step is told to stop."""

    @workflow
    async def races(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def worker(name: str, others: list[asyncio.Task[None]]) -> None:
            try:
                seen.append(await ctx.step(note, name))
            except asyncio.CancelledError:
                seen.append(f"{name} cancelled")
                raise
            for other in others:
                other.cancel()

        gate = asyncio.Event()

        async def both_at_once(name: str) -> None:
            await gate.wait()
            try:
                await asyncio.sleep(0)
                seen.append(f"{name} passed")
            except asyncio.CancelledError:
                seen.append(f"{name} caught")

        tasks: list[asyncio.Task[None]] = []
        tasks.append(asyncio.create_task(worker("a", tasks)))
        late = asyncio.create_task(both_at_once("b"))
        await ctx.step(note, "open")
        gate.set()
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.wait([late, *tasks])
        return seen

    for seed in range(5):
        assert sorted(result(races, seed=seed)) == ["a", "b caught"]


def test_a_task_cancelled_after_its_step_completed_still_sees_the_cancel():
    """Delivered as `CancelledError` at the awaited point."""

    @workflow
    async def cancels_what_is_done(ctx: Context) -> str:
        async def work() -> str:
            await ctx.step(note, "first")
            return await ctx.step(note, "second")

        worker = asyncio.create_task(work())

        async def watch() -> None:
            await ctx.step(note, "watch")
            worker.cancel()

        await asyncio.gather(watch(), worker, return_exceptions=True)
        return str(worker.cancelled())

    driver = Driver(cancels_what_is_done, latencies=[SLOW], park=0, noise=0)
    driver.happen(1)  # `first` completed, `second` asked for
    driver.happen(2)  # `watch` completed
    assert ("cancel step", 3) in driver.recording.trace[-1]
    assert driver.finish().outcome == "True"


def test_uncancel_keeps_an_outer_timeout_from_being_taken_for_an_inner_one():
    """Nested timeouts: each turns only its own cancellation into `TimeoutError`."""

    @workflow
    async def nests(ctx: Context) -> list[str]:
        seen: list[str] = []
        try:
            async with asyncio.timeout(2):
                try:
                    async with asyncio.timeout(50):
                        await ctx.sleep(100)
                except TimeoutError:
                    seen.append("inner")
        except TimeoutError:
            seen.append("outer")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(None), ctx.timeout(None):
            seen.append(await ctx.step(note, "free"))
        return seen

    assert result(nests) == ["outer", "free"]


def test_a_timeout_that_has_passed_already():
    """`timeout(0)` needs no timer; it cancels at the first await."""

    @workflow
    async def in_no_time(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0):
                await ctx.step(double, 1)
        except TimeoutError:
            return "too late"
        return "in time"

    assert live(in_no_time).commands("timer") == []
    assert result(in_no_time) == "too late"


def test_cleanup_may_use_every_verb():
    """In cleanup (`finally`, `except CancelledError`) every verb works normally."""

    @workflow
    async def cleans_up(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def work() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                await ctx.sleep(1)
                seen.extend(await asyncio.gather(chain(ctx, "a"), chain(ctx, "b")))

        task = asyncio.create_task(work())
        await ctx.step(note, "begun")
        task.cancel()
        await asyncio.wait([task])
        return seen

    assert result(cleans_up) == ["a", "b"]


def test_a_shielded_task_goes_on():
    """`shield` protects the task, not its awaiter."""

    @workflow
    async def shields(ctx: Context) -> str:
        inner = asyncio.create_task(chain(ctx, "kept", 3))
        outer = asyncio.create_task(asyncio.wait_for(asyncio.shield(inner), 1))
        await asyncio.wait([outer])
        return f"{type(outer.exception()).__name__} {await inner}"

    assert result(shields, latencies=[2_000_000]) == "TimeoutError kept"


def test_a_task_group_cancels_its_siblings():
    """`TaskGroup` wraps in `ExceptionGroup`, as in asyncio."""

    @workflow
    async def groups(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(1000))
            group.create_task(ctx.step(fail, "one"))

    told = failure(groups)
    assert told.type == "builtins:ExceptionGroup"
    assert [member.message for member in told.exceptions] == ["one"]
    assert live(groups).commands("cancel timer") == [("cancel timer", 1)]


def test_tasks_pending_at_a_normal_return_are_cancelled_with_a_warning():
    """Tasks still pending are cancelled as `asyncio.run` does, each with a warning."""

    @workflow
    async def leaves(ctx: Context) -> str:
        async def background(name: str) -> None:
            try:
                await ctx.sleep(10_000)
            finally:
                await ctx.step(note, f"{name} cleaned")

        tasks = [asyncio.create_task(background(name), name=name) for name in "xy"]
        await ctx.step(note, "begun")
        return f"{len(tasks)} left"

    recording = live(leaves)
    assert recording.outcome == "2 left"
    assert [told[0] for told in recording.trace[-2]] == ["complete"]
    assert len(recording.commands("cancel timer")) == 2
    assert len(recording.logs) == 2
    assert "run run returned while x (background, test_cancellation.py:" in recording.logs[0]
    assert result(leaves) == "2 left"


@pytest.mark.parametrize("who", ["itself", "a child"])
def test_a_run_ends_even_when_its_main_task_is_cancelled_while_it_ends(who):
    """The result is there; nothing that its tasks do on their way out can take it back."""

    @workflow
    async def is_cancelled_late(ctx: Context, who: str) -> str:
        main = asyncio.current_task()
        assert main is not None

        async def child() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                if who == "a child":
                    main.cancel()
                await ctx.step(note, "cleaned")

        task = asyncio.create_task(child())
        await ctx.step(note, "begun")
        if who == "itself":
            main.cancel()
        return f"{task.done()}"

    assert result(is_cancelled_late, who) == "False"


def test_a_function_that_cancels_itself_fails_the_run():
    """Whatever exception leaves the function fails the run."""

    @workflow
    async def cancels_itself(ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ctx.step(note, "never")

    assert failure(cancels_itself).type == "asyncio.exceptions:CancelledError"


def test_the_exception_of_a_task_that_nobody_awaits_is_told():
    """An exception in a task that is never awaited: a warning carries it; nothing is retried in the dark."""

    @workflow
    async def loses_an_exception(ctx: Context) -> str:
        tasks = {asyncio.create_task(ctx.step(fail, "lost"), name="loser")}
        kept = asyncio.create_task(ctx.step(fail, "kept"))
        forgotten = asyncio.gather(ctx.step(fail, "gathered"))
        await ctx.sleep(100)
        del tasks, forgotten
        try:
            await kept
        except ValueError:
            return await ctx.step(note, "done")
        return "no error"

    recording = live(loses_an_exception)
    assert sorted(recording.logs) == [
        "nobody retrieved the exception of gather",
        "nobody retrieved the exception of loser",
    ]
    assert result(loses_an_exception) == "done"
