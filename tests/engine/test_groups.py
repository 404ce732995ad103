"""`ctx.parallel`, `ctx.map`, `ctx.race`: calls side by side; only their members are in history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from durable.engine.context import Context
from tests.engine.bodies import after, of, run
from tests.engine.driver import failure, live
from tests.engine.workflows import double, note

# -- shape and order


def test_a_list_gives_a_list_in_the_order_given():
    """Results come in the order given, whoever ends first."""

    async def body(ctx: Context) -> list[object]:
        return await ctx.parallel([after(ctx, 3, "slow"), ctx.step(note, "b"), after(ctx, 1, "c")])

    assert run(body) == ["slow", "b", "c"]


def test_a_mapping_keeps_its_keys_and_their_order():
    """`parallel(mapping)` gives the same keys."""

    async def body(ctx: Context) -> list[tuple[str, object]]:
        found = await ctx.parallel({"b": after(ctx, 2, 1), "a": ctx.step(double, 4)})
        assert type(found) is dict
        return list(found.items())

    assert run(body) == [("b", 1), ("a", 8)]


def test_a_tuple_stays_a_tuple():
    """Tuple in, tuple out."""

    async def body(ctx: Context) -> tuple[str, None]:
        return await ctx.parallel((ctx.step(note, "a"), ctx.sleep(1)))

    assert run(body) == ("a", None)


def test_any_iterable_gives_a_list():
    """A generator, a view, an iterator."""

    async def body(ctx: Context) -> list[object]:
        given = {"a": ctx.step(note, "a"), "b": ctx.step(note, "b")}
        return [
            *await ctx.parallel(ctx.step(double, n) for n in range(3)),
            *await ctx.parallel(given.values()),
            *await ctx.parallel(iter([ctx.step(note, "c")])),
        ]

    assert run(body) == [0, 2, 4, "a", "b", "c"]


@pytest.mark.parametrize("empty", [[], (), {}], ids=["list", "tuple", "mapping"])
def test_an_empty_group_gives_an_empty_result_at_once(empty):
    """Nothing is asked for and nothing waited for."""

    async def body(ctx: Context) -> Any:
        return [await ctx.parallel(empty), await ctx.map(double, iter(empty), limit=3)]

    recording = live(of(body))
    assert recording.outcome == [empty, []]
    assert len(recording.trace[0]) == 1  # the workflow's own end


def test_members_may_be_anything_awaitable():
    """Verbs, coroutines, tasks that run already, futures, objects with `__await__`, groups."""

    class Odd:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(1).__await__()
            return "odd"

    async def body(ctx: Context) -> list[object]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.set_result("future")
        task = asyncio.create_task(after(ctx, 2, "task"))
        inner = ctx.parallel([ctx.step(note, "inner")])
        gathering = asyncio.gather(ctx.step(double, 2), ctx.step(double, 3))
        return await ctx.parallel([task, future, Odd(), inner, gathering], limit=2)

    assert run(body) == ["task", "future", "odd", ["inner"], [4, 6]]


def test_one_call_given_twice_runs_once_as_in_gather():
    """`[ctx.step(weigh, order)] * 3`: `gather` takes equal ones for one, and so does this."""

    async def body(ctx: Context) -> list[list[int]]:
        return [
            await ctx.parallel([ctx.step(double, 2)] * 3),
            await ctx.parallel([ctx.step(double, 3)] * 3, limit=1),
        ]

    recording = live(of(body))
    assert recording.outcome == [[4, 4, 4], [6, 6, 6]]
    assert recording.names == ["double", "double"]


def test_a_list_that_changes_afterwards_changes_nothing():
    """A group takes its members when it begins."""

    async def body(ctx: Context) -> list[int]:
        calls = [ctx.step(double, n) for n in range(4)]
        task = asyncio.create_task(ctx.parallel(calls, limit=1))
        await asyncio.sleep(0)
        calls.clear()
        return await task

    assert run(body) == [0, 2, 4, 6]


# -- what is refused


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
@pytest.mark.parametrize("verb", ["parallel", "map"])
def test_a_limit_is_a_positive_int(verb, limit):
    """Anything else is a `ValueError` that names it, at once."""

    async def body(ctx: Context) -> None:
        if verb == "parallel":
            ctx.parallel([], limit=limit)
        else:
            ctx.map(double, [], limit=limit)

    told = failure(of(body))
    assert told.type == "builtins:ValueError"
    assert f"ctx.{verb}(limit=) must be a positive int, not {limit!r}" in told.message


@pytest.mark.parametrize(
    "calls, error, text",
    [
        (lambda ctx: ctx.parallel([], on_error="ignore"), ValueError, "fail_fast, complete_all"),
        (lambda ctx: ctx.parallel(ctx.step(double, 1)), TypeError, "not one Call"),
        (lambda ctx: ctx.map(double, 5), TypeError, "not one int"),
        (
            lambda ctx: ctx.parallel([ctx.step(double, 1), double]),
            TypeError,
            "number 2 is of type Sync",
        ),
        (lambda ctx: ctx.race(), ValueError, "by name"),
        (lambda ctx: ctx.race(a=ctx.sleep(1), b=3), TypeError, "number 2 is of type int"),
    ],
)
def test_what_is_no_group_is_refused(calls, error, text):
    """With what to write instead."""

    async def body(ctx: Context) -> None:
        await calls(ctx)

    told = failure(of(body))
    assert told.type == f"builtins:{error.__name__}"
    assert text in told.message


@pytest.mark.parametrize(
    "calls",
    [lambda ctx: ctx.parallel({ctx.step(double, 1)}), lambda ctx: ctx.map(note, {"a", "b"})],
    ids=["parallel", "map"],
)
def test_a_set_is_refused_as_it_has_no_order(calls):
    """Its order is another one in every process: no replay would be alike."""

    async def body(ctx: Context) -> None:
        await calls(ctx)

    told = failure(of(body))
    assert told.type == "durable.errors:NotAllowedInWorkflow"
    assert "give it a list" in told.message


def test_a_lambda_is_no_step_for_map_either():
    """`DefinitionError`, also when there are no items."""

    async def body(ctx: Context) -> None:
        ctx.map(lambda item: item, [])

    assert failure(of(body)).type == "durable.errors:DefinitionError"


def test_a_member_that_is_refused_leaves_nothing_behind():
    """The others are cancelled or closed: caught, the error leaves no call that was never awaited."""

    async def body(ctx: Context) -> str:
        try:
            await ctx.parallel([ctx.sleep(50), 5, ctx.step(double, 1), after(ctx, 1)])
        except TypeError as error:
            return str(error)
        return ""

    recording = live(of(body))
    assert recording.outcome.endswith("number 2 is of type int")
    assert recording.names == []
    assert recording.logs == []


# -- verbs are lazy


@pytest.mark.parametrize("verb", ["parallel", "map", "race"])
def test_a_group_that_is_never_awaited_is_reported_with_its_members(verb):
    """Nothing happens until it is awaited; forgetting it fails the run, all call sites listed."""

    async def body(ctx: Context) -> str:
        match verb:
            case "parallel":
                ctx.parallel(
                    [
                        ctx.step(note, "a"),
                        ctx.sleep(1),
                    ]
                )
            case "map":
                ctx.map(note, ["a"])
            case _:
                ctx.race(
                    a=ctx.step(note, "a"),
                    b=ctx.sleep(1),
                )
        return await ctx.step(note, "done")

    recording = live(of(body))
    assert recording.names == ["note"]
    told = recording.outcome
    assert told.type == "durable.errors:NotAwaited"
    assert told.message.count("test_groups.py:") == (1 if verb == "map" else 3)


def test_command_numbers_are_taken_in_the_order_given():
    """A group takes no number itself; its members take theirs as they start."""

    async def body(ctx: Context) -> None:
        calls = [ctx.step(note, name) for name in "abc"]
        late = ctx.sleep(9)
        await ctx.step(note, "first")
        await ctx.parallel([late, *calls[::-1]])

    recording = live(of(body), latencies=[0])
    assert [told[1] for told in recording.commands("step")] == [1, 3, 4, 5]
    assert [told[1] for told in recording.commands("timer")] == [2]


def test_a_group_is_awaited_once():
    """Awaiting one call twice is `RuntimeError`."""

    async def body(ctx: Context) -> None:
        call = ctx.parallel([ctx.step(note, "a")])
        await call
        await call

    told = failure(of(body))
    assert told.type == "builtins:RuntimeError"
    assert "was awaited already" in told.message
