"""Runs that really happened, as the command line tells of them."""

from __future__ import annotations

import asyncio

import pytest

from durable import Client, Context, Request, RunFailed, Worker, days, step, workflow

PRICE = Request("price", str, int)


@step
async def cancel_room(room: str) -> None: ...


@step(compensate=cancel_room)
async def book_room() -> str:
    return "room-7"


@workflow
async def child(ctx: Context, n: int) -> int:
    if n == 2:
        raise ValueError("two is too many")
    return n


@workflow
async def trip(ctx: Context) -> None:
    ctx.set_state("phase", "booking")
    await ctx.step(book_room)
    await ctx.parallel([ctx.call(child, n) for n in (1, 2)], on_error="complete_all")
    ctx.set_state("phase", "asking")
    await ctx.wait_for_approval("boss", to=["ann", "bob"], prompt="Shall we?")
    await ctx.wait_for_event("paid")
    asked = await ctx.wait_for_request(PRICE)
    asked.reply(42)
    raise RuntimeError("no luck")


@workflow
async def many(ctx: Context) -> None:
    await asyncio.gather(*(ctx.call(child, n + 10) for n in range(200)))


@workflow
async def waits(ctx: Context) -> None:
    ask = ctx.wait_for_approval("boss", to="ann", prompt="Shall we?", timeout=days(3))
    await asyncio.gather(ask, ctx.wait_for_event("paid", key="o-1"))


async def until_waiting(client: Client, run_id: str, words: str) -> None:
    async with asyncio.timeout(20):
        while words not in " ".join((await client.get(run_id, steps=False)).waiting_for):
            await asyncio.sleep(0.02)


async def happen(url: str) -> None:
    async with Client(url) as client, Worker(client, workflows=[trip, child, many, waits]):
        handle = await client.start(trip, id="trip")
        await handle.provide_input("boss", {"approved": True, "comment": "go"}, by="ann", wait=20)
        await until_waiting(client, "trip", "event paid")
        await handle.send_event("paid", {"cents": 5})
        assert await handle.request(PRICE, "lamp", timeout=20) == 42
        with pytest.raises(RunFailed):
            await handle.result(timeout=20)
        await (await client.start(many, id="many")).result(timeout=60)
        await client.start(waits, id="waits")
        await until_waiting(client, "waits", "event paid")
        await client.start(waits, id="held")
        await until_waiting(client, "held", "event paid")
        await client.pause("held")
        await client.resume("held")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database in which it all has happened."""
    url = f"sqlite:///{tmp_path_factory.mktemp('told') / 'x.db'}"
    asyncio.run(happen(url))
    return url


def test_a_history_tells_who_was_asked_and_what_came(durable, told):
    lines = durable("history", "trip", "--url", told).out
    for words in (
        "is booking",
        "result room-7, took ",
        "child trip.3 completed, result 1",
        "child trip.4 failed, ValueError: two is too many",
        "asks ann, bob for approval, “Shall we?”",
        'ann answered {"approved": true, "comment": "go"}',
        "waits for event paid",
        '{"cents": 5}, taken by wait ',
        "asks lamp",
        "is answered: 42",
        "undoes what it has done",
        "undid book_room, took ",
        "RuntimeError: no luck, what it did is undone",
    ):
        assert words in lines, words


def test_an_inspected_run_sums_it_up(durable, told):
    lines = durable("inspect", "trip", "--url", told).out
    for words in (
        "  state    phase = asking",
        '  asked    boss: ann, bob: Shall we? → ann: {"approved": true, "comment": "go"}',
        "  children 2: 1 completed, 1 failed",
        "  undone   book_room by cancel_room, completed",
        "  error    RuntimeError: no luck",
        "   answered by ann",
        "   undoes book_room",
    ):
        assert words in lines, words


def test_two_hundred_children_fit_on_a_page(durable, told):
    lines = durable("inspect", "many", "--url", told).out.splitlines()
    assert len(lines) < 12
    assert any("child x 200" in line and "200 done" in line for line in lines)
    assert "  children 200: 200 completed" in lines


def test_a_list_says_what_runs_wait_for_and_until_when(durable, told):
    listed = durable("list", "--status", "waiting", "--url", told).out
    (line,) = [line for line in listed.splitlines() if line.startswith("waits")]
    assert "input boss from ann until 2" in line
    assert "event paid under key o-1" in line


def test_a_waiting_run_says_it_line_by_line(durable, told):
    out = durable("inspect", "waits", "--url", told).out
    assert "  waits    event paid under key o-1\n" in out
    assert "  asked    boss: ann: Shall we?\n" in out


def test_a_pause_stands_in_the_history_and_in_the_picture(durable, told):
    assert "nothing new begins" in durable("history", "held", "--url", told).out
    lines = durable("inspect", "held", "--url", told).out.splitlines()
    assert any(line.startswith("  paused ") for line in lines)
