"""What tests of workflows may write, with exactly these types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel

from durable import (
    Client,
    Context,
    Handle,
    Run,
    StepContext,
    current_step,
    days,
    step,
    workflow,
)
from durable_testing import (
    Environment,
    Exploration,
    Mock,
    MockedCall,
    explore,
    resources,
    step_context,
)


class Order(BaseModel):
    id: str


@step
async def charge(order: Order, cents: int = 1) -> str:
    return order.id * cents


@step
def ship(order: Order) -> Order:
    return order


def plain(word: str) -> int:
    return len(word)


class Payments:
    @step
    async def pay(self, cents: int) -> str:
        return str(cents)


@workflow
async def fulfil(ctx: Context, order: Order) -> int:
    return len(order.id)


@workflow
async def nothing(ctx: Context) -> None: ...


async def fast(order: Order, cents: int = 1) -> str:
    return order.id * cents


async def tests() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    env = Environment(
        workflows=[fulfil, nothing],
        steps=[charge, ship],
        resources=[object()],
        start_at=start,
        url="sqlite://",
        strict=False,
        seed=7,
    )
    async with env as opened:
        assert_type(opened, Environment)
        assert_type(env.client, Client)
        assert_type(env.now(), datetime)
        assert_type(await env.run(fulfil, Order(id="1")), int)
        assert_type(await env.run(fulfil, Order(id="1"), id="o-1"), int)
        await env.run(nothing)
        await env.advance(days(3))
        await env.advance(timedelta(hours=1))
        await env.advance(1.5)
        await env.settle()
        await env.crash()
        assert_type(await env.timeline(), str)
        assert_type(await env.timeline("o-1"), str)


def mocks(env: Environment) -> None:
    assert_type(env.mock(charge, returns="ch_1"), Mock)
    env.mock(charge, raises=ValueError("no"))
    env.mock(charge, outcomes=[OSError("away"), "ch_2"])
    env.mock(charge, using=fast)
    env.mock(ship, returns=Order(id="1"))
    env.mock(ship, using=lambda order: order)
    env.mock(Payments.pay, returns="paid")
    env.mock(fulfil, returns=3)
    env.mock(fulfil, outcomes=[3, OSError("away")])
    env.mock(fulfil, raises=OSError("away"))
    env.mock(plain, returns=3)
    env.mock(plain, using=len)
    mock = env.mock(charge, returns="ch_1")
    assert_type(mock.calls, list[MockedCall])
    assert_type(mock.calls[0].args, tuple[Any, ...])
    assert_type(mock.calls[0].kwargs, Mapping[str, Any])
    assert_type(mock.calls[0].attempt, int)


def check(run: Run) -> None:
    assert run.status


async def user(handle: Handle[int]) -> None:
    await handle.send_event("paid")


def explorations(ledger: list[str], book: dict[str, int]) -> None:
    report = explore(fulfil, Order(id="1"))
    assert_type(report, Exploration)
    assert_type(report.ok, bool)
    assert_type(report.explanation, str)
    assert_type(report.schedule, tuple[str, ...] | None)
    assert_type(report.test, str | None)
    explore(fulfil, Order(id="1"), mocks={charge: "ch_1", ship: fast}, check=check, max_cases=5)
    explore(fulfil, Order(id="1"), user=user, workflows=[nothing], ledger=ledger, seed=3)
    explore(nothing, None, ledger=book, same_result=False, only=["turn 1: cancel"])


async def steps_alone() -> None:
    with step_context(attempt=2, idempotency_key="k", resources=[1]) as context:
        assert_type(context, StepContext)
        assert_type(await charge(Order(id="1")), str)
        assert_type(current_step().attempt, int)
    with resources(1, "two"):
        ship(Order(id="1"))
