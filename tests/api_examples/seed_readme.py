"""Seed examples 1-13: README and AI guide."""

from __future__ import annotations

import asyncio
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

from durable import (
    Client,
    Context,
    Cron,
    Err,
    Event,
    Ok,
    Retry,
    Worker,
    days,
    hours,
    step,
    workflow,
)
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
    reports,
    subs,
    support,
    users,
)


# --- 1 quick start -------------------------------------------------------------------------
class Item(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    id: str
    customer_id: str
    items: list[Item]


@step(retry=3)
async def charge_payment(order_id: str, total: Decimal) -> str:
    return await payments.charge(order_id, total)


@step
async def send_confirmation(order_id: str) -> None:
    await mailer.confirm(order_id)


@workflow(timeout=hours(2))
async def process_order(ctx: Context, order: Order) -> str:
    total = sum((i.price for i in order.items), Decimal(0))
    charge_id = await ctx.step(charge_payment, order.id, total)
    await ctx.step(send_confirmation, order.id)
    return charge_id


async def main() -> None:
    async with (
        Client("postgresql:///shop") as client,
        Worker(client, workflows=[process_order], queues={"default": 10}),
    ):
        handle = await client.start(process_order, Order(id="order_123", customer_id="c", items=[]))
        print(await handle.result())


# --- 2 approval with time-out fallback ---------------------------------------------------------
class Expense(BaseModel):
    employee_id: str
    amount: Decimal


@step
async def reimburse(e: Expense) -> None:
    await expenses.reimburse(e.employee_id, e.amount)


@step
async def notify_rejection(employee_id: str) -> None:
    await mailer.rejected(employee_id)


@workflow
async def expense_approval(ctx: Context, e: Expense) -> Literal["reimbursed", "rejected"]:
    decision = await ctx.wait_for_approval(
        "manager", prompt=f"Approve ${e.amount} expense?", timeout=days(3), default=None
    )
    if decision:
        await ctx.step(reimburse, e)
        return "reimbursed"
    await ctx.step(notify_rejection, e.employee_id)
    return "rejected"


async def approve(client: Client, run_id: str) -> None:
    await client.provide_input(run_id, "manager", {"approved": True})


# --- 3 parallel fetch ----------------------------------------------------------------------------
class Dashboard(BaseModel):
    user: str
    orders: list[str]
    notes: list[str]


@step
async def get_user(user_id: str) -> str:
    return await users.get(user_id)


@step
async def recent_orders(user_id: str) -> list[str]:
    return await orders.recent(user_id)


@step
async def unread(user_id: str) -> list[str]:
    return await users.unread(user_id)


@workflow
async def build_dashboard(ctx: Context, user_id: str) -> Dashboard:
    user, recent, notes = await asyncio.gather(
        ctx.step(get_user, user_id), ctx.step(recent_orders, user_id), ctx.step(unread, user_id)
    )
    return Dashboard(user=user, orders=recent, notes=notes)


# --- 4 the same, keeping what succeeded (seed: `into:`) ------------------------------------------
@workflow
async def build_dashboard_v2(ctx: Context, user_id: str) -> Dashboard:
    match await ctx.parallel(
        (ctx.step(get_user, user_id), ctx.step(recent_orders, user_id), ctx.step(unread, user_id)),
        on_error="complete_all",
    ):
        case Ok(user), Ok(recent), Ok(notes):
            return Dashboard(user=user, orders=recent, notes=notes)
        case _:
            raise RuntimeError("Failed to fetch dashboard data")


# --- 5 batch with bounded concurrency --------------------------------------------------------------
class Sent(BaseModel):
    sent: int
    failed: int


@step
async def recipients(campaign_id: str) -> list[str]:
    return await subs.active(campaign_id)


@step(retry=2)
async def send_one(recipient: str) -> None:
    await mailer.send(recipient)


@workflow
async def send_campaign(ctx: Context, campaign_id: str) -> Sent:
    results = await ctx.map(
        send_one, await ctx.step(recipients, campaign_id), limit=10, on_error="complete_all"
    )
    failed = sum(isinstance(r, Err) for r in results)
    return Sent(sent=len(results) - failed, failed=failed)


# --- 6 trip booking (saga) ----------------------------------------------------------------------------
class Booking(BaseModel):
    id: str
    price: Decimal


class Trip(BaseModel):
    flight: str
    hotel: str
    card: str


async def cancel_flight(b: Booking) -> None:
    await flights.cancel(b.id)


async def cancel_hotel(b: Booking) -> None:
    await hotels.cancel(b.id)


@step(compensate=cancel_flight)
async def book_flight(flight: str) -> Booking:
    return await flights.book(flight)


@step(compensate=cancel_hotel)
async def book_hotel(hotel: str) -> Booking:
    return await hotels.book(hotel)


@step
async def pay(card: str, total: Decimal) -> None:
    await payments.charge(card, total)


@workflow
async def book_trip(ctx: Context, trip: Trip) -> None:
    flight = await ctx.step(book_flight, trip.flight)
    hotel = await ctx.step(book_hotel, trip.hotel)
    await ctx.step(pay, trip.card, flight.price + hotel.price)


# --- 7 scheduled report ------------------------------------------------------------------------------------
@step
async def sales_summary(day: date) -> str:
    return await reports.sales(day)


@step(retry=5)
async def distribute(report: str) -> None:
    await mailer.send_report(report)


@workflow(schedule=Cron("0 9 * * *", tz="America/New_York"))
async def daily_sales_report(ctx: Context) -> None:
    await ctx.step(distribute, await ctx.step(sales_summary, ctx.now().date()))


# --- 8 delayed and scheduled execution ---------------------------------------------------------------------------
class Trial(BaseModel):
    user_id: str
    started_at: datetime


@step
async def mail(user_id: str, template: str) -> None:
    await mailer.send(user_id, template)


@step
async def is_subscribed(user_id: str) -> bool:
    return await subs.is_active(user_id)


@workflow
async def trial_reminder(ctx: Context, trial: Trial) -> bool:
    await ctx.step(mail, trial.user_id, "welcome")
    await ctx.sleep(days(3))
    await ctx.step(mail, trial.user_id, "tips")
    await ctx.sleep_until(trial.started_at + days(14))
    if converted := await ctx.step(is_subscribed, trial.user_id):
        return converted
    await ctx.step(mail, trial.user_id, "upgrade")
    return False


# --- 9 event driven ---------------------------------------------------------------------------------------------------
class Invoice(BaseModel):
    order_id: str
    amount: Decimal


@step
async def create_invoice(i: Invoice) -> str:
    return await payments.invoice(i.order_id, i.amount)


@step
async def fulfil_order(order_id: str) -> None:
    await orders.fulfil(order_id)


@step
async def cancel_order(order_id: str) -> None:
    await orders.cancel(order_id)


@workflow
async def payment_flow(ctx: Context, i: Invoice) -> str:
    await ctx.step(create_invoice, i)
    event, _ = await ctx.wait_for_any(
        ["payment.success", "payment.failed"], timeout=days(7), default=("payment.expired", None)
    )
    if event == "payment.success":
        await ctx.step(fulfil_order, i.order_id)
        return "fulfilled"
    await ctx.step(cancel_order, i.order_id)
    return "cancelled"


async def webhook(client: Client, run_id: str) -> None:
    await client.send_event(run_id, "payment.success", {"transaction_id": "txn_123"})


# --- 10 document pipeline with an LLM -------------------------------------------------------------------------------------
class LineItem(BaseModel):
    description: str
    amount: Decimal


class InvoiceDoc(BaseModel):
    kind: Literal["invoice"] = "invoice"
    invoice_number: str
    total: Decimal
    line_items: list[LineItem]

    @property
    def adds_up(self) -> bool:
        return sum(i.amount for i in self.line_items) == self.total


class ContractDoc(BaseModel):
    kind: Literal["contract"] = "contract"
    parties: list[str]
    key_terms: list[str]


DocType = Literal["invoice", "contract", "other"]


@step
async def fetch(doc_id: str) -> str:
    return await docs.get(doc_id)


@step(retry=Retry(max_attempts=3, retry_on=(ValueError,)), timeout=60, queue="ai")
async def classify(content: str) -> DocType:
    return await llm.text(f"Classify as invoice, contract or other: {content}")


@step(retry=3, queue="ai")
async def extract_invoice(content: str) -> InvoiceDoc:
    return InvoiceDoc.model_validate_json(await llm.json(content, InvoiceDoc))


@step(retry=3, queue="ai")
async def extract_contract(content: str) -> ContractDoc:
    return ContractDoc.model_validate_json(await llm.json(content, ContractDoc))


@step
async def store(
    doc_id: str, kind: DocType, data: InvoiceDoc | ContractDoc | None, needs_review: bool
) -> None:
    await docs.update(doc_id, kind, data, needs_review)


@workflow
async def process_document(ctx: Context, doc_id: str) -> DocType:
    content = await ctx.step(fetch, doc_id)
    data: InvoiceDoc | ContractDoc | None = None
    review = False
    match kind := await ctx.step(classify, content):
        case "invoice":
            data = invoice = await ctx.step(extract_invoice, content)
            review = not invoice.adds_up
        case "contract":
            data = await ctx.step(extract_contract, content)
        case _:
            review = True
    await ctx.step(store, doc_id, kind, data, review)
    return kind


# --- 11 human in the loop --------------------------------------------------------------------------------------------------------
class Answer(BaseModel):
    text: str
    confidence: float


@step(retry=3, queue="ai")
async def draft(question: str) -> Answer:
    return Answer.model_validate(await llm.answer(question))


@workflow
async def answer(ctx: Context, question: str) -> str:
    a = await ctx.step(draft, question)
    if a.confidence < 0.8:
        return await ctx.wait_for_text(
            "human_review", prompt=f"Check this answer: {a.text}", timeout=hours(24), default=a.text
        )
    return a.text


# --- 12 branch on an AI classification --------------------------------------------------------------------------------------------
@step(retry=3, queue="ai")
async def categorise(text: str) -> Literal["billing", "technical", "other"]:
    return await llm.text(text)


@step
async def handle(team: str, text: str) -> None:
    await support.assign(team, text)


@workflow
async def ticket(ctx: Context, text: str) -> None:
    await ctx.step(handle, await ctx.step(categorise, text), text)


# --- 13 monitoring ---------------------------------------------------------------------------------------------------------------------
async def monitor(client: Client, run_id: str) -> None:
    run = await client.get(run_id, steps=True)
    print(run.status, run.state)
    for s in run.steps:
        took = (s.finished_at - s.started_at).total_seconds() if s.finished_at else None
        print(f"{s.name}: {s.status} ({took}s)")


PAYMENT = Event("payment.success", Invoice)
_ = inventory
