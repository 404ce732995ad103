from datetime import datetime

from pydantic import BaseModel

from durable import Client, Context, Cron, Err, Retry, Worker, days, step, workflow
from durable_testing import Environment


class Order(BaseModel):
    id: str
    amount: int


# T1
class CardDeclined(Exception): ...


@step(retry=Retry(max_attempts=5, give_up_on=(CardDeclined,)), timeout=30)
async def charge(order: Order) -> str:
    return "ch_1"


@step(timeout=30)
async def ship(order: Order) -> str:
    return "t_1"


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    try:
        await ctx.step(charge, order)
    except CardDeclined:
        return "declined"
    return await ctx.step(ship, order)


async def t1() -> None:
    async with Client("sqlite:///shop.db") as client, Worker(client, workflows=[fulfil]):
        handle = await client.start(fulfil, Order(id="42", amount=1), id="order-42")
        print(await handle.result())


# T2
@workflow
async def approve(ctx: Context, order: Order) -> str:
    decision = await ctx.wait_for_approval("manager", timeout=days(3), default=None)
    return "approved" if decision else "rejected"


async def t2(client: Client) -> None:
    await client.provide_input("order-42", "manager", {"approved": True})


# T3
@step(retry=3)
async def send_one(to: str) -> None: ...
@workflow
async def campaign(ctx: Context, recipients: list[str]) -> int:
    results = await ctx.map(send_one, recipients, limit=10, on_error="complete_all")
    return sum(isinstance(r, Err) for r in results)


# T4
async def cancel_flight(f: str) -> None: ...
async def cancel_hotel(h: str) -> None: ...
@step(compensate=cancel_flight)
async def book_flight(f: str) -> str:
    return f


@step(compensate=cancel_hotel)
async def book_hotel(h: str) -> str:
    return h


@step
async def pay(total: int) -> None: ...
@workflow
async def trip(ctx: Context, order: Order) -> None:
    await ctx.step(book_flight, order.id)
    await ctx.step(book_hotel, order.id)
    await ctx.step(pay, order.amount)


# T5
@workflow
async def courier(ctx: Context, parcel: str) -> str:
    return "door"


@workflow
async def deliver(ctx: Context, parcel: str) -> str:
    match await ctx.race(
        done=ctx.call(courier, parcel),
        cancelled=ctx.wait_for_event("cancel", str),
        late=ctx.sleep(days(3)),
    ):
        case "done" | "cancelled", str() as text:
            return text
        case _:
            return "late"


# T6
@workflow(schedule=Cron("0 9 * * *", tz="America/New_York"))
async def daily_report(ctx: Context) -> None: ...


# T7
class Paid(BaseModel):
    amount: int


@workflow
async def paid(ctx: Context, order_id: str) -> int:
    return (await ctx.wait_for_event(Paid, key=order_id)).amount


async def t7(client: Client, order_id: str) -> None:
    await client.publish(Paid(amount=100), key=order_id)


# T8
async def test_times_out() -> None:
    async with Environment(workflows=[approve]) as env:
        assert await env.run(approve, Order(id="1", amount=1)) == "rejected"


_ = datetime
