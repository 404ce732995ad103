"""Parallel: calls side by side, as values, as outcomes, or as whoever comes first.

`asyncio.gather` of calls is durable as it stands. `ctx.parallel` takes a tuple, a list or a mapping, gives back
the same shape, can limit how many are under way, and either raises the first error (after stopping the
others) or, with `on_error="complete_all"`, gives every call as `Ok(value)` or `Err(error)`. There is no store
of results beside the code: they are values, and `match` looks at them.

    python -m examples.guides.parallel

prints

    onboard: user-ada in workspace-ada
    results: payment pay-9, delivery failed (NotFound)
    into: backorder
    into, both: pay-1 by road
    named: 2 items for Ada
    fail fast: Declined: no funds
    notify: some
    checks: needs payment retry
    retried: fetched at attempt 3, local
    children: pay-5, shipped box-5
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from durable import Client, Context, Err, Ok, Retry, Runnable, Worker, current_step, step, workflow


class Declined(Exception):
    """The bank says no."""


class NotFound(LookupError):
    """It is nowhere."""


@step
async def payment(cents: int) -> str:
    if cents > 100:
        raise Declined("no funds")
    return f"pay-{cents}"


@step
async def delivery(cents: int) -> str:
    if cents == 9:
        raise NotFound("no road")
    return "by road"


@step
async def do(what: str) -> str:
    return what


@step
async def broken(what: str) -> str:
    raise ConnectionError(what)


# --- basic use: three at once, and what they give


@workflow
async def onboard(ctx: Context, name: str) -> str:
    user = await ctx.step(do, f"user-{name}")
    _, workspace, _ = await asyncio.gather(
        ctx.step(do, "welcome mail"), ctx.step(do, f"workspace-{name}"), ctx.step(do, "billing")
    )
    return f"{user} in {workspace}"


# --- results under names, each as Ok or Err: all of them, one of them, did it work


@workflow
async def results(ctx: Context, cents: int) -> str:
    calls = {"payment": ctx.step(payment, cents), "delivery": ctx.step(delivery, cents)}
    every = await ctx.parallel(calls, on_error="complete_all")
    match every["payment"], every["delivery"]:
        case Ok(paid), Err(error):
            return f"payment {paid}, delivery failed ({type(error).__name__})"
        case _:
            return f"{sum(isinstance(each, Ok) for each in every.values())} succeeded"


# --- from results to one value or another way: a match is all that it takes


@workflow
async def into(ctx: Context, cents: int) -> str:
    calls = (ctx.step(payment, cents), ctx.step(delivery, cents))
    match await ctx.parallel(calls, on_error="complete_all"):
        case Ok(paid), Ok(how):
            return f"{paid} {how}"
        case Ok(), Err(NotFound()):
            return await ctx.step(do, "backorder")
        case _:
            raise RuntimeError("critical failure")


# --- results have the names that one gives them


@workflow
async def named(ctx: Context) -> str:
    got = await ctx.parallel({"order": ctx.step(do, "2 items"), "user": ctx.step(do, "Ada")})
    return f"{got['order']} for {got['user']}"


# --- fail fast: the first error is raised as itself, and the others were told to stop


@workflow
async def fail_fast(ctx: Context) -> str:
    try:
        await ctx.parallel((ctx.step(payment, 500), ctx.step(do, "something slow")))
    except Declined as error:
        return f"{type(error).__name__}: {error}"
    return "paid"


# --- complete all: partial success is success


@workflow
async def notify(ctx: Context) -> str:
    calls = [ctx.step(broken, "sms"), ctx.step(do, "mail")]
    sent = [
        each for each in await ctx.parallel(calls, on_error="complete_all") if isinstance(each, Ok)
    ]
    if not sent:
        raise RuntimeError("all notifications failed")
    return "all" if len(sent) == len(calls) else "some"


# --- another way for each way to fail


@workflow
async def checks(ctx: Context, cents: int) -> str:
    try:
        await ctx.parallel((ctx.step(delivery, cents), ctx.step(payment, cents)))
    except Declined:
        return "needs payment retry"
    except NotFound:
        return "backordered"
    return "fulfilled"


# --- retries belong to the step, so to one of them only


@step(retry=Retry(max_attempts=5, initial=0.05))
async def fetch() -> str:
    if current_step().attempt < 3:
        raise ConnectionError("busy")
    return f"fetched at attempt {current_step().attempt}"


@workflow
async def retried(ctx: Context) -> str:
    return ", ".join(await asyncio.gather(ctx.step(fetch), ctx.step(do, "local")))


# --- children side by side; they may sleep and wait


@workflow
async def charge(ctx: Context, cents: int) -> str:
    await ctx.sleep(0.1)
    return await ctx.step(payment, cents)


@workflow
async def ship(ctx: Context, parcel: int) -> str:
    await ctx.wait_for_event("packed", timeout=0.1, default=None)
    return f"shipped box-{parcel}"


@workflow
async def children(ctx: Context, order: int) -> str:
    return ", ".join(await ctx.parallel((ctx.call(charge, order), ctx.call(ship, order))))


async def main() -> None:
    workflows: list[Runnable[Any, Any]] = [
        onboard, results, into, named, fail_fast, notify, checks, retried, charge, ship, children
    ]  # fmt: skip
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=workflows):
        calls: list[tuple[str, str, object]] = [
            ("onboard", "onboard", "ada"), ("results", "results", 9), ("into", "into", 9),
            ("into, both", "into", 1), ("named", "named", None), ("fail fast", "fail_fast", None),
            ("notify", "notify", None), ("checks", "checks", 500), ("retried", "retried", None),
            ("children", "children", 5),
        ]  # fmt: skip
        for title, name, value in calls:
            handle = await client.start(name, value)
            print(f"{title}: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
