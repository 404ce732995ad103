"""How long runs stand still when their worker is killed: SIGKILL in mid-flight, then a second worker.

The first process starts the runs; each does three steps and is then inside a fourth one when the process
is killed. The second process is started as soon as the first is gone; the clock runs from its creation
(so the start of Python and the opening of the database are in it) until its first step runs, and until
every run has finished. Both have default settings, but for the slots: all runs are in a step at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.on_durable import add_one_step
from durable import Client, Context, Worker, step, workflow

PATIENCE = 120.0
"""Seconds that either process may take."""


class Gate:
    """Where the runs of the first process are held."""

    def __init__(self) -> None:
        self.runs = 0
        """How many are to be held; 0: nobody is."""
        self.inside = 0
        self.full = asyncio.Event()
        self.first_at = 0.0

    async def enter(self) -> None:
        """Note the time of the first, tell when all are there."""
        self.first_at = self.first_at or time.monotonic()
        if self.runs:
            self.inside += 1
            if self.inside == self.runs:
                self.full.set()
            await asyncio.Event().wait()


_gate = Gate()


@step
async def gate(n: int) -> int:
    """In the first process nobody gets past it."""
    await _gate.enter()
    return n + 1


@workflow
async def survivor(ctx: Context, n: int) -> int:
    """Three steps, the gate, one more."""
    for _ in range(3):
        n = await ctx.step(add_one_step, n)
    n = await ctx.step(gate, n)
    return await ctx.step(add_one_step, n)


def worker(client: Client, runs: int) -> Worker:
    """A worker with room for all of them in a step at once."""
    return Worker(client, workflows=[survivor], queues={"default": runs + 10})


async def first(url: str, runs: int) -> None:
    """Bring all runs to the gate, say so, and wait for the end."""
    _gate.runs = runs
    async with Client(url) as client, worker(client, runs):
        for number in range(0, runs, 500):
            await client.start_many(survivor, range(number, min(number + 500, runs)))
        await _gate.full.wait()
        print("ready", flush=True)
        await asyncio.Event().wait()


async def second(url: str, runs: int) -> None:
    """Take over; say when the database was open, the first step ran and the last run had finished."""
    async with Client(url) as client, worker(client, runs):
        opened = time.monotonic()
        done = 0
        while done < runs:
            await asyncio.sleep(0.02)
            done = (await client.count(workflow=survivor)).get("completed", 0)
        print(opened, _gate.first_at, time.monotonic(), flush=True)


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Kill and recover once, on the database of `spec`."""
    url, runs = spec["url"], spec["runs"]
    with _process("first", url, runs) as victim:
        _answer(victim)
    began = time.monotonic()
    with _process("second", url, runs) as heir:
        opened, first_step, finished = (float(word) - began for word in _answer(heir).split())
    return {"runs": runs, "open_s": opened, "first_step_s": first_step, "all_finished_s": finished}


@contextmanager
def _process(role: str, url: str, runs: int) -> Iterator[subprocess.Popen[str]]:
    """A worker process, killed with SIGKILL at the end of the block, and gone when it ends."""
    command = [sys.executable, "-m", "benchmarks.recovery", role, url, str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _answer(process: subprocess.Popen[str]) -> str:
    """The line that a process says when it has come so far."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a worker process ended early")
    return line


if __name__ == "__main__":
    asyncio.run({"first": first, "second": second}[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
