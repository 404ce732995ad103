"""Seed examples 14-29: branching, compensations, orchestration."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from enum import Enum
from typing import Literal, assert_never

from pydantic import BaseModel

from durable import ChildFailed, Client, Context, Retry, hours, minutes, step, workflow
from tests.api_examples.svc import (
    docs,
    expenses,
    flights,
    hotels,
    inventory,
    llm,
    mailer,
    orders,
    payments,
    shipping,
    support,
    users,
)


# --- 14 basic branch
@step
async def classify(content: str) -> str:
    return await llm.classify(content)


@step
async def extract(kind: str, content: str) -> str:
    return await llm.extract(kind, content)


@step
async def save(text: str | None) -> None:
    await docs.save(text)


@workflow
async def process_document(ctx: Context, content: str) -> None:
    kind = await ctx.step(classify, content)
    text = await ctx.step(extract, kind, content) if kind in ("invoice", "contract") else None
    await ctx.step(save, text)


# --- 15 patterns: `match` on any value; the checker proves that no case is missing
class Tier(Enum):
    ONE = 1
    TWO = 2


@step
async def handle_tier(n: int) -> None: ...
@workflow
async def by_tier(ctx: Context, tier: Tier) -> None:
    match tier:
        case Tier.ONE:
            await ctx.step(handle_tier, 1)
        case Tier.TWO:
            await ctx.step(handle_tier, 2)
        case _:
            assert_never(tier)


# --- 16 order by type
class Digital(BaseModel):
    type: Literal["digital"]
    id: str


class Physical(BaseModel):
    type: Literal["physical"]
    id: str


class Service(BaseModel):
    type: Literal["service"]
    id: str


AnyOrder = Digital | Physical | Service


@step
async def load_order(order_id: str) -> AnyOrder:
    return await orders.get(order_id)


@step
async def download_link(o: Digital) -> str:
    return await orders.link(o.id)


@step
async def create_shipment(o: Physical) -> str:
    return await shipping.create(o.id)


@step
async def notify_warehouse(o: Physical) -> None:
    await shipping.pick(o.id)


@step
async def book_slot(o: Service) -> str:
    return await support.book(o.id)


@step
async def confirm(o: AnyOrder, how: str) -> None:
    await mailer.confirm(o.id, how)


@workflow
async def process_order_by_type(ctx: Context, order_id: str) -> str:
    match order := await ctx.step(load_order, order_id):
        case Digital():
            how = await ctx.step(download_link, order)
        case Physical():
            how = await ctx.step(create_shipment, order)
            await ctx.step(notify_warehouse, order)
        case Service():
            how = await ctx.step(book_slot, order)
    await ctx.step(confirm, order, how)
    return how


# --- 17 nested branch; the code is made by a step, because random numbers are not replayed
class User(BaseModel):
    id: str
    verified: bool
    prefers: Literal["email", "sms", "none"]


@step
async def get_user(user_id: str) -> User:
    return await users.get(user_id)


@step
async def send_code(user_id: str, via: Literal["email", "sms"]) -> None:
    await users.send_code(user_id, via)


@step
async def open_ticket(user_id: str) -> None:
    await support.open(user_id)


@workflow
async def verify_user(ctx: Context, user_id: str) -> str:
    user = await ctx.step(get_user, user_id)
    if user.verified:
        return "already_verified"
    match user.prefers:
        case "email" | "sms" as via:
            await ctx.step(send_code, user.id, via)
        case "none":
            await ctx.step(open_ticket, user.id)
    return user.prefers


# --- 18 approval routing by amount
class Expense(BaseModel):
    id: str
    amount: Decimal


@step
async def approve_expense(expense_id: str, by: str) -> None:
    await expenses.approve(expense_id, by)


@workflow
async def expense_routing(ctx: Context, e: Expense) -> bool:
    who = (
        ["cfo", "ceo"]
        if e.amount > 10_000
        else ["manager"]
        if e.amount > 1000
        else ["team_lead"]
        if e.amount > 100
        else []
    )
    for role in who:
        if not await ctx.wait_for_approval(role, to=role, prompt=f"Expense {e.id}: {e.amount}"):
            return False
    await ctx.step(approve_expense, e.id, who[-1] if who else "system")
    return True


# --- 19 decision / goto: an `if`
@step
async def optional_step() -> None: ...
@step
async def final_step() -> None: ...
@workflow
async def maybe_skip(ctx: Context, skip: bool) -> None:
    if not skip:
        await ctx.step(optional_step)
    await ctx.step(final_step)


# --- 20 saga with its own retry for the undo
class Trip(BaseModel):
    flight: str
    hotel: str
    total: Decimal


@step(retry=Retry(max_attempts=3))
async def cancel_flight(flight_id: str) -> None:
    await flights.cancel(flight_id)


@step(retry=3)
async def cancel_hotel(hotel_id: str) -> None:
    await hotels.cancel(hotel_id)


@step(compensate=cancel_flight)
async def book_flight(flight: str) -> str:
    return await flights.book(flight)


@step(compensate=cancel_hotel)
async def book_hotel(hotel: str) -> str:
    return await hotels.book(hotel)


@step
async def charge(total: Decimal) -> str:
    return await payments.charge(total)


@workflow
async def book_trip(ctx: Context, trip: Trip) -> str:
    await ctx.step(book_flight, trip.flight)
    await ctx.step(book_hotel, trip.hotel)
    return await ctx.step(charge, trip.total)


# --- 21 what happened to the compensations
async def show(client: Client, run_id: str) -> None:
    run = await client.get(run_id)
    if run.status == "compensation_failed":
        for c in run.compensations:
            print(c.step, "->", c.name, c.status, c.error.message if c.error else "")


# --- 22 e-commerce
class Line(BaseModel):
    sku: str
    quantity: int


class Purchase(BaseModel):
    customer_id: str
    email: str
    address: str
    items: list[Line]
    total: Decimal


async def release_inventory(reservations: list[str]) -> None:
    for r in reservations:
        await inventory.release(r)


async def refund_customer(charge_id: str) -> None:
    await payments.refund(charge_id)


@step(compensate=release_inventory)
async def reserve_inventory(items: list[Line]) -> list[str]:
    return [await inventory.reserve(i.sku, i.quantity) for i in items]


@step(compensate=refund_customer)
async def charge_customer(customer_id: str, total: Decimal) -> str:
    return await payments.charge(customer_id, total)


@step
async def ship(address: str, items: list[Line]) -> str:
    return await shipping.create(address, items)


@step
async def send_receipt(email: str, shipment_id: str, charge_id: str) -> None:
    await mailer.receipt(email, shipment_id, charge_id)


@workflow
async def purchase(ctx: Context, p: Purchase) -> str:
    await ctx.step(reserve_inventory, p.items)
    charge_id = await ctx.step(charge_customer, p.customer_id, p.total)
    shipment_id = await ctx.step(ship, p.address, p.items)
    await ctx.step(send_receipt, p.email, shipment_id, charge_id)
    return shipment_id


# --- 23 order pipeline of children
class Mail(BaseModel):
    to: str
    template: str


class Sale(BaseModel):
    id: str
    total: Decimal
    email: str


@step
async def deliver(m: Mail) -> None:
    await mailer.deliver(m.to, m.template)


@workflow
async def payment(ctx: Context, amount: Decimal) -> str:
    return await ctx.step(charge, amount)


@workflow
async def email(ctx: Context, m: Mail) -> None:
    await ctx.step(deliver, m)


@workflow
async def order_pipeline(ctx: Context, sale: Sale) -> str:
    payment_id = await ctx.call(payment, sale.total, timeout=hours(1))
    await ctx.start(
        email, Mail(to=sale.email, template="order_confirmed"), on_parent_close="abandon"
    )
    return payment_id


# --- 24 nested A -> B -> C
@step
async def work() -> str:
    return "done"


@workflow
async def c(ctx: Context) -> str:
    return await ctx.step(work)


@workflow
async def b(ctx: Context) -> str:
    return await ctx.call(c)


@workflow
async def a(ctx: Context) -> str:
    return await ctx.call(b)


# --- 25 a child that may fail
@step
async def fulfil(payment_id: str) -> None: ...
@step
async def notify_failure(email: str, why: str) -> None: ...
@workflow
async def resilient_order(ctx: Context, sale: Sale) -> bool:
    try:
        payment_id = await ctx.call(payment, sale.total, timeout=minutes(30))
    except ChildFailed as e:
        await ctx.step(notify_failure, sale.email, e.failure.message)
        return False
    await ctx.step(fulfil, payment_id)
    return True


# --- 26 children in parallel (they may wait as long as they like)
@workflow
async def customer_lookup(ctx: Context, order_id: str) -> str:
    return order_id


@workflow
async def inventory_check(ctx: Context, order_id: str) -> int:
    return 1


@workflow
async def enrich_order(ctx: Context, order_id: str) -> tuple[str, int]:
    return await asyncio.gather(
        ctx.call(customer_lookup, order_id), ctx.call(inventory_check, order_id)
    )


# --- 27 several children of one kind; ids are made from run id and command number: no `ref` needed
@workflow
async def onboarding(ctx: Context, to: str) -> list[str]:
    return [
        (await ctx.start(email, Mail(to=to, template=t))).id for t in ("welcome", "getting_started")
    ]


# --- 28 querying, 29 cascade cancel
async def family(client: Client, parent: str) -> None:
    for run in await client.children(parent, status="running"):
        print(run.id)
    await client.cancel(parent, reason="User cancelled order")
