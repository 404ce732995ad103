"""Events through the public API: sent once, kept until somebody wants them, lost by nobody."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from durable import (
    Client,
    Context,
    DurableError,
    Event,
    IllegalTransition,
    PayloadError,
    RunNotFound,
    WaitTimeout,
    Worker,
    workflow,
)
from durable.model.rows import MAX_UNREAD


class Paid(BaseModel):
    amount: int


PAID = Event("paid", Paid)


@workflow
async def pays(ctx: Context) -> int:
    return (await ctx.wait_for_event(PAID)).amount


@workflow
async def collects(ctx: Context, many: int) -> list[int]:
    return [await ctx.wait_for_event("n", int) for _ in range(many)]


@workflow
async def follows(ctx: Context, key: str) -> list[int]:
    return [(await ctx.wait_for_event(PAID, key=key)).amount for _ in range(2)]


@workflow
async def peeks(ctx: Context, key: str) -> int:
    return await ctx.wait_for_event(Event("n", int), key=key, timeout=0, default=-1)


@workflow
async def late(ctx: Context, seconds: float) -> Any:
    return await ctx.wait_for_event("never", timeout=seconds, default="too late")


@workflow
async def both(ctx: Context) -> dict[str, Any]:
    return await ctx.wait_for_all(["a", "b"])


@workflow
async def tells(ctx: Context, target: str) -> str:
    try:
        await ctx.send_event(target, "n", 1)
    except (RunNotFound, IllegalTransition) as error:
        return type(error).__name__
    return "sent"


@workflow
async def announces(ctx: Context, key: str) -> None:
    await ctx.publish(PAID, Paid(amount=7), key=key)


ALL = [peeks, pays, collects, follows, late, both, tells, announces]


async def parked(client: Client, run_id: str) -> None:
    """Wait until a run waits."""
    async with asyncio.timeout(20):
        while (await client.get(run_id)).status != "waiting":
            await asyncio.sleep(0.01)


async def test_an_event_wakes_its_run(client: Client) -> None:
    """An event sent to a run that waits for it is taken by the wait."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(pays)
        await parked(client, handle.id)
        await handle.send_event(PAID, Paid(amount=3))
        assert await handle.result(timeout=20) == 3


async def test_an_event_may_come_before_anybody_works(client: Client) -> None:
    """What is sent to a run that has not begun lies in its inbox."""
    handle = await client.start(pays)
    await client.send_event(handle.id, "paid", {"amount": 4})
    async with Worker(client, workflows=ALL):
        assert await handle.result(timeout=20) == 4


async def test_events_keep_their_order_whoever_sends_them(client: Client) -> None:
    """Events go to the inbox in the order in which they were accepted; many go out in few statements."""
    handle = await client.start(collects, 200)
    async with Worker(client, workflows=ALL):
        await asyncio.gather(*(handle.send_event("n", n) for n in range(100)))
        await client.send_events([(handle.id, "n", n) for n in range(100, 200)])
        assert await handle.result(timeout=60) == list(range(200))


async def test_the_same_key_sends_once(client: Client) -> None:
    """The same `idempotency_key` sends once."""
    handle = await client.start(collects, 2)
    for key in ("a", "a", "b"):
        await handle.send_event("n", 1 if key == "a" else 2, idempotency_key=key)
    async with Worker(client, workflows=ALL):
        assert await handle.result(timeout=20) == [1, 2]


async def test_an_event_for_nobody(client: Client) -> None:
    """`RunNotFound` for an unknown run, `IllegalTransition` for one that has ended."""
    with pytest.raises(RunNotFound, match="nobody"):
        await client.send_event("nobody", "n")
    with pytest.raises(RunNotFound):
        await client.send_events([("nobody", "n")])
    async with Worker(client, workflows=ALL):
        handle = await client.start(late, 0.0)
        assert await handle.result(timeout=20) == "too late"
        with pytest.raises(IllegalTransition, match="has ended"):
            await handle.send_event("n", 1)
        assert await (await client.start(tells, "nobody")).result(timeout=20) == "RunNotFound"
        ended = await client.start(tells, handle.id)
        assert await ended.result(timeout=20) == "IllegalTransition"


async def test_a_run_that_reads_nothing_takes_only_so_much(client: Client) -> None:
    """The limit is told with what to do; what was taken is there in its order, and nothing else."""
    handle = await client.start(collects, MAX_UNREAD)
    await client.send_events([(handle.id, "n", number) for number in range(MAX_UNREAD)])
    with pytest.raises(DurableError, match=r"10,000 unread events, the limit, .* send it again"):
        await handle.send_event("n", MAX_UNREAD)
    with pytest.raises(DurableError, match="10,000 unread events"):
        await client.send_events([(handle.id, "n", -1)])
    async with Worker(client, workflows=ALL):
        assert await handle.result(timeout=60) == list(range(MAX_UNREAD))


@pytest.mark.parametrize("event, payload", [("", 1), ("~cancel", None), ("x" * 256, 1), (3.5, 1)])
async def test_what_is_no_event(client: Client, event: Any, payload: Any) -> None:
    """Event names: not empty, at most 255 characters, not beginning with "~"."""
    handle = await client.start(pays)
    with pytest.raises((ValueError, TypeError)):
        await handle.send_event(event, payload)


async def test_a_payload_of_a_typed_event_is_checked_by_the_sender(client: Client) -> None:
    """`PayloadError` when the payload does not fit the event; an option that waits is refused."""
    handle = await client.start(pays)
    with pytest.raises(PayloadError):
        await handle.send_event(PAID, "x")  # type: ignore[misc]
    with pytest.raises(NotImplementedError, match="conn"):
        await client.send_event(handle.id, "n", conn=object())


async def test_a_run_sends_to_a_run(client: Client) -> None:
    """`ctx.send_event` is done when the event lies in the other's inbox."""
    async with Worker(client, workflows=ALL):
        taker = await client.start(collects, 1)
        assert await (await client.start(tells, taker.id)).result(timeout=20) == "sent"
        assert await taker.result(timeout=20) == [1]


async def test_what_is_published_reaches_every_run_that_waits_and_those_that_will(
    client: Client,
) -> None:
    """Why 21: offered once to every run that waits with that name and key, and kept for later waits."""
    async with Worker(client, workflows=ALL):
        early = [await client.start(follows, "k") for _ in range(3)]
        for handle in early:
            await parked(client, handle.id)
        await client.publish(PAID, Paid(amount=1), key="other")
        await client.publish(PAID, Paid(amount=1), key="k", idempotency_key="w")
        await client.publish(PAID, Paid(amount=1), key="k", idempotency_key="w")
        after = await client.start(follows, "k")
        await (await client.start(announces, "k")).result(timeout=20)
        for handle in (*early, after):
            assert await handle.result(timeout=20) == [1, 7]


async def test_a_wait_times_out(client: Client) -> None:
    """A durable time-out: with `default` its value, without `WaitTimeout`."""

    @workflow(name="fails")
    async def fails(ctx: Context) -> None:
        await ctx.wait_for_event("never", timeout=0.05)

    async with Worker(client, workflows=[*ALL, fails]):
        assert await (await client.start(late, 0.05)).result(timeout=20) == "too late"
        with pytest.raises(WaitTimeout):
            await (await client.start(fails)).result(timeout=20)


async def test_waits_can_be_listed_and_ended(client: Client) -> None:
    """`pending_events` by run, name, key and time; `cancel_wait` lets the oldest time out."""
    async with Worker(client, workflows=ALL):
        waiting = await client.start(late, 5000.0, id="late")
        keyed = await client.start(follows, "k", id="keyed")
        several = await client.start(both, id="both")
        for handle in (waiting, keyed, several):
            await parked(client, handle.id)
        found = {pending.run_id: pending async for pending in client.pending_events(limit=1)}
        assert sorted(found) == ["both", "keyed", "late"]
        assert (found["both"].names, found["both"].mode) == (("a", "b"), "all")
        assert found["keyed"].key == "k"
        assert found["late"].expires_at is not None
        soon = datetime.now(UTC) + timedelta(hours=3)
        for filters, ids in (
            ({"run_id": "late"}, ["late"]),
            ({"name": "a"}, ["both"]),
            ({"key": "k"}, ["keyed"]),
            ({"expiring_before": soon}, ["late"]),
        ):
            page = await client.pending_events(**filters)  # type: ignore[arg-type]
            assert [pending.run_id for pending in page] == ids
        await client.cancel_wait("late", "never")
        assert await waiting.result(timeout=20) == "too late"
        with pytest.raises(RunNotFound):
            await client.cancel_wait("nobody", "never")


async def test_a_time_out_of_nothing_still_takes_what_was_published_before(client: Client) -> None:
    """It asks whether there is something; there is, or there is not."""
    await client.publish("n", 7, key="kept")
    async with Worker(client, workflows=ALL):
        runs = [await client.start(peeks, key) for key in ("kept", "kept", "empty")]
        assert [await run.result(timeout=20) for run in runs] == [7, 7, -1]


async def test_many_runs_get_many_events(client: Client) -> None:
    """Every event is taken once, by its own run, while all of them are sent at the same time."""
    async with Worker(client, workflows=ALL):
        handles = [await client.start(collects, 5) for _ in range(20)]
        await asyncio.gather(*(handle.send_event("n", n) for n in range(5) for handle in handles))
        results = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
    assert results == [[0, 1, 2, 3, 4]] * 20
