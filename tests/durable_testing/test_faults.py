from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from durable.clock import VirtualClock
from durable.errors import StoreUnavailable
from durable.model.rows import Lane, NewRun
from durable.model.wire import EventRow
from durable.storage import open_storage
from durable.storage.base import Storage
from durable_testing.faults import (
    COMMIT_THEN_ERROR,
    CRASH_AFTER,
    CRASH_BEFORE,
    ERROR_BEFORE,
    Crash,
    Delay,
    FaultyStorage,
    Gate,
    Hold,
)

RUN = NewRun("r", Lane("q", "w"), EventRow(1, 1, 1, None, "w", b"\x01"))


@pytest.fixture
async def inner() -> AsyncIterator[Storage]:
    store = open_storage("sqlite://")
    await store.open()
    yield store
    await store.close()


async def test_without_a_plan_it_is_the_store(inner: Storage):
    store: Storage = FaultyStorage(inner)
    store.time = lambda: 42
    assert await store.now() == 42
    assert (await store.start([RUN]))[0].created


async def test_an_error_before_has_done_nothing(inner: Storage):
    store = FaultyStorage(inner, [("start", 1, ERROR_BEFORE)])
    with pytest.raises(StoreUnavailable):
        await store.start([RUN])
    assert await inner.run("r") is None
    assert (await store.start([RUN]))[0].created


async def test_an_error_after_has_done_it(inner: Storage):
    store = FaultyStorage(inner, [("start", 1, COMMIT_THEN_ERROR)])
    with pytest.raises(StoreUnavailable):
        await store.start([RUN])
    assert not (await store.start([RUN]))[0].created


@pytest.mark.parametrize("fault,done", [(CRASH_BEFORE, False), (CRASH_AFTER, True)])
async def test_a_dead_process_stays_dead(inner: Storage, fault, done: bool):
    """Every later operation crashes too; its heartbeat gets no answer."""
    store = FaultyStorage(inner, [("start", 1, fault)])
    with pytest.raises(Crash):
        await store.start([RUN])
    with pytest.raises(Crash):
        await store.now()
    with pytest.raises(StoreUnavailable):
        store.renew(1, 1.0)
    assert (await inner.run("r") is not None) is done


async def test_a_delay_takes_the_seconds_of_the_clock(inner: Storage):
    clock = VirtualClock()
    store = FaultyStorage(inner, [("start", 1, Delay(5))], clock=clock)
    task = asyncio.ensure_future(store.start([RUN]))
    await asyncio.sleep(0.01)
    clock.advance(4.9)
    await asyncio.sleep(0.01)
    assert not task.done()
    clock.advance(0.1)
    assert (await task)[0].created


async def test_a_gate_holds_until_it_is_released(inner: Storage):
    """Here the answer: what was asked is done already."""
    gate = Gate()
    store = FaultyStorage(inner, [("start", 1, Hold(gate, "after"))])
    task = asyncio.ensure_future(store.start([RUN]))
    await gate.reached.wait()
    assert await inner.run("r") is not None
    assert not task.done()
    gate.release()
    assert (await task)[0].created


async def test_a_gate_holds_a_heartbeat_in_its_thread(inner: Storage):
    gate = Gate()
    store = FaultyStorage(inner, [("renew", 1, Hold(gate))])
    task = asyncio.ensure_future(asyncio.to_thread(store.renew, 99, 1.0))
    await asyncio.sleep(0.02)
    assert not task.done()
    gate.release()
    assert await task is None


async def test_every_point_of_a_scenario_can_be_struck(inner: Storage):
    """Run it once to count the operations, then once per point."""

    async def scenario(store: Storage) -> None:
        await store.start([RUN])
        await store.run("r")
        await store.now()

    whole = FaultyStorage(inner)
    await scenario(whole)
    assert [(o.number, o.verb, o.nth) for o in whole.log] == [
        (1, "start", 1),
        (2, "run", 1),
        (3, "now", 1),
    ]
    for point in range(1, len(whole.log) + 1):
        store = FaultyStorage(inner, at=point, fault=ERROR_BEFORE)
        with pytest.raises(StoreUnavailable):
            await scenario(store)
        assert [fired.operation.number for fired in store.fired] == [point]
        assert len(store.log) == point


async def test_a_plan_may_be_a_function(inner: Storage):
    store = FaultyStorage(
        inner, lambda operation: ERROR_BEFORE if operation.nth == 2 else None, verbs={"now"}
    )
    await store.now()
    await store.run("r")
    await store.run("r")
    with pytest.raises(StoreUnavailable):
        await store.now()
    assert store.calls == {"now": 2}
