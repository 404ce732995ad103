"""What the workers of a campaign do: workflows whose right result is known beforehand, step by step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from durable import Context, Retry, current_step, step, workflow
from tests.campaigns.effects import Ledger

PRIME = 1_000_003
STAGES = 10
PAIRS = 5
GATE_POLL_SECONDS = 0.005


class Flaky(Exception):
    """A failure that the next attempt does not meet."""


class _Post:
    """Where the steps of this process write, and who they work for."""

    ledger: Ledger
    worker: Callable[[], int]


def employ(ledger: Ledger, worker: Callable[[], int]) -> None:
    """Give the steps of this process their ledger and the id of the lease that they run under."""
    _Post.ledger, _Post.worker = ledger, worker


def following(number: int, stage: int) -> int:
    """The result of a step."""
    return (number * 31 + stage * 17 + 7) % PRIME


def is_flaky(number: int) -> bool:
    """Whether the first attempt of a step with this argument fails."""
    return number % 13 == 0


def _seconds(number: int) -> float:
    return 0.005 + number % 46 / 1000


@contextmanager
def _recorded(number: int, stage: int) -> Iterator[None]:
    """Write down that a step begins and how it ends."""
    context = current_step()
    cmd = int(context.idempotency_key.rpartition(":")[2])
    entry = (context.run_id, cmd, stage, context.attempt, _Post.worker())
    _Post.ledger.write("start", *entry)
    if is_flaky(number) and context.attempt == 1:
        _Post.ledger.write("fail", *entry)
        raise Flaky(number)
    yield
    _Post.ledger.write("end", *entry)


AGAIN = Retry(max_attempts=3, initial=0.01, jitter=0, retry_on=(Flaky,))


@step(retry=AGAIN)
async def toil(number: int, stage: int) -> int:
    with _recorded(number, stage):
        await asyncio.sleep(_seconds(number))
    return following(number, stage)


@step(retry=AGAIN)
def grind(number: int, stage: int) -> int:
    with _recorded(number, stage):
        time.sleep(_seconds(number))
    return following(number, stage)


@workflow
async def chain(ctx: Context, seed: int) -> int:
    """Ten steps, one after the other, in coroutines and in threads."""
    number = seed
    for stage in range(STAGES):
        verb = grind if (seed + stage) % 3 == 0 else toil
        number = await ctx.step(verb, number, stage)
    return number


@workflow
async def pairs(ctx: Context, seed: int) -> int:
    """Five times two steps side by side."""
    number = seed
    for stage in range(PAIRS):
        left, right = await asyncio.gather(
            ctx.step(toil, number, stage), ctx.step(grind, number + 1, stage)
        )
        number = (left + right) % PRIME
    return number


@workflow
async def single(ctx: Context, seed: int) -> int:
    """One step."""
    return await ctx.step(toil, seed, 0)


# What the tests of a worker's life do: steps that last until a file says so.


def _is_open(gate: str) -> bool:
    return Path(gate).exists()


@step
async def wait_for(gate: str) -> str:
    """Lasts until the file `gate` is there."""
    with _recorded(1, 0):
        while not _is_open(gate):
            await asyncio.sleep(GATE_POLL_SECONDS)
    return gate


@step
def wait_in_thread(gate: str) -> str:
    """The same in a thread, which nobody can stop."""
    with _recorded(1, 0):
        while not _is_open(gate):
            time.sleep(GATE_POLL_SECONDS)
    return gate


@step
async def block_the_loop(seconds: float) -> float:
    """What no coroutine should do."""
    with _recorded(1, 0):
        time.sleep(seconds)  # noqa: ASYNC251  the fault of this test
    return seconds


@workflow
async def gated(ctx: Context, gate: str) -> str:
    await ctx.step(wait_for, gate)
    await ctx.step(toil, 1, 1)
    return gate


@workflow
async def gated_in_thread(ctx: Context, gate: str) -> str:
    return await ctx.step(wait_in_thread, gate)


@workflow
async def blocking(ctx: Context, seconds: float) -> float:
    return await ctx.step(block_the_loop, seconds)


WORKFLOWS = (chain, pairs, single, gated, gated_in_thread, blocking)


def right_result(name: str, seed: int) -> int:
    """What a run of `chain`, `pairs` or `single` must end with."""
    if name == single.name:
        return following(seed, 0)
    number = seed
    for stage in range(STAGES if name == chain.name else PAIRS):
        if name == chain.name:
            number = following(number, stage)
        else:
            number = (following(number, stage) + following(number + 1, stage)) % PRIME
    return number


def right_steps(name: str) -> int:
    """How many steps a run of `chain`, `pairs` or `single` completes."""
    return {chain.name: STAGES, pairs.name: 2 * PAIRS, single.name: 1}[name]
