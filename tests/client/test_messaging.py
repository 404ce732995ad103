"""Sending: in batches that keep their order, once whatever is lost; asking: one query for all who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Client, Context, DurableError, Request, RunNotFound, workflow
from durable.client import batches as room
from durable_testing.faults import COMMIT_THEN_ERROR, ERROR_BEFORE, FaultyStorage, Gate, Hold
from tests.worker.world import World, world_with

ADD = Request("add", int, int)


@workflow
async def collects(ctx: Context, many: int) -> list[int]:
    return [await ctx.wait_for_event("n", int) for _ in range(many)]


@workflow
async def follows(ctx: Context, many: int) -> list[int]:
    return [await ctx.wait_for_event("n", int, key="k") for _ in range(many)]


@workflow
async def asks(ctx: Context) -> str:
    words = await ctx.wait_for_text("q")
    return f"{words} {await ctx.wait_for_event('n', int, timeout=0, default='nothing else')}"


@workflow
async def serves(ctx: Context, many: int) -> None:
    requests = [await ctx.wait_for_request(ADD) for _ in range(many)]
    for request in requests:
        request.reply(request.payload + 1)


@pytest.fixture
async def client() -> Any:
    async with Client("sqlite://") as client:
        client.storage = FaultyStorage(client.storage)
        client._post._store = client.storage
        yield client


async def test_sends_that_come_during_a_send_go_out_together_and_in_order(client: Any) -> None:
    """Concurrent sends from one process are batched like starts; the order per run is kept."""
    handles = await client.start_many(collects, [25, 25])
    gate = Gate()
    client.storage._fault_of = lambda op: (
        Hold(gate) if (op.verb, op.nth) == ("deliver", 1) else None
    )
    sends = [asyncio.create_task(handles[n % 2].send_event("n", n)) for n in range(50)]
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await asyncio.sleep(0)
        gate.release()
        await asyncio.gather(*sends)
    assert client.storage.calls["deliver"] <= 2
    keys = [(await client.storage.run(handle.id)).key for handle in handles]
    for offset, key in enumerate(keys):
        told = [int(m.data[1]) for m in await client.storage.inbox([(key, 0)])]
        assert told == list(range(offset, 50, 2))


async def test_the_error_of_one_send_is_not_that_of_its_neighbours(client: Any) -> None:
    """Those of the same batch arrive."""
    handle = await client.start(collects, 2)
    sends = [handle.send_event("n", 1), client.send_event("no", "n"), handle.send_event("n", 2)]
    first, wrong, last = await asyncio.gather(*sends, return_exceptions=True)
    assert first is last is None
    assert isinstance(wrong, RunNotFound)


@pytest.mark.parametrize("fault", [ERROR_BEFORE, COMMIT_THEN_ERROR])
async def test_a_send_whose_answer_was_lost_sends_once(fault: Any) -> None:
    """Every send gets an idempotency key of its own: lost answer and retry are one event."""
    async with world_with(collects) as (world, process):
        plan = [("deliver", 1, fault), ("deliver", 2, fault)]
        outside = await world.process(plan=plan)
        handle = await world.run(process.client.start(collects, 2))
        for n in (1, 2):
            await world.run(outside.client.send_event(handle.id, "n", n))
        assert await world.result(handle) == [1, 2]


@pytest.mark.parametrize("fault", [ERROR_BEFORE, COMMIT_THEN_ERROR])
async def test_a_publication_whose_answer_was_lost_is_published_once(fault: Any) -> None:
    """The same for what is published."""
    async with world_with(follows) as (world, process):
        plan = [("publish", 1, fault), ("publish", 2, fault)]
        outside = await world.process(plan=plan)
        handle = await world.run(process.client.start(follows, 2))
        for n in (1, 2):
            await world.run(outside.client.publish("n", n, key="k"))
        assert await world.result(handle) == [1, 2]


@pytest.mark.parametrize("fault", [ERROR_BEFORE, COMMIT_THEN_ERROR])
async def test_an_answer_whose_own_answer_was_lost_is_still_this_one(fault: Any) -> None:
    """A token tells a lost answer that is given again from somebody else's."""
    async with world_with(asks) as (world, process):
        outside = await world.process(plan=[("answer", 1, fault)])
        handle = await world.run(process.client.start(asks))
        await world.run(outside.client.provide_input(handle.id, "q", "x", by="ann", wait=20))
        assert await world.result(handle) == "x nothing else"
        page = await world.run(_page(process.client, handle.id))
        assert [e.data["by"] for e in page if e.type == "InputProvided"] == ["ann"]


async def _page(client: Client, run_id: str) -> Any:
    return await client.history(run_id)


async def test_all_who_ask_share_one_query_per_tick() -> None:
    """One query per tick for all waiters of the process, as for results."""
    async with World() as world:
        outside = await world.process()
        process = await world.process(serves)
        handle = await world.run(process.client.start(serves, 30))
        asked = [outside.client.request(handle.id, ADD, n, timeout=None) for n in range(30)]
        assert await world.run(asyncio.gather(*asked)) == list(range(1, 31))
        assert outside.storage.calls["replies"] <= 10


async def test_closing_a_client_ends_the_waits_for_answers() -> None:
    """Whoever still waits is told so."""
    async with Client("sqlite://") as client:
        handle = await client.start(serves, 1)
        asking = asyncio.create_task(handle.request(ADD, 1, timeout=None))
        async with asyncio.timeout(5):
            while client._replies.poll is None:
                await asyncio.sleep(0)
    with pytest.raises(DurableError, match="client was closed"):
        await asking


async def test_closing_a_client_ends_sends_that_were_not_sent_yet(client: Any) -> None:
    """The one that is under way is answered; those behind it are told at once."""
    handle = await client.start(collects, 2)
    gate = Gate()
    client.storage._fault_of = lambda op: Hold(gate) if op.verb == "deliver" else None
    first, second = (asyncio.create_task(handle.send_event("n", n)) for n in range(2))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        third = asyncio.create_task(handle.send_event("n", 3))
        while len(client._post.deliveries._waiting) < 1:
            await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        with pytest.raises(DurableError, match="client was closed"):
            await third
        gate.release()
        await asyncio.gather(closing, first, second, return_exceptions=True)


async def test_an_id_that_no_run_can_have_stops_no_other_send(client: Any) -> None:
    """A NUL or a lone surrogate is no id: nobody is asked for it, and the others arrive."""
    handle = await client.start(collects, 2)
    client.storage._fault_of = _refuses_odd_ids
    for odd in ("no\0body", "\ud800"):
        with pytest.raises(RunNotFound, match="there is no run '"):
            await client.send_events([(handle.id, "n", 1), (odd, "n", 1), (handle.id, "n", 2)])
        with pytest.raises(RunNotFound):
            await client.send_event(odd, "n", 1)
    key = (await client.storage.run(handle.id)).key
    assert len(await client.storage.inbox([(key, 0)])) == 4


def _refuses_odd_ids(operation: Any) -> None:
    """As a database that cannot even read such an id."""
    if operation.verb == "deliver":
        for delivery in operation.arguments[0]:
            assert "\0" not in delivery.run_id.encode().decode()


async def test_workers_hear_of_what_arrived_when_the_rest_did_not(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first statement of two went through: whoever drives those runs looks."""
    monkeypatch.setattr(room, "MAX_BATCH", 1)
    handle = await client.start(collects, 2)
    hints: list[str | None] = []
    monkeypatch.setattr(client, "stirred", lambda run_id=None: hints.append(run_id))

    def fails_the_second(operation: Any) -> None:
        if (operation.verb, operation.nth) == ("deliver", 2):
            raise ValueError("a bug")

    client.storage._fault_of = fails_the_second
    with pytest.raises(ValueError, match="a bug"):
        await client.send_events([(handle.id, "n", 1), (handle.id, "n", 2)])
    assert hints == [None]


async def test_the_timeout_of_a_request_covers_its_sending() -> None:
    """It limits the whole of it: a database that is away makes nobody wait longer."""
    async with World() as world:
        outside = await world.process()
        handle = await world.run(outside.client.start(serves, 1))
        outside.storage._fault_of = lambda op: ERROR_BEFORE if op.verb == "deliver" else None
        before = world.clock.monotonic()
        with pytest.raises(TimeoutError, match="within 2 s"):
            await world.run(handle.request(ADD, 1, timeout=2))
        assert world.clock.monotonic() - before <= 3


STATUS = Request("status", str, str)


@workflow
async def corresponds(ctx: Context) -> list[str]:
    (await ctx.wait_for_request(ADD)).reply(2)
    (await ctx.wait_for_request(STATUS)).reply("fine")
    names = ("approved", "noted", "status", "many")
    return [await ctx.wait_for_event(name, str) for name in names]


async def test_one_idempotency_key_is_good_for_each_name_once() -> None:
    """What comes under another name is no second copy, be it an event or a request."""
    async with world_with(corresponds) as (world, process):
        handle = await world.run(process.client.start(corresponds))
        for _ in range(2):
            assert await world.run(handle.request(ADD, 1, idempotency_key="k")) == 2
        assert await world.run(handle.request(STATUS, "", idempotency_key="k")) == "fine"
        for text in ("first", "second"):
            for name in ("approved", "noted", "status"):
                await world.run(handle.send_event(name, f"{text} {name}", idempotency_key="k"))
        for text in ("first", "second"):
            many = [(handle.id, "many", text), (handle.id, "more", text)]
            await world.run(process.client.send_events(many, idempotency_key="k"))
        assert await world.result(handle) == [
            "first approved",
            "first noted",
            "first status",
            "first",
        ]


async def test_a_key_that_looks_like_one_of_durables_own_is_just_a_key(client: Any) -> None:
    """And a name cannot be taken for the beginning of a key."""
    handle = await client.start(collects, 3)
    for name, key in (("n", "~sent:1:1"), ("n:a", "b"), ("n", "a:b"), ("n", "ab"), ("na", "b")):
        await client.send_event(handle.id, name, 1, idempotency_key=key)
    run = await client.storage.run(handle.id)
    assert len(await client.storage.inbox([(run.key, 0)])) == 5
