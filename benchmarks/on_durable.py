"""durable as a user writes it: the public API and its default settings, on either store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.functions import add_one
from durable import Client, Context, Worker, step, workflow

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


@asynccontextmanager
async def open_system(url: str, options: dict[str, Any]) -> AsyncIterator[Durable]:
    """A client and a worker in this process; `options` go to the worker (none by default)."""
    async with Client(url) as client, Worker(client, workflows=[chain, fan], **options):
        yield Durable(client, {"worker": options or "defaults"})
