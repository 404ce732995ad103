"""Steps side by side through the public API: limits, errors, races, and what of them runs again after a crash."""

from __future__ import annotations

import asyncio
import threading

import pytest

from durable import Client, Context, Err, Ok, RunFailed, Worker, days, step, workflow


class Board:
    """What steps of this process saw."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.begun: list[object] = []


BOARD = Board()


@pytest.fixture(autouse=True)
def _fresh_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.BOARD", Board(), raising=True)


class NoMoneyError(Exception):
    pass


@step
async def busy(item: int) -> int:
    BOARD.begun.append(item)
    BOARD.running += 1
    BOARD.most = max(BOARD.most, BOARD.running)
    await asyncio.sleep(0.01)
    BOARD.running -= 1
    return item * 10


@step
def in_thread(item: int) -> str:
    return f"{item} {threading.current_thread() is not threading.main_thread()}"


@step
async def decline(item: int) -> int:
    BOARD.begun.append(f"decline {item}")
    if item == 2:
        message = "not enough"
        raise NoMoneyError(message)
    return item


@step
async def slow(item: int) -> str:
    BOARD.begun.append("slow")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        BOARD.begun.append("stopped")
        raise
    return "slow"


@step
async def clean(what: str) -> str:
    BOARD.begun.append(what)
    return what


@workflow
async def shapes(ctx: Context) -> tuple[dict[str, int], list[str], tuple[int, None]]:
    named = await ctx.parallel({"b": ctx.step(busy, 2), "a": ctx.step(busy, 1)})
    listed = await ctx.parallel(ctx.step(in_thread, n) for n in range(3))
    both = await ctx.parallel((ctx.step(busy, 7), ctx.sleep(0.01)))
    return named, listed, both


@workflow
async def limited(ctx: Context, items: int) -> list[int]:
    return await ctx.map(busy, range(items), limit=3)


@workflow
async def fails_fast(ctx: Context) -> str:
    async def tidy() -> None:
        try:
            await ctx.step(slow, 1)
        finally:
            await ctx.step(clean, "tidied")

    await ctx.parallel([tidy(), ctx.step(decline, 2)])
    return "never"


@workflow
async def completes_all(ctx: Context) -> list[str]:
    told: list[str] = []
    for outcome in await ctx.map(decline, [1, 2, 3], on_error="complete_all"):
        match outcome:
            case Ok(value):
                told.append(f"ok {value}")
            case Err(error):
                told.append(f"{isinstance(error, NoMoneyError)} {error}")
    return told


@workflow
async def races(ctx: Context) -> list[str]:
    late, _ = await ctx.race(work=ctx.step(slow, 1), late=ctx.sleep(0.05))
    name, value = await ctx.race(late=ctx.sleep(days(3)), work=ctx.step(busy, 4))
    return [late, f"{name} {value}"]


async def outcome(client: Client, run: object, *inputs: object) -> object:
    """What a run gives, on a worker of its own."""
    async with Worker(client, workflows=[run]):  # type: ignore[list-item]
        handle = await client.start(run, *inputs, id="one")  # type: ignore[call-overload]
        return await handle.result(timeout=30)


async def test_results_come_in_the_shape_and_order_given(client: Client) -> None:
    named, listed, both = await outcome(client, shapes)  # type: ignore[misc]
    assert list(named.items()) == [("b", 20), ("a", 10)]
    assert listed == ["0 True", "1 True", "2 True"]
    assert both == (70, None)


async def test_a_limit_holds_for_steps(client: Client) -> None:
    assert await outcome(client, limited, 20) == [n * 10 for n in range(20)]
    assert BOARD.most == 3
    assert sorted(BOARD.begun) == list(range(20))  # type: ignore[type-var]


async def test_fail_fast_stops_a_slow_sibling_and_raises_the_error_itself(client: Client) -> None:
    with pytest.raises(RunFailed, match="not enough") as caught:
        await outcome(client, fails_fast)
    assert isinstance(caught.value, NoMoneyError)
    assert "tidied" in BOARD.begun
    assert await client.count() == {"failed": 1}


async def test_complete_all_gives_an_outcome_for_each(client: Client) -> None:
    assert await outcome(client, completes_all) == ["ok 1", "True not enough", "ok 3"]


async def test_a_race_against_a_sleep(client: Client) -> None:
    assert await outcome(client, races) == ["late", "work 40"]
    # On a busy machine the sleep may be over before the attempt has begun.
    assert ("stopped" in BOARD.begun) == ("slow" in BOARD.begun)


async def test_members_that_have_ended_do_not_run_again_on_another_worker(client: Client) -> None:
    """A worker that has nothing in memory replays the group and goes on."""
    gate = asyncio.Event()

    @step
    async def waits(item: int) -> int:
        BOARD.begun.append(item)
        if item >= 3:
            await gate.wait()
        return item

    @workflow
    async def gated(ctx: Context) -> list[int]:
        found = await ctx.map(waits, range(6), limit=2)
        await ctx.sleep(0.01)
        return found

    handle = await client.start(gated, id="gated")
    async with Worker(client, workflows=[gated], grace=0):
        while not {3, 4} <= set(BOARD.begun):
            await asyncio.sleep(0.005)
    assert sorted(BOARD.begun) == [0, 1, 2, 3, 4]  # type: ignore[type-var]
    gate.set()
    async with Worker(client, workflows=[gated]):
        assert await handle.result(timeout=30) == list(range(6))
    assert sorted(BOARD.begun[5:]) == [3, 4, 5]  # type: ignore[type-var]
