"""Sagas: what completed steps did is undone, last completed first, when their block or the run fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from durable.engine.context import Context
from durable.errors import NotAllowedInWorkflow, StepFailed
from durable.model import history
from durable.model.definition import step, workflow
from tests.engine import ledger
from tests.engine.cost import processor_seconds
from tests.engine.driver import Stuck, decode_event, replay, same_on_replay, without_patches
from tests.engine.ledger import (
    act,
    act_again,
    act_for_good,
    act_stubbornly,
    acts,
    plain,
    refuse,
    undo,
    undone,
)
from tests.engine.scoped import Scoped, ended, kinds, scoped, status_of

SLOW = 10**9


@pytest.fixture(autouse=True)
def _empty_ledger():
    ledger.DONE.clear()


@workflow
async def fails(ctx: Context) -> None:
    for name in "abc":
        await ctx.step(act, name)
    raise KeyError("d")


@workflow
async def five_steps(ctx: Context) -> str:
    """A saga of five, two of them side by side, one in a block of its own."""
    await ctx.step(act, "a")
    async with ctx.saga():
        await asyncio.gather(ctx.step(act, "b"), ctx.step(act, "c"))
        await ctx.sleep(1)
    async with ctx.saga():
        await ctx.step(act, "d")
        ctx.compensate(undo, "registered")
        await ctx.step(plain, "in between")
        await ctx.step(act, "e")
    await ctx.sleep(5)
    return "done"


def test_completed_steps_are_undone_last_completed_first():
    """Completed steps with `compensate` are undone LIFO when the run fails; it ends as `compensated`."""
    recording = ended(fails, noise=0)
    assert undone() == ["c", "b", "a"]
    assert status_of(recording) == "compensated"
    assert recording.outcome.type == "builtins:KeyError"
    assert kinds(recording)[-5:] == [
        "CompensationStarted",
        *["CompensationCompleted"] * 3,
        "RunFailed",
    ]
    assert kinds(recording).count("CompensationStarted") == 1


def test_a_run_that_undid_nothing_is_failed():
    """A failed run without completed steps to undo is `failed`, and says nothing of compensations."""

    @workflow
    async def only_fails(ctx: Context) -> None:
        await ctx.step(plain, "a")
        await ctx.step(refuse, "b")

    recording = ended(only_fails)
    assert (status_of(recording), undone()) == ("failed", [])
    assert "CompensationStarted" not in kinds(recording)


def test_the_order_is_that_of_completion_not_of_the_code():
    """Undo order: last completed first."""

    @workflow
    async def side_by_side(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step(act, name) for name in "abcdef"))
        raise KeyError("x")

    for seed in range(10):
        ledger.DONE.clear()
        ended(side_by_side, seed=seed)
        assert undone() == acts()[::-1]


def test_a_block_whose_exception_is_caught_changes_no_status():
    """The block is undone, the run completes; and fails later without being `compensated`."""

    @workflow
    async def catches(ctx: Context, then: str) -> str:
        await ctx.step(plain, "before")
        try:
            async with ctx.saga():
                await ctx.step(act, "a")
                await ctx.step(refuse, "b")
        except ValueError as error:
            assert isinstance(error, StepFailed)
        if then == "fail":
            raise KeyError(then)
        return str(undone())

    recording = ended(catches, "complete")
    assert (status_of(recording), recording.outcome) == ("completed", "['a']")
    ledger.DONE.clear()
    assert status_of(ended(catches, "fail")) == "failed"


@pytest.mark.parametrize("how", ["itself", "from", "context", "group", "task"])
def test_a_block_whose_exception_ends_the_run_makes_it_compensated(how):
    """Whatever way the exception takes out of the run."""

    @workflow
    async def lets_go(ctx: Context, how: str) -> None:
        async def block() -> None:
            async with ctx.saga():
                await ctx.step(act, "a")
                raise KeyError("b")

        if how == "task":
            await asyncio.create_task(block())
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(block())
        try:
            await block()
        except KeyError as error:
            if how == "from":
                raise RuntimeError("c") from error
            if how == "context":
                raise RuntimeError("c")  # noqa: B904
            raise

    assert status_of(ended(lets_go, how)) == "compensated"
    assert undone() == ["a"]


def test_a_sibling_that_is_cancelled_for_a_failure_counts():
    """A failed run that undid something is `compensated`, whichever task it was in."""

    @workflow
    async def siblings(ctx: Context) -> None:
        async def block() -> None:
            async with ctx.saga():
                await ctx.step(act, "a")
                await ctx.sleep(1000)

        async with asyncio.TaskGroup() as group:
            group.create_task(block())
            await ctx.sleep(50)
            raise KeyError("b")

    assert status_of(ended(siblings)) == "compensated"
    assert undone() == ["a"]


def test_a_block_that_succeeded_is_undone_with_what_is_round_it():
    """Steps are undone when the enclosing block, or the run, fails."""

    @workflow
    async def nests(ctx: Context) -> None:
        await ctx.step(act, "a")
        async with ctx.saga():
            await ctx.step(act, "b")
            async with ctx.saga():
                await ctx.step(act, "c")
            await ctx.step(act, "d")
        await ctx.step(act, "e")
        raise KeyError("f")

    ended(nests)
    assert undone() == ["e", "d", "c", "b", "a"]


def test_an_inner_block_is_undone_alone():
    """Only what is inside of the block that fails."""

    @workflow
    async def nests(ctx: Context) -> list[str]:
        async with ctx.saga():
            await ctx.step(act, "a")
            try:
                async with ctx.saga():
                    await ctx.step(act, "b")
                    raise KeyError("c")
            except KeyError:
                await ctx.step(act, "d")
        return undone()

    assert ended(nests).outcome == ["b"]


def test_a_compensation_gets_the_result_as_it_was():
    """A compensation gets the step's result; what the workflow does with its own copy is not seen."""
    seen: list[object] = []

    @step
    def give_back(what: list[str]) -> None:
        seen.append(what)

    @step(compensate=give_back)
    def take() -> list[str]:
        return ["a"]

    @workflow
    async def mutates(ctx: Context) -> None:
        taken = await ctx.step(take)
        taken.append("b")
        also = ["c"]
        ctx.compensate(give_back, also)
        also.append("d")
        raise KeyError

    recording = scoped(mutates)
    assert seen == [["c"], ["a"]]
    assert same_on_replay(mutates, recording)


def test_compensate_is_checked_at_once():
    """What cannot be an undo, or cannot be stored, raises where it is registered."""

    @workflow
    async def registers(ctx: Context, what: str) -> None:
        if what == "lambda":
            ctx.compensate(lambda: None)
        elif what == "value":
            ctx.compensate(undo, 3)  # type: ignore[arg-type]
        elif what == "step":
            await ctx.step(step(plain.fn, compensate=lambda _: None), "a")

    assert ended(registers, "lambda").outcome.type == "durable.errors:DefinitionError"
    assert ended(registers, "value").outcome.type == "durable.errors:PayloadError"
    assert ended(registers, "step").outcome.type == "durable.errors:DefinitionError"


def test_an_undo_has_its_own_retries():
    """It is a step: it is tried again as its `retry` says, and each attempt is recorded."""

    @workflow
    async def stubborn(ctx: Context) -> None:
        await ctx.step(act_stubbornly, "a")
        raise KeyError

    recording = ended(stubborn)
    assert undone() == ["a"]
    assert kinds(recording).count("CompensationFailed") == 2
    assert status_of(recording) == "compensated"


def test_a_failing_undo_does_not_stop_the_rest():
    """It is recorded, the others are undone, and the run ends as `compensation_failed`."""

    @workflow
    async def partly(ctx: Context) -> None:
        await ctx.step(act, "a")
        await ctx.step(act_for_good, "b")
        await ctx.step(act, "c")
        raise KeyError

    recording = ended(partly)
    assert undone() == ["c", "a"]
    assert status_of(recording) == "compensation_failed"
    failed = [
        decode_event(row) for row in recording.rows if row.type == history.CompensationFailed.code
    ]
    assert [(event.name, event.step) for event in failed] == [("cannot_undo", "act_for_good")]


def test_an_undo_that_cannot_be_asked_for_does_not_stop_the_rest():
    """Its arguments do not fit: that counts as failed, and is told."""

    @step
    def wants_a_number(number: int) -> None: ...

    @step(compensate=wants_a_number)  # type: ignore[arg-type]
    def gives_a_text() -> str:
        return "a"

    @workflow
    async def misfits(ctx: Context) -> None:
        await ctx.step(act, "a")
        await ctx.step(gives_a_text)
        raise KeyError

    recording = ended(misfits)
    assert (undone(), status_of(recording)) == (["a"], "compensation_failed")
    assert "gives_a_text could not be undone" in recording.logs[0]


def test_a_step_that_is_running_when_its_saga_fails_is_awaited_and_undone_first():
    """A running step with `compensate` is not interrupted: its outcome is awaited and undone."""

    @workflow
    async def side_by_side(ctx: Context) -> None:
        await ctx.step(act, "before")
        slow = asyncio.create_task(ctx.step(act, "slow"))
        await ctx.sleep(1)
        assert not slow.done()
        raise KeyError

    driver = Scoped(side_by_side, latencies=[1], park=0, noise=0)
    driver.happen(1)
    slow = next(cmd for cmd, (_, c) in driver.under_way.items() if getattr(c, "step", None) is act)
    driver.under_way[slow] = 10**18, driver.under_way[slow][1]
    timer = next(cmd for cmd in driver.under_way if cmd != slow)
    driver.happen(timer)
    assert driver.recording.trace[-2][0] == ("settle step", slow)
    assert kinds(driver.recording)[-1] == "CompensationStarted"
    assert undone() == []
    assert list(driver.under_way) == [slow]
    driver.now = 10**15
    driver.under_way[slow] = 0, driver.under_way[slow][1]
    recording = driver.finish()
    assert undone() == ["slow", "before"]
    assert same_on_replay(side_by_side, recording)


def test_a_block_awaits_what_its_tasks_have_under_way():
    """Also a step that somebody still waits for; what that task does later belongs to what is round it."""

    @workflow
    async def outlives(ctx: Context) -> list[str]:
        async def chain() -> None:
            await ctx.step(act, "slow")
            await ctx.step(act, "later")

        try:
            async with ctx.saga():
                task = asyncio.create_task(chain())
                await ctx.step(act, "quick")
                raise KeyError
        except KeyError:
            await ctx.step(plain, "caught")
        await task
        raise RuntimeError

    driver = Scoped(outlives, latencies=[1], park=0, noise=0)
    driver.happen(1)
    assert acts() == ["quick"]
    assert list(driver.under_way) == [2]  # `slow`, which somebody waits for: no undo has begun
    driver.happen(2)
    recording = driver.finish()
    assert acts() == ["quick", "slow", "later"]
    assert undone() == ["slow", "quick", "later"]
    assert same_on_replay(outlives, recording)


def test_one_that_was_given_up_and_completes_later_is_undone_even_when_the_run_succeeds():
    """Late results of a step with `compensate` are recorded and undone."""

    @workflow
    async def gives_up(ctx: Context) -> str:
        try:
            async with asyncio.timeout(2):
                await ctx.step(act, "late")
        except TimeoutError:
            await ctx.step(act, "kept")
            return "given up"
        return "in time"

    driver = Scoped(gives_up, latencies=[5_000_000], park=0, noise=0)
    recording = driver.finish()
    assert recording.outcome == "given up"
    assert status_of(recording) == "completed"
    assert undone() == ["late"]
    assert same_on_replay(gives_up, recording)


def test_a_step_that_was_given_up_is_not_tried_again():
    """Nobody waits for it: an attempt that has not begun is not begun any more."""

    @workflow
    async def gives_up(ctx: Context) -> str:
        try:
            async with asyncio.timeout(2):
                await ctx.step(act_again, "a")
        except TimeoutError:
            return "given up"
        return "in time"

    recording = ended(gives_up, latencies=[0], park=0, noise=0)
    assert recording.outcome == "given up"
    assert ledger.DONE == ["try a"]


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_given_up_attempt_that_fails_on_its_own(order):
    """Its failure is its end, also where it was decided that it would be tried again."""

    @workflow
    async def gives_up(ctx: Context) -> str:
        try:
            async with asyncio.timeout(2):
                await ctx.step(act_again, "a")
        except TimeoutError:
            return "given up"
        return "in time"

    driver = Scoped(gives_up, latencies=[10_000_000 if order == "after" else 1], park=0, noise=0)
    recording = driver.finish()
    assert recording.outcome == "given up"
    assert ledger.DONE == ["try a"]
    assert same_on_replay(gives_up, recording)


def test_a_block_is_entered_once():
    """Call `ctx.saga()` again for another one."""

    @workflow
    async def twice(ctx: Context) -> None:
        block = ctx.saga()
        async with block:
            pass
        async with block:
            pass

    assert ended(twice).outcome.type == "builtins:RuntimeError"


def test_a_block_may_be_left_elsewhere_than_it_was_entered():
    """As by an `AsyncExitStack` that another task closes."""

    @workflow
    async def hands_over(ctx: Context) -> list[str]:
        stack = AsyncExitStack()
        await stack.enter_async_context(ctx.saga())
        await ctx.step(act, "a")
        await asyncio.create_task(stack.aclose())
        await ctx.step(act, "b")
        raise KeyError

    ended(hands_over)
    assert undone() == ["b", "a"]


def test_tasks_cannot_cancel_what_undoes():
    """A compensation runs in a scope that no cancel breaks."""

    @workflow
    async def cancels_everybody(ctx: Context) -> None:
        async def cleans_up() -> None:
            try:
                await ctx.sleep(1000)
            finally:
                for task in asyncio.all_tasks():
                    task.cancel()

        task = asyncio.create_task(cleans_up())
        try:
            async with ctx.saga():
                await ctx.step(act, "a")
                await ctx.step(act, "b")
                asyncio.get_running_loop().call_later(0.5, task.cancel)
                raise KeyError
        finally:
            await asyncio.wait([task])

    for seed in range(10):
        ledger.DONE.clear()
        ended(cancels_everybody, seed=seed)
        assert undone() == ["b", "a"]


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0, 100.0])
def test_a_timeout_round_a_block(seconds):
    """What completed is undone, then it is a `TimeoutError`; undos are not cut by it."""

    @workflow
    async def limits(ctx: Context, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                async with ctx.saga():
                    await ctx.step(act, "a")
                    await ctx.step(act, "b")
                    if seconds == 3:
                        raise KeyError  # it expires while this is undone
        except TimeoutError:
            return f"late {undone()}"
        except KeyError:
            return f"failed {undone()}"
        return "in time"

    recording = ended(limits, seconds, latencies=[1_000_000], park=0, noise=0)
    assert (
        recording.outcome
        == {
            0.5: "late ['a']",
            1.5: "late ['b', 'a']",
            3.0: "late ['b', 'a']",
            100.0: "in time",
        }[seconds]
    )


def test_continue_as_new_with_something_to_undo_is_refused():
    """With uncompensated undos pending it raises `NotAllowedInWorkflow`, wherever they are."""

    @workflow
    async def goes_on(ctx: Context, where: str) -> str:
        async with ctx.saga():
            if where == "outer block":
                await ctx.step(act, "a")
            async with ctx.saga():
                if where == "block":
                    await ctx.step(act, "a")
                if where == "task":
                    asyncio.create_task(ctx.step(act, "a"))  # noqa: RUF006
                    await ctx.sleep(0)
                try:
                    await ctx.continue_as_new("nothing")
                except NotAllowedInWorkflow:
                    return "refused"

    for where in ("block", "outer block", "task"):
        assert ended(goes_on, where).outcome == "refused"


def test_ten_thousand_undos_stay_linear():
    """Nothing is scanned for each event."""

    @workflow
    async def many(ctx: Context, count: int) -> None:
        await asyncio.gather(*(ctx.step(act, str(number)) for number in range(count)))
        raise KeyError

    def seconds(count: int) -> float:
        ledger.DONE.clear()
        driver = Scoped(many, count, latencies=[0], park=0, noise=0)
        for cmd in range(1, count + 1):
            driver.happen(cmd)
        rows = driver.recording.rows
        for cmd in range(count + 1, 2 * count + 1):
            driver.happen(cmd)
        assert undone() == acts()[::-1]
        driver.finish()
        return processor_seconds(lambda: replay(many, rows))

    few, lots = seconds(1_000), seconds(10_000)
    assert lots < 25 * few  # a scan for each event makes it a hundred times as much


def test_undone_at_every_length_of_the_history():
    """Cancel at every position of a saga of five: what completed is undone, in reverse, and nothing else."""
    length = len(scoped(five_steps, seed=3, noise=0, park=0).rows)
    for at in range(1, length + 1):
        for seed in range(4):
            ledger.DONE.clear()
            driver = Scoped(five_steps, seed=seed, noise=0, park=0, cancel_at=at)
            recording = driver.finish()
            assert not isinstance(recording.outcome, Stuck)
            if status_of(recording) == "completed":
                assert undone() == []
                continue
            assert status_of(recording) == "cancelled"
            expected = list(acts())
            if "d" in expected and "registered" in undone():
                expected.insert(expected.index("d") + 1, "registered")
            assert undone() == expected[::-1], (at, seed)
            assert without_patches(recording.trace)
            assert same_on_replay(five_steps, recording)


@pytest.mark.parametrize("inner", [0, 1, 2])
def test_what_was_done_in_an_open_block_of_a_task_is_undone_with_the_block_round_it(inner):
    """Tasks begun inside belong to the block, however deep in blocks of their own they are."""

    @workflow
    async def outer_fails(ctx: Context) -> str:
        async def books(name: str, depth: int) -> None:
            async with AsyncExitStack() as stack:
                for _ in range(depth):
                    await stack.enter_async_context(ctx.saga())
                await ctx.step(act, name)
                await ctx.sleep(100)
                await ctx.step(act, f"{name} later")

        async def refuses() -> None:
            await ctx.sleep(10)
            raise ValueError

        tasks = []
        try:
            async with ctx.saga():
                tasks = [asyncio.create_task(books("a", inner)), asyncio.create_task(books("b", 0))]
                await asyncio.gather(*tasks, refuses())
        except ValueError:
            pass
        await asyncio.gather(*tasks)
        return "done"

    recording = ended(outer_fails, noise=0, latencies=[1])
    assert recording.outcome == "done"
    assert sorted(ledger.DONE[:2]) == ["a", "b"]
    assert ledger.DONE[2:4] == [f"undo {name}" for name in reversed(ledger.DONE[:2])]
    assert sorted(ledger.DONE[4:]) == ["a later", "b later"]


def test_what_blocks_did_side_by_side_is_undone_last_completed_first():
    @workflow
    async def side_by_side(ctx: Context) -> None:
        async def first() -> None:
            async with ctx.saga():
                await ctx.step(act, "a")
                await ctx.sleep(100)

        async def second() -> None:
            async with ctx.saga():
                await ctx.sleep(10)
                await ctx.step(act, "b")
            await ctx.sleep(20)
            await ctx.step(act, "c")

        await asyncio.gather(first(), second())
        raise KeyError

    ended(side_by_side, noise=0)
    assert ledger.DONE == ["a", "b", "c", "undo c", "undo b", "undo a"]


def test_what_a_block_did_that_nobody_left_is_undone_when_the_run_fails():
    @workflow
    async def never_left(ctx: Context) -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(ctx.saga())
        await ctx.step(act, "a")
        raise KeyError

    assert status_of(ended(never_left)) == "compensated"
    assert ledger.DONE == ["a", "undo a"]


@pytest.mark.parametrize("failing", [False, True])
def test_a_generator_that_was_left_in_the_middle_undoes_nothing_of_a_run_that_went_well(failing):
    """It is closed when the run ends, in the middle of its block."""

    @workflow
    async def leaves_a_generator(ctx: Context) -> str:
        async def books() -> AsyncIterator[str]:
            async with ctx.saga():
                for name in "abc":
                    yield await ctx.step(act, name)

        async for name in books():
            if name == "b":
                break
        if failing:
            raise KeyError
        return "done"

    recording = ended(leaves_a_generator)
    assert status_of(recording) == ("compensated" if failing else "completed")
    assert ledger.DONE[2:] == (["undo b", "undo a"] if failing else [])
