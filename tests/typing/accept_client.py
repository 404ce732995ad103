"""Client, handle and worker. Every line must be accepted, with exactly these types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, assert_type

from pydantic import BaseModel

from durable import (
    Client,
    Event,
    Handle,
    Health,
    HistoryEvent,
    Page,
    Request,
    Run,
    RunDetail,
    RunStatus,
    StepFailed,
    StepRecord,
    Worker,
    WorkflowRecord,
    minutes,
)
from tests.typing.accept_definitions import Order, charge, fulfil, mail, nothing_in, perhaps, tick


class Paid(BaseModel):
    amount: int


ADD = Request("add", Order, int)
PAID = Event("paid", Paid)
ORDER = Order(id="1")


async def opened() -> None:
    async with Client("sqlite://") as client, Worker(client, workflows=[fulfil, nothing_in]):
        print(client)
    client = Client()
    await client.open()
    await client.close()
    await client.migrate()


async def starting(client: Client) -> None:
    assert_type(await client.start(fulfil, ORDER, id="o-1"), Handle[str])
    assert_type(await client.start(fulfil, ORDER, delay=minutes(5), priority=3), Handle[str])
    assert_type(await client.start(fulfil, ORDER, at=datetime(2030, 1, 1, tzinfo=UTC)), Handle[str])
    assert_type(
        await client.start(fulfil, ORDER, on_conflict="raise", tags={"a": "b"}), Handle[str]
    )
    assert_type(await client.start(nothing_in), Handle[int])
    assert_type(await client.start(perhaps, None), Handle[int])
    assert_type(await client.start("by-name", {"a": 1}), Handle[Any])
    assert_type(await client.start_many(fulfil, [ORDER]), list[Handle[str]])
    assert_type(await client.start_many(fulfil, {"o-1": ORDER}), list[Handle[str]])
    assert_type(await client.enqueue(mail, "ann", delay=minutes(5)), Handle[None])
    assert_type(await client.enqueue(tick), Handle[None])
    assert_type(client.handle("o-1", fulfil), Handle[str])
    assert_type(client.handle("o-1"), Handle[Any])


async def handling(client: Client) -> None:
    handle = await client.start(fulfil, ORDER)
    assert_type(handle.id, str)
    assert_type(handle.created, bool)
    assert_type(await handle.result(timeout=minutes(1)), str)
    assert_type(await handle.status(), RunStatus)
    assert_type(await handle.get(), RunDetail)
    await handle.cancel(reason="changed my mind")
    await handle.terminate()
    await handle.send_event(Paid(amount=1))
    await handle.send_event("paid", {"amount": 1})
    await handle.send_event(PAID, Paid(amount=1))
    await handle.provide_input("manager", {"approved": True}, wait=10)
    assert_type(await handle.request(ADD, ORDER), int)
    async for chunk in handle.stream(str):
        assert_type(chunk, str)
    async for change in handle.watch():
        assert_type(change.run_id, str)


async def asking(client: Client) -> None:
    page = await client.list(workflow=fulfil, status="failed")
    assert_type(page, Page[Run])
    assert_type(page[0].status == "failed", bool)
    assert_type(page.next, str | None)
    async for run in client.list(status=["running", "waiting"], queue="default"):
        assert_type(run, Run)
    assert_type(await client.count(workflow="fulfil"), dict[RunStatus, int])
    detail = await client.get("o-1")
    assert_type(detail, RunDetail)
    assert_type(detail.steps, Sequence[StepRecord])
    assert_type(await client.history("o-1"), Page[HistoryEvent])
    assert_type(await client.children("o-1"), Page[Run])
    assert_type(await client.state("o-1"), dict[str, Any])
    assert_type(await client.workflows(), Sequence[WorkflowRecord])
    assert_type((await client.pending_inputs())[0].to, Sequence[str])
    assert_type((await client.pending_events())[0].names, Sequence[str])
    assert_type(await client.cleanup(older_than=minutes(5), dry_run=True), int)


async def acting(client: Client) -> None:
    await client.cancel("o-1", reason="changed my mind")
    await client.terminate("o-1")
    await client.pause("o-1")
    await client.resume("o-1")
    assert_type(await client.retry("o-1"), Handle[Any])
    assert_type(await client.fork("o-1", from_step="charge", new_id="o-2"), Handle[Any])
    await client.send_event("o-1", PAID, Paid(amount=1))
    await client.publish(Paid(amount=1), key="o-1", idempotency_key="w-1")
    await client.provide_input("o-1", "manager", {"approved": True}, by="ann")
    await client.cancel_wait("o-1", "paid")


async def working(client: Client) -> None:
    worker = Worker(client, workflows=[fulfil, nothing_in], queues={"default": 10}, grace=5)
    assert_type(worker.health(), Health)
    assert_type(worker.health().ready, bool)
    await worker.run()
    Worker(client, workflows=[mail, tick], steps=[charge], queues=["a", "b"])


async def failing(client: Client) -> None:
    try:
        await client.handle("o-1").result()
    except StepFailed as error:
        assert_type(error.step, str)
        assert_type(error.failure.message, str)
