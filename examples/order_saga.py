"""An order that takes itself back: each step says what undoes it.

A step with `compensate=` has an undo: it gets the step's result. When a later line fails, what was
completed is undone, the last one first, and the run ends as `compensated`. The undo is a step like any
other: it has its own retries, it is recorded, and one that fails does not stop the rest.

`async with ctx.saga()` is a smaller scope of the same kind: what was done inside is undone when an exception
leaves the block, and the workflow may go on with another plan.

    python -m examples.order_saga

prints

    order-1 completed: parcel van-1
    order-2 completed: parcel drone-2
      book_label -> void_label completed
    order-3 compensated: NoCarrier: nobody drives to antarctica
      book_label -> void_label completed
      book_label -> void_label completed
      charge -> refund completed
      reserve -> release completed
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from durable import Client, Context, Retry, RunFailed, Worker, step, workflow


class Order(BaseModel):
    id: str
    sku: str
    cents: int
    country: str = "de"


class NoCarrier(Exception):
    """Nobody delivers there."""


# What the steps do to the world would stand here; each undo gets the result of what it undoes.


@step(retry=Retry(max_attempts=10, initial=0.1))
async def release(reservation: str) -> None:
    """Put the goods back. Undos may run twice after a crash: make them safe to repeat."""


@step(retry=Retry(max_attempts=10, initial=0.1))
async def refund(charge_id: str) -> None:
    """Give the money back."""


@step
async def void_label(label: str) -> None:
    """Tell the carrier that nothing will come."""


@step(compensate=release)
async def reserve(order: Order) -> str:
    return f"reserved {order.sku}"


@step(compensate=refund, retry=3, timeout=30)
async def charge(order: Order) -> str:
    return f"charge of {order.cents}"


@step(compensate=void_label)
async def book_label(order: Order, carrier: str) -> str:
    return f"{carrier}-{order.id}"


@step
async def hand_over(label: str, country: str) -> None:
    if country == "antarctica" or (country == "island" and label.startswith("van")):
        raise NoCarrier(f"nobody drives to {country}")


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    await ctx.step(reserve, order)
    await ctx.step(charge, order)
    try:
        async with ctx.saga():  # plan A; its label is void before plan B begins
            label = await ctx.step(book_label, order, "van")
            await ctx.step(hand_over, label, order.country)
    except NoCarrier:
        label = await ctx.step(book_label, order, "drone")
        await ctx.step(hand_over, label, order.country)
    return label


async def main() -> None:
    orders = [
        Order(id="1", sku="lamp", cents=4200),
        Order(id="2", sku="book", cents=1500, country="island"),
        Order(id="3", sku="sledge", cents=9900, country="antarctica"),
    ]
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[fulfil]):
        for order in orders:
            handle = await client.start(fulfil, order, id=f"order-{order.id}")
            try:
                print(f"{handle.id} completed: parcel {await handle.result()}")
            except RunFailed as error:
                status = await handle.status()
                print(f"{handle.id} {status}: {type(error).__name__}: {error}")
            for undo in (await handle.get()).compensations:
                print(f"  {undo.step} -> {undo.name} {undo.status}")


if __name__ == "__main__":
    asyncio.run(main())
