"""Every single fault at every store operation of small scenarios: the result is right, and nothing ran twice.

Steps, timers, starts. What waits for others is in the files beside this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from durable import Client, Context, Retry, RunFailed, StepFailed, current_step, step, workflow
from tests.acceptance.crash_points import (
    LEDGER,
    Report,
    Scenario,
    every,
    lines_of_workflows,
    on_postgres,
    sample,
)


@step
async def add(n: int) -> int:
    LEDGER.began()
    return n + 1


@step(retry=Retry(max_attempts=3, initial=2, jitter=0))
async def flaky(n: int) -> int:
    LEDGER.began()
    if current_step().attempt < 3:
        raise OSError("not yet")
    return n + 1


@step
async def broken() -> None:
    LEDGER.began()
    raise LookupError("broken")


@step
async def slow(seconds: float) -> float:
    LEDGER.began()
    await LEDGER.takes(seconds)
    return seconds


@workflow
async def single(ctx: Context, n: int) -> int:
    return await ctx.step(add, n)


@workflow
async def chain(ctx: Context, n: int) -> int:
    for _ in range(4):
        n = await ctx.step(add, n)
    return n


@workflow
async def retried(ctx: Context, n: int) -> int:
    return await ctx.step(flaky, n)


@workflow
async def chains(ctx: Context, n: int) -> list[int]:
    async def one(n: int) -> int:
        return await ctx.step(add, await ctx.step(add, n))

    return await asyncio.gather(*(one(n + k) for k in range(3)))


@workflow
async def grouped(ctx: Context, n: int) -> str:
    message = "no error"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step(add, n))
            group.create_task(ctx.step(broken))
            group.create_task(ctx.step(slow, 1000.0))
    except* LookupError as errors:
        assert all(isinstance(error, StepFailed) for error in errors.exceptions)
        message = str(errors.exceptions[0])
    return message


@workflow
async def impatient(ctx: Context, n: int) -> str:
    try:
        async with asyncio.timeout(3):
            await ctx.step(slow, 1000.0)
    except TimeoutError:
        return f"gave up {await ctx.step(add, n)}"
    return "no"


@workflow
async def naps(ctx: Context, n: int) -> int:
    await ctx.sleep(0.5)
    return n


@workflow
async def sleeps(ctx: Context, n: int) -> int:
    await ctx.sleep(20)
    return n


@workflow
async def sleeps_between(ctx: Context, n: int) -> int:
    n = await ctx.step(add, n)
    await ctx.sleep(5)
    return await ctx.step(add, n)


@workflow
async def fails(ctx: Context, n: int) -> None:
    await ctx.step(add, n)
    raise ValueError("as it should")


@workflow
async def logs(ctx: Context, n: int) -> int:
    ctx.log.warning("first")
    n = await ctx.step(add, n)
    ctx.log.warning("second")
    return n


@workflow
async def wide(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*(ctx.step(add, n + k) for k in range(30))))


@workflow
async def queued(ctx: Context, n: int) -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        for k in range(3):
            await queue.put(await ctx.step(add, n + k))
        await queue.put(-1)

    async def consume() -> list[int]:
        got: list[int] = []
        while (value := await queue.get()) >= 0:
            got.append(await ctx.step(add, value))
        return got

    _, got = await asyncio.gather(produce(), consume())
    return got


@workflow
async def overtaken(ctx: Context, n: int) -> int:
    """A slow step beside a quick one: the attempt is under way while other things become durable."""
    slow_one = asyncio.create_task(ctx.step(slow, 4.0))
    n = await ctx.step(add, n)
    await slow_one
    return n


async def start_and_wait(client: Client, wf: Any, n: int = 1, id: str = "a", **options: Any) -> Any:
    handle = await client.start(wf, n, id=id, **options)
    return await handle.result()


def once(wf: Any, expected: Any, **options: Any) -> Scenario:
    return Scenario(lambda client: start_and_wait(client, wf), (wf,), expected, **options)


async def start_twice(client: Client) -> tuple[int, int]:
    first = await client.start(single, 1, id="a")
    second = await client.start(single, 1, id="a")
    return await first.result(), await second.result()


async def two_at_once(client: Client) -> list[Any]:
    return await asyncio.gather(
        start_and_wait(client, chain), start_and_wait(client, sleeps_between, 5, "b")
    )


async def start_many(client: Client) -> list[int]:
    handles = await client.start_many(single, {f"m{n}": n for n in range(5)})
    return [await handle.result() for handle in handles]


async def restart(client: Client) -> int:
    await client.start(sleeps_between, 1, id="a")
    await client.clock.sleep(0.5)
    handle = await client.start(sleeps_between, 1, id="a", on_conflict="restart")
    return await handle.result()


async def failing(client: Client) -> str:
    try:
        await start_and_wait(client, fails)
    except ValueError as error:
        assert isinstance(error, RunFailed)
        return str(error)
    return "no"


async def delayed(client: Client) -> Any:
    return await start_and_wait(client, single, delay=6)


SCENARIOS: dict[str, Scenario] = {
    "start eager": once(single, 2),
    "start plain": once(single, 2, elsewhere=True),
    "chain": once(chain, 5, ordered=True),
    "retry": once(retried, 2),
    "gather of chains": once(chains, [3, 4, 5]),
    "task group with a failing member": once(grouped, "broken"),
    "timeout cancels a step": once(impatient, "gave up 2"),
    "short sleep": once(naps, 1),
    "long sleep": once(sleeps, 1),
    "sleep then step": once(sleeps_between, 3, ordered=True),
    "failing run": Scenario(failing, (fails,), "as it should", {"a": "failed"}),
    "delayed start": Scenario(delayed, (single,), 2),
    "start twice": Scenario(start_twice, (single,), (2, 2)),
    "start many": Scenario(
        start_many,
        (single,),
        [1, 2, 3, 4, 5],
        {f"m{n}": "completed" for n in range(5)},
        elsewhere=True,
    ),
    "restart": Scenario(restart, (sleeps_between,), 3, many_attempts=True),
    "log lines": once(logs, 2),
    "wide": once(wide, sum(range(2, 32))),
    "two runs at once": Scenario(
        two_at_once,
        (chain, sleeps_between),
        [5, 7],
        {"a": "completed", "b": "completed"},
        ordered=True,
    ),
    "queue between tasks": once(queued, [3, 4, 5]),
    "slow step beside others": once(overtaken, 2),
    "worker elsewhere, chain with sleep": once(sleeps_between, 3, elsewhere=True, ordered=True),
}
SHORT = ("start eager", "retry", "sleep then step", "start plain")
ON_POSTGRES, POINTS = on_postgres(SCENARIOS, SHORT)
REPORT = Report()


@pytest.fixture(autouse=True)
def parks_at_once() -> None:
    """Short sleeps stay in memory here, as they do for users."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Faults are not news here."""
    with lines_of_workflows():
        yield


@pytest.fixture(scope="module", autouse=True)
def report() -> Iterator[None]:
    """Say in the end what was tried."""
    yield
    REPORT.print()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_run_survives_some_single_faults(name: str) -> None:
    """Every acknowledged operation survives; every run with work to do goes on (a sample of the points)."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], sample(28))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_run_survives_every_single_fault(name: str) -> None:
    """Every single fault of these scenarios: no sampling."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], every)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_same_on_postgresql(name: str, durable_postgres: str) -> None:
    """The same guarantees on PostgreSQL (a short selection)."""
    await REPORT.try_points(durable_postgres, name, SCENARIOS[name], POINTS)
