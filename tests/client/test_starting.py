"""Starting runs: in batches, once per id whatever is lost, and with limited patience."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from durable import Client, Context, StoreUnavailable, workflow
from durable.client import batches as room
from durable.client.patience import PATIENCE_SECONDS, patiently
from durable.clock import VirtualClock
from durable.errors import DurableError, NotAllowedInWorkflow, RunFailed
from durable_testing.faults import COMMIT_THEN_ERROR, ERROR_BEFORE, FaultyStorage, Gate, Hold
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
