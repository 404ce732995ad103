"""durable as a user writes it: the public API and its default settings, on either store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.functions import add_one
from durable import Client, Context, Handle, Worker, step, workflow

add_one_step = step(add_one)


@workflow
async def chain(ctx: Context, steps: int) -> int:
    """So many steps, one after the other."""
    n = 0
    for _ in range(steps):
        n = await ctx.step(add_one_step, n)
    return n


@workflow
async def fan(ctx: Context, steps: int) -> int:
    """So many steps at once."""
    results = await asyncio.gather(*(ctx.step(add_one_step, 0) for _ in range(steps)))
    return sum(results)


@workflow
async def one(_ctx: Context, n: int) -> int:
    """A child: no step, a small result."""
    return n


@workflow
async def parent(ctx: Context, children: int) -> int:
    """So many children at once."""
    results = await asyncio.gather(*(ctx.call(one, 1) for _ in range(children)))
    return sum(results)


@workflow
async def listen(ctx: Context, events: int) -> int:
    """So many events, one after the other."""
    total = 0
    for _ in range(events):
        total += await ctx.wait_for_event("number", int)
    return total


class Durable:
    """The driver's view of a client whose process has a worker."""

    def __init__(self, client: Client, used: dict[str, Any]) -> None:
        self._client = client
        self.used = used

    async def chain(self, steps: int) -> object:
        handle = await self._client.start(chain, steps)
        return await handle.result()

    async def fan(self, steps: int) -> object:
        handle = await self._client.start(fan, steps)
        return await handle.result()

    async def family(self, children: int) -> object:
        handle = await self._client.start(parent, children)
        return await handle.result()

    async def listen(self, events: int) -> Handle[int]:
        return await self._client.start(listen, events)

    async def send(self, listener: Handle[int], number: int) -> None:
        await listener.send_event("number", number)

    async def send_all(self, numbers: Sequence[tuple[Handle[int], int]]) -> None:
        await self._client.send_events([(to.id, "number", number) for to, number in numbers])

    async def total(self, listener: Handle[int]) -> object:
        return await listener.result()


WORKFLOWS = (chain, fan, one, parent, listen)


@asynccontextmanager
async def open_system(url: str, options: dict[str, Any]) -> AsyncIterator[Durable]:
    """A client and a worker in this process; `options` go to the worker (none by default)."""
    async with Client(url) as client, Worker(client, workflows=WORKFLOWS, **options):
        yield Durable(client, {"worker": options or "defaults"})
