"""What looks like a mistake and is none: the linter has nothing to say about this file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import requests

from durable import Context, Retry, Worker, job, step, workflow
from durable_testing import Environment

if TYPE_CHECKING:
    from durable import Client

log = getLogger(__name__)
http = httpx.AsyncClient()
PRICES = {"lamp": 1500}
PRICES["book"] = 900
VISITS: list[str] = []
REGION = os.environ.get("REGION", "eu")


@step
async def charge(order: str) -> str:
    """A step may do all of it."""
    await asyncio.sleep(random.random())
    VISITS.append(order)
    log.info("charging at %s", datetime.now(UTC))
    response = await http.get(f"https://shop.example/{order}", timeout=time.time() % 5)
    Path("receipt").write_text(response.text)
    return str(uuid.uuid4())


@job(queue="mail")
def mail(address: str) -> None:
    time.sleep(1)
    requests.post(address, timeout=5)


def fetch(url: str) -> bytes:
    return requests.get(url, timeout=5).content


def receipt() -> str:
    return Path("receipt").read_text()


@workflow
async def values(ctx: Context, day: date) -> str:
    now = ctx.now()
    time = now - timedelta(hours=1)  # a variable of that name, not the module
    started = asyncio.get_running_loop().time()
    random = ctx.random
    dice = random.randint(1, 6) + random.choice([1, 2])
    known = uuid.uuid5(uuid.NAMESPACE_DNS, ctx.run_id)
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    await ctx.sleep_until(moment)
    await ctx.sleep_until(datetime.combine(day, now.time(), tzinfo=UTC))
    return f"{time.hour} {started} {dice} {known} {ctx.uuid()} {datetime.fromisoformat('2030-01-01')}"


@workflow
async def seeded(ctx: Context, seed: int) -> float:
    import random
    from time import strftime

    dice = random.Random(seed)
    strftime("%Y", ctx.now().timetuple())
    return dice.random() + random.Random(ctx.run_id).random()


@workflow
async def effects(ctx: Context, folder: Path) -> bytes:
    ctx.log.info("beginning in %s", folder / "x")
    body = await ctx.step(fetch, f"https://shop.example/{REGION}")
    await ctx.step(step(requests.get, name="get", retry=Retry(max_attempts=3)), "https://shop.example")
    await ctx.step(os.getpid)
    await ctx.step(receipt)
    name = folder.with_suffix(".txt").name
    try:
        await ctx.step(charge.options(timeout=5), name)
    except requests.exceptions.ConnectionError as error:
        raise ValueError(str(error)) from error
    return body


@workflow
async def awaits(ctx: Context, names: list[str]) -> list[str]:
    one = ctx.step(charge, "one")
    two = asyncio.create_task(ctx.step(charge, "two"))
    calls = [ctx.step(charge, name) for name in names]
    first, second = await asyncio.gather(one, two)
    later = ctx.step(charge, "later")
    later_result = await later if names else None
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.step(charge, "three"))
    four = ctx.step(charge, "four")

    async def rest() -> str:
        return await four

    by_name = {name: ctx.step(charge, name) for name in names}
    child = await ctx.start("other", None)
    result = child.result(timeout=5)
    await ctx.race(a=ctx.sleep(1), b=ctx.wait_for_event("go"))
    await asyncio.sleep(1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await result
    ctx.set_state("first", first)
    ctx.compensate(refund, first)
    return [second, later_result or "", await rest(), *await ctx.parallel(calls), *(await ctx.parallel(by_name)).values()]


@step
def refund(order: str) -> None:
    print("refunding", order)


@workflow
async def steps(ctx: Context, order: str) -> int:
    @step
    def count(names: list[str]) -> int:
        return len(names) + len(PRICES) + len(os.sep)

    def double(number: int) -> int:
        return 2 * number

    async def chain(name: str) -> str:
        await ctx.sleep(1)
        return await ctx.step(charge, name + order)

    await ctx.step(step(lambda number: number + 1, name="increment"), 1)
    await chain(order)
    ctx.set_state("run", ctx.run_id)
    await ctx.call("other", ctx.run_id)
    return await ctx.step(count, [order]) + await ctx.step(double, 2) + await ctx.step(charge.fn, order)


@workflow
async def handlers(ctx: Context) -> str | None:
    try:
        await ctx.sleep(1)
    except asyncio.CancelledError:
        await ctx.step(refund, "1")
        raise
    except BaseException as error:
        ctx.log.error("failed: %s", error)
    try:
        await ctx.sleep(2)
    except BaseException:
        ctx.log.error("failed")
        raise
    try:
        await ctx.sleep(3)
    except asyncio.CancelledError:
        return "stopped"  # completed, and meant so
    except Exception:
        ctx.log.error("failed")
    try:
        number = int("3")
    except:
        number = 0
    task = asyncio.create_task(ctx.sleep(number))
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    with contextlib.suppress(asyncio.CancelledError):
        await task
    for attempt in range(3):
        try:
            await ctx.sleep(attempt)
        finally:
            for letter in "ab":
                if letter == "a":
                    continue
                break
    return None


@workflow
async def order(ctx: Context, names: list[str], chosen: set[int]) -> list[str]:
    unique = set(names)
    for name in sorted(unique):
        await ctx.step(charge, name)
    for name in unique:
        names.remove(name)
    for name in dict.fromkeys(names):
        await ctx.step(charge, name)
    for number in {3, 1, 2}:
        await ctx.step(charge, str(number))
    for number in chosen:
        await ctx.step(charge, str(number))
    pending = {asyncio.create_task(ctx.step(charge, name)) for name in names}
    while pending:
        done, pending = await asyncio.wait(pending, return_when="FIRST_COMPLETED")
        for task in done:
            await task
    background = set()
    background.add(asyncio.create_task(ctx.sleep(1)))
    for task in background:
        await task
    if "lamp" in unique and len(unique) > 2:
        await ctx.step(charge, "many")
    return await ctx.map(charge, sorted(unique)) + list(unique)


@workflow
async def state(ctx: Context, item: str, options: tuple[str, ...] = ()) -> int:
    found = PRICES[item]
    VISITS = [found]  # another one than that of the module
    VISITS.append(1)
    return len(VISITS) + len(options)


async def serve(client: Client) -> None:
    """Not a workflow: it has a client, and no context."""
    async with client, Worker(client, workflows=[values, seeded]):
        await client.start(values, date.today(), id=str(uuid.uuid4()))
        time.sleep(1)
        print(os.environ, open("x").read())


async def test_it(ctx: Environment) -> None:
    """Somebody else's `ctx`."""
    time.sleep(random.random())
