"""Children: runs of their own that a run calls or starts, on every store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable import (
    ChildCancelled,
    ChildFailed,
    Client,
    Context,
    RunAlreadyExists,
    RunFailed,
    WaitTimeout,
    Worker,
    step,
    workflow,
)


class CardDeclinedError(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@step
async def double(n: int) -> int:
    return 2 * n


@step
def decline(code: int) -> None:
    raise CardDeclinedError("declined", code)


@workflow(tags={"kind": "child"})
async def doubles(ctx: Context, n: int) -> int:
    return await ctx.step(double, n)


@workflow
async def declines(ctx: Context, code: int) -> None:
    await ctx.step(decline, code)


@workflow
async def sleeps(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "awake"


@workflow
async def calls(ctx: Context, n: int) -> list[int]:
    return await asyncio.gather(*(ctx.call(doubles, number) for number in range(n)))


@workflow
async def catches(ctx: Context) -> list[object]:
    try:
        await ctx.call(declines, 51, id="declined")
    except CardDeclinedError as error:
        assert isinstance(error, ChildFailed)
        return [error.code, error.run_id, str(error)]
    return []


@workflow
async def limits(ctx: Context) -> list[str]:
    seen = [await ctx.call(sleeps, 1000.0, id="one", timeout=0.05, default="late")]
    try:
        await ctx.call(sleeps, 1000.0, id="other", timeout=0.05)
    except WaitTimeout:
        seen.append("very late")
    return seen


@workflow
async def leaves(ctx: Context) -> str:
    await ctx.start(sleeps, 1000.0, id="with it")
    await ctx.start(sleeps, 0.01, id="alone", on_parent_close="abandon")
    return "gone"


@workflow
async def gives_up(ctx: Context, first: bool) -> str:
    """In the same moment in which it calls."""

    async def at_once() -> str:
        return "won"

    if not first:
        await ctx.step(double, 1)
    _, found = await ctx.race(called=ctx.call(sleeps, 1000.0, id="given up"), other=at_once())
    await ctx.step(double, 2)
    return found


@workflow
async def stops(ctx: Context) -> str:
    handle = await ctx.start(sleeps, 1000.0, id="child")
    await handle.cancel(reason="enough")
    try:
        return await handle.result()
    except ChildCancelled as error:
        return f"{error.run_id}: {error}"


@workflow
async def takes_an_id(ctx: Context, how: str) -> object:
    if how == "existing":
        return await ctx.call(doubles, 4, id="taken", on_conflict="return_existing")
    if how == "restart":
        return await ctx.call(doubles, 5, id="taken", on_conflict="restart")
    try:
        return await ctx.call(doubles, 4, id="taken")
    except RunAlreadyExists:
        return "refused"


ALL = [doubles, declines, sleeps, calls, catches, limits, leaves, gives_up, stops, takes_an_id]


async def test_a_run_waits_for_its_children(client: Client) -> None:
    """Children are runs of their own, found by their parent, with its root and their own tags."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(calls, 20, id="parent")
        assert await handle.result(timeout=20) == [2 * n for n in range(20)]
    children = [run async for run in client.children("parent")]
    assert len(children) == 20
    assert {run.parent_id for run in children} == {run.root_id for run in children} == {"parent"}
    assert {run.tags["kind"] for run in children} == {"child"}
    assert {run.status for run in children} == {"completed"}


async def test_a_parent_and_its_child_on_different_workers(client: Client) -> None:
    """Nothing crosses from one run to another except through an inbox."""
    async with Worker(client, workflows=[calls]), Worker(client, workflows=[doubles]):
        assert await (await client.start(calls, 5)).result(timeout=20) == [0, 2, 4, 6, 8]


async def test_a_childs_exception_keeps_its_class(client: Client) -> None:
    """It arrives as itself and as `ChildFailed`, in the parent; and as `RunFailed` at the client."""
    async with Worker(client, workflows=ALL):
        told = await (await client.start(catches)).result(timeout=20)
        assert told == [51, "declined", "declined"]
        with pytest.raises(CardDeclinedError) as raised:
            await client.handle("declined").result(timeout=20)
        assert isinstance(raised.value, RunFailed)


async def test_a_call_that_takes_too_long(client: Client) -> None:
    """When the time-out passes the child is cancelled, `WaitTimeout` or `default`."""
    async with Worker(client, workflows=ALL):
        assert await (await client.start(limits)).result(timeout=20) == ["late", "very late"]
        for child in ("one", "other"):
            assert await ends(client, child) == "cancelled"


async def test_children_at_the_end_of_their_parent(client: Client) -> None:
    """Started children follow `on_parent_close`."""
    async with Worker(client, workflows=ALL):
        assert await (await client.start(leaves)).result(timeout=20) == "gone"
        assert await ends(client, "with it") == "cancelled"
        assert await ends(client, "alone") == "completed"


@pytest.mark.parametrize("first", [True, False])
async def test_a_call_that_is_given_up_at_once(client: Client, first: bool) -> None:
    """The child is cancelled, though it was not there when its parent gave it up."""
    async with Worker(client, workflows=ALL):
        assert await (await client.start(gives_up, first)).result(timeout=20) == "won"
        assert await ends(client, "given up") == "cancelled"


async def test_a_parent_stops_its_child(client: Client) -> None:
    """A cancelled child is `ChildCancelled`."""
    async with Worker(client, workflows=ALL):
        told = await (await client.start(stops)).result(timeout=20)
    assert told == "child: child child was cancelled: enough"


@pytest.mark.parametrize("how, expected", [("raise", "refused"), ("existing", 6), ("restart", 10)])
async def test_an_id_that_is_taken(client: Client, how: str, expected: object) -> None:
    """`on_conflict` says what becomes of it."""
    async with Worker(client, workflows=ALL):
        await (await client.start(doubles, 3, id="taken")).result(timeout=20)
        assert await (await client.start(takes_an_id, how)).result(timeout=20) == expected


async def test_a_child_goes_on_while_its_parent_has_no_worker(client: Client) -> None:
    """Its report is kept; the parent reads it when somebody drives it again."""
    async with Worker(client, workflows=[calls]):
        handle = await client.start(calls, 3)
        async with asyncio.timeout(20):
            while len([run async for run in client.children(handle.id)]) < 3:
                await asyncio.sleep(0.01)
    async with Worker(client, workflows=[doubles]):
        async with asyncio.timeout(20):
            while (await client.count(workflow=doubles)).get("completed") != 3:
                await asyncio.sleep(0.01)
    async with Worker(client, workflows=[calls]):
        assert await handle.result(timeout=20) == [0, 2, 4]


async def ends(client: Client, run_id: str, within: timedelta = timedelta(seconds=20)) -> str:
    """The status with which a run ends."""
    async with asyncio.timeout(within.total_seconds()):
        while (run := await client.get(run_id)).finished_at is None:
            await asyncio.sleep(0.01)
    return run.status
