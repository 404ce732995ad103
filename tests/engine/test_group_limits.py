"""How many members of a group run at once, how lazily they are taken, and `ctx.map`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from durable.engine.context import Context
from durable.model.events import Err
from tests.engine.bodies import after, decline, of, run
from tests.engine.cost import processor_seconds
from tests.engine.driver import Driver, live
from tests.engine.workflows import double, note

# -- limit


def test_the_next_one_starts_when_one_ends_in_order():
    """Never more than `limit` at once."""
    most = 0
    running = 0

    async def one(ctx: Context, number: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await ctx.step(note, str(number))
        running -= 1
        return number

    async def body(ctx: Context) -> list[int]:
        nonlocal most, running
        most = running = 0
        found = await ctx.parallel([one(ctx, number) for number in range(20)], limit=3)
        assert most == 3
        return found

    for seed in range(5):
        assert run(body, seed=seed) == list(range(20))


def test_with_a_limit_calls_are_taken_lazily():
    """Items and calls are made when there is room for them, not before."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    async def body(ctx: Context) -> str:
        taken.clear()
        task = asyncio.create_task(ctx.map(double, items(), limit=2))
        await asyncio.sleep(0)
        told = f"{taken}"
        found = await task
        taken.clear()
        calls = (ctx.step(double, number) for number in items())
        task = asyncio.create_task(ctx.parallel(calls, limit=3))
        await asyncio.sleep(0)
        return f"{told} {found} {taken} {await task == found}"

    found = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert run(body) == f"[0, 1] {found} [0, 1, 2] True"


def test_an_endless_iterable_is_fine_with_a_limit():
    """Until somebody fails; what it would have given then never exists."""

    async def body(ctx: Context) -> str:
        ended: list[int] = []

        async def one(number: int) -> None:
            await ctx.step(note, f"{number}")
            ended.append(number)
            if number == 7:
                raise StopAsyncIteration

        try:
            await ctx.parallel((one(n) for n in itertools.count()), limit=2)
        except StopAsyncIteration:
            return f"{sorted(ended)}"
        return ""

    assert run(body, latencies=[0, 1, 2]).startswith("[0, 1, 2, 3, 4, 5, ")


@pytest.mark.parametrize("on_error", ["fail_fast", "complete_all"])
def test_an_iterable_that_fails_ends_the_group(on_error):
    """What runs is cancelled and awaited, and its error raised, whatever `on_error` says."""

    def calls(ctx: Context) -> Iterator[Any]:
        yield ctx.sleep(100)
        yield ctx.step(note, "a")
        raise OSError("no more")

    async def body(ctx: Context) -> str:
        try:
            await ctx.parallel(calls(ctx), limit=2, on_error=on_error)
        except OSError as error:
            return str(error)
        return ""

    recording = live(of(body))
    assert recording.outcome == "no more"
    assert len(recording.commands("cancel timer")) == 1
    assert run(body) == "no more"


def test_an_iterator_is_closed_when_its_group_ends_early():
    """A generator's `finally` runs then, and not whenever it is collected; what it raises is logged."""
    closed: list[str] = []

    def calls(ctx: Context) -> Iterator[Any]:
        try:
            while True:
                yield after(ctx, 1, KeyError("x"))
        finally:
            closed.append("closed")
            raise OSError("in finally")

    async def body(ctx: Context) -> str:
        closed.clear()
        try:
            await ctx.parallel(calls(ctx), limit=1)
        except KeyError:
            return f"{closed}"
        return ""

    recording = live(of(body))
    assert recording.outcome == "['closed']"
    assert recording.logs == ["the iterator of a group raised while it was closed"]


def seconds_of_a_group(size: int, limit: int | None, verb: str) -> float:
    """Processor time of a whole run that maps a step over so many items, without what a database costs."""

    async def body(ctx: Context) -> int:
        if verb == "map":
            found = await ctx.map(double, range(size), limit=limit)
        else:
            calls = [ctx.step(double, n) for n in range(size)]
            found = await ctx.parallel(calls, limit=limit, on_error="complete_all")
        return len(found)

    def group() -> None:
        driver = Driver(of(body), latencies=[0], park=0, noise=0)
        while driver.ending is None:
            driver.happen(next(iter(driver.under_way)))
        assert driver.finish().outcome == size

    return processor_seconds(group)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["map", "parallel"])
@pytest.mark.parametrize("limit", [None, 100], ids=["no limit", "limit"])
def test_time_grows_with_the_number_of_items_and_no_faster(verb, limit):
    """10,000 items take ten times as long as 1,000, not a hundred times: nothing looks through all of them."""
    few = seconds_of_a_group(1_000, limit, verb)
    many = seconds_of_a_group(10_000, limit, verb)
    assert many < 30 * few, (few, many)


# -- map


def test_map_runs_a_step_for_every_item():
    """A `Step` or a plain function, as in `ctx.step`; results in the order of the items."""

    def add(number: int) -> int:
        return number + 1

    async def body(ctx: Context) -> list[object]:
        return [
            await ctx.map(double, [3, 1, 2]),
            await ctx.map(add, range(4), limit=2),
            await ctx.map(note, {"a": 1, "b": 2}),
        ]

    recording = live(of(body))
    assert recording.outcome == [[6, 2, 4], [1, 2, 3, 4], ["a", "b"]]
    assert recording.names[:3] == ["double"] * 3
    assert run(body) == recording.outcome


def test_map_collects_errors_with_complete_all():
    """As `parallel` does."""

    async def body(ctx: Context) -> list[bool]:
        found = await ctx.map(decline, [1, 2], on_error="complete_all", limit=10)
        return [
            isinstance(one, Err) and one.error.args == (code + 1,) for code, one in enumerate(found)
        ]

    assert run(body) == [True, True]


def test_the_steps_of_a_map_have_its_line_for_a_site():
    """History and messages name the user's line, not ours."""

    async def body(ctx: Context) -> None:
        await ctx.map(double, [1, 2])

    driver = Driver(of(body))
    sites = {str(command.site) for _, command in driver.under_way.values()}
    assert sites == {f"test_group_limits.py:{body.__code__.co_firstlineno + 1}"}
    driver.finish()


def test_map_makes_a_child_run_of_a_workflow():
    """Through `ctx.call(fn, item)`."""
    child = of(lambda ctx: ctx.sleep(1))
    called: list[tuple[object, ...]] = []

    async def body(ctx: Context) -> list[object]:
        called.clear()

        def call(*args: object) -> Any:
            called.append(args)
            return ctx.step(note, str(args[1]))

        ctx.call = call  # type: ignore[attr-defined,method-assign,assignment,unused-ignore]
        found = await ctx.map(child, [1, 2], limit=1)
        return [*found, called == [(child, 1), (child, 2)]]

    assert run(body) == ["1", "2", True]
