"""Starting runs: in batches, once per id whatever is lost, and with limited patience."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from durable import Client, Context, StoreUnavailable, workflow
from durable.client import batches as room
from durable.client.patience import PATIENCE_SECONDS, patiently
from durable.clock import VirtualClock
from durable.errors import DefinitionError, DurableError, NotAllowedInWorkflow, RunFailed
from durable_testing.faults import (
    COMMIT_THEN_ERROR,
    ERROR_BEFORE,
    Delay,
    FaultyStorage,
    Gate,
    Hold,
)
from tests.worker.world import World, world_with


@workflow
async def echo(ctx: Context, n: int) -> int:
    return n


@pytest.fixture
async def client() -> Any:
    async with Client("sqlite://") as client:
        client.storage = FaultyStorage(client.storage)
        client._starter._store = client.storage
        yield client


async def test_starts_that_come_during_a_start_go_out_together(client: Any) -> None:
    """What is asked for while a statement is under way goes out with the next one."""
    gate = Gate()
    client.storage._fault_of = lambda op: Hold(gate) if (op.verb, op.nth) == ("start", 1) else None
    starts = [asyncio.create_task(client.start(echo, n, id=f"r{n}")) for n in range(50)]
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await asyncio.sleep(0)
        gate.release()
        handles = await asyncio.gather(*starts)
    assert all(handle.created for handle in handles)
    assert client.storage.calls["start"] <= 2
    assert await client.count() == {"pending": 50}


async def test_batches_have_a_limit(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_BATCH", 10)
    await client.start_many(echo, range(25))
    assert client.storage.calls["start"] == 3
    assert await client.count() == {"pending": 25}


async def test_the_error_of_one_start_is_not_that_of_its_neighbours(client: Any) -> None:
    """One bad run never poisons others: those of the same batch start."""
    starts = [
        client.start(echo, 1, id="good"),
        client.start(echo, 1, id="bad", tags={"team": "nul \x00"}),
        client.start(echo, 1, id="too"),
    ]
    good, bad, too = await asyncio.gather(*starts, return_exceptions=True)
    assert good.created
    assert too.created
    assert isinstance(bad, DurableError)
    assert "NUL" in str(bad)
    assert await client.count() == {"pending": 2}


@pytest.mark.parametrize("fault", [ERROR_BEFORE, COMMIT_THEN_ERROR])
async def test_a_start_is_tried_again_and_stays_ours(fault: Any) -> None:
    """Lost acknowledgement + retry: one run, and the retry returns success with the same id."""
    async with World() as world:
        process = await world.process(plan=[("start", 1, fault), ("start", 2, fault)])
        handle = await world.run(process.client.start(echo, 1, id="a"))
        assert handle.created
        assert handle.id == "a"
        assert len(await world.rows()) == 1
        again = await world.run(process.client.start(echo, 1, id="a"))
        assert not again.created


async def test_of_equal_starts_in_one_batch_one_has_created_the_run() -> None:
    """Also when the answer to that batch was lost, and the clock stands still."""
    async with World() as world:
        process = await world.process(plan=[("start", 1, COMMIT_THEN_ERROR)])
        starts = [process.client.start(echo, 1, id="a") for _ in range(20)]
        handles = await world.run(asyncio.gather(*starts))
        assert [handle.created for handle in handles].count(True) == 1


async def test_patience_ends_after_thirty_seconds() -> None:
    """`StoreUnavailable` after 30 s without a database."""
    async with World() as world:
        process = await world.process(plan=lambda op: ERROR_BEFORE if op.verb == "start" else None)
        before = world.clock.monotonic()
        with pytest.raises(StoreUnavailable):
            await world.run(process.client.start(echo, 1))
        assert PATIENCE_SECONDS - 1.5 <= world.clock.monotonic() - before <= PATIENCE_SECONDS
        assert process.storage.calls["start"] < 50


async def test_only_an_unavailable_store_is_waited_for() -> None:
    clock = VirtualClock()

    async def broken() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await patiently(clock, broken)


async def test_a_starter_that_is_cancelled_does_not_take_the_others_along(client: Any) -> None:
    gate = Gate()
    client.storage._fault_of = lambda op: Hold(gate) if op.verb == "start" else None
    first, second = (asyncio.create_task(client.start(echo, n, id=f"r{n}")) for n in range(2))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        first.cancel()
        gate.release()
        assert (await second).created
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_bad_use_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructors do no I/O; a closed client says what to write; so does one without an URL."""
    path = tmp_path / "never.db"
    client = Client(f"sqlite:///{path}")
    assert not path.exists()
    handle = client.handle("a")
    for use in (client.start(echo, 1), client.get("a"), handle.result(), client.count()):
        with pytest.raises(DurableError, match="not open"):
            await use
    monkeypatch.delenv("DURABLE_URL", raising=False)
    with pytest.raises(DurableError, match="DURABLE_URL"):
        Client()
    with pytest.raises(NotImplementedError, match="codec"):
        Client("sqlite://", codec=object())
    await client.close()
    assert not path.exists()


async def test_a_client_in_a_workflow_is_refused() -> None:
    """`client.*` inside a workflow -> NotAllowedInWorkflow; in a step it is a plain call."""
    found: list[Any] = []

    @workflow(name="naughty")
    async def naughty(ctx: Context) -> None:
        await found[0].start(echo, 1)

    async with world_with(naughty) as (world, process):
        found.append(process.client)
        handle = await world.run(process.client.start(naughty))
        with pytest.raises(NotAllowedInWorkflow) as caught:
            await world.result(handle)
        assert isinstance(caught.value, RunFailed)
        assert len(await world.rows()) == 1


async def test_opening_is_patient_and_leaves_nothing_when_it_fails() -> None:
    """The database's clock is read on opening; a failure there closes what was opened."""
    client = Client("sqlite://")
    client.storage = FaultyStorage(client.storage, [("now", 1, ERROR_BEFORE)])
    async with client:
        assert (await client.start(echo, 1)).created
    client.storage._fault_of = lambda operation: (_ for _ in ()).throw(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        await client.open()
    assert not client.is_open
    assert not [t for t in threading.enumerate() if t.name.startswith("durable-sqlite")]


def test_those_who_open_it_at_once_open_it_once(tmp_path: Any) -> None:
    """Two desks would each wait for what the other one was told; and a client outlives its loop."""
    client = Client(f"sqlite:///{tmp_path}/x.db")

    async def use() -> None:
        async with asyncio.timeout(5):
            await asyncio.gather(*(client.open() for _ in range(3)))
            handle = await client.start(echo, 1)
            assert (await client.get(handle.id)).status == "pending"
            await asyncio.gather(*(client.close() for _ in range(3)))

    for _ in range(2):
        asyncio.run(use())
        assert not client.is_open
        assert not [t for t in threading.enumerate() if t.name.startswith("durable-sqlite")]


async def test_closing_during_an_opening_closes_it() -> None:
    """It is not left open behind the back of whoever has closed it."""
    gate = Gate()
    client = Client("sqlite://")
    client.storage = FaultyStorage(client.storage, [("now", 1, Hold(gate))])
    opening = asyncio.create_task(client.open())
    async with asyncio.timeout(5):
        await gate.reached.wait()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        gate.release()
        await asyncio.gather(opening, closing)
    assert not client.is_open
    assert not [t for t in threading.enumerate() if t.name.startswith("durable-sqlite")]


async def test_closing_ends_whatever_is_tried_again() -> None:
    """A store that is closed for good is not waited for: no start, no send, no read outlasts it."""
    async with World() as world:
        outside = await world.process()
        client = outside.client
        outside.storage._fault_of = lambda operation: ERROR_BEFORE
        calls = (
            client.start(echo, 1),
            client.start(echo, 2, on_conflict="restart"),
            client.start_many(echo, [1, 2]),
            client.send_event("a", "n", 1),
            client.publish("n", 1, key="k"),
            client.get("a"),
            client.cancel("a"),
            client.count(),
        )
        under_way = [asyncio.ensure_future(call) for call in calls]
        await world.pass_time(3)
        before = world.clock.monotonic()
        await client.close()
        await world.settle()
        assert world.clock.monotonic() == before
        for one in under_way:
            with pytest.raises(DurableError, match="client was closed"):
                one.result()


async def test_the_patience_of_each_caller_begins_when_he_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many stand before him, and whoever comes after them."""
    monkeypatch.setattr(room, "MAX_BATCH", 10)
    async with World() as world:
        process = await world.process(plan=lambda op: ERROR_BEFORE if op.verb == "start" else None)
        before = world.clock.monotonic()
        first = [asyncio.ensure_future(process.client.start(echo, n)) for n in range(25)]
        await world.pass_time(20)
        late = asyncio.ensure_future(process.client.start(echo, 99))
        await world.until(lambda: all(start.done() for start in first))
        assert 28 <= world.clock.monotonic() - before <= PATIENCE_SECONDS
        assert not late.done()
        await world.until(late.done)
        assert 48 <= world.clock.monotonic() - before <= 20 + PATIENCE_SECONDS
        errors = [start.exception() for start in (*first, late)]
        assert all(isinstance(error, StoreUnavailable) for error in errors)
        assert len({id(error) for error in errors}) == 26  # each may add to his own


async def test_a_start_that_outlives_its_neighbours_is_still_ours() -> None:
    """Its answer was lost together with theirs: tried again without them, it finds its own run."""
    async with World() as world:
        lost = True
        process = await world.process(
            plan=lambda op: COMMIT_THEN_ERROR if op.verb == "start" and lost else None
        )
        first = asyncio.ensure_future(process.client.start(echo, 1, id="a"))
        await world.pass_time(20)
        late = asyncio.ensure_future(process.client.start(echo, 1, id="b"))
        await world.until(first.done)
        lost = False
        assert (await world.run(late)).created
        assert isinstance(first.exception(), StoreUnavailable)


async def test_whoever_gives_up_before_his_start_was_sent_has_started_nothing(client: Any) -> None:
    gate = Gate()
    client.storage._fault_of = lambda op: Hold(gate) if (op.verb, op.nth) == ("start", 1) else None
    first = asyncio.create_task(client.start(echo, 1, id="first"))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        second, third = (asyncio.create_task(client.start(echo, n, id=f"r{n}")) for n in (2, 3))
        while len(client._starter.batches._waiting) < 2:
            await asyncio.sleep(0)
        second.cancel()
        gate.release()
        await asyncio.gather(first, third)
    assert [run.id for run in await client.list()] == ["r3", "first"]


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_sender_that_is_cancelled_from_outside_leaves_nobody_waiting(
    client: Any, has_begun: bool
) -> None:
    """Whether it was sent is not known; whoever asks then is answered by a new one."""
    gate = Gate()
    client.storage._fault_of = lambda op: Hold(gate) if (op.verb, op.nth) == ("start", 1) else None
    async with asyncio.timeout(5):
        first = asyncio.create_task(client.start(echo, 1, id="a"))
        if has_begun:
            await gate.reached.wait()
        second = asyncio.create_task(client.start(echo, 1, id="b"))
        while not client._starter.batches._waiting:
            await asyncio.sleep(0)
        client._starter.batches.pump.cancel()
        gate.release()
        for start in (first, second):
            with pytest.raises(StoreUnavailable, match="cancelled"):
                await start
        assert (await client.start(echo, 1, id="c")).created


@pytest.mark.parametrize("others", [0, 1])
async def test_a_run_whose_caller_has_gone_is_driven_at_once(others: int) -> None:
    """The answer to its start hands it over, whoever still waits for that."""
    async with world_with(echo, plan=[("start", 1, Delay(1.0))]) as (world, process):
        starts = [
            asyncio.ensure_future(process.client.start(echo, 1, id="a")) for _ in range(1 + others)
        ]
        await world.pass_time(0.5)
        starts[-1].cancel()
        await world.pass_time(1)
        assert await world.status("a") == "completed"


async def test_a_worker_that_fails_to_take_a_run_spoils_no_other_start(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started is started."""

    def refuses(run: Any, answer: Any) -> None:
        if run.id == "a":
            raise ValueError("a bug")

    monkeypatch.setattr(client, "hand_over", refuses)
    handles = await asyncio.gather(*(client.start(echo, 1, id=id) for id in "ab"))
    assert all(handle.created for handle in handles)


async def test_what_cannot_be_started_is_refused_at_the_door(client: Any) -> None:
    """Not after a trip to the database, and not only by one of them."""
    client.storage._fault_of = _must_not_be_asked
    start: Any = client.start
    with pytest.raises(ValueError, match="on_conflict must be one of"):
        await start(echo, 1, id="a", on_conflict="fail")
    for tags in ({"n": 5}, {5: "n"}, ["n"]):
        with pytest.raises(TypeError, match="tags must map strings to strings"):
            await start(echo, 1, tags=tags)
    with pytest.raises(TypeError, match="queue must be a string"):
        await start(echo, 1, queue=5)
    with pytest.raises(TypeError, match="a run id must be a string, not int"):
        await start(echo, 1, id=5)
    with pytest.raises(DefinitionError, match=r"refused_at_the_door.* is not a workflow"):
        await start(test_what_cannot_be_started_is_refused_at_the_door, 1)


def _must_not_be_asked(operation: Any) -> None:
    raise AssertionError("the database was asked")


async def test_a_start_beyond_the_calendar_of_utc_is_at_its_end(client: Any) -> None:
    """West of UTC the last hours of the year 9999 are in the year 10000."""
    at = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    handle = await client.start(echo, 1, at=at)
    (started,) = await client.history(handle.id)
    assert started.at.year == 9999
