"""Groups inside time-outs, task groups, shields and other groups, and what cancels them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.model.wire import decode_event
from tests.engine.bodies import after, of, run
from tests.engine.driver import live
from tests.engine.workflows import note


@pytest.mark.parametrize("kind", ["parallel", "complete_all", "map", "race", "nested"])
@pytest.mark.parametrize("how", ["timeout", "ctx.timeout", "wait_for", "cancel", "TaskGroup"])
def test_cancelling_a_group_cancels_its_members_and_waits_for_them(kind, how):
    """From outside, in every way of asyncio; afterwards the task is not being cancelled any more."""

    async def body(ctx: Context) -> list[object]:
        seen: list[str] = []

        async def member(name: str) -> None:
            try:
                await ctx.sleep(1000)
            finally:
                seen.append(await ctx.step(note, name))

        async def raises() -> None:
            await ctx.sleep(2)
            raise KeyError("group")

        groups: dict[str, Callable[[], Any]] = {
            "parallel": lambda: ctx.parallel([member("a"), member("b")]),
            "complete_all": lambda: ctx.parallel(
                [member("a"), member("b")], on_error="complete_all"
            ),
            "map": lambda: ctx.parallel([member("a"), ctx.map(note, iter("")), member("b")]),
            "race": lambda: ctx.race(a=member("a"), b=member("b")),
            "nested": lambda: ctx.parallel(
                {"x": ctx.race(a=member("a")), "y": ctx.parallel([member("b")])}
            ),
        }
        group = groups[kind]()
        try:
            match how:
                case "timeout":
                    async with asyncio.timeout(2):
                        await group
                case "ctx.timeout":
                    async with ctx.timeout(2):
                        await group
                case "wait_for":
                    await asyncio.wait_for(group, 2)
                case "cancel":
                    task = asyncio.create_task(group)
                    await ctx.sleep(2)
                    task.cancel()
                    await asyncio.wait([task])
                    assert task.cancelled()
                    raise TimeoutError
                case _:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(group)
                        tasks.create_task(raises())
        except* (TimeoutError, KeyError):
            pass
        me = asyncio.current_task()
        assert me is not None
        # A TaskGroup of Python 3.11 and 3.12 forgets to uncancel who waits in it.
        count = 0 if how == "TaskGroup" else me.cancelling()
        return [sorted(seen), count, await ctx.step(note, "on")]

    assert run(body) == [["a", "b"], 0, "on"]


def test_a_cancellation_that_comes_during_cleanup_wins_and_waits():
    """A group that fails and is cancelled while its members clean up is cancelled; its error is logged."""

    async def body(ctx: Context) -> list[object]:
        seen: list[str] = []

        async def cleans() -> None:
            try:
                await ctx.sleep(100)
            finally:
                await ctx.sleep(5)
                seen.append("cleaned")

        task = asyncio.create_task(ctx.parallel([cleans(), after(ctx, 1, KeyError("first"))]))
        for _ in range(2):
            await ctx.sleep(2)
            task.cancel()
        await asyncio.wait([task])
        return [task.cancelled(), *seen]

    recording = live(of(body))
    assert recording.outcome == [True, "cleaned"]
    assert recording.logs == ["a member of a group that was already over failed"]
    assert run(body) == [True, "cleaned"]


def test_a_timeout_that_comes_with_the_error_still_is_a_timeout():
    """Cancellation is never lost: what asked for it gets what it asked for."""

    async def body(ctx: Context) -> str:
        async def cleans() -> None:
            try:
                await ctx.sleep(100)
            finally:
                await ctx.sleep(5)

        try:
            async with asyncio.timeout(3):
                await ctx.parallel([cleans(), after(ctx, 1, KeyError("first"))])
        except TimeoutError:
            return "timeout"
        return ""

    assert run(body) == "timeout"


def test_a_shielded_group_goes_on():
    """`asyncio.shield` keeps the cancellation from it."""

    async def body(ctx: Context) -> list[object]:
        group = asyncio.create_task(ctx.parallel([after(ctx, 5, "a"), ctx.step(note, "b")]))
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(group)
        except TimeoutError:
            return await group
        return []

    assert run(body) == ["a", "b"]


def test_members_see_the_context_variables_of_their_group():
    """Tasks begun inside a scope belong to it."""
    where = contextvars.ContextVar("where", default="outside")

    async def body(ctx: Context) -> list[str]:
        async def look() -> str:
            await ctx.sleep(1)
            return where.get()

        calls = [look(), look()]
        where.set("inside")
        found = await ctx.parallel(calls, limit=1)
        return [*found, (await ctx.race(one=look()))[1]]

    assert run(body) == ["inside"] * 3


def test_a_workflow_that_ends_while_a_group_runs_in_a_task():
    """It is cancelled as a whole, with one warning for each task that was pending."""

    async def body(ctx: Context) -> str:
        task = asyncio.create_task(ctx.parallel([ctx.sleep(50), after(ctx, 60)]), name="left")
        await ctx.sleep(1)
        return task.get_name()

    recording = live(of(body))
    assert recording.outcome == "left"
    assert len(recording.logs) == 3
    assert run(body) == "left"


@pytest.mark.parametrize("events", range(1, 8))
def test_a_run_that_is_discarded_in_the_middle_of_a_group(events):
    """User code that is closed reaches nothing, and nothing is left to warn about."""

    async def body(ctx: Context) -> None:
        async def member(name: str) -> None:
            try:
                await ctx.step(note, name)
                await ctx.sleep(5)
            finally:
                await ctx.step(note, f"clean {name}")

        race = ctx.race(x=member("c"), y=ctx.map(note, (str(n) for n in range(5)), limit=1))
        await ctx.parallel([member("a"), ctx.parallel({"b": member("b")}), race], limit=2)

    recording = live(of(body), park=0, noise=0)
    instance = Instance(of(body), "run")
    for row in recording.rows[:events]:
        instance.apply(decode_event(row))
    instance.discard()
    assert not instance.calls
