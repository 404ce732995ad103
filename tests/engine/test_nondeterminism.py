"""Changed code meets an old history: found at the first event that does not fit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.errors import NondeterminismError
from durable.model.definition import step, workflow
from durable.model.wire import decode_event
from tests.engine.driver import live, replay
from tests.engine.workflows import note


@step
def reserve(item: str) -> str:
    return f"reserved {item}"


@step
def charge(amount: int) -> str:
    return f"charged {amount}"


@step(name="ship")
def ship_it(item: str) -> str:
    return f"shipped {item}"


async def _as_it_was(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 10)
    await ctx.sleep(5)
    await ctx.step(ship_it, "book")


Body = Callable[[Context], Coroutine[Any, Any, None]]


def order(body: Body) -> Any:
    """A workflow of one and the same name with another body."""

    async def order(ctx: Context) -> None:
        await body(ctx)

    return workflow(order)


@pytest.fixture(scope="module")
def rows():
    """The history of the code as it was."""
    return live(order(_as_it_was), latencies=[1000], noise=0, park=0).rows


def refused(body: Body, rows: Any) -> tuple[int, str]:
    """At which event changed code is found out, and what is said."""
    instance = Instance(order(body), "order-42")
    try:
        for row in rows:
            try:
                instance.apply(decode_event(row))
            except NondeterminismError as error:
                return row.seq, str(error)
    finally:
        instance.discard()
    pytest.fail("the change was not found")


async def _renamed(ctx: Context) -> None:
    await ctx.step(step(reserve.fn, name="hold"), "book")
    await ctx.step(charge, 10)


async def _swapped(ctx: Context) -> None:
    await ctx.step(charge, 10)
    await ctx.step(reserve, "book")


async def _inserted(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(note, "new")
    await ctx.step(charge, 10)


async def _removed(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.sleep(5)
    await ctx.step(ship_it, "book")


async def _removed_at_the_end(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 10)
    await ctx.sleep(5)


async def _other_arguments(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 11)


async def _a_timer_instead(ctx: Context) -> None:
    await ctx.sleep(5)
    await ctx.step(charge, 10)


async def _a_step_instead(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 10)
    await ctx.step(ship_it, "book")


async def _side_by_side(ctx: Context) -> None:
    await asyncio.gather(ctx.step(charge, 10), ctx.step(reserve, "book"))


async def _given_up(ctx: Context) -> None:
    task = asyncio.create_task(ctx.step(reserve, "book"))
    await asyncio.sleep(0)
    task.cancel()
    await ctx.step(charge, 10)


CHANGES = [
    (_renamed, 2, "step reserve", "step hold"),
    (_swapped, 2, "step reserve", "step charge"),
    (_inserted, 3, "step charge", "step note"),
    (_removed, 3, "step charge", "timer sleep"),
    (_removed_at_the_end, 5, "step ship", "nothing here"),
    (_other_arguments, 3, "step charge", "step charge .* with other arguments"),
    (_a_timer_instead, 2, "step reserve", "timer sleep"),
    (_a_step_instead, 4, "timer sleep", "step ship"),
    (_side_by_side, 2, "step reserve", "step charge"),
    (_given_up, 2, "step reserve", "has dropped what it asked for"),
]


@pytest.mark.parametrize(
    "body, seq, recorded, code", CHANGES, ids=[change[0].__name__ for change in CHANGES]
)
def test_a_change_is_found_at_the_first_event_that_does_not_fit(rows, body, seq, recorded, code):
    """It names both sides, and the lines of code where they are known."""
    found, message = refused(body, rows)
    assert found == seq
    site = r"( \(test_nondeterminism\.py:\d+\))?"
    assert re.fullmatch(
        rf"run order-42 cannot go on: the code no longer matches its history at command {seq - 1}: "
        rf"history has {recorded}{site}, the code .*{code}.*",
        message,
    )
    assert message.count("test_nondeterminism.py:") == 1 + code.startswith(("step", "timer")) - (
        recorded == "timer sleep"
    )


async def _only_moved(ctx: Context) -> None:
    """Other lines, other variables, another way to write the same."""
    reserved = asyncio.create_task(ctx.step(reserve, "book"))
    await reserved
    charging = ctx.step(charge, 10)
    await asyncio.wait_for(charging, None)
    async with asyncio.timeout(None):
        await asyncio.sleep(5)
    await asyncio.shield(ctx.step(ship_it, "book"))


async def _another_delay(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 10)
    await ctx.sleep(50)
    await ctx.step(ship_it, "book")


async def _more_at_the_end(ctx: Context) -> None:
    await _as_it_was(ctx)
    await ctx.step(note, "thanks")


@pytest.mark.parametrize("body", [_as_it_was, _only_moved, _another_delay, _more_at_the_end])
def test_what_asks_for_the_same_is_no_change(rows, body):
    """Unchanged commands never raise a non-determinism error: the same kinds, names and arguments in order."""
    trace = replay(order(body), rows[:-1])
    commands = [told[0] for commands in trace for told in commands]
    assert commands[:4] == ["step", "step", "timer", "step"]


@pytest.mark.parametrize("mode", ["strict", "warn", "ignore"])
def test_fingerprint_says_what_other_arguments_do(mode):
    """`fingerprint="strict|warn|ignore"`: block the run, write a warning, or nothing."""

    def pays(amount: int) -> Any:
        @workflow(name="pays")
        async def pays(ctx: Context) -> str:
            return await ctx.step(charge.options(fingerprint=mode), amount)

        return pays

    rows = live(pays(10), noise=0, park=0).rows
    instance = Instance(pays(11), "order-42")
    instance.apply(decode_event(rows[0]))
    if mode == "strict":
        with pytest.raises(NondeterminismError, match="with other arguments"):
            instance.apply(decode_event(rows[1]))
    else:
        instance.apply(decode_event(rows[1]))
        assert instance.finished
    assert [
        bool(re.search(r"order-42.*step charge.*other arguments", w)) for w in instance.warnings
    ] == ([True] if mode == "warn" else [])
    instance.discard()


def test_a_fingerprint_is_that_of_the_arguments_given():
    """Defaults are not bound: changing a default breaks nothing, and the order of names means nothing."""

    def greet_before(name: str, greeting: str = "hello", end: str = ".") -> str:
        return f"{greeting} {name}{end}"

    def greet_after(name: str, greeting: str = "hi", end: str = "!") -> str:
        return f"{greeting} {name}{end}"

    def greets(fn: Any, **named: str) -> Any:
        @workflow(name="greets")
        async def greets(ctx: Context) -> str:
            return await ctx.step(step(fn, name="greet"), "Ann", **named)

        return greets

    rows = live(greets(greet_before), noise=0, park=0).rows
    assert replay(greets(greet_after), rows)
    rows = live(greets(greet_before, greeting="a", end="b"), noise=0, park=0).rows
    assert replay(greets(greet_before, end="b", greeting="a"), rows)
    with pytest.raises(NondeterminismError):
        replay(greets(greet_before, end="a", greeting="b"), rows)


def test_what_a_timer_promised_holds():
    """A timer that was recorded when its run parked falls due when it was promised, whatever the code says now."""
    from durable.model.commands import StartTimer
    from tests.engine.driver import Driver

    def sleeps(seconds: float) -> Any:
        @workflow(name="sleeps")
        async def sleeps(ctx: Context) -> None:
            await ctx.sleep(seconds)

        return sleeps

    driver = Driver(sleeps(10))
    driver.park_now()
    promised = driver.under_way[1][0]
    instance = Instance(sleeps(9999), "run")
    commands = [c for row in driver.recording.rows for c in instance.apply(decode_event(row))]
    assert isinstance(commands[-1], StartTimer)
    assert commands[-1].due == promised
    instance.discard()
