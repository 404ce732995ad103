"""Requests through the public API: a question to a running workflow, and its answer."""

from __future__ import annotations

import asyncio

import pytest

from durable import (
    Client,
    Context,
    InvalidInput,
    Request,
    RequestNotAnswered,
    RequestRejected,
    RunNotFound,
    Worker,
    workflow,
)

ADD = Request("add", int, int)
STOP = Request("stop", type(None), str)


@workflow
async def counter(ctx: Context, start: int) -> int:
    """Adds what it is asked to, up to ten at a time, until it is told to stop."""

    async def add() -> None:
        nonlocal start
        while True:
            asked = await ctx.wait_for_request(ADD)
            if asked.payload > 10:
                asked.reject("too much")
                continue
            start += asked.payload
            asked.reply(start)

    adding = asyncio.create_task(add())
    stop = await ctx.wait_for_request(STOP)
    adding.cancel()
    stop.reply(f"stopped at {start}")
    return start


@workflow
async def deaf(ctx: Context) -> None:
    await ctx.wait_for_event("go")


ALL = [counter, deaf]


async def test_a_request_is_answered(client: Client) -> None:
    """`handle.request` gives what the workflow replies, decoded by the request's own type."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(counter, 1)
        assert await handle.request(ADD, 2) == 3
        assert await client.handle(handle.id).request(ADD, 3, timeout=20) == 6
        assert await handle.request(STOP, None) == "stopped at 6"
        assert await handle.result(timeout=20) == 6


async def test_many_ask_at_once(client: Client) -> None:
    """Each gets its own answer; one query per tick serves all of them."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(counter, 0)
        found = await asyncio.gather(*(handle.request(ADD, 1, timeout=60) for _ in range(20)))
        assert sorted(found) == list(range(1, 21))


async def test_a_request_may_be_rejected(client: Client) -> None:
    """44. The workflow may `reject`: `RequestRejected` at the asker, with the reason."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(counter, 1)
        with pytest.raises(RequestRejected, match="too much"):
            await handle.request(ADD, 11)


async def test_the_payload_is_validated_before_it_is_stored(client: Client) -> None:
    """44. What does not fit is `InvalidInput`, and never asked."""
    handle = await client.start(counter, 1)
    with pytest.raises(InvalidInput):
        await handle.request(ADD, "x")  # type: ignore[misc]
    with pytest.raises(RunNotFound):
        await client.handle("nobody").request(ADD, 1)


async def test_a_run_that_ends_answers_no_more(client: Client) -> None:
    """44. Unanswered at the run's end: `RequestNotAnswered`; so is a request to a run that has ended."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(deaf)
        asking = asyncio.create_task(handle.request(ADD, 1, timeout=60))
        async with asyncio.timeout(20):
            while "RequestReceived" not in [e.type async for e in client.history(handle.id)]:
                await asyncio.sleep(0.01)
        await handle.send_event("go")
        with pytest.raises(RequestNotAnswered, match="completed"):
            await asking
        with pytest.raises(RequestNotAnswered, match="has ended"):
            await handle.request(ADD, 1)


async def test_nobody_answers_in_time(client: Client) -> None:
    """`TimeoutError` after `timeout`; the request stays, and asked again with its key gets its answer."""
    handle = await client.start(counter, 1)
    with pytest.raises(TimeoutError, match="may do so yet"):
        await handle.request(ADD, 1, timeout=0.05, idempotency_key="once")
    async with Worker(client, workflows=ALL):
        assert await handle.request(ADD, 1, idempotency_key="once") == 2
        assert await handle.request(ADD, 1, idempotency_key="once") == 2
        assert await handle.request(ADD, 1) == 3
