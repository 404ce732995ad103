"""What becomes of a group when a member fails: `fail_fast` and `complete_all`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable.engine.context import Context
from durable.model.events import Err, Ok
from tests.engine.bodies import after, decline, of, run
from tests.engine.driver import live
from tests.engine.workflows import double, fail, note

# -- errors: fail_fast


def test_fail_fast_raises_the_first_error_itself():
    """Not a group; the first in history order."""

    async def body(ctx: Context) -> str:
        try:
            await ctx.parallel([after(ctx, 9), after(ctx, 5, ValueError("late")), decline_at(ctx)])
        except KeyError as error:
            return f"{error} at {(ctx.now() - ctx.info.created_at).total_seconds()}"
        return ""

    async def decline_at(ctx: Context) -> None:
        await ctx.sleep(2)
        await ctx.step(decline, 51)

    assert run(body, latencies=[0]) == "51 at 2.0"


def test_fail_fast_waits_until_the_siblings_have_ended_their_cleanup():
    """It cancels the siblings, waits, and raises then."""
    seen: list[str] = []

    async def cleans(ctx: Context, name: str, seconds: float) -> None:
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            await ctx.step(note, name)
            await ctx.sleep(seconds)
            seen.append(name)
            raise

    async def body(ctx: Context) -> list[str]:
        seen.clear()
        try:
            await ctx.parallel([cleans(ctx, "a", 5), ctx.step(fail, "now"), cleans(ctx, "b", 3)])
        except ValueError as error:
            seen.append(str(error))
        return list(seen)

    assert run(body, latencies=[0]) == ["b", "a", "now"]


def test_a_cancelled_step_is_told_to_stop():
    """A result that comes later is dropped."""

    async def body(ctx: Context) -> str:
        try:
            await ctx.parallel([ctx.step(note, "slow"), after(ctx, 1, ValueError("no"))])
        except ValueError:
            return "failed"
        return ""

    recording = live(of(body), latencies=[10**9])
    assert recording.outcome == "failed"
    assert len(recording.commands("cancel step")) == 1


def test_calls_that_were_not_started_never_start():
    """With a limit, the failure of one leaves the rest undone; nothing is reported of them."""
    begun: list[int] = []

    async def one(ctx: Context, number: int) -> None:
        begun.append(number)
        await ctx.sleep(number)
        if number == 2:
            raise KeyError(number)

    async def body(ctx: Context) -> list[int]:
        begun.clear()
        try:
            await ctx.parallel([*(one(ctx, n) for n in range(5)), ctx.step(note, "x")], limit=2)
        except KeyError:
            return list(begun)
        return []

    recording = live(of(body))
    assert recording.outcome == [0, 1, 2, 3]
    assert recording.names == []
    assert recording.logs == []
    assert run(body) == [0, 1, 2, 3]


def test_calls_behind_an_iterator_over_a_list_are_given_up_too():
    """They exist already, so they would be "never awaited"; what a generator would make does not."""

    async def body(ctx: Context) -> str:
        calls = [after(ctx, 1, KeyError("x")), ctx.step(note, "a"), ctx.step(note, "b")]
        group = ctx.parallel(reversed([ctx.step(note, "c")]))
        try:
            await ctx.parallel(iter([*calls, group]), limit=1)
        except KeyError:
            return "failed"
        return ""

    recording = live(of(body))
    assert recording.outcome == "failed"
    assert recording.names == []


@pytest.mark.parametrize("kind", ["parallel", "map", "race", "call"])
def test_a_group_that_was_not_started_gives_up_its_own_members(kind):
    """Closed before it began, also its members are not "never awaited"."""

    async def body(ctx: Context) -> str:
        task = asyncio.create_task(ctx.sleep(100))
        waiting: dict[str, Any] = {
            "parallel": ctx.parallel([ctx.step(note, "a"), task]),
            "map": ctx.map(note, ["a"]),
            "race": ctx.race(a=ctx.step(note, "a"), b=ctx.parallel({"c": ctx.step(note, "c")})),
            "call": ctx.step(note, "a"),
        }
        for name in waiting.keys() - {kind}:
            waiting[name].close()
        try:
            await ctx.parallel([after(ctx, 1, KeyError("x")), waiting[kind]], limit=1)
        except KeyError:
            await asyncio.wait([task])
        return f"{task.cancelled()}"

    recording = live(of(body))
    assert recording.outcome == "True"
    assert recording.names == []
    assert recording.logs == []


def test_a_task_that_cancels_a_group_before_it_began_gives_up_its_members():
    """It never becomes a command, and its members are not "never awaited" either."""

    async def body(ctx: Context) -> bool:
        task = asyncio.create_task(ctx.parallel([ctx.step(note, "a"), after(ctx, 1)]))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    recording = live(of(body))
    assert recording.outcome is True
    assert recording.names == []


def test_running_tasks_are_cancelled_like_the_others():
    """Members given as tasks or futures are accepted; beyond the limit too."""

    async def body(ctx: Context) -> list[bool]:
        tasks = [asyncio.create_task(ctx.sleep(100)) for _ in range(3)]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        members = [after(ctx, 1, KeyError("x")), tasks[0], tasks[1], future, tasks[2], tasks[1]]
        try:
            await ctx.parallel(members, limit=2)
        except KeyError:
            return [each.cancelled() for each in (*tasks, future)]
        return []

    assert run(body) == [True] * 4


def test_errors_after_the_first_are_in_the_log_of_the_run():
    """What is raised nowhere is told, not lost."""

    async def clumsy(ctx: Context) -> None:
        try:
            await ctx.sleep(100)
        finally:
            raise OSError("while cleaning up")

    async def body(ctx: Context) -> str:
        try:
            await ctx.parallel([clumsy(ctx), after(ctx, 1, KeyError("first"))])
        except KeyError as error:
            return str(error)
        return ""

    recording = live(of(body))
    assert recording.outcome == "'first'"
    assert recording.logs == ["a member of a group that was already over failed"]


def test_a_member_that_somebody_cancels_cancels_a_fail_fast_group():
    """As awaiting a cancelled task does; the task that waits is not itself being cancelled."""

    async def body(ctx: Context) -> list[object]:
        victim = asyncio.create_task(ctx.sleep(100))
        other = asyncio.create_task(ctx.sleep(100))
        asyncio.get_running_loop().call_later(1, victim.cancel)
        try:
            await ctx.parallel([victim, other])
        except asyncio.CancelledError:
            me = asyncio.current_task()
            assert me is not None
            return [me.cancelling(), other.cancelled(), await ctx.step(note, "goes on")]
        return []

    assert run(body) == [0, True, "goes on"]


# -- errors: complete_all


def test_complete_all_gives_ok_or_err_for_each():
    """`Ok(value)` or `Err(error)`, in the order given, in the shape given."""

    async def body(ctx: Context) -> list[object]:
        given = {"a": ctx.step(double, 2), "b": ctx.step(decline, 5), "c": after(ctx, 3, "c")}
        found = await ctx.parallel(given, on_error="complete_all")
        pair = await ctx.parallel((ctx.step(fail, "x"), ctx.sleep(1)), on_error="complete_all")
        assert type(pair) is tuple
        told: list[object] = []
        for outcome in (*found.values(), *pair):
            match outcome:
                case Ok(value):
                    told.append(value)
                case Err(error):
                    told.append(f"{type(error).__name__} {error}")
        return told

    assert run(body) == [4, "KeyError 5", "c", "ValueError x", None]


def test_complete_all_gives_err_for_a_member_that_somebody_cancels():
    """As `gather(return_exceptions=True)` does; the others go on."""

    async def body(ctx: Context) -> list[str]:
        victim = asyncio.create_task(ctx.sleep(100))
        asyncio.get_running_loop().call_later(1, victim.cancel)
        found = await ctx.parallel([victim, after(ctx, 3, "b")], on_error="complete_all")
        assert isinstance(found[0], Err)
        return [type(found[0].error).__name__, str(found[1])]

    assert run(body) == ["CancelledError", "Ok(value='b')"]


@pytest.mark.parametrize("on_error", ["fail_fast", "complete_all"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_no_program_goes_on_after_ends_every_group(on_error, error):
    """KeyboardInterrupt is no `Err`: the siblings are cancelled, and it is raised itself."""

    async def body(ctx: Context) -> list[object]:
        sibling = asyncio.create_task(ctx.sleep(100))
        try:
            await ctx.parallel([sibling, after(ctx, 1, error("stop"))], on_error=on_error)
        except error as raised:
            return [str(raised), sibling.cancelled()]
        return []

    assert run(body) == ["stop", True]
