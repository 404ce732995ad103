"""Children: started with their parent's history, heard of once, cancelled by rule."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from durable.engine.context import Context
from durable.errors import (
    ChildCancelled,
    ChildFailed,
    InvalidInput,
    RunAlreadyExists,
    RunTimeout,
    WaitTimeout,
)
from durable.model import history
from durable.model.commands import StartChild
from durable.model.definition import workflow
from durable.model.ids import MAX_ID
from tests.engine.cost import processor_seconds
from tests.engine.driver import decode_event, replay, same_on_replay
from tests.engine.ledger import plain
from tests.engine.scoped import CANCELLED, NEVER, REFUSED, Scoped, ended, kinds, status_of


class CardDeclinedError(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Item:
    id: str


@workflow(timeout=60, tags={"kind": "child"}, version=2)
async def child(ctx: Context, number: int) -> int:
    return number


@workflow
async def takes_an_item(ctx: Context, item: Item) -> Item:
    return item


@workflow
async def takes_nothing(ctx: Context) -> None: ...


@workflow
async def calls_one(ctx: Context) -> int:
    return await ctx.call(child, 7)


@workflow
async def catches(ctx: Context) -> list[Any]:
    try:
        return [await ctx.call(child, 7)]
    except ChildFailed as error:
        return [type(error).__name__, isinstance(error, asyncio.CancelledError), error.run_id]


def started(recording: Any) -> StartChild:
    """The first child's command, as it is told."""
    return recording.commands("child")[0]


def test_a_call_gives_the_childs_result():
    """`call` runs a workflow as a run of its own and waits for its result, decoded by its annotation."""

    @workflow
    async def calls(ctx: Context) -> list[Any]:
        item = await ctx.call(takes_an_item, Item("a"))
        assert isinstance(item, Item)
        return [await ctx.call(child, 7), item.id, await ctx.call("elsewhere", {"a": 1})]

    recording = ended(calls, children=lambda c: {"id": "a"} if c.name == "takes_an_item" else 7)
    assert recording.outcome == [7, "a", 7]


def test_a_start_is_in_the_history_with_what_led_to_it():
    """A child exists if and only if its start is in its parent's history."""
    recording = ended(calls_one, noise=0, park=0)
    assert kinds(recording) == ["RunStarted", "ChildStarted", "ChildCompleted", "RunCompleted"]
    event = decode_event(recording.rows[1])
    assert isinstance(event, history.ChildStarted)
    assert (event.cmd, event.name, event.child_id, event.abandoned) == (1, "child", "run.1", False)


def test_what_a_child_is_started_with():
    """Its lane, version, tags and deadline are its own workflow's; root and parent are told."""
    driver = Scoped(calls_one, noise=0, park=0)
    command = driver.under_way[-1][1]
    assert isinstance(command, StartChild)
    begun = command.started
    assert (command.lane.queue, command.lane.workflow, command.lane.version) == (
        "default",
        "child",
        2,
    )
    assert (begun.version, begun.tags, begun.parent_id, begun.root_id, begun.parent_cmd) == (
        2,
        {"kind": "child"},
        "run",
        "run",
        1,
    )
    assert begun.deadline == begun.at + 60_000_000
    assert (command.conflict, command.abandoned, command.due) == ("raise", False, None)
    driver.finish()


def test_ids_are_made_from_the_run_and_the_command_number():
    """Id: `id=`, or made from run id and command number; never longer than an id may be."""

    @workflow
    async def calls(ctx: Context) -> list[str]:
        handles = [await ctx.start(child, 1), await ctx.start(child, 2, id="mine")]
        return [handle.id for handle in handles]

    assert ended(calls).outcome == ["run.1", "mine"]
    long = ended(calls, run_id="x" * MAX_ID).outcome[0]
    assert len(long) <= MAX_ID
    assert long.startswith("xxx")


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a\x00b", 3])
def test_an_id_is_checked_like_any_other(wrong):
    """A run id has 1 to 255 characters that a database can keep."""

    @workflow
    async def calls(ctx: Context) -> None:
        await ctx.call(child, 1, id=wrong)

    assert ended(calls).outcome.type in ("builtins:ValueError", "builtins:TypeError")


def test_wrong_use_is_told_at_once():
    """Options that make no sense raise where they are given, and nothing is started."""

    @workflow
    async def misuses(ctx: Context, how: str) -> None:
        given: Any = {
            "default": lambda: ctx.call(child, 1, default=None),  # type: ignore[call-overload]
            "conflict": lambda: ctx.call(child, 1, on_conflict="ignore"),  # type: ignore[call-overload]
            "close": lambda: ctx.start(child, 1, on_parent_close="wait"),  # type: ignore[call-overload]
            "child": lambda: ctx.call(plain, "a"),  # type: ignore[call-overload]
            "negative": lambda: ctx.call(child, 1, timeout=-1),
        }
        await given[how]()

    for how in ("default", "conflict", "close", "child", "negative"):
        recording = ended(misuses, how)
        assert recording.outcome.type in ("builtins:TypeError", "builtins:ValueError"), how
        assert recording.commands("child") == []


def test_input_that_does_not_fit():
    """`InvalidInput`, as from `client.start`; nothing is started, and no number is taken."""

    @workflow
    async def misfits(ctx: Context) -> str:
        for wrong in (ctx.call(child, "x"), ctx.call(takes_nothing, 3)):  # type: ignore[arg-type, misc]
            try:
                await wrong
            except InvalidInput:
                continue
        return (await ctx.start(child, 1)).id

    assert ended(misfits).outcome == "run.1"


def test_an_exception_keeps_its_class():
    """An exception arrives as itself and is a `ChildFailed`, with its attributes and the child's id."""

    @workflow
    async def sells(ctx: Context) -> list[Any]:
        try:
            await ctx.call(child, 7)
        except CardDeclinedError as error:
            assert isinstance(error, ChildFailed)
            return [error.code, error.run_id, error.failure.message]
        return []

    recording = ended(sells, children=lambda _: CardDeclinedError("no", 51))
    assert recording.outcome == [51, "run.1", "no"]


def test_an_exception_goes_up_through_generations_of_runs():
    """What leaves the parent is the child's own exception again."""
    recording = ended(calls_one, children=lambda _: CardDeclinedError("no", 51))
    assert recording.outcome.type == "tests.engine.test_children:CardDeclinedError"
    again = ended(catches, children=lambda _: RunTimeout("late"))
    assert again.outcome == ["RunTimeout", False, "run.1"]


@pytest.mark.parametrize("end", [CANCELLED, asyncio.CancelledError("odd"), SystemExit(3)])
def test_a_cancelled_child_is_never_a_cancelled_error(end):
    """A cancelled child is `ChildCancelled`, never `CancelledError`: that always means "you"."""
    recording = ended(catches, children=lambda _: end)
    name, is_cancelled_error, run_id = recording.outcome
    assert name == ("ChildCancelled" if end is CANCELLED else "ChildFailed")
    assert (is_cancelled_error, run_id) == (False, "run.1")
    assert issubclass(ChildCancelled, ChildFailed)


def test_an_id_that_another_run_has():
    """`RunAlreadyExists`: the caller must not take that run for its own."""

    @workflow
    async def calls(ctx: Context) -> list[str]:
        seen = []
        try:
            await ctx.call(child, 1, id="taken")
        except RunAlreadyExists as error:
            seen.append(str(error))
        handle = await ctx.start(child, 1, id="taken")
        try:
            await handle.result()
        except RunAlreadyExists:
            seen.append("again")
        return seen

    first, second = ended(calls, children=lambda _: REFUSED).outcome
    assert "taken" in first
    assert second == "again"


def test_what_to_do_about_an_id_that_exists_is_passed_on():
    """`on_conflict=` of `ctx.call` and `ctx.start`."""

    @workflow
    async def calls(ctx: Context) -> None:
        await ctx.call(child, 1, id="a", on_conflict="return_existing")
        await ctx.start(child, 1, id="b", on_conflict="restart")

    told = ended(calls).commands("child")
    assert [entry[-3] for entry in told] == ["return_existing", "restart"]


def test_call_times_out():
    """`call(timeout=)`: the wait; when it passes the child is cancelled, `WaitTimeout` or `default`."""

    @workflow
    async def waits(ctx: Context) -> list[object]:
        seen: list[object] = [await ctx.call(child, 1, timeout=5, default=None)]
        try:
            await ctx.call(child, 2, timeout=5)
        except WaitTimeout as error:
            assert isinstance(error, TimeoutError)
            seen.append("late")
        return seen

    driver = Scoped(waits, children=lambda _: NEVER)
    recording = driver.finish()
    assert recording.outcome == [None, "late"]
    assert driver.cancelled_children == ["run.1", "run.2"]
    assert kinds(recording).count("WaitTimedOut") == 2
    assert same_on_replay(waits, recording)
    quick = ended(waits, latencies=[1])
    assert quick.outcome == [1, "late"] or quick.outcome[0] == 1
    assert len(quick.commands("end child wait")) == 2


def test_a_child_that_reports_after_its_time_out_is_read_and_means_nothing():
    """Its report is consumed without effect."""

    @workflow
    async def waits(ctx: Context) -> str:
        first = await ctx.call(child, 1, timeout=1, default="late")
        await ctx.sleep(100)
        return str(first)

    recording = ended(waits, children=lambda _: NEVER, latencies=[5], noise=0)
    assert recording.outcome == "late"
    assert "ChildFailed" in kinds(recording)


@pytest.mark.parametrize("how", ["timeout", "cancel", "wait_for"])
def test_whoever_gives_up_a_call_cancels_the_child(how):
    """A cancelled call raises at its awaiter at once; the child is told to stop then, once."""
    told: list[int] = []

    @workflow
    async def gives_up(ctx: Context, how: str) -> str:
        try:
            if how == "timeout":
                async with asyncio.timeout(3):
                    await ctx.call(child, 1)
            elif how == "wait_for":
                await asyncio.wait_for(ctx.call(child, 1), 3)
            else:
                task = asyncio.create_task(ctx.call(child, 1))
                await ctx.sleep(3)
                task.cancel()
                await task
        except (TimeoutError, asyncio.CancelledError):
            await ctx.sleep(50)
            told.append(len(driver.cancelled_children))
            return "gave up"
        return "got it"

    driver = Scoped(gives_up, how, children=lambda _: NEVER, park=0, noise=0)
    recording = driver.finish()
    assert recording.outcome == "gave up"
    assert told == [1]
    assert len(driver.cancelled_children) == 1
    assert same_on_replay(gives_up, recording)


def test_a_call_that_is_cancelled_as_it_begins():
    """No child without an id, and none that nobody knows of."""

    @workflow
    async def launches(ctx: Context) -> list[str]:
        tasks = [
            asyncio.create_task(ctx.call(child, 1)),
            asyncio.create_task(ctx.start(child, 2)),
            asyncio.create_task(ctx.call(child, 3)),
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return [str(task.cancelled()) for task in tasks]

    driver = Scoped(launches, children=lambda _: NEVER, park=0, noise=0)
    assert driver.cancelled_children == ["run.1", "run.2", "run.3"]
    recording = driver.finish()
    assert recording.outcome == ["True"] * 3
    assert same_on_replay(launches, recording)


def test_handles():
    """`result` with a time-out stops waiting and lets the child go on; `cancel` stops it."""

    @workflow
    async def handles(ctx: Context) -> list[object]:
        handle = await ctx.start(child, 1)
        seen: list[object] = [await handle.result(timeout=2, default="not yet")]
        try:
            await handle.result(timeout=2)
        except WaitTimeout:
            seen.append("late")
        async with asyncio.timeout(None):
            waiting = [asyncio.create_task(handle.result()) for _ in range(3)]
            await ctx.sleep(1)
        waiting[0].cancel()
        await handle.cancel(reason="enough")
        await handle.cancel()
        for task in waiting[1:]:
            try:
                await task
            except ChildCancelled as error:
                seen.append(error.run_id)
        try:
            await handle.result()
        except ChildCancelled:
            seen.append("still")
        return seen

    driver = Scoped(handles, children=lambda _: NEVER)
    recording = driver.finish()
    assert recording.outcome == ["not yet", "late", "run.1", "run.1", "still"]
    assert driver.cancelled_children == ["run.1"]
    assert ("cancel child", "run.1", "enough") in recording.commands("cancel child")
    assert same_on_replay(handles, recording)


def test_results_of_a_handle_are_copies():
    """Every receiver gets its own copy."""

    @workflow
    async def handles(ctx: Context) -> bool:
        handle = await ctx.start("elsewhere", ["a"])
        one, other = await asyncio.gather(handle.result(), handle.result())
        third = await handle.result(timeout=1)
        return one == other == third and one is not other and one is not third

    assert ended(handles).outcome is True


def test_a_forgotten_result_is_found():
    """`handle.result()` is lazy, and reported when it is never awaited."""

    @workflow
    async def forgets(ctx: Context) -> None:
        handle = await ctx.start(child, 1)
        handle.result()  # type: ignore[unused-coroutine]
        handle.cancel()  # type: ignore[unused-coroutine]

    recording = ended(forgets)
    assert recording.outcome.type == "durable.errors:NotAwaited"
    assert recording.outcome.message.count("test_children.py") == 2


def test_nothing_is_left_of_a_wait_that_is_over():
    """A loop that looks for a result again and again grows nothing."""

    @workflow
    async def looks(ctx: Context) -> int:
        handle = await ctx.start(child, 1)
        for _ in range(50):
            await handle.result(timeout=1, default=None)
        return len(handle._operation.waiting)

    assert ended(looks, children=lambda _: NEVER, park=0, noise=0).outcome == 0


@pytest.mark.parametrize("ending", ["returns", "fails"])
def test_what_becomes_of_children_at_the_parents_end(ending):
    """`started` children follow `on_parent_close`; `called` ones are cancelled; ended ones are left alone."""

    @workflow
    async def parent(ctx: Context, ending: str) -> None:
        await ctx.call(child, 1, id="ended")
        await ctx.start(child, 2, id="cancel")
        await ctx.start(child, 3, id="abandon", on_parent_close="abandon")
        asyncio.create_task(ctx.call(child, 4, id="call"))  # noqa: RUF006
        await ctx.sleep(5)
        if ending == "fails":
            raise KeyError

    driver = Scoped(parent, ending, children=lambda c: 1 if c.child_id == "ended" else NEVER)
    recording = driver.finish()
    assert sorted(driver.cancelled_children) == ["call", "cancel"]
    assert status_of(recording) == ("failed" if ending == "fails" else "completed")
    assert same_on_replay(parent, recording)


def test_children_side_by_side_may_wait_as_long_as_they_like():
    """In gather children may wait as long as they like; results are in the order given."""

    @workflow
    async def gathers(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.call(child, number) for number in range(20)))

    for seed in range(5):
        assert ended(gathers, seed=seed).outcome == list(range(20))


def test_ten_thousand_children_stay_linear():
    """Nothing is scanned for each event."""

    @workflow
    async def many(ctx: Context, count: int) -> int:
        found = await asyncio.gather(*(ctx.call(child, number) for number in range(count)))
        return sum(found)

    def seconds(count: int) -> float:
        driver = Scoped(many, count, latencies=[0], park=0, noise=0)
        for cmd in range(1, count + 1):
            driver.happen(-cmd)
        rows = driver.recording.rows
        assert driver.finish().outcome == count * (count - 1) // 2
        return processor_seconds(lambda: replay(many, rows))

    few, lots = seconds(1_000), seconds(10_000)
    assert lots < 25 * few  # a scan for each event makes it a hundred times as much
