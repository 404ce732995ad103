"""Orchestration: a workflow calls others as runs of their own, with their own ids, retries and histories.

`ctx.call` waits for the result; `ctx.start` goes on at once and gives a handle. A child's id is made from its
parent's, so a parent that is driven again finds the children that it has. They may wait for days, also
side by side. A cancel of the parent reaches all of them.

    python -m examples.guides.orchestration

prints

    order-1: paid pay-1200, mail goes out as order-1.2
    order-2: not paid: the card was declined
    order-3: not paid: nobody knows in time
    mail order-1.2: order_confirmed to ada@example.com
    welcome: welcome-1.1 welcome-1.2
    nested: done by c
    enriched: customer of o-7, stock unknown
    family: 2 children waiting, then 2 cancelled because the customer left
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pydantic import BaseModel

from durable import (
    ChildFailed,
    Client,
    Context,
    Err,
    Ok,
    RunCancelled,
    Runnable,
    Worker,
    step,
    workflow,
)

PATIENCE = float(os.environ.get("PATIENCE", "1"))
"""Seconds that an order waits for its payment; `hours(1)` in yours."""


class Order(BaseModel):
    cents: int
    email: str = "ada@example.com"


class Mail(BaseModel):
    to: str
    template: str


# --- the children


@step
async def charge(cents: int) -> str:
    if cents > 5000:
        raise ValueError("the card was declined")
    return f"pay-{cents}"


@workflow
async def payment(ctx: Context, cents: int) -> str:
    if cents == 0:
        await ctx.wait_for_event("somebody_looks_at_it")
    return await ctx.step(charge, cents)


@workflow
async def email(ctx: Context, mail: Mail) -> str:
    await ctx.sleep(0.1)
    return f"{mail.template} to {mail.to}"


# --- synchronous and fire-and-forget; both outcomes handled, and never waited for without end


@workflow
async def process_order(ctx: Context, order: Order) -> str:
    try:
        paid = await ctx.call(payment, order.cents, timeout=PATIENCE, default=None)
    except ChildFailed as error:  # it is also the child's own ValueError
        return f"not paid: {error.failure.message}"
    if paid is None:  # the time-out has cancelled the child
        return "not paid: nobody knows in time"
    mail = Mail(to=order.email, template="order_confirmed")
    child = await ctx.start(email, mail, on_parent_close="abandon")
    return f"paid {paid}, mail goes out as {child.id}"


# --- several children of one kind need no names of their own


@workflow
async def welcome(ctx: Context, to: str) -> list[str]:
    templates = ("welcome", "getting_started")
    handles = [await ctx.start(email, Mail(to=to, template=name)) for name in templates]
    for handle in handles:
        await handle.result()
    return [handle.id for handle in handles]


# --- nested: a calls b calls c


@workflow
async def c(ctx: Context) -> str:
    return "done by c"


@workflow
async def b(ctx: Context) -> str:
    return await ctx.call(c)


@workflow
async def a(ctx: Context) -> str:
    return await ctx.call(b)


# --- children side by side; they may wait, too


@workflow
async def customer(ctx: Context, order: str) -> str:
    await ctx.sleep(0.1)
    return f"customer of {order}"


@workflow
async def stock(ctx: Context, order: str) -> int:
    raise LookupError(order)


@workflow
async def enrich(ctx: Context, order: str) -> str:
    calls = (ctx.call(customer, order), ctx.call(stock, order))
    match await ctx.parallel(calls, on_error="complete_all"):
        case Ok(name), Err():
            return f"{name}, stock unknown"
        case _:
            return "all known"


# --- a cancel reaches all children that are still open


@workflow
async def family(ctx: Context) -> None:
    await asyncio.gather(*(ctx.call(payment, 0) for _ in range(2)))


async def cancelled(client: Client) -> str:
    parent = await client.start(family, id="family")
    while len(waiting := await client.children(parent.id, status="waiting")) < 2:
        await asyncio.sleep(0.02)
    await parent.cancel(reason="the customer left")
    try:
        await parent.result()
    except RunCancelled as error:
        while len(ended := await client.children(parent.id, status="cancelled")) < 2:
            await asyncio.sleep(0.02)
        return (
            f"{len(waiting)} children waiting, then {len(ended)} cancelled because {error.reason}"
        )
    return "not cancelled"


async def main() -> None:
    workflows: list[Runnable[Any, Any]] = [
        payment,
        email,
        process_order,
        welcome,
        a,
        b,
        c,
        customer,
        stock,
        enrich,
        family,
    ]
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=workflows):
        for number, cents in enumerate([1200, 9900, 0], 1):
            order = await client.start(process_order, Order(cents=cents), id=f"order-{number}")
            print(f"{order.id}: {await order.result()}")
        print(f"mail order-1.2: {await client.handle('order-1.2', email).result()}")
        sent = await client.start(welcome, "ada@example.com", id="welcome-1")
        print("welcome:", *await sent.result())
        print(f"nested: {await (await client.start(a)).result()}")
        print(f"enriched: {await (await client.start(enrich, 'o-7')).result()}")
        print(f"family: {await cancelled(client)}")


if __name__ == "__main__":
    asyncio.run(main())
