"""Long lives: continue_as_new, retries of whole runs, states and patches, on every store."""

from __future__ import annotations

import asyncio

import pytest

from durable import Client, Context, Retry, RunFailed, Worker, step, workflow

TRIES: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    TRIES.clear()


@step
async def add(n: int) -> int:
    return n + 1


@step
async def give_back(what: str) -> None:
    TRIES.append(f"undo {what}")


@step(compensate=give_back)
async def take(what: str) -> str:
    TRIES.append(what)
    return what


@workflow
async def sleeps(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "awake"


@workflow
async def counts(ctx: Context, at: tuple[int, int]) -> list[str]:
    number, left = at
    ctx.set_state("number", number)
    if number == 0:
        await ctx.start(sleeps, 1000.0, id="child")
    number = await ctx.step(add, number)
    if left:
        await ctx.continue_as_new((number, left - 1))
    return [str(number), str(ctx.uuid())]


@workflow(retry=Retry(max_attempts=3, initial=0.01, jitter=0))
async def shaky(ctx: Context, fails: int) -> int:
    await ctx.step(take, "a")
    tries = TRIES.count("a")
    if tries <= fails:
        raise ConnectionError(tries)
    return tries


@workflow(name="changes")
async def before(ctx: Context) -> str:
    await ctx.sleep(0.05)
    return "old"


@workflow(name="changes")
async def after(ctx: Context) -> str:
    await ctx.sleep(0.05)
    return "new" if ctx.patched("way") else "old"


@workflow(name="turns")
async def turns_old(ctx: Context) -> str:
    n = await ctx.step(add, 1)
    await ctx.sleep(0.3)
    return f"old {n}"


@workflow(name="turns")
async def turns_new(ctx: Context) -> str:
    n = await ctx.step(add, 1) if not ctx.patched("way") else await ctx.step(add, 10)
    await ctx.sleep(0.3)
    return f"new {n}"


ALL = [sleeps, counts, shaky]


async def test_a_run_continues_as_new(client: Client) -> None:
    """It keeps its id and its children; replay starts from there; history stays gapless."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(counts, (0, 5), id="counter")
        number, _ = await handle.result(timeout=20)
        assert number == "6"
        async with asyncio.timeout(20):
            while (await client.get("child")).status != "cancelled":
                await asyncio.sleep(0.01)
    history = [event async for event in client.history("counter")]
    assert [event.seq for event in history] == list(range(1, len(history) + 1))
    assert [event.type for event in history].count("ContinuedAsNew") == 5
    assert await client.state("counter") == {"number": 5}


async def test_generations_under_changing_workers(client: Client) -> None:
    """Whoever takes the run begins at its newest generation."""
    handle = None
    for _ in range(3):
        async with Worker(client, workflows=ALL):
            if handle is None:
                handle = await client.start(counts, (0, 60))
            await asyncio.sleep(0.05)
    async with Worker(client, workflows=ALL):
        assert handle is not None
        assert (await handle.result(timeout=20))[0] == "61"


async def test_a_whole_run_is_tried_again(client: Client) -> None:
    """It keeps the id: undos first, then a new generation."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(shaky, 2)
        assert await handle.result(timeout=20) == 3
    assert TRIES == ["a", "undo a", "a", "undo a", "a"]


async def test_a_run_that_fails_too_often(client: Client) -> None:
    """The last attempt's failure is the run's."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(shaky, 9)
        with pytest.raises(ConnectionError) as raised:
            await handle.result(timeout=20)
        assert isinstance(raised.value, RunFailed)
    assert TRIES == ["a", "undo a"] * 3
    assert await handle.status() == "compensated"


async def test_states_are_seen_from_outside(client: Client) -> None:
    """`client.state` gives the newest value of each key; it commits with the next commit."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(counts, (0, 0))
        await handle.result(timeout=20)
    assert await client.state(handle.id) == {"number": 0}
    assert (await client.get(handle.id)).state == {"number": 0}


async def test_new_code_takes_the_new_way_where_history_allows_it(client: Client) -> None:
    """A run that has not come to the patch takes it; one that has gone the old way stays on it."""
    async with Worker(client, workflows=[before, turns_old]):
        early = await client.start(before)
        late = await client.start(turns_old)
        async with asyncio.timeout(20):
            while len([event async for event in client.history(late.id)]) < 2:
                await asyncio.sleep(0.01)
            while len([event async for event in client.history(early.id)]) < 2:
                await asyncio.sleep(0.01)
    async with Worker(client, workflows=[after, turns_new]):
        assert await early.result(timeout=20) in ("new", "old")
        assert await late.result(timeout=20) == "new 2"
        assert await (await client.start(turns_new)).result(timeout=20) == "new 11"
