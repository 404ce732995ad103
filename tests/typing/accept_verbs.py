"""The verbs of a workflow. Every line must be accepted, with exactly these types."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from durable import (
    Context,
    Decision,
    Err,
    Event,
    Ok,
    PendingRequest,
    Request,
    Step,
    StepContext,
    current_context,
    current_step,
    days,
    hours,
    minutes,
    step,
    workflow,
)
from tests.typing.accept_definitions import (
    Order,
    charge,
    charge_in_thread,
    debit,
    fulfil,
    mail,
    nothing_in,
    payments,
    perhaps,
    refund,
    refund_anything,
    reserve,
    sort,
    theirs,
    theirs_too,
    weigh,
)


class Paid(BaseModel):
    amount: int


@dataclass
class Withdrawn:
    why: str


class Colour(Enum):
    RED = "red"


ADD = Request("add", Order, int)
PAID = Event("paid", Paid)


@workflow
async def steps(ctx: Context, order: Order) -> str:
    assert_type(await ctx.step(reserve, order), str)
    assert_type(await ctx.step(reserve, order, times=3), str)
    assert_type(await ctx.step(weigh, order), int)
    assert_type(await ctx.step(charge, order), str)
    assert_type(await ctx.step(charge_in_thread, order), str)
    assert_type(await ctx.step(sort, 1, loud=True), list[int])
    assert_type(await ctx.step(debit, "a", 3), int)
    assert_type(await ctx.step(payments.pay, order), str)
    assert_type(await ctx.step(payments.pay_in_thread, order), str)
    assert_type(await ctx.step(theirs, 1), str)
    assert_type(await ctx.step(theirs_too, 1), bytes)
    assert_type(await ctx.step(charge.options(timeout=hours(1), name="c", retry=2), order), str)
    assert_type(await ctx.step(charge.options(compensate=refund_anything), order), str)
    assert_type(await ctx.step(charge.options(compensate=lambda c: print(c.upper())), order), str)
    assert_type(await ctx.step(step(theirs), 1), str)
    assert_type(await ctx.step(step(retry=3)(theirs_too), 1), bytes)
    assert_type(await ctx.step(step(theirs, compensate=refund), 1), str)
    return ""


@workflow
async def stock_asyncio(ctx: Context, order: Order) -> None:
    a, b, c = await asyncio.gather(ctx.step(reserve, order), ctx.step(weigh, order), ctx.sleep(1))
    assert_type(a, str)
    assert_type(b, int)
    assert_type(c, None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ctx.step(weigh, order))
    assert_type(task.result(), int)
    alone = asyncio.create_task(ctx.step(reserve, order))
    assert_type(await alone, str)
    assert_type(await asyncio.wait_for(ctx.step(reserve, order), 3), str)
    assert_type(await asyncio.shield(ctx.step(weigh, order)), int)
    for first in asyncio.as_completed([ctx.step(weigh, order)]):
        assert_type(await first, int)


@workflow
async def time_and_run(ctx: Context) -> None:
    await ctx.sleep(minutes(1))
    await ctx.sleep_until(datetime(2030, 1, 1, tzinfo=UTC))
    await ctx.sleep_until(ctx.now() + days(14))
    async with ctx.timeout(minutes(5)) as scope:
        assert_type(scope, asyncio.Timeout)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.random.random(), float)
    assert_type(ctx.uuid().hex, str)
    assert_type(ctx.run_id, str)
    assert_type(ctx.info.workflow, str)
    assert_type(ctx.info.deadline, datetime | None)
    ctx.log.info("at %s", ctx.now())
    assert_type(current_context(), Context)
    assert_type(ctx.next_business_day(hour=9, tz="Europe/Berlin"), datetime)
    assert_type(ctx.next_weekday("monday", hour=9), datetime)
    assert_type(ctx.end_of_day(), datetime)


@step
async def inside_a_step() -> int:
    assert_type(current_step(), StepContext)
    assert_type(current_step().idempotency_key, str)
    assert_type(current_step().deadline, datetime | None)
    assert_type(current_step().last_heartbeat(int), int | None)
    assert_type(current_step().last_heartbeat(), Any)
    current_step().heartbeat({"page": 3})
    current_step().emit("chunk", stream="tokens")
    current_step().log.warning("slow")
    return current_step().attempt


@workflow
async def events(ctx: Context, order: Order) -> None:
    assert_type(await ctx.wait_for_event(Paid), Paid)
    assert_type(await ctx.wait_for_event(Paid, where=lambda p: p.amount > 1), Paid)
    gone = await ctx.wait_for_event(Withdrawn, timeout=days(1), default=None)
    assert_type(gone, Withdrawn | None)
    assert_type(await ctx.wait_for_event(PAID, where=lambda p: p.amount > 1), Paid)
    assert_type(await ctx.wait_for_event(PAID, timeout=3, default=False), Paid | bool)
    assert_type(await ctx.wait_for_event("paid", Paid, key=order.id), Paid)
    assert_type(await ctx.wait_for_event("paid", Paid | Withdrawn), Paid | Withdrawn)
    assert_type(await ctx.wait_for_event("n", dict[str, int]), dict[str, int])
    assert_type(await ctx.wait_for_event("n", int, timeout=1, default=None), int | None)
    assert_type(await ctx.wait_for_event("paid"), Any)
    assert_type(await ctx.wait_for_any([Paid]), tuple[str, Paid])
    assert_type(await ctx.wait_for_any(["a", "b"]), tuple[str, Any])
    assert_type(await ctx.wait_for_all([Paid]), dict[str, Paid])
    assert_type(await ctx.wait_for_all(["a"], timeout=1, default=None), dict[str, Any] | None)
    await ctx.send_event("run-1", PAID, Paid(amount=1))
    await ctx.send_event("run-1", Paid(amount=1))
    await ctx.send_event("run-1", "paid", {"amount": 1})
    await ctx.publish(Paid(amount=1), key=order.id)


@workflow
async def requests(ctx: Context) -> None:
    assert_type(await ctx.wait_for_request(ADD), PendingRequest[Order, int])
    asked = await ctx.wait_for_request(ADD, timeout=1, default=None)
    assert_type(asked, PendingRequest[Order, int] | None)
    if asked is not None:
        assert_type(asked.payload, Order)
        asked.reply(3)
        asked.reject("no")


@workflow
async def people(ctx: Context) -> None:
    assert_type(await ctx.wait_for_approval("m", prompt="Ship?", to="ann"), Decision)
    assert_type(await ctx.wait_for_approval("m", timeout=1, default=None), Decision | None)
    assert_type(await ctx.wait_for_choice("m", ["a", "b"]), str)
    assert_type(await ctx.wait_for_choice("m", Colour), Colour)
    assert_type(await ctx.wait_for_choice("m", {1: "one", 2: "two"}), int)
    assert_type(await ctx.wait_for_choices("m", Colour), list[Colour])
    assert_type(await ctx.wait_for_choices("m", [1], timeout=1, default=None), list[int] | None)
    assert_type(await ctx.wait_for_form("m", Order, remind=days(1)), Order)
    assert_type(await ctx.wait_for_text("m"), str)
    assert_type(await ctx.wait_for_input("m", int, metadata={"a": 1}), int)
    assert_type(await ctx.wait_for_input("m", Literal["a", "b"]), Literal["a", "b"])


@workflow
async def children(ctx: Context, order: Order) -> None:
    assert_type(await ctx.call(nothing_in), int)
    assert_type(await ctx.call(fulfil, order), str)
    assert_type(await ctx.call(fulfil, order, id="o-1", queue="slow"), str)
    assert_type(await ctx.call(fulfil, order, timeout=3, default=None), str | None)
    assert_type(await ctx.call(perhaps, None), int)
    assert_type(await ctx.call(mail, "ann"), None)
    assert_type(await ctx.call("elsewhere", {"a": 1}), Any)
    child = await ctx.start(fulfil, order, on_parent_close="abandon")
    assert_type(await child.result(), str)
    assert_type(await child.result(timeout=1, default=None), str | None)
    assert_type(child.id, str)


@workflow
async def many(ctx: Context, order: Order) -> None:
    assert_type(await ctx.parallel([ctx.step(weigh, order)] * 3), list[int])
    assert_type(await ctx.parallel([ctx.step(theirs, i) for i in range(3)], limit=2), list[str])
    assert_type(await ctx.parallel({"a": ctx.step(weigh, order)}), dict[str, int])
    both = await ctx.parallel((ctx.step(reserve, order), ctx.step(weigh, order)))
    assert_type(both, tuple[str, int])
    x, y = await ctx.parallel((ctx.step(reserve, order), ctx.sleep(1)), on_error="complete_all")
    assert_type(x, Ok[str] | Err)
    assert_type(y, Ok[None] | Err)
    assert_type(await ctx.map(theirs, [1, 2]), list[str])
    assert_type(await ctx.map(theirs_too, [1, 2]), list[bytes])
    assert_type(await ctx.map(weigh, [order]), list[int])
    assert_type(await ctx.map(fulfil, [order]), list[str])
    all_of_them = await ctx.map(charge, [order], on_error="complete_all", limit=10)
    assert_type(all_of_them, list[Ok[str] | Err])
    name, won = await ctx.race(one=ctx.wait_for_event(Paid), two=ctx.wait_for_event(Paid))
    assert_type(name, str)
    assert_type(won, Paid)


def outcomes(outcome: Ok[str] | Err) -> None:
    match outcome:
        case Ok(value):
            assert_type(value, str)
        case Err(error):
            assert_type(error, Exception)
    if isinstance(outcome, Ok):
        assert_type(outcome.value, str)
    else:
        assert_type(outcome.error, Exception)


@workflow
async def scopes(ctx: Context, order: Order) -> str:
    async with ctx.saga():
        ctx.compensate(refund, "c-1")
    async with ctx.shield():
        await ctx.sleep(1)
    ctx.set_state("stage", {"order": order.id})
    if ctx.patched("x"):
        await ctx.continue_as_new(order)
    return ""


def values(decision: Decision, steps: list[Step[..., Any]]) -> None:
    assert_type(bool(decision), bool)
    assert_type(decision.by, str | None)
    assert_type(decision.at, datetime)
    assert_type(PAID.name, str)
    assert_type(steps[0].name, str)
