"""Seed examples 30-50: parallel and waiting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

from durable import Client, Context, Err, Ok, Retry, days, hours, minutes, step, workflow
from tests.api_examples.svc import (
    inventory,
    mailer,
    orders,
    payments,
    reports,
    shipping,
    subs,
    support,
    users,
)


# --- 30 onboarding
class NewUser(BaseModel):
    email: str


class Onboarded(BaseModel):
    user_id: str
    workspace_id: str


@step
async def create_user(u: NewUser) -> str:
    return await users.create(u.email)


@step
async def welcome(user_id: str) -> None:
    await mailer.welcome(user_id)


@step
async def provision(user_id: str) -> str:
    return await users.workspace(user_id)


@step
async def setup_billing(user_id: str) -> None:
    await payments.setup(user_id)


@workflow
async def onboard_user(ctx: Context, u: NewUser) -> Onboarded:
    user_id = await ctx.step(create_user, u)
    _, workspace_id, _ = await asyncio.gather(
        ctx.step(welcome, user_id), ctx.step(provision, user_id), ctx.step(setup_billing, user_id)
    )
    return Onboarded(user_id=user_id, workspace_id=workspace_id)


# --- 31 complete_all
@step
async def send_sms(user_id: str) -> None:
    await mailer.sms(user_id)


@step
async def send_email(user_id: str) -> None:
    await mailer.email(user_id)


@workflow
async def notify(ctx: Context, user_id: str) -> Literal["all", "some"]:
    results = await ctx.parallel(
        {"sms": ctx.step(send_sms, user_id), "email": ctx.step(send_email, user_id)},
        on_error="complete_all",
    )
    sent = [k for k, r in results.items() if isinstance(r, Ok)]
    if not sent:
        raise RuntimeError("All notifications failed")
    return "all" if len(sent) == 2 else "some"


# --- 32 partial data
class Board(BaseModel):
    orders: list[str]
    metrics: dict[str, float]
    has_errors: bool


@step
async def fetch_orders() -> list[str]:
    return await orders.recent(limit=10)


@step
async def fetch_metrics() -> dict[str, float]:
    return await reports.metrics()


@workflow
async def dashboard_data(ctx: Context) -> Board:
    o, m = await ctx.parallel(
        (ctx.step(fetch_orders), ctx.step(fetch_metrics)), on_error="complete_all"
    )
    return Board(
        orders=o.value if isinstance(o, Ok) else [],
        metrics=m.value if isinstance(m, Ok) else {},
        has_errors=isinstance(o, Err) or isinstance(m, Err),
    )


# --- 33 branch on the results: the exceptions are the user's own
class CardDeclined(Exception): ...


class OutOfStock(Exception): ...


@step
async def check_inventory(order_id: str) -> int:
    return await inventory.check(order_id)


@step
async def check_payment(order_id: str) -> str:
    return await payments.authorise(order_id)


@workflow
async def order_processing(ctx: Context, order_id: str) -> str:
    try:
        await ctx.parallel((ctx.step(check_inventory, order_id), ctx.step(check_payment, order_id)))
    except CardDeclined:
        return "needs_payment_retry"
    except OutOfStock:
        return "backordered"
    return "fulfilled"


# --- 34 a retry of one branch only: an attribute of the step
@step(retry=Retry(max_attempts=5))
async def external_api_call() -> str:
    return await orders.fetch()


@step
async def local_query() -> str:
    return ""


@workflow
async def mixed(ctx: Context) -> tuple[str, str]:
    return await asyncio.gather(ctx.step(external_api_call), ctx.step(local_query))


# --- 35 sleep, 36 until, 37 business days
@workflow
async def delayed_task(ctx: Context) -> None:
    ctx.log.info("Starting task")
    await ctx.sleep(minutes(30))
    ctx.log.info("Resumed after 30 minutes")
    await ctx.sleep_until(datetime(2025, 12, 25, tzinfo=UTC))
    await ctx.sleep_until(ctx.next_business_day(hour=9, tz="Europe/Berlin"))
    await ctx.sleep_until(ctx.next_weekday("friday", hour=17))
    await ctx.sleep_until(ctx.end_of_day())


# --- 38 one event
class PaymentResult(BaseModel):
    status: Literal["success", "failed"]


@step
async def create_payment(amount: Decimal) -> str:
    return await payments.create(amount)


@workflow
async def payment_flow(ctx: Context, amount: Decimal) -> str:
    await ctx.step(create_payment, amount)
    result = await ctx.wait_for_event(
        "payment_confirmed", PaymentResult, timeout=minutes(15), default=None
    )
    return result.status if result else "timeout"


# --- 39 first event wins
@workflow
async def order_status(ctx: Context) -> str:
    match await ctx.wait_for_any(
        ["success", "failure", "cancelled"], timeout=hours(24), default=None
    ):
        case None:
            return "timed out"
        case "success", payload:
            return f"ok {payload}"
        case name, _:
            return name


# --- 40 all events
class Vote(BaseModel):
    approved: bool


@workflow
async def multi_approval(ctx: Context) -> bool:
    async with ctx.timeout(days(7)):
        votes = await asyncio.gather(
            *(ctx.wait_for_event(f"{d}_approval", Vote) for d in ("manager", "legal", "finance"))
        )
    return all(v.approved for v in votes)


# --- 41 approval
@workflow
async def approval_flow(ctx: Context) -> Literal["rejected_timeout", "approved", "rejected"]:
    decision = await ctx.wait_for_approval(
        "manager_approval", prompt="Approve this request?", timeout=days(3), default=None
    )
    return (
        "rejected_timeout" if decision is None else "approved" if decision.approved else "rejected"
    )


# --- 42-44 choice, text, form
class Equipment(BaseModel):
    laptop: Literal["MacBook Pro", "ThinkPad X1"]
    monitor: Literal["24 inch", "27 inch", "None"] | None = None
    notes: str = ""


@workflow
async def ask(ctx: Context) -> Equipment:
    how = await ctx.wait_for_choice(
        "shipping_method",
        {"express": "Express ($15)", "standard": "Standard (Free)"},
        prompt="Select shipping method:",
        timeout=hours(24),
        default="standard",
    )
    why = await ctx.wait_for_text(
        "rejection_reason", prompt="Why?", timeout=hours(4), default="No reason provided"
    )
    ctx.log.info("%s %s", how, why)
    return await ctx.wait_for_form(
        "equipment_request", Equipment, prompt="Please specify equipment needs", timeout=days(7)
    )


# --- 45 listing and answering
async def inbox(client: Client) -> None:
    async for p in client.pending_inputs(expiring_before=datetime.now(UTC) + hours(1)):
        print(p.run_id, p.name, p.prompt)
        await client.provide_input(
            p.run_id, p.name, {"approved": True, "comment": "Looks good"}, by="ann"
        )


# --- 46 stages of approval
@workflow
async def staged(ctx: Context, amount: Decimal) -> bool:
    if amount > 1000 and not await ctx.wait_for_approval(
        "manager_approval", prompt=f"Approve ${amount}?", timeout=days(2)
    ):
        return False
    return amount <= 5000 or bool(await ctx.wait_for_approval("finance_approval", timeout=days(3)))


# --- 47 webhook: found by tracking number, no lookup table
class Delivered(BaseModel):
    at: datetime


@step
async def create_shipment(order_id: str) -> str:
    return await shipping.create(order_id)


@step
async def lost(order_id: str) -> None:
    await support.lost(order_id)


@step
async def complete(order_id: str) -> None:
    await orders.complete(order_id)


@workflow
async def order_fulfilment(ctx: Context, order_id: str) -> None:
    tracking = await ctx.step(create_shipment, order_id)
    delivered = await ctx.wait_for_event(Delivered, key=tracking, timeout=days(14), default=None)
    await ctx.step(complete if delivered else lost, order_id)


async def shipping_webhook(client: Client, tracking: str, at: datetime) -> None:
    await client.publish(Delivered(at=at), key=tracking)


# --- 48 reminders
class Subscription(BaseModel):
    id: str
    email: str
    expires_at: datetime


@step
async def get_subscription(sub_id: str) -> Subscription:
    return await subs.get(sub_id)


@step
async def remind(email: str) -> None:
    await mailer.remind(email)


@step
async def expire(sub_id: str) -> None:
    await subs.expire(sub_id)


@workflow
async def subscription_renewal(ctx: Context, sub_id: str) -> None:
    sub = await ctx.step(get_subscription, sub_id)
    await ctx.sleep_until(sub.expires_at - days(7))
    await ctx.step(remind, sub.email)
    if await ctx.wait_for_event("subscription_renewed", timeout=days(7), default=False) is False:
        await ctx.step(expire, sub.id)


# --- 49 parallel approvals
@workflow
async def contract_approval(ctx: Context) -> Literal["approved", "rejected", "timed_out"]:
    votes = await ctx.wait_for_all(
        ["legal", "finance", "management"], timeout=days(5), default=None
    )
    if votes is None:
        return "timed_out"
    return "approved" if all(v["approved"] for v in votes.values()) else "rejected"


# --- 50 race
@workflow
async def payment_with_timeout(ctx: Context) -> str:
    event, _ = await ctx.wait_for_any(
        ["payment_received", "user_cancelled", "fraud_detected"],
        timeout=hours(1),
        default=("expired", None),
    )
    return event
