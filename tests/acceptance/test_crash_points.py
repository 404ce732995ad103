"""Every single fault at every store operation of small scenarios: the result is right, and nothing ran twice.

Each scenario runs once undisturbed, which counts its store operations; then once for every operation and
every kind of fault. Where the process dies, its user starts it again: the same program, the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from durable import Client, Context, Retry, RunFailed, StepFailed, current_step, step, workflow
from durable.model.history import NAMES
from durable_testing.faults import (
    COMMIT_THEN_ERROR,
    CRASH_AFTER,
    CRASH_BEFORE,
    ERROR_BEFORE,
    Crash,
    Fail,
    Fault,
)
from tests.worker.world import World

FAULTS = {
    "error before": ERROR_BEFORE,
    "lost answer": COMMIT_THEN_ERROR,
    "crash before": CRASH_BEFORE,
    "crash after": CRASH_AFTER,
}


@dataclass
class Ledger:
    """What really happened, in order: attempts that began, completions and runs that became durable."""

    world: World | None = None
    entries: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def began(self) -> None:
        self.entries.append(("began", current_step().idempotency_key))

    async def takes(self, seconds: float) -> None:
        assert self.world is not None
        await self.world.clock.sleep(seconds)


LEDGER = Ledger()


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


WORKFLOWS = (
    single,
    chain,
    retried,
    chains,
    grouped,
    impatient,
    naps,
    sleeps,
    sleeps_between,
    fails,
    logs,
    wide,
    queued,
    overtaken,
)


@dataclass
class Scenario:
    """What a user's program does, and what must come of it. `ids` are the runs that exist afterwards."""

    drive: Callable[[Client], Awaitable[Any]]
    expected: Any
    ids: tuple[str, ...] = ("a",)
    elsewhere: bool = False
    """The program that starts runs is another process than the worker, and never dies."""
    ordered: bool = False
    """Every step begins because the one before it has completed."""
    many_attempts: bool = False
    """The same start repeated makes another run: attempts are not counted."""


async def start_and_wait(client: Client, wf: Any, n: int = 1, id: str = "a", **options: Any) -> Any:
    handle = await client.start(wf, n, id=id, **options)
    return await handle.result()


def once(wf: Any, expected: Any, **options: Any) -> Scenario:
    return Scenario(lambda client: start_and_wait(client, wf), expected, **options)


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
    "failing run": Scenario(failing, "as it should"),
    "delayed start": Scenario(delayed, 2),
    "start twice": Scenario(start_twice, (2, 2)),
    "start many": Scenario(
        start_many, [1, 2, 3, 4, 5], ids=tuple(f"m{n}" for n in range(5)), elsewhere=True
    ),
    "restart": Scenario(restart, 3, many_attempts=True),
    "log lines": once(logs, 2),
    "wide": once(wide, sum(range(2, 32))),
    "two runs at once": Scenario(two_at_once, [5, 7], ids=("a", "b"), ordered=True),
    "queue between tasks": once(queued, [3, 4, 5]),
    "slow step beside others": once(overtaken, 2),
    "worker elsewhere, chain with sleep": once(sleeps_between, 3, elsewhere=True, ordered=True),
}
SHORT = ("start eager", "retry", "sleep then step", "start plain")
COUNTS: dict[str, Counter[str]] = {}
SCHEMAS = itertools.count(1)
"""A fresh one for every run in a database that is kept."""


async def disturbed(
    url: str, scenario: Scenario, at: int | None = None, fault: Fault | None = None
) -> int:
    """Run a scenario with one fault, and check everything. How many operations it had; 0: not disturbed."""
    schema = "durable" if url == "sqlite://" else f"points_{next(SCHEMAS)}"
    async with World(url, schema) as world:
        LEDGER.world = world
        LEDGER.entries.clear()
        LEDGER.lines.clear()
        world.database.on_events = note_completions
        first = await world.process(*WORKFLOWS, at=at, fault=fault)
        outside = await world.process() if scenario.elsewhere else None
        value = await drive(world, scenario, (outside or first).client)
        await world.check()
        if not first.dead:
            with contextlib.suppress(Crash):
                await world.drain(first)
        met = bool(first.storage.fired)
        assert value == scenario.expected
        crashed = met and not isinstance(fault, Fail)
        await check_runs(world, scenario)
        if not scenario.many_attempts:
            ids = await ids_by_key(world)
            check_attempts(ids, crashed=crashed)
            if scenario.ordered:
                check_order(ids)
        if not crashed:
            assert len(LEDGER.lines) == len(set(LEDGER.lines))
        return len(first.storage.log) if at is None or met else 0


async def drive(world: World, scenario: Scenario, client: Client) -> Any:
    first = world.processes[0]
    user = asyncio.ensure_future(scenario.drive(client))
    try:
        await world.until(lambda: user.done() or (first.dead and len(world.processes) < 9), 200)
        if not first.dead:
            return user.result()
        if not scenario.elsewhere:
            user.cancel()
            await asyncio.gather(user, return_exceptions=True)
            second = await world.process(*WORKFLOWS)
            return await world.run(scenario.drive(second.client), 200)
        await world.process(*WORKFLOWS)
        await world.until(user.done, 200)
        return user.result()
    finally:
        user.cancel()
        await asyncio.gather(user, return_exceptions=True)


def note_completions(key: int, events: Any) -> None:
    for event in events:
        if NAMES[event.type] in {"StepCompleted", "StepFailed"}:
            LEDGER.entries.append((NAMES[event.type], f"{key}:{event.cmd}"))


async def ids_by_key(world: World) -> dict[str, str]:
    return {str(row.key): row.id for row in await world.rows()}


async def check_runs(world: World, scenario: Scenario) -> None:
    """Each run exists exactly once and has ended."""
    rows = await world.rows()
    ids = {row.id for row in rows if row.retried_from is None and "~" not in row.id}
    if scenario.many_attempts:
        ids = {row.id for row in rows if "~" not in row.id}
        assert any("~" in row.id for row in rows)
    assert ids == set(scenario.ids)
    assert all(row.finished_at is not None for row in rows)


def check_attempts(ids: dict[str, str], *, crashed: bool) -> None:
    """No attempt began after the completion of its step was durable; without a crash each began once."""
    completed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    began: Counter[str] = Counter()
    for what, name in LEDGER.entries:
        if what == "began":
            began[name] += 1
            assert not completed[name], f"step {name} ran again: {LEDGER.entries}"
            continue
        key, _, cmd = name.partition(":")
        (completed if what == "StepCompleted" else failed)[f"{ids[key]}:{cmd}"] += 1
    assert all(count == 1 for count in completed.values()), completed
    for name, count in began.items():
        attempts = completed[name] + failed[name]
        most = max(attempts, 1) + (1 if crashed else 0)
        assert attempts <= count <= most, (name, count, LEDGER.entries)


def check_order(ids: dict[str, str]) -> None:
    """A step begins only when the completion that caused it is durable."""
    begun: set[tuple[str, int]] = set()
    durable: set[tuple[str, int]] = set()
    for what, name in LEDGER.entries:
        run, _, cmd = name.partition(":")
        if what == "began":
            earlier = {(other, n) for other, n in begun if other == run and n < int(cmd)}
            assert earlier <= durable, (name, LEDGER.entries)
            begun.add((run, int(cmd)))
        elif what == "StepCompleted":
            durable.add((ids[run], int(cmd)))


@pytest.fixture(autouse=True)
def parks_at_once() -> None:
    """Short sleeps stay in memory here, as they do for users."""


@pytest.fixture(autouse=True)
def lines_of_workflows() -> Iterator[None]:
    """Log lines of workflows go into the ledger; what the worker says about faults goes nowhere."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            LEDGER.lines.append(f"{record.__dict__['run_id']} {record.getMessage()}")

    logger, lines = logging.getLogger("durable.workflow"), Lines()
    loud = [logging.getLogger(name) for name in ("durable.worker", "durable.client")]
    logger.addHandler(lines)
    for other in loud:
        other.disabled = True
    yield
    logger.removeHandler(lines)
    for other in loud:
        other.disabled = False


@pytest.fixture(scope="module", autouse=True)
def report() -> Iterator[None]:
    """Say in the end what was tried."""
    yield
    print()
    for name, counts in COUNTS.items():
        words = ", ".join(f"{fault}: {count}" for fault, count in counts.items())
        print(f"  {name}: {words}")
    print(f"  {len(COUNTS)} scenarios, {sum(map(Counter.total, COUNTS.values()))} faults")


async def every_point(url: str, name: str, stride: int) -> None:
    scenario = SCENARIOS[name]
    count = await disturbed(url, scenario)
    counts = COUNTS.setdefault(f"{name} ({url.partition(':')[0]}, {count} operations)", Counter())
    for kind, (label, fault) in enumerate(FAULTS.items()):
        for at in range(1 + kind % stride, count + 1, stride):
            try:
                met = await disturbed(url, scenario, at, fault)
            except BaseException as error:
                error.add_note(f"{name}: {label} at operation {at} of {count}")
                raise
            counts[label] += bool(met)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_run_survives_some_single_faults(name: str) -> None:
    """Every acknowledged operation survives; every run with work to do goes on (a sample of the points)."""
    await every_point("sqlite://", name, stride=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_run_survives_every_single_fault(name: str) -> None:
    """Every single fault of these scenarios: no sampling."""
    await every_point("sqlite://", name, stride=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
async def test_the_same_on_postgresql(name: str, durable_postgres: str) -> None:
    """The same guarantees on PostgreSQL (a short selection)."""
    await every_point(durable_postgres, name, stride=5)
