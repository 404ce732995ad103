"""The cancel of a run, and its deadline: delivered once, wherever it is; then the run cleans up and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from durable.engine.context import Context
from durable.model import history
from durable.model.definition import workflow
from durable.model.retry import Retry
from tests.engine import ledger
from tests.engine.driver import Stuck, same_on_replay
from tests.engine.ledger import act, act_again, acts, plain, undone
from tests.engine.scoped import NEVER, Scoped, ended, kinds, scoped, status_of


@pytest.fixture(autouse=True)
def _empty_ledger():
    ledger.DONE.clear()


@workflow
async def child(ctx: Context, number: int) -> int:
    return number


@workflow
async def everything(ctx: Context) -> str:
    """Nested sagas, steps side by side, retries, children, time-outs and a shield."""
    await ctx.step(act, "a")
    handle = await ctx.start(child, 1)
    try:
        async with ctx.saga():
            await asyncio.gather(ctx.step(act, "b"), ctx.step(act_again, "c"))
            async with ctx.saga(), asyncio.TaskGroup() as group:
                group.create_task(ctx.step(act, "d"))
                group.create_task(ctx.call(child, 2))
                group.create_task(ctx.sleep(3))
            async with asyncio.timeout(60):
                async with ctx.shield():
                    await ctx.step(act, "e")
                    await ctx.step(act, "f")
            await ctx.call(child, 3, timeout=50)
            raise KeyError("inner")
    except KeyError:
        await ctx.step(plain, "caught")
    await ctx.step(act, "g")
    try:
        await ctx.sleep(2)
    finally:
        await ctx.step(plain, "cleaned up")
    return str(await handle.result())


def test_a_cancel_at_every_position_of_the_history():
    """Everything that completed is undone, once, in reverse; the run is `cancelled`, or had ended."""
    length = max(len(scoped(everything, seed=seed, noise=0).rows) for seed in range(5))
    statuses = []
    for at in range(1, length + 1):
        for seed in range(3):
            ledger.DONE.clear()
            recording = ended(everything, seed=seed, noise=0, cancel_at=at)
            status = status_of(recording)
            statuses.append(status)
            if status == "completed":
                assert sorted(undone()) == ["b", "c", "d", "e", "f"]
                continue
            assert status == "cancelled", (at, seed, recording.outcome)
            assert recording.outcome == "because"
            assert sorted(undone()) == sorted(acts()), (at, seed)
            assert kinds(recording)[-1] == "RunCancelled"
    assert set(statuses) == {"completed", "cancelled"}
    assert statuses.count("completed") < 20


def test_a_deadline_at_every_position_of_the_history():
    """It acts as a cancel whose end is failed with `RunTimeout`."""
    for at in range(1, 30):
        ledger.DONE.clear()
        recording = ended(everything, seed=at, noise=0, late_at=at)
        if status_of(recording) != "completed":
            assert recording.outcome.type == "durable.errors:RunTimeout"
            assert status_of(recording) == ("compensated" if acts() else "failed")
            assert sorted(undone()) == sorted(acts())


def test_two_cancels_at_every_pair_of_positions():
    """A second cancel changes nothing: the chain of undos goes on, and so does cleanup."""
    for first in range(1, 24, 2):
        for second in range(first + 1, first + 6):
            ledger.DONE.clear()
            driver = Scoped(everything, seed=first, noise=0, cancel_at=first)
            while len(driver.recording.rows) < second and driver.step_forward():
                pass
            driver.cancel_at = len(driver.recording.rows)
            recording = driver.finish()
            assert not isinstance(recording.outcome, Stuck)
            if status_of(recording) == "cancelled":
                assert sorted(undone()) == sorted(acts())
            assert same_on_replay(everything, recording)


def test_a_cancel_is_seen_once():
    """Delivered once, as `CancelledError` at the awaited point; a second one changes nothing."""

    @workflow
    async def counts(ctx: Context) -> list[str]:
        seen = []
        for number in range(6):
            try:
                await ctx.sleep(1)
                async with ctx.shield():
                    seen.append(f"slept {number}")
            except asyncio.CancelledError:
                seen.append(f"cancelled {number}")
        return seen

    for at in range(1, 6):
        driver = Scoped(counts, noise=0, park=0, cancel_at=at)
        while len(driver.recording.rows) <= at:
            driver.step_forward()
        driver.cancel_at = at + 2
        recording = driver.finish()
        assert status_of(recording) == "completed"
        assert len([entry for entry in recording.outcome if "cancelled" in entry]) == 1
        assert same_on_replay(counts, recording)


def test_a_cancel_that_is_swallowed_lets_the_run_complete():
    """If the function swallows it and returns, the run is `completed`, as in asyncio."""

    @workflow
    async def swallows(ctx: Context) -> str:
        await ctx.step(act, "a")
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            return await ctx.step(plain, "swallowed")
        return "slept"

    recording = ended(swallows, noise=0, cancel_at=2)
    assert (recording.outcome, status_of(recording)) == ("swallowed", "completed")
    assert undone() == []


@pytest.mark.parametrize("first", ["cancel", "completion"])
def test_cancel_and_completion_as_neighbours(first):
    """One winner: whichever came first in history."""

    @workflow
    async def one_step(ctx: Context) -> str:
        return await ctx.step(act, "a")

    driver = Scoped(one_step, latencies=[5], noise=0, park=0)
    if first == "completion":
        driver.happen(1)
        driver.cancel()
    else:
        driver.cancel()
        assert driver.recording.trace[1] == [("settle step", 1), ("compensate",)]
        driver.happen(1)
    recording = driver.finish()
    assert status_of(recording) == ("completed" if first == "completion" else "cancelled")
    assert undone() == ([] if first == "completion" else ["a"])
    assert same_on_replay(one_step, recording)


@pytest.mark.parametrize("way", ["timeout", "late timeout", "wait_for", "group", "failing group"])
def test_everything_works_in_cleanup(way):
    """A swallowed cancel leaves no trace in what counts cancellations: time-outs and groups work after it."""

    @workflow
    async def cleans_up(ctx: Context, way: str) -> list[str]:
        seen = []
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
        try:
            if way == "wait_for":
                await asyncio.wait_for(ctx.sleep(50), 2)
            elif way == "timeout":
                async with asyncio.timeout(2):
                    await ctx.sleep(50)
            elif way == "late timeout":
                async with asyncio.timeout(0):
                    await ctx.sleep(50)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(ctx.step(plain, "a"))
                    if way == "failing group":
                        group.create_task(ctx.step(ledger.refuse, "b"))
                        await ctx.sleep(100)
        except TimeoutError:
            seen.append("too late")
        except ExceptionGroup as errors:
            seen.append(f"{len(errors.exceptions)} failed")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        seen.append(await ctx.step(plain, "free"))
        return seen

    recording = ended(cleans_up, way, cancel_at=1, noise=0)
    between = {"group": [], "failing group": ["1 failed"]}.get(way, ["too late"])
    assert recording.outcome == ["cancelled", *between, "free"]


def test_a_timeout_that_expires_in_cleanup_is_not_the_cancel():
    """It was entered before the cancel: the run stays cancelled, its code cannot take it for a time-out."""

    @workflow
    async def slow_to_leave(ctx: Context) -> str:
        try:
            async with asyncio.timeout(10):
                try:
                    await ctx.sleep(1000)
                finally:
                    await ctx.sleep(100)
        except TimeoutError:
            return "taken for a time-out"
        return "slept"

    assert status_of(ended(slow_to_leave, cancel_at=1, noise=0, park=0)) == "cancelled"


def test_a_cancel_while_a_timeout_is_being_cleaned_up():
    """The time-out has expired before: the cancel still arrives as a cancel."""

    @workflow
    async def slow_to_leave(ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                try:
                    await ctx.sleep(1000)
                finally:
                    await ctx.sleep(100)
        except TimeoutError:
            return await ctx.step(plain, "too late")
        return "slept"

    assert status_of(ended(slow_to_leave, cancel_at=2, noise=0, park=0)) == "cancelled"
    assert ended(slow_to_leave, noise=0, park=0).outcome == "too late"


@asynccontextmanager
async def _a_group() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


@pytest.mark.parametrize("entered", [asyncio.TaskGroup, _a_group], ids=["plain", "in a generator"])
def test_a_cancel_while_a_group_fails_is_not_lost_in_it(entered):
    """The group raises the errors of its tasks; the cancel is raised at the next await."""

    @workflow
    async def group_fails(ctx: Context) -> str:
        async def slow_to_leave() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                await ctx.sleep(50)

        try:
            async with entered() as group:
                group.create_task(slow_to_leave())
                group.create_task(ctx.step(ledger.refuse, "a"))
        except* ValueError:
            pass
        return await ctx.step(plain, "went on")

    assert ended(group_fails, noise=0, park=0, latencies=[1]).outcome == "went on"
    assert status_of(ended(group_fails, noise=0, park=0, latencies=[1], cancel_at=2)) == "cancelled"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_cancel_that_makes_a_group_fail_is_not_lost_in_it(depth):
    """A task of the group raises something else in its cleanup: nobody has seen the cancel yet."""

    @workflow
    async def group_fails(ctx: Context) -> str:
        async def fails_to_leave() -> None:
            try:
                await ctx.sleep(1000)
            except asyncio.CancelledError:
                raise ValueError("cleanup failed") from None

        async def groups(left: int) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails_to_leave())
                if left:
                    await groups(left - 1)

        try:
            await groups(depth - 1)
        except* ValueError:
            pass
        return await ctx.step(plain, "went on")

    assert status_of(ended(group_fails, noise=0, park=0, cancel_at=1)) == "cancelled"


def test_a_cancel_of_a_group_whose_tasks_leave_is_raised_once():
    @workflow
    async def group_leaves(ctx: Context) -> list[str]:
        seen = []

        async def leaves() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                seen.append("left")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(leaves())
        except asyncio.CancelledError:
            seen.append(await ctx.step(plain, "cleaned up"))
        return seen

    recording = ended(group_leaves, noise=0, park=0, cancel_at=1)
    assert recording.outcome == ["left", "cleaned up"]


def test_uncancel_by_the_code_itself():
    """Whoever swallows a cancel as asyncio's documentation has it may say so."""

    @workflow
    async def says_so(ctx: Context) -> list[int]:
        task = asyncio.current_task()
        assert task is not None
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            counts = [task.cancelling(), task.uncancel(), task.cancelling()]
        task.cancel()
        counts.append(task.cancelling())
        try:
            await ctx.sleep(10)
        except asyncio.CancelledError:
            counts.append(task.uncancel())
        return counts

    assert ended(says_so, cancel_at=1, noise=0).outcome == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("at", [2, 3])
def test_a_shield_holds_a_cancel_back_until_the_block_ends(at):
    """`ctx.shield()` holds a cancel back until the block ends; there it is raised."""

    @workflow
    async def shields(ctx: Context) -> str:
        seen = []
        await ctx.step(plain, "before")
        try:
            async with ctx.shield():
                async with ctx.shield():
                    await ctx.step(plain, "a")
                seen.append(await ctx.step(plain, "b"))
                seen.append("inside")
            seen.append("behind")
        except asyncio.CancelledError:
            seen.append("cancelled")
        async with ctx.shield():  # another one raises nothing more
            await ctx.step(plain, "cleanup")
        return " ".join(seen)

    recording = ended(shields, cancel_at=at, noise=0, park=0)
    assert recording.outcome == "b inside cancelled"


def test_a_shield_that_an_exception_leaves():
    """The exception goes on; the cancel comes at the next await, or ends nothing that has ended."""

    @workflow
    async def shields(ctx: Context, catches: bool) -> str:
        try:
            async with ctx.shield():
                await ctx.step(ledger.refuse, "a")
        except ValueError:
            if not catches:
                raise
        return await ctx.step(plain, "behind")

    assert status_of(ended(shields, True, cancel_at=1, noise=0)) == "cancelled"
    failed = ended(shields, False, cancel_at=1, noise=0)
    assert (status_of(failed), failed.outcome.type) == ("failed", "builtins:ValueError")


def test_a_shield_at_the_end_of_the_function():
    """The run is cancelled when the block ends, also where nothing is awaited behind it."""

    @workflow
    async def shields(ctx: Context) -> str:
        async with ctx.shield():
            await ctx.step(act, "a")
        return "done"

    recording = ended(shields, cancel_at=1, noise=0)
    assert (status_of(recording), undone()) == ("cancelled", ["a"])


def test_a_shield_in_another_task_holds_for_the_run():
    """Whichever task is in it: a cancel would reach it through the main task."""

    @workflow
    async def shields(ctx: Context) -> str:
        async def careful() -> None:
            async with ctx.shield():
                await ctx.step(plain, "a")
                await ctx.step(plain, "b")

        await asyncio.gather(careful(), ctx.sleep(1000))
        return "done"

    recording = ended(shields, cancel_at=1, noise=0, latencies=[1])
    assert status_of(recording) == "cancelled"
    assert recording.names == ["plain", "plain"]


def test_a_timeout_round_a_shield_cuts_it():
    """A shield holds back the cancel of the run, nothing else."""

    @workflow
    async def limits(ctx: Context) -> str:
        try:
            async with asyncio.timeout(2), ctx.shield():
                await ctx.sleep(100)
        except TimeoutError:
            return "cut"
        return "slept"

    assert ended(limits).outcome == "cut"


def test_a_deadline_that_is_swallowed_ends_the_run_all_the_same():
    """A deadline that the function swallows still ends the run with `RunTimeout`; undos run."""

    @workflow
    async def swallows(ctx: Context, how: str) -> str:
        await ctx.step(act, "a")
        try:
            await ctx.sleep(100)
        except asyncio.CancelledError:
            if how == "raises":
                raise KeyError("another") from None
            if how == "continues":
                await ctx.continue_as_new("return")
        return "as if nothing had been"

    for how in ("return", "raises"):
        ledger.DONE.clear()
        recording = ended(swallows, how, late_at=2, noise=0)
        assert recording.outcome.type == "durable.errors:RunTimeout"
        assert (status_of(recording), undone()) == ("compensated", ["a"])
    assert recording.outcome.cause.type == "builtins:KeyError"
    assert ended(swallows, "continues", late_at=2, noise=0).outcome.type == (
        "durable.errors:RunTimeout"
    )


def test_which_of_cancel_and_deadline_came_first_says_how_it_ends():
    """The other one changes nothing."""

    @workflow
    async def slow_to_leave(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.sleep(5)
            await ctx.sleep(5)

    cancelled = ended(slow_to_leave, cancel_at=1, late_at=2, noise=0, park=0)
    assert status_of(cancelled) == "cancelled"
    late = ended(slow_to_leave, late_at=1, cancel_at=2, noise=0, park=0)
    assert late.outcome.type == "durable.errors:RunTimeout"
    assert kinds(late).count("TimerFired") == kinds(cancelled).count("TimerFired") == 2


def test_a_cancel_before_anything_was_asked_for():
    """It reaches the first await."""

    @workflow
    async def first(ctx: Context) -> None:
        await ctx.step(act, "a")

    recording = ended(first, cancel_at=1, noise=0)
    assert (status_of(recording), sorted(undone())) == ("cancelled", acts())


def test_a_cancel_reaches_children():
    """Cancel cancels children: called ones with their call, started ones when the run is left."""

    @workflow
    async def parent(ctx: Context) -> None:
        await ctx.start(child, 1, id="started")
        await ctx.start(child, 2, id="left alone", on_parent_close="abandon")
        try:
            await ctx.call(child, 3, id="called")
        finally:
            await ctx.step(plain, "cleanup")

    driver = Scoped(parent, children=lambda _: NEVER, cancel_at=4, noise=0, park=0)
    recording = driver.finish()
    assert driver.cancelled_children == ["called", "started"]
    assert status_of(recording) == "cancelled"
    assert same_on_replay(parent, recording)


@workflow
async def shielded_generations(ctx: Context, left: int) -> str:
    if not left:
        return "in spite of it"
    async with ctx.shield():
        await ctx.sleep(60)
        await ctx.continue_as_new(left - 1)
    raise AssertionError


@workflow
async def generations_after_a_group(ctx: Context, left: int) -> str:
    async def slow_to_leave() -> None:
        try:
            await ctx.sleep(1000)
        finally:
            await ctx.sleep(50)

    if not left:
        return "in spite of it"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(slow_to_leave())
            group.create_task(ctx.step(ledger.refuse, "a"))
    except* ValueError:
        pass
    try:
        await ctx.continue_as_new(left - 1)
    finally:
        await ctx.step(plain, "cleaned up")
    raise AssertionError


@pytest.mark.parametrize(
    "body, at", [(shielded_generations, 1), (generations_after_a_group, 2)], ids=["shield", "group"]
)
def test_a_cancel_that_was_not_seen_yet_is_seen_before_a_new_generation(body, at):
    """What held it back, a shield or a group that was failing, ends with the generation: the cancel would too."""
    recording = ended(body, 2, noise=0, park=0, latencies=[1], cancel_at=at)
    assert status_of(recording) == "cancelled"
    assert "ContinuedAsNew" not in kinds(recording)


def test_children_are_cancelled_before_anything_is_undone():
    """Cancel cancels children, runs compensations, ends."""

    @workflow
    async def parent(ctx: Context) -> None:
        await ctx.step(act, "a")
        await ctx.start(child, 1)
        await ctx.sleep(1000)

    recording = ended(parent, children=lambda _: NEVER, cancel_at=3, noise=0, park=0)
    told = [told[0] for commands in recording.trace for told in commands]
    assert told.index("cancel child") < told.index("compensate") < len(told) - 1


@workflow(retry=Retry(max_attempts=3, initial=10, jitter=0))
async def tries(ctx: Context) -> None:
    await ctx.step(act, "a")
    await ctx.step(act, "b")
    raise KeyError


def test_a_cancel_while_the_last_attempt_is_undone_leaves_no_other_attempt():
    """A cancelled run starts nothing anew, whenever the cancel came."""
    length = len(ended(tries, noise=0, park=0).rows)
    for at in range(1, length - 1):
        ledger.DONE.clear()
        recording = ended(tries, noise=0, park=0, cancel_at=at)
        later = kinds(recording)[kinds(recording).index("CancelRequested") :]
        assert "RunRetried" not in later
        assert sorted(undone()) == sorted(acts())
        last_attempt = kinds(recording).count("RunRetried") == 2
        assert status_of(recording) in (
            ["compensated", "cancelled"] if last_attempt else ["cancelled"]
        )


def test_a_cancel_that_the_function_brings_upon_itself_is_a_failure():
    """`CancelledError` always means "you": nobody cancelled the run."""

    @workflow
    async def itself(ctx: Context) -> None:
        await ctx.step(act, "a")
        raise asyncio.CancelledError

    recording = ended(itself)
    assert (status_of(recording), undone()) == ("compensated", ["a"])
    assert recording.outcome.type == "asyncio.exceptions:CancelledError"


def test_a_failing_undo_of_a_cancelled_run():
    """A cancelled run ends as `compensation_failed` when an undo failed, also in a block of another task."""

    @workflow
    async def blocks(ctx: Context) -> None:
        async def work() -> None:
            async with ctx.saga():
                await ctx.step(ledger.act_for_good, "a")
                await ctx.sleep(1000)

        await asyncio.gather(work(), ctx.sleep(1000))

    recording = ended(blocks, cancel_at=2, noise=0, latencies=[1], park=0)
    assert kinds(recording)[-1] == "RunCancelled"
    assert status_of(recording) == "compensation_failed"


def test_what_comes_after_the_end_changes_nothing():
    """A terminal state is reached once and is final."""

    @workflow
    async def ends(ctx: Context) -> str:
        return "done"

    driver = Scoped(ends, noise=0, park=0)
    assert driver.cancel() == []
    assert driver.record(history.DeadlinePassed(driver.now)) == []
    assert driver.finish().outcome == "done"
