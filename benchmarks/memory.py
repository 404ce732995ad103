"""What a sleeping run costs in memory: kept in the worker's cache, and parked in the database.

So many runs take one step and then sleep for a day. Resident memory of the process is read before they
start (after a warm-up that has every connection and table of the process in place) and when all of them
wait; what the allocator holds without need is given back before both readings.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from pathlib import Path
from typing import Any

from benchmarks.on_durable import add_one_step
from durable import Client, Context, Worker, days, workflow


@workflow
async def sleeper(ctx: Context, n: int) -> int:
    """One step, a day of sleep, one step."""
    n = await ctx.step(add_one_step, n)
    await ctx.sleep(days(1))
    return await ctx.step(add_one_step, n)


def resident() -> int:
    """Bytes of memory that this process really occupies."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


async def start_and_settle(client: Client, runs: int, total: int) -> None:
    """Start so many more, and wait until `total` of them sleep."""
    for first in range(0, runs, 500):
        await client.start_many(sleeper, range(first, min(first + 500, runs)))
    asleep = 0
    while asleep < total:
        await asyncio.sleep(0.1)
        asleep = (await client.count(workflow=sleeper)).get("waiting", 0)


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Growth of resident memory per run, with a cache that holds all of them or next to none."""
    runs: int = spec["runs"]
    warm_up: int = spec["warm_up"]
    async with (
        Client(spec["url"]) as client,
        Worker(client, workflows=[sleeper], cache=spec["cache"]),
    ):
        await start_and_settle(client, warm_up, warm_up)
        before = resident()
        await start_and_settle(client, runs, warm_up + runs)
        await asyncio.sleep(0.5)
        after = resident()
    return {
        "runs": runs,
        "cache": spec["cache"],
        "kb_per_run": (after - before) / runs / 1024,
        "process_mb": after / 2**20,
        "samples": {"before": before, "after": after},
    }
