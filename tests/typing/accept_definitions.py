"""Definitions, and what type checkers must make of them. Every line is accepted, with exactly these types."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from pydantic import BaseModel

from durable import (
    AsyncStep,
    Client,
    Context,
    Cron,
    Every,
    Job,
    Retry,
    Run,
    Step,
    SyncStep,
    TransactionStep,
    Workflow,
    days,
    hours,
    job,
    minutes,
    seconds,
    step,
    workflow,
)


class Order(BaseModel):
    id: str


class CardDeclined(Exception):
    """The bank says no."""


async def refund(charge: str) -> None: ...
def refund_in_thread(charge: str) -> None: ...
async def refund_anything(charge: object) -> None: ...
def told(run: Run) -> None: ...


# -- steps: bare, with options, sync and async


@step
async def reserve(order: Order, times: int = 1) -> str:
    return order.id * times


@step
def weigh(order: Order) -> int:
    return len(order.id)


@step(retry=Retry(max_attempts=5, give_up_on=(CardDeclined,)), timeout=30, compensate=refund)
async def charge(order: Order) -> str:
    return order.id


@step(compensate=refund_in_thread)
def charge_in_thread(order: Order) -> str:
    return order.id


@step(retry=3, timeout=timedelta(seconds=3), fingerprint="warn")
def sort(n: int, /, *, loud: bool = False) -> list[int]:
    return [n] if loud else []


@step(transaction=True, retry=2, timeout=3)
async def debit(conn: Client, account: str, amount: int) -> int:
    return amount if conn else len(account)


@step()
def empty() -> None: ...


class Payments:
    @step
    async def pay(self, order: Order) -> str:
        return order.id

    @step(retry=2)
    def pay_in_thread(self, order: Order) -> str:
        return order.id

    @staticmethod
    @step
    async def quote(n: int) -> int:
        return n


payments = Payments()

assert_type(reserve.name, str)
transactional: TransactionStep[Client, [str, int], int] = debit
bound: AsyncStep[[Order], str] = payments.pay
bound_too: SyncStep[[Order], str] = payments.pay_in_thread


async def called_directly() -> None:
    assert_type(await reserve(Order(id="1"), times=2), str)
    assert_type(weigh(Order(id="1")), int)
    assert_type(await payments.pay(Order(id="1")), str)
    assert_type(payments.pay_in_thread(Order(id="1")), str)
    assert_type(await Payments.quote(1), int)


async def called_over_a_connection(client: Client) -> None:
    assert_type(await debit(client, "a", 1), int)


# -- steps of functions that are not ours


def theirs(n: int) -> str:
    return str(n)


async def theirs_too(n: int) -> bytes:
    return bytes(n)


wrapped: SyncStep[[int], str] = step(theirs)
wrapped_too: AsyncStep[[int], bytes] = step(theirs_too, retry=3, timeout=minutes(1))
by_decorator: AsyncStep[[int], bytes] = step(retry=3)(theirs_too)
nameless: SyncStep[[str], int] = step(name="length")(lambda text: len(text) * 2)
several: list[Step[..., Any]] = [reserve, weigh, charge, step(theirs), step(payments.pay)]


# -- workflows


@workflow
async def nothing_in(ctx: Context) -> int:
    return ctx.now().year


@workflow
async def perhaps(ctx: Context, order: Order | None) -> int:
    return 0 if order is None else 1


@workflow(name="fulfil", version=2, queue="slow", timeout=days(3), retry=2, tags={"team": "shop"})
async def fulfil(ctx: Context, order: Order) -> str:
    return order.id


@workflow(schedule=Cron("0 9 * * *", tz="America/New_York"), on_finish=told)
async def each_morning(ctx: Context) -> None: ...


@workflow(schedule=[Every(hours(1)), Every(seconds(90), overlap="queue")])
async def often(ctx: Context) -> None: ...


assert_type(nothing_in, Workflow[None, int])
assert_type(perhaps, Workflow[Order | None, int])
assert_type(fulfil, Workflow[Order, str])
assert_type(each_morning, Workflow[None, None])
assert_type(fulfil.name, str)
assert_type(fulfil.version, int)


async def called_inline(ctx: Context) -> None:
    assert_type(await nothing_in(ctx), int)
    assert_type(await fulfil(ctx, Order(id="1")), str)


# -- jobs


@job
async def mail(to: str) -> None: ...


@job(queue="cpu", executor="process", retry=3, schedule=Every(60))
def resize(path: str) -> int:
    return len(path)


@job
def tick() -> None: ...


@job(name="tock")
async def tock() -> str:
    return ""


assert_type(mail, Job[str, None])
assert_type(resize, Job[str, int])
assert_type(tick, Job[None, None])
assert_type(tock, Job[None, str])
