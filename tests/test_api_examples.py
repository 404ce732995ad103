"""The API's own examples: both checkers accept them as they stand, and every workflow runs on both stores.

`tests/api_examples` is a specification. What of it waits for a feature that is not built yet stands in
`WAITING`, and each entry is held to be refused by name.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from durable import (
    Client,
    Context,
    Handle,
    RunCancelled,
    RunFailed,
    Worker,
    Workflow,
    days,
    workflow,
)
from durable_testing import Environment
from tests.api_examples import eight_tasks as tasks
from tests.api_examples import flagship, svc
from tests.api_examples import seed_branch_saga_orch as saga
from tests.api_examples import seed_parallel_wait as wait
from tests.api_examples import seed_readme as readme

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "api_examples"
MODULES = (flagship, tasks, saga, wait, readme)

WAITING = {
    "daily_report": "schedules",
    "daily_sales_report": "schedules",
}
"""Workflows that cannot be started yet, and the feature that they wait for."""
OTHER_QUEUE = ["answer", "process_document", "ticket"]
"""Of the README's workflows: their steps ask for a queue of their own, which steps cannot have yet."""
LONG = ["delayed_task", "subscription_renewal", "trial_reminder"]
"""Those that sleep for days: they run on a virtual clock, below."""


def test_mypy_accepts_them() -> None:
    """Strict, but for what an untyped service of somebody else returns."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-warn-return-any", "--config-file="]
    command += ["--explicit-package-bases", "--follow-imports=silent", "--cache-dir=/dev/null"]
    files = [str(path) for path in sorted(HERE.glob("*.py"))]
    done = subprocess.run(
        command + files,
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_them() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(HERE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- running


@dataclass(frozen=True)
class Case:
    """A run of an example."""

    workflow: Workflow[Any, Any]
    input: Any = None
    result: Any = None
    """What it gives, or the class of the exception with which it fails."""
    events: tuple[tuple[str, Any], ...] = ()
    inputs: tuple[tuple[str, Any], ...] = ()
    answers: dict[str, Any] = field(default_factory=dict)
    called: tuple[str, ...] = ()
    """Services that were called, among others."""
    status: str = ""


EXPENSE = saga.Expense(id="e", amount=Decimal(5000))
SALE = saga.Sale(id="s", total=Decimal(10), email="ada@example.com")
PURCHASE = saga.Purchase(
    customer_id="c",
    email="ada@example.com",
    address="here",
    items=[saga.Line(sku="lamp", quantity=1)],
    total=Decimal(10),
)
NO = ValueError("no")
INVOICE = readme.Invoice(order_id="o", amount=Decimal(10))
TRIP = saga.Trip(flight="F", hotel="H", total=Decimal(9))

CASES: dict[str, Case] = {
    "flagship": Case(
        flagship.fulfil,
        flagship.Order(id="42", amount=Decimal(1500)),
        "tr-42",
        events=(("parcel.delivered", {"at": "door"}),),
        inputs=(("manager", {"approved": True}),),
    ),
    "flagship refused": Case(
        flagship.fulfil,
        flagship.Order(id="42", amount=Decimal(1500)),
        flagship.OrderRejected,
        inputs=(("manager", False),),
        status="compensated",
    ),
    "task 1": Case(tasks.fulfil, tasks.Order(id="42", amount=1), "t_1"),
    "task 2": Case(
        tasks.approve, tasks.Order(id="42", amount=1), "approved", inputs=(("manager", True),)
    ),
    "task 3": Case(tasks.campaign, ["ann", "bob"], 0),
    "task 4": Case(tasks.trip, tasks.Order(id="42", amount=1)),
    "task 5": Case(tasks.deliver, "p", "door"),
    "basic branch": Case(
        saga.process_document,
        "text",
        answers={"llm.classify": "invoice"},
        called=("llm.classify", "llm.extract", "docs.save"),
    ),
    "basic branch, default": Case(
        saga.process_document, "text", answers={"llm.classify": "poem"}, called=("docs.save",)
    ),
    "patterns": Case(saga.by_tier, saga.Tier.TWO),
    "order by type, digital": Case(
        saga.process_order_by_type,
        "1",
        "orders.link",
        answers={"orders.get": saga.Digital(type="digital", id="1")},
        called=("mailer.confirm",),
    ),
    "order by type, physical": Case(
        saga.process_order_by_type,
        "1",
        "shipping.create",
        answers={"orders.get": saga.Physical(type="physical", id="1")},
        called=("shipping.pick", "mailer.confirm"),
    ),
    "order by type, service": Case(
        saga.process_order_by_type,
        "1",
        "support.book",
        answers={"orders.get": saga.Service(type="service", id="1")},
    ),
    "nested branch": Case(
        saga.verify_user,
        "u",
        "sms",
        answers={"users.get": saga.User(id="u", verified=False, prefers="sms")},
        called=("users.send_code",),
    ),
    "routing by amount": Case(
        saga.expense_routing,
        EXPENSE,
        True,
        inputs=(("manager", True),),
        called=("expenses.approve",),
    ),
    "routing by amount, refused": Case(
        saga.expense_routing, EXPENSE, False, inputs=(("manager", False),)
    ),
    "decision": Case(saga.maybe_skip, True),
    "saga": Case(saga.book_trip, TRIP, "payments.charge"),
    "saga that fails": Case(
        saga.book_trip,
        TRIP,
        ValueError,
        answers={"payments.charge": NO},
        called=("hotels.cancel", "flights.cancel"),
        status="compensated",
    ),
    "saga whose undo fails": Case(
        saga.book_trip,
        TRIP,
        ValueError,
        answers={"payments.charge": NO, "hotels.cancel": TypeError("no such hotel")},
        called=("flights.cancel",),
        status="compensation_failed",
    ),
    "e-commerce": Case(saga.purchase, PURCHASE, "shipping.create", called=("mailer.receipt",)),
    "e-commerce that fails": Case(
        saga.purchase,
        PURCHASE,
        ValueError,
        answers={"shipping.create": NO},
        called=("payments.refund", "inventory.release"),
        status="compensated",
    ),
    "order pipeline": Case(saga.order_pipeline, SALE, "payments.charge"),
    "nested children": Case(saga.a, None, "done"),
    "a child that may fail": Case(saga.resilient_order, SALE, True),
    "a child that fails": Case(saga.resilient_order, SALE, False, answers={"payments.charge": NO}),
    "children in parallel": Case(saga.enrich_order, "o", ("o", 1)),
    "several children of one kind": Case(saga.onboarding, "ada", ["{id}.1", "{id}.2"]),
    "onboarding": Case(
        wait.onboard_user,
        wait.NewUser(email="a"),
        wait.Onboarded(user_id="users.create", workspace_id="users.workspace"),
    ),
    "complete_all": Case(wait.notify, "u", "all"),
    "complete_all, one fails": Case(wait.notify, "u", "some", answers={"mailer.sms": NO}),
    "complete_all, all fail": Case(
        wait.notify, "u", RuntimeError, answers={"mailer.sms": NO, "mailer.email": NO}
    ),
    "partial data": Case(
        wait.dashboard_data,
        None,
        wait.Board(orders=["o"], metrics={}, has_errors=True),
        answers={"orders.recent": ["o"], "reports.metrics": NO},
    ),
    "branch on results": Case(
        wait.order_processing, "o", "fulfilled", answers={"inventory.check": 1}
    ),
    "branch on results, declined": Case(
        wait.order_processing,
        "o",
        "needs_payment_retry",
        answers={"payments.authorise": wait.CardDeclined("no"), "inventory.check": 1},
    ),
    "branch on results, backordered": Case(
        wait.order_processing,
        "o",
        "backordered",
        answers={"inventory.check": wait.OutOfStock("no")},
    ),
    "retry of one branch": Case(wait.mixed, None, ("orders.fetch", "")),
    "one event": Case(
        wait.payment_flow,
        Decimal(1),
        "success",
        events=(("payment_confirmed", {"status": "success"}),),
    ),
    "first event wins": Case(wait.order_status, None, "ok 7", events=(("success", 7),)),
    "first event wins, another": Case(
        wait.order_status, None, "cancelled", events=(("cancelled", None),)
    ),
    "all events": Case(
        wait.multi_approval,
        None,
        True,
        events=tuple(
            (f"{who}_approval", {"approved": True}) for who in ("manager", "legal", "finance")
        ),
    ),
    "approval": Case(wait.approval_flow, None, "rejected", inputs=(("manager_approval", False),)),
    "choice, text, form": Case(
        wait.ask,
        None,
        wait.Equipment(laptop="ThinkPad X1", notes="soon"),
        inputs=(
            ("shipping_method", "express"),
            ("rejection_reason", "because"),
            ("equipment_request", {"laptop": "ThinkPad X1", "notes": "soon"}),
        ),
    ),
    "stages of approval": Case(
        wait.staged,
        Decimal(9000),
        True,
        inputs=(("manager_approval", True), ("finance_approval", True)),
    ),
    "parallel approvals": Case(
        wait.contract_approval,
        None,
        "rejected",
        events=(
            ("legal", {"approved": True}),
            ("finance", {"approved": False}),
            ("management", {"approved": True}),
        ),
    ),
    "race": Case(
        wait.payment_with_timeout, None, "user_cancelled", events=(("user_cancelled", None),)
    ),
    "quick start": Case(
        readme.process_order, readme.Order(id="o", customer_id="c", items=[]), "payments.charge"
    ),
    "approval with fallback": Case(
        readme.expense_approval,
        readme.Expense(employee_id="e", amount=Decimal(10)),
        "reimbursed",
        inputs=(("manager", {"approved": True}),),
    ),
    "parallel fetch": Case(
        readme.build_dashboard,
        "u",
        readme.Dashboard(user="users.get", orders=["o"], notes=[]),
        answers={"orders.recent": ["o"], "users.unread": []},
    ),
    "parallel fetch, outcomes": Case(
        readme.build_dashboard_v2,
        "u",
        RuntimeError,
        answers={"orders.recent": NO, "users.unread": []},
    ),
    "batch": Case(
        readme.send_campaign,
        "c",
        readme.Sent(sent=1, failed=1),
        answers={
            "subs.active": ["ann", "bob"],
            "mailer.send": lambda to: TypeError("no") if to == "bob" else None,
        },
    ),
    "trip booking": Case(
        readme.book_trip,
        readme.Trip(flight="F", hotel="H", card="C"),
        ValueError,
        answers={
            "flights.book": readme.Booking(id="f", price=Decimal(1)),
            "hotels.book": readme.Booking(id="h", price=Decimal(1)),
            "payments.charge": NO,
        },
        called=("hotels.cancel", "flights.cancel"),
        status="compensated",
    ),
    "event driven": Case(
        readme.payment_flow,
        INVOICE,
        "fulfilled",
        events=(("payment.success", {"transaction_id": "txn_123"}),),
        called=("payments.invoice", "orders.fulfil"),
    ),
}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database, of each kind in turn."""
    if request.param == "memory":
        return "sqlite://"
    return request.getfixturevalue(f"durable_{request.param}")


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as client:
        yield client


@pytest.fixture(autouse=True)
def services() -> Iterator[None]:
    svc.CALLS.clear()
    svc.ANSWERS.clear()
    yield
    svc.CALLS.clear()
    svc.ANSWERS.clear()


def workflows_of(module: Any) -> list[Workflow[Any, Any]]:
    return [each for each in vars(module).values() if isinstance(each, Workflow)]


async def played(client: Client, case: Case, run_id: str) -> Any:
    """Run a case: what it gives, or the exception with which it fails."""
    svc.CALLS.clear()
    svc.ANSWERS.clear()
    svc.ANSWERS.update(case.answers)
    handle: Handle[Any] = await client.start(case.workflow, case.input, id=run_id)
    for name, payload in case.events:
        await handle.send_event(name, payload)
    for name, answer in case.inputs:
        await handle.provide_input(name, answer, by="ann", wait=20)
    try:
        return await handle.result(timeout=30)
    except RunFailed as error:
        return error


async def test_every_example_runs(client: Client) -> None:
    """With what its services answer, what is sent to it and what people say."""
    names = list(CASES)
    for module in MODULES:
        cases = [name for name in names if CASES[name].workflow in workflows_of(module)]
        served = [each for each in workflows_of(module) if not each.unsupported]
        async with Worker(client, workflows=served):
            for name in cases:
                await check(client, CASES[name], name)


async def check(client: Client, case: Case, name: str) -> None:
    got = await played(client, case, name)
    expected = case.result
    if isinstance(expected, list):
        expected = [text.format(id=name) for text in expected]
    if isinstance(expected, type):
        assert isinstance(got, expected), name
    else:
        assert got == expected, name
    assert {call for call, _ in svc.CALLS} >= set(case.called), name
    run = await client.get(name)
    assert run.status == case.status or not case.status, name


def test_every_workflow_of_the_examples_is_run() -> None:
    """Or waits for a feature by name, or sleeps for days."""
    run = {case.workflow.name for case in CASES.values()}
    run |= {
        "payment",
        "email",
        "b",
        "c",
        "customer_lookup",
        "inventory_check",
        "courier",
    }  # children
    run |= {"paid", "order_fulfilment"}  # below
    every = {each.name for module in MODULES for each in workflows_of(module)}
    assert every - run == {*WAITING, *OTHER_QUEUE, *LONG} - run


async def test_what_is_published_finds_the_run_by_its_key(client: Client) -> None:
    async with Worker(client, workflows=[tasks.paid, wait.order_fulfilment]):
        handle = await client.start(tasks.paid, "o-1")
        await tasks.t7(client, "o-1")
        assert await handle.result(timeout=20) == 100
        shipped = await client.start(wait.order_fulfilment, "o-2")
        await wait.shipping_webhook(client, "shipping.create", datetime(2026, 1, 2, tzinfo=UTC))
        await shipped.result(timeout=20)
    assert ("orders.complete", ("o-2",)) in svc.CALLS


async def test_a_renewal_is_reminded_of_a_week_before_its_end() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    async with Environment(workflows=[wait.subscription_renewal], start_at=start) as env:
        env.mock(
            wait.get_subscription, returns=wait.Subscription(id="s", email="a", expires_at=end)
        )
        reminded, expired = env.mock(wait.remind, returns=None), env.mock(wait.expire, returns=None)
        await env.client.start(wait.subscription_renewal, "s", id="renewed")
        await env.advance(end - days(7) - start)
        assert (len(reminded.calls), len(expired.calls)) == (1, 0)
        await env.client.send_event("renewed", "subscription_renewed")
        await env.run(wait.subscription_renewal, "s", id="expired")
        assert (len(reminded.calls), len(expired.calls)) == (2, 1)
        assert env.now() == end


async def test_a_trial_is_reminded_of_in_time() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    async with Environment(workflows=[readme.trial_reminder], start_at=start) as env:
        mailed = env.mock(readme.mail, returns=None)
        env.mock(readme.is_subscribed, outcomes=[True, False])
        trial = readme.Trial(user_id="u", started_at=start)
        assert await env.run(readme.trial_reminder, trial) is True
        assert [call.args[1] for call in mailed.calls] == ["welcome", "tips"]
        assert env.now() == start + days(14)
        assert await env.run(readme.trial_reminder, trial) is False
        assert mailed.calls[-1].args == ("u", "upgrade")


async def test_a_task_is_put_off_by_the_calendar() -> None:
    async with Environment(
        workflows=[wait.delayed_task], start_at=datetime(2025, 12, 24, tzinfo=UTC)
    ) as env:
        await env.run(wait.delayed_task)
        assert env.now() == datetime(2025, 12, 26, 23, 59, 59, 999_999, tzinfo=UTC)


async def test_the_example_of_a_test_holds() -> None:
    await tasks.test_times_out()


async def test_the_programs_around_the_workflows_run(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answering, showing undos, monitoring, the family of a run and its cancelling."""

    @workflow
    async def parent(ctx: Context) -> None:
        await ctx.call(wait.order_status, id="child")

    served = [
        parent,
        wait.order_status,
        wait.approval_flow,
        saga.book_trip,
        readme.expense_approval,
    ]
    async with Worker(client, workflows=served):
        undone = CASES["saga whose undo fails"]
        await played(client, undone, "undone")
        await saga.show(client, "undone")
        assert "book_hotel -> cancel_hotel failed no such hotel" in capsys.readouterr().out
        await readme.monitor(client, "undone")
        assert "compensation_failed {}\nbook_flight: completed (" in capsys.readouterr().out

        asked = await client.start(readme.expense_approval, CASES["approval with fallback"].input)
        await until(lambda: listed(client, asked.id))
        await readme.approve(client, asked.id)
        assert await asked.result(timeout=20) == "reimbursed"

        family = await client.start(parent, id="family")
        await until(lambda: exists(client, "child"))
        await saga.family(client, "family")
        with pytest.raises(RunCancelled):
            await family.result(timeout=20)
        with pytest.raises(RunCancelled):
            await client.handle("child").result(timeout=20)


async def listed(client: Client, run_id: str) -> bool:
    return bool(await client.pending_inputs(run_id=run_id))


async def exists(client: Client, run_id: str) -> bool:
    return bool(await client.find(run_id))


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", sorted(WAITING))
async def test_what_waits_for_a_feature_is_refused_by_its_name(name: str) -> None:
    (found,) = [e for m in MODULES for e in workflows_of(m) if e.name == name]
    async with Client("sqlite://") as client:
        with pytest.raises(NotImplementedError, match=WAITING[name]):
            await client.start(found)


async def test_a_step_on_another_queue_is_refused_by_name(client: Client) -> None:
    """The run fails and says so; nothing is run on the wrong queue."""
    async with Worker(client, workflows=[readme.ticket]):
        handle = await client.start(readme.ticket, "help")
        with pytest.raises(NotImplementedError, match="queue="):
            await handle.result(timeout=20)
