"""Every line marked `type: ignore` must be refused, by both checkers; an ignore without need is an error."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from durable import Client, Context, Event, Request, job, step, workflow


class Order(BaseModel):
    id: str


class Paid(BaseModel):
    amount: int


async def refund(x: str) -> None: ...


@step
async def charge(order: Order, times: int = 1) -> str:
    return order.id * times


@step
def ship(order: Order) -> int:
    return len(order.id)


@step(transaction=True)
async def debit(conn: Client, account: str) -> int:
    return len(account)


async def undo_number(x: int) -> None: ...


class Payments:
    @step
    async def pay(self, order: Order) -> str:
        return order.id


@workflow
async def child(ctx: Context, n: int) -> str:
    return str(n)


@workflow
async def no_input(ctx: Context) -> int:
    return 1


@job
async def mail(to: str) -> None: ...


ADD = Request("add", Order, int)
PAID = Event("paid", Paid)


@workflow
async def forgotten_await(ctx: Context, order: Order) -> None:
    ctx.step(charge, order)  # type: ignore[unused-coroutine]
    ctx.step(ship, order)  # type: ignore[unused-coroutine]
    ctx.sleep(1)  # type: ignore[unused-coroutine]
    ctx.sleep_until(ctx.now())  # type: ignore[unused-coroutine]
    ctx.wait_for_event(Paid)  # type: ignore[unused-coroutine]
    ctx.call(child, 1)  # type: ignore[unused-coroutine]
    ctx.continue_as_new(order)  # type: ignore[unused-coroutine]


@workflow
async def steps(ctx: Context, order: Order) -> str:
    await ctx.step(charge)  # type: ignore[call-overload]
    await ctx.step(charge, "x")  # type: ignore[call-overload]
    await ctx.step(charge, order, time=3)  # type: ignore[call-arg]
    await ctx.step(ship, order, 1)  # type: ignore[call-overload]
    await ctx.step(debit, ctx, "a")  # type: ignore[call-overload]
    await ctx.step(Payments().pay, "x")  # type: ignore[call-overload]
    await ctx.step(refund, 3)  # type: ignore[call-overload]
    await ctx.step(len, 3)  # type: ignore[call-overload]
    await ctx.step(charge.options(compensate=undo_number), order)  # type: ignore[arg-type, call-overload]
    await ctx.step(charge.options(timout=3), order)  # type: ignore[call-arg, call-overload]
    await ctx.step(step(refund, compensate=undo_number), "x")  # type: ignore[misc]
    n: int = await ctx.step(charge, order)  # type: ignore[call-overload]
    a, b = await asyncio.gather(ctx.step(charge, order), ctx.step(ship, order))
    x: int = a  # type: ignore[assignment]
    await ctx.sleep("1")  # type: ignore[arg-type]
    await ctx.sleep_until(3)  # type: ignore[arg-type]
    print(n, x, b)
    return charge(order)  # type: ignore[return-value]


@workflow
async def waits(ctx: Context) -> None:
    p: Paid = await ctx.wait_for_event(Paid, timeout=3, default=None)  # type: ignore[arg-type]
    await ctx.wait_for_event(Paid, default=None)  # type: ignore[call-overload]
    await ctx.wait_for_event(PAID, where=lambda p: p.nope > 1)  # type: ignore[attr-defined]
    await ctx.wait_for_choice("a", Order(id="1"))  # type: ignore[call-overload]
    req = await ctx.wait_for_request(ADD)
    req.reply("x")  # type: ignore[arg-type]
    print(p)


@workflow
async def children(ctx: Context) -> None:
    await ctx.call(child)  # type: ignore[arg-type]
    await ctx.call(child, "x")  # type: ignore[misc]
    await ctx.call(no_input, 3)  # type: ignore[misc]
    c: int = await ctx.call(child, 1, timeout=3, default=None)  # type: ignore[arg-type]
    await ctx.start(child, 1, on_parent_close="ignore")  # type: ignore[call-overload]
    print(c)


@workflow
async def many(ctx: Context, order: Order) -> None:
    await ctx.parallel([ctx.step(charge, order)], on_error="nope")  # type: ignore[call-overload]
    r = await ctx.parallel([ctx.step(charge, order)], on_error="complete_all")
    print(r[0].value)  # type: ignore[union-attr]
    await ctx.map(charge, ["x"])  # type: ignore[arg-type]
    ctx.compensate(refund, 3)  # type: ignore[arg-type]


async def client_calls(client: Client) -> None:
    client.start(child, 1)  # type: ignore[unused-coroutine]
    await client.start(child)  # type: ignore[arg-type]
    await client.start(child, "x")  # type: ignore[misc]
    await client.start(no_input, 1)  # type: ignore[misc]
    await client.start(charge, Order(id=""))  # type: ignore[call-overload]
    await client.start(child, 1, on_conflict="replace")  # type: ignore[call-overload]
    await client.enqueue(child, 1)  # type: ignore[call-overload]
    await client.enqueue(mail, 1)  # type: ignore[misc]
    await client.list(status="done")  # type: ignore[arg-type]
    h = await client.start(child, 1)
    h.result()  # type: ignore[unused-coroutine]
    h.result()  # type: ignore[unused-coroutine]
    n: int = await h.result()  # type: ignore[assignment]
    await h.request(ADD, 3)  # type: ignore[misc]
    await h.send_event(PAID, 3)  # type: ignore[misc]
    if await h.status() == "done":  # type: ignore[comparison-overlap]
        print(n)
