from decimal import Decimal

from pydantic import BaseModel

from durable import Client, Context, Retry, Worker, days, step, workflow


class Order(BaseModel):
    id: str
    amount: Decimal


class OrderRejected(Exception): ...


async def refund(charge_id: str) -> None: ...


@step(retry=Retry(max_attempts=5), timeout=30, compensate=refund)
async def charge(order: Order) -> str:
    return f"ch-{order.id}"


@step
def ship(order: Order) -> str:  # a sync function runs in a thread
    return f"tr-{order.id}"


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    await ctx.step(charge, order)  # undone by refund(charge_id) if a later line fails
    if order.amount > 1000:
        decision = await ctx.wait_for_approval(
            "manager", prompt=f"Ship {order.id}?", timeout=days(3)
        )
        if not decision:
            raise OrderRejected(order.id)
    tracking = await ctx.step(ship.options(timeout=60), order)
    await ctx.wait_for_event("parcel.delivered", timeout=days(14), default=None)
    return tracking


async def main() -> None:
    async with Client("sqlite:///shop.db") as client, Worker(client, workflows=[fulfil]):
        handle = await client.start(fulfil, Order(id="42", amount=Decimal(1500)), id="order-42")
        await handle.provide_input(
            "manager", {"approved": True}, wait=10
        )  # it may not have asked yet
        await handle.send_event("parcel.delivered", {"at": "door"})  # kept if early
        print(await handle.result())
