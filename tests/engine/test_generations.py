"""Generations: continue_as_new, and the retry of a whole run. What lives on, and what ends."""

from __future__ import annotations

import asyncio

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.errors import InvalidInput
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.definition import step, workflow
from durable.model.retry import Retry
from tests.engine import ledger
from tests.engine.driver import START, decode_event, same_on_replay
from tests.engine.ledger import act, acts, plain, undone
from tests.engine.scoped import NEVER, Scoped, ended, kinds, status_of


@pytest.fixture(autouse=True)
def _empty_ledger():
    ledger.DONE.clear()


@workflow
async def child(ctx: Context, number: int) -> int:
    return number


@workflow
async def counts_down(ctx: Context, number: int) -> str:
    await ctx.step(plain, f"{number} {ctx.uuid()} {ctx.random.random()}")
    await ctx.sleep(1)
    if number:
        await ctx.continue_as_new(number - 1)
    return f"{number} {ctx.info.created_at.year}"


def events(recording, cls):
    return [event for row in recording.rows if isinstance(event := decode_event(row), cls)]


def test_a_generation_begins_with_another_input():
    """Replay starts from there; history stays gapless, and command numbers go on."""
    recording = ended(counts_down, 3)
    assert recording.outcome == "0 2026"
    begins = events(recording, history.ContinuedAsNew)
    assert len(begins) == 3
    assert [begin.base for begin in begins] == [2, 4, 6]
    assert [row.seq for row in recording.rows] == list(range(1, len(recording.rows) + 1))
    numbers = [told[1] for told in recording.commands("step")]
    assert numbers == [1, 3, 5, 7]


def test_each_generation_draws_anew():
    """`ctx.uuid()` gives a new UUID in every generation, the same one on every replay."""
    recording = ended(counts_down, 2)
    prints = [told[3] for told in recording.commands("step")]
    assert len(set(prints)) == 3


def test_a_replay_needs_no_earlier_generation():
    """What lives on is in the event that begins the generation."""
    recording = ended(counts_down, 2, noise=0)
    first = max(
        place for place, row in enumerate(recording.rows) if row.type == history.ContinuedAsNew.code
    )
    instance = Instance(counts_down, "run")
    for row, told in zip(recording.rows[first:], recording.trace[first:], strict=True):
        assert len(instance.apply(decode_event(row))) == len(told)
    assert instance.finished
    instance.discard()


def test_the_input_is_validated_at_the_call():
    """`x` is validated against the own input type at the call: `InvalidInput`."""

    @workflow
    async def continues(ctx: Context, number: int) -> str:
        try:
            await ctx.continue_as_new("x")
        except InvalidInput:
            return "refused"

    assert ended(continues, 1).outcome == "refused"


def test_nothing_after_it_runs():
    """It never resumes: no exception through user code; other tasks just end, without their cleanup."""
    seen: list[str] = []

    @workflow
    async def continues(ctx: Context, number: int) -> int:
        async def beside() -> None:
            try:
                await ctx.step(plain, "beside")
                await ctx.sleep(1000)
            finally:
                seen.append("closed")
                await ctx.step(plain, "cleanup")

        if number == 0:
            return 0
        task = asyncio.create_task(beside())
        await ctx.sleep(1)
        try:
            await ctx.continue_as_new(number - 1)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            await ctx.step(plain, "not asked for")
        await task
        return None

    recording = ended(continues, 1, noise=0, park=0)
    assert recording.outcome == 0
    assert recording.names == ["plain"]
    assert "CancelledError" not in seen


def test_what_is_asked_for_in_the_same_breath_counts():
    """Commands before it stand; what other tasks ask for in the same activation does not."""

    @workflow
    async def continues(ctx: Context, number: int) -> int:
        if number == 0:
            return 0
        ctx.set_state("number", number)
        gate = asyncio.Event()

        async def beside() -> None:
            await gate.wait()
            await ctx.step(plain, "too late")

        task = asyncio.create_task(beside())
        await asyncio.sleep(0)
        gate.set()
        await ctx.start(child, 1)
        ctx.set_state("number", "again")
        await ctx.continue_as_new(number - 1)
        await task
        return None

    recording = ended(continues, 1, children=lambda _: NEVER, noise=0, park=0)
    assert recording.outcome == 0
    assert kinds(recording)[:4] == ["RunStarted", "StateSet", "ChildStarted", "StateSet"]
    assert kinds(recording).count("StepCompleted") <= 1


def test_children_and_events_move_on():
    """Running children and the inbox stay; at the run's end the children follow their policy."""

    @workflow
    async def continues(ctx: Context, number: int) -> int:
        if number:
            await ctx.start(child, number, id=f"child {number}")
            await ctx.start(child, 0, id=f"abandoned {number}", on_parent_close="abandon")
            await ctx.sleep(1)
            await ctx.continue_as_new(number - 1)
        await ctx.sleep(1)
        return number

    driver = Scoped(continues, 2, children=lambda _: NEVER, noise=0, park=0)
    driver.record(history.EventReceived(driver.now, "early", b"\x01\xc0", 1))
    driver.record(history.FollowerAdded(driver.now, "17:3", 2))
    recording = driver.finish()
    assert same_on_replay(continues, recording)
    assert driver.cancelled_children == ["child 2", "child 1"]
    carried = unpack_carried(events(recording, history.ContinuedAsNew)[-1].carried)
    assert [event.name for event in carried.unread] == ["early"]
    assert carried.followers == ("17:3",)
    assert [(one.child_id, one.abandoned) for one in carried.children] == [
        ("child 2", False),
        ("abandoned 2", True),
        ("child 1", False),
        ("abandoned 1", True),
    ]
    assert carried.started.at == START


def test_reports_for_an_earlier_generation_mean_nothing():
    """A message for a command below the base of the current generation is consumed and ignored."""

    @workflow
    async def continues(ctx: Context, number: int) -> int:
        if number:
            await ctx.start(child, number)
            await ctx.continue_as_new(number - 1)
        return await ctx.call(child, 41)

    driver = Scoped(continues, 1, latencies=[5], noise=0, park=0)
    assert driver.next_generation()
    for event in (
        history.MessageSent(driver.now, 1, "paid", "x.py:1", "other"),
        history.WaitTimedOut(driver.now, 1, "child", "child"),
        history.InputProvided(driver.now, 1, "ask", b"\x01\xc0", None, 9),
    ):
        assert driver.record(event) == []
    assert driver.happen(-1) == []
    recording = driver.finish()
    assert recording.outcome == 41
    assert kinds(recording).count("ChildCompleted") == 2
    assert same_on_replay(continues, recording)


@workflow(retry=Retry(max_attempts=3, initial=10, jitter=0.5))
async def shaky(ctx: Context, name: str) -> str:
    attempt = await ctx.step(count)
    await ctx.step(act, f"{name}{attempt}")
    if attempt < 3:
        raise ConnectionError(attempt)
    return f"{name} {attempt}"


@step
def count() -> int:
    ledger.DONE.append("try")
    return ledger.DONE.count("try")


def test_a_whole_run_is_tried_again():
    """Whole-run retry keeps the id: undos first, then a new generation whose function starts when it is due."""
    recording = ended(shaky, "a", noise=0)
    assert recording.outcome == "a 3"
    assert undone() == ["a1", "a2"]
    retried = events(recording, history.RunRetried)
    assert [event.attempt for event in retried] == [2, 3]
    order = kinds(recording)
    assert order.index("CompensationCompleted") < order.index("RunRetried")
    for event in retried:
        assert 4_000_000 < event.due - event.at < 31_000_000
    fired = list(events(recording, history.TimerFired))
    assert len(fired) == 2
    assert [told[2] for told in recording.commands("timer")] == ["retry of the run"] * 2


def test_a_run_that_fails_too_often_is_failed():
    """The last attempt's end is the run's."""

    @workflow(retry=Retry(max_attempts=2, initial=1))
    async def fails(ctx: Context) -> None:
        await ctx.step(act, "a")
        raise ConnectionError("gone")

    recording = ended(fails)
    assert (status_of(recording), recording.outcome.message) == ("compensated", "gone")
    assert undone() == ["a", "a"]


def test_what_is_not_tried_again():
    """Programming errors, what an undo failed for, and what the policy does not want."""

    @workflow(retry=3)
    async def fails(ctx: Context, how: str) -> None:
        if how == "undo":
            await ctx.step(ledger.act_for_good, "a")
            raise ConnectionError
        raise TypeError(how)

    assert "RunRetried" not in kinds(ended(fails, "type"))
    recording = ended(fails, "undo")
    assert "RunRetried" not in kinds(recording)
    assert status_of(recording) == "compensation_failed"


def test_children_of_an_attempt_end_with_it():
    """The next attempt starts its own."""

    @workflow(retry=Retry(max_attempts=2, initial=1))
    async def starts(ctx: Context) -> None:
        await ctx.start(child, 1)
        raise ConnectionError

    driver = Scoped(starts, children=lambda _: NEVER, noise=0, park=0)
    recording = driver.finish()
    assert [told[2] for told in recording.commands("child")] == ["run.1", "run.3"]
    assert driver.cancelled_children == ["run.1", "run.3"]
    assert same_on_replay(starts, recording)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_run_that_is_stopped_while_it_waits_for_its_next_attempt(how):
    """A cancel while it waits ends as cancelled, and the function is not called."""
    driver = Scoped(shaky, "a", noise=0, park=0)
    while "RunRetried" not in kinds(driver.recording):
        driver.step_forward()
    before = acts()
    if how == "cancel":
        driver.cancel("enough")
    else:
        driver.record(history.DeadlinePassed(driver.now))
    recording = driver.finish()
    assert acts() == before
    assert driver.under_way == {}
    if how == "cancel":
        assert (status_of(recording), recording.outcome) == ("cancelled", "enough")
    else:
        assert recording.outcome.type == "durable.errors:RunTimeout"
    assert same_on_replay(shaky, recording)


def test_attempts_are_counted_over_generations():
    """`continue_as_new` does not give a run new attempts."""

    @workflow(retry=Retry(max_attempts=3, initial=1, jitter=0))
    async def continues(ctx: Context, number: int) -> None:
        if number:
            await ctx.continue_as_new(number - 1)
        raise ConnectionError

    recording = ended(continues, 2)
    assert [event.attempt for event in events(recording, history.RunRetried)] == [2, 3]
    assert all(event.input == b"\x01\x00" for event in events(recording, history.RunRetried))
