"""Waiting: for time, for events, for people. A waiting run is a row in the database and costs nothing.

What came before its wait is kept, so senders need not know how far a run is. A wait with a `timeout` raises
`WaitTimeout`, or gives its `default`; the default is a value of yours, so the type checker makes sure that it
is dealt with. Names read best with a namespace: `payment.confirmed`, `shipment.delivered`.

    python -m examples.guides.waiting

prints

    clock: slept, slept until, friday 17:00, end of today, a business day
    payment: success
    payment, nobody comes: timed out
    status: refund of 7
    votes: rejected
    approval: approved by ann: Looks good
    questions: express, a laptop, no reason provided
    stages: approved
    shipment: delivered to the door
    reminders: reminded, then renewed
    contract: approved
    first of three: fraud_detected
    prepared: request of ada, approved
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel

from durable import (
    Client,
    Context,
    Handle,
    Runnable,
    Worker,
    days,
    hours,
    minutes,
    seconds,
    step,
    workflow,
)

SOON = seconds(0.1)


@step
async def do(what: str) -> str:
    return what


# --- sleeping: so long, until a moment, until the calendar says so


@workflow
async def clock(ctx: Context) -> str:
    await ctx.sleep(SOON)  # minutes(30), hours(2), days(30)
    await ctx.sleep_until(ctx.now() + SOON)
    friday = ctx.next_weekday("friday", hour=17)
    today = ctx.end_of_day()
    monday = ctx.next_business_day(hour=9, tz="Europe/Berlin")  # await ctx.sleep_until(monday)
    assert friday.weekday() == 4
    assert monday.weekday() < 5
    assert today - ctx.now() <= days(1)
    return "slept, slept until, friday 17:00, end of today, a business day"


# --- one event, with the type of what comes with it


class Payment(BaseModel):
    status: Literal["success", "failed"]


@workflow
async def payment(ctx: Context, patience: timedelta) -> str:
    await ctx.step(do, "payment is requested")
    came = await ctx.wait_for_event("payment.confirmed", Payment, timeout=patience, default=None)
    return "timed out" if came is None else came.status


# --- the first of several, and all of several


@workflow
async def status(ctx: Context) -> str:
    names = ["order.paid", "order.failed", "order.cancelled"]
    match await ctx.wait_for_any(names, timeout=hours(24), default=None):
        case None:
            return "timed out"
        case "order.cancelled", cents:
            return f"refund of {cents}"
        case name, _:
            return name


@workflow
async def votes(ctx: Context) -> str:
    names = [f"{who}.voted" for who in ("manager", "legal", "finance")]
    came = await ctx.wait_for_all(names, timeout=days(7), default=None)
    if came is None:
        return "incomplete"
    return "approved" if all(vote["approved"] for vote in came.values()) else "rejected"


# --- people: yes or no, one of a list, a form, words


@workflow
async def approval(ctx: Context) -> str:
    decision = await ctx.wait_for_approval(
        "manager",
        prompt="Approve $500?",
        metadata={"employee": "John"},
        timeout=days(3),
        default=None,
    )
    if decision is None:
        return "nobody decided"
    verdict = "approved" if decision else "rejected"
    return f"{verdict} by {decision.by}: {decision.comment}"


class Equipment(BaseModel):
    laptop: Literal["a laptop", "a big laptop"]
    notes: str = ""


@workflow
async def questions(ctx: Context) -> str:
    offers = {"express": "Express ($15)", "standard": "Standard (free)"}
    shipping = await ctx.wait_for_choice("shipping", offers, timeout=hours(24), default="standard")
    equipment = await ctx.wait_for_form("equipment", Equipment, timeout=days(7))
    reason = await ctx.wait_for_text("reason", timeout=SOON, default="no reason provided")
    return f"{shipping}, {equipment.laptop}, {reason}"


@workflow
async def stages(ctx: Context, amount: int) -> str:
    if amount > 1000 and not await ctx.wait_for_approval("manager", timeout=days(2)):
        return "rejected"
    if amount > 5000 and not await ctx.wait_for_approval("finance", timeout=days(3)):
        return "rejected"
    return "approved"


# --- a webhook publishes under the tracking number: nobody looks up a run


@workflow
async def shipment(ctx: Context, order: str) -> str:
    tracking = await ctx.step(do, f"track-{order}")
    place = await ctx.wait_for_event("shipment.delivered", str, key=tracking, timeout=days(14))
    return f"delivered to the {place}"


# --- a reminder some time before, and then a last chance


@workflow
async def reminders(ctx: Context, expires_at: datetime) -> str:
    await ctx.sleep_until(expires_at - days(7))
    mail = await ctx.step(do, "reminded")
    renewed = await ctx.wait_for_event("subscription.renewed", timeout=days(7), default=False)
    return f"{mail}, then {'expired' if renewed is False else 'renewed'}"


# --- all departments; whoever comes first


@workflow
async def contract(ctx: Context) -> str:
    came = await ctx.wait_for_all(["legal", "finance", "management"], timeout=days(5), default=None)
    return "timed out" if came is None else "approved" if all(came.values()) else "rejected"


@workflow
async def first_of_three(ctx: Context) -> str:
    names = ["payment_received", "user_cancelled", "fraud_detected"]
    event, _ = await ctx.wait_for_any(names, timeout=hours(1), default=("expired", None))
    return event


# --- what was known before the wait is known after it: they are variables


@workflow
async def prepared(ctx: Context, who: str) -> str:
    prepared_at, details = ctx.now(), f"request of {who}"
    decision = await ctx.wait_for_approval("check", prompt=details, timeout=minutes(5))
    assert ctx.now() >= prepared_at
    return f"{details}, {'approved' if decision else 'rejected'}"


async def answer_all(client: Client, handle: Handle[str], answers: dict[str, object]) -> None:
    """What a page of open questions does: list them, show them, answer one after the other."""
    for name, data in answers.items():
        soon = datetime.now(UTC) + days(30)
        while not await client.pending_inputs(run_id=handle.id, name=name, expiring_before=soon):
            await asyncio.sleep(0.02)
        await client.provide_input(handle.id, name, data, by="ann")


async def main() -> None:
    workflows: list[Runnable[Any, Any]] = [
        clock, payment, status, votes, approval, questions, stages, shipment, reminders, contract,
        first_of_three, prepared,
    ]  # fmt: skip
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=workflows):
        print(f"clock: {await (await client.start(clock)).result()}")
        paid = await client.start(payment, minutes(15))
        await paid.send_event("payment.confirmed", {"status": "success"})
        print(f"payment: {await paid.result()}")
        print(f"payment, nobody comes: {await (await client.start(payment, SOON)).result()}")

        handle = await client.start(status)
        await handle.send_event("order.cancelled", 7)
        print(f"status: {await handle.result()}")
        handle = await client.start(votes)
        for who in ("manager", "legal", "finance"):
            await handle.send_event(f"{who}.voted", {"approved": who != "legal"})
        print(f"votes: {await handle.result()}")

        handle = await client.start(approval)
        await answer_all(client, handle, {"manager": {"approved": True, "comment": "Looks good"}})
        print(f"approval: {await handle.result()}")
        handle = await client.start(questions)
        form = {"laptop": "a laptop"}
        await answer_all(client, handle, {"shipping": "express", "equipment": form})
        print(f"questions: {await handle.result()}")
        handle = await client.start(stages, 9000)
        await answer_all(client, handle, {"manager": True, "finance": True})
        print(f"stages: {await handle.result()}")

        handle = await client.start(shipment, "o-1")
        await client.publish(
            "shipment.delivered", "door", key="track-o-1", idempotency_key="hook-1"
        )
        print(f"shipment: {await handle.result()}")
        handle = await client.start(reminders, datetime.now(UTC) + days(7))
        await handle.send_event("subscription.renewed")
        print(f"reminders: {await handle.result()}")
        handle = await client.start(contract)
        await client.send_events(
            [(handle.id, who, True) for who in ("legal", "finance", "management")]
        )
        print(f"contract: {await handle.result()}")
        handle = await client.start(first_of_three)
        await handle.send_event("fraud_detected")
        print(f"first of three: {await handle.result()}")
        handle = await client.start(prepared, "ada")
        await answer_all(client, handle, {"check": True})
        print(f"prepared: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
