"""`ctx.race`: the first to end in history order wins."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from durable.engine.context import Context
from durable.model.events import Request
from tests.engine.bodies import after, decline, of, run
from tests.engine.driver import Asked, Sent, live, same_on_replay
from tests.engine.workflows import note


def test_the_first_to_end_in_history_wins():
    """`(name, value)`; the losers are cancelled."""

    async def body(ctx: Context) -> tuple[str, object]:
        return await ctx.race(slow=after(ctx, 5, "s"), fast=after(ctx, 2, "f"), late=ctx.sleep(9))

    recording = live(of(body))
    assert recording.outcome == ("fast", "f")
    assert len(recording.commands("cancel timer")) == 2
    assert run(body) == ("fast", "f")


def test_a_loser_has_ended_its_cleanup_when_the_race_gives_its_answer():
    """Losers are cancelled and awaited."""

    async def body(ctx: Context) -> list[str]:
        seen: list[str] = []

        async def loser() -> None:
            try:
                await ctx.sleep(100)
            finally:
                seen.append(await ctx.step(note, "cleaned"))

        name, _ = await ctx.race(a=loser(), b=ctx.sleep(1))
        return [*seen, name]

    assert run(body) == ["cleaned", "b"]


def test_the_error_of_the_winner_is_raised():
    """And that of a loser is not."""

    async def body(ctx: Context) -> list[object]:
        told: list[object] = []
        try:
            await ctx.race(a=ctx.sleep(100), b=ctx.step(decline, 3))
        except KeyError as error:
            told.append(error.args[0])
        told.append(await ctx.race(a=after(ctx, 1, "a"), b=after(ctx, 2, OSError("never"))))
        return told

    assert run(body, latencies=[0]) == [3, ("a", "a")]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")), ids="".join)
def test_of_those_that_end_by_the_same_event_the_first_named_wins(order):
    """However many turns of the loop each of them takes until it has ended."""

    async def body(ctx: Context) -> str:
        shared = asyncio.create_task(ctx.step(note, "shared"))

        async def waits(turns: int) -> int:
            await asyncio.wait([shared])
            for _ in range(turns):
                await asyncio.sleep(0)
            return turns

        turns = dict(zip("abc", [0, 3, 7], strict=True))
        name, value = await ctx.race(**{one: waits(turns[one]) for one in order})
        return f"{name} {value == turns[name]}"

    assert run(body) == f"{order[0]} True"


def test_of_those_that_need_no_event_at_all_the_first_named_wins():
    """They end by the event during which the race began."""

    async def body(ctx: Context) -> list[object]:
        async def now(turns: int) -> int:
            for _ in range(turns):
                await asyncio.sleep(0)
            return turns

        done = asyncio.create_task(now(0))
        await done
        return [
            await ctx.race(a=now(5), b=now(0), c=ctx.sleep(0)),
            await ctx.race(b=now(1), a=done),
            await ctx.race(self=done, other=done),
        ]

    assert run(body) == [("a", 5), ("b", 1), ("self", 0)]


def test_a_loser_that_failed_by_the_same_event_is_in_the_log():
    """It is raised nowhere, so it is told."""

    async def body(ctx: Context) -> tuple[str, object]:
        shared = asyncio.create_task(ctx.step(note, "shared"))

        async def fails() -> None:
            await shared
            raise KeyError("tie")

        return await ctx.race(a=after_task(shared), b=fails())

    async def after_task(task: asyncio.Task[str]) -> str:
        value = await task
        await asyncio.sleep(0)
        return value

    recording = live(of(body))
    assert recording.outcome == ("a", "shared")
    assert recording.logs == ["a member of a group that was already over failed"]


def test_a_race_inside_a_race():
    """The inner winner is a member like any other."""

    async def body(ctx: Context) -> tuple[str, object]:
        inner = ctx.race(x=after(ctx, 2, "x"), y=after(ctx, 3, "y"))
        return await ctx.race(inner=inner, late=ctx.sleep(9))

    assert run(body) == ("inner", ("x", "x"))


STOP = Sent(0, "stop")
ASK = Request("ask", str, str)


async def _actor(ctx: Context) -> list[str]:
    """The loop of an actor: one of two events at a time, while both come."""
    await ctx.sleep(1)
    seen: list[str] = []
    while "stop" not in seen:
        name, value = await ctx.race(m=ctx.wait_for_event("m"), stop=ctx.wait_for_event("stop"))
        seen.append("stop" if name == "stop" else value)
    return [*seen, *await _left(ctx, "m")]


async def _left(ctx: Context, name: str) -> list[str]:
    """The events of this name that nobody has taken."""
    left: list[str] = []
    while (value := await ctx.wait_for_event(name, timeout=0, default=None)) is not None:
        left.append(value)
    return left


def _m(value: str) -> Sent:
    return Sent(0, "m", value)


@pytest.mark.parametrize(
    "sends, seen",
    [
        ([_m("1"), _m("2"), STOP], ["1", "2", "stop"]),
        ([_m("1"), STOP, _m("2")], ["1", "stop", "2"]),
        ([STOP, _m("1"), _m("2")], ["stop", "1", "2"]),
    ],
    ids=["at the end", "between", "at once"],
)
def test_of_events_that_had_come_before_the_first_wins_and_the_others_stay(sends, seen):
    """An event that a loser waited for stays in the inbox, in its place."""
    recording = live(of(_actor), sends=sends)
    assert recording.outcome == seen
    assert same_on_replay(of(_actor), recording)


def test_a_request_that_a_loser_found_can_still_be_answered():
    async def body(ctx: Context) -> list[object]:
        await ctx.sleep(1)
        name, _ = await ctx.race(m=ctx.wait_for_event("m"), ask=ctx.wait_for_request(ASK))
        request = await ctx.wait_for_request(ASK, timeout=0, default=None)
        assert request is not None
        request.reply("yes")
        return [name, request.payload]

    recording = live(of(body), sends=[_m("1"), Asked(0, "ask", "q")])
    assert recording.outcome == ["m", "q"]


def test_a_race_that_is_cancelled_before_it_was_over_has_taken_nothing():
    async def body(ctx: Context) -> list[str]:
        await ctx.sleep(1)
        race = asyncio.create_task(ctx.race(m=ctx.wait_for_event("m"), other=ctx.sleep(5)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        race.cancel()
        await asyncio.wait([race])
        assert race.cancelled()
        return await _left(ctx, "m")

    assert live(of(body), sends=[_m("1")]).outcome == ["1"]


def test_what_needs_no_event_and_is_named_first_wins_over_an_event():
    async def body(ctx: Context) -> list[object]:
        async def now() -> str:
            return "now"

        await ctx.sleep(1)
        won = await ctx.race(now=now(), m=ctx.wait_for_event("m"))
        again = await ctx.race(m=ctx.wait_for_event("m"), now=now())
        return [won, again]

    assert live(of(body), sends=[_m("1")]).outcome == [("now", "now"), ("m", "1")]
