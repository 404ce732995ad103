"""The life of worker processes: they drain, they are stopped, they stall, and they lose their lease."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from durable import Client
from durable.model import history
from durable.model.history import RunStarted
from durable.model.rows import Lane, NewRun
from durable.model.wire import EventRow, decode_event, encode_event
from tests.campaigns import labour
from tests.campaigns.effects import Entry
from tests.campaigns.fleet import Fleet, WorkerProcess, until

pytestmark = pytest.mark.crash

LONG_LEASE = 15.0
"""Nobody has the time to wait for it to expire."""
SOON = 3.0
"""Seconds, on a busy machine; far less than a long lease or a grace."""
LOST = "lost its lease"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request) -> str:
    return request.getfixturevalue(f"durable_{request.param}")


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as opened:
        yield opened


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(url, tmp_path, lease=LONG_LEASE) as fleet:
        yield fleet


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that steps wait for."""
    return tmp_path / "gate"


async def events_of(client: Client, run_id: str) -> list[history.Event]:
    rows: list[EventRow] = await client.storage.history(run_id, 0, 1000)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [decode_event(row) for row in rows]


async def workers_of(client: Client, run_id: str) -> list[int]:
    """The workers that completed steps of the run."""
    events = await events_of(client, run_id)
    return [event.worker for event in events if isinstance(event, history.StepCompleted)]


async def recoveries_of(client: Client, run_id: str) -> int:
    return sum(isinstance(event, history.Recovered) for event in await events_of(client, run_id))


def begun(fleet: Fleet, run_id: str) -> list[Entry]:
    """Steps of the run that are running now."""
    list(fleet.reader.advance())
    found = [fleet.reader.running(member.pid) for member in fleet.members]
    return [entry for entries in found for entry in entries if entry.run == run_id]


async def step_begun(fleet: Fleet, run_id: str) -> Entry:
    await until(lambda: begun(fleet, run_id), f"a step of {run_id}")
    return begun(fleet, run_id)[0]


async def leased(client: Client, member: WorkerProcess) -> int:
    """The worker id of a process, once it has one."""
    while True:
        for worker, info in await client.storage.leased():
            if info.pid == member.pid:
                return worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_drain_ends_what_runs_and_hands_back_the_rest(client, fleet, gate, number):
    """The running step is committed; the runs that were held go to another worker, not after a lease."""
    first = fleet.hire(slots=1)
    running = await client.start(labour.gated, str(gate), id="running")
    entry = await step_begun(fleet, "running")
    held = await client.start_many(labour.single, {f"held-{n}": n for n in range(3)})
    second = fleet.hire()
    new = await leased(client, second)
    first.signal(number)
    gate.touch()
    assert await first.gone() == 0
    began = time.monotonic()
    for run in [running, *held]:
        await run.result(timeout=SOON)
    assert time.monotonic() - began < SOON
    assert await workers_of(client, "running") == [entry.worker, new]
    for run in held:
        assert await workers_of(client, run.id) == [new]
        assert await recoveries_of(client, run.id) == 0
    assert first.log == "INFO campaign: stopped\n" or "bug that can then damage it" in first.log


@pytest.mark.parametrize("workflow", [labour.gated, labour.gated_in_thread])
async def test_a_second_signal_stops_at_once(client, fleet, gate, workflow):
    """It does not wait for a step, not even for one in a thread; others take over."""
    first = fleet.hire(grace=LONG_LEASE)
    run = await client.start(workflow, str(gate), id="endless")
    entry = await step_begun(fleet, "endless")
    first.signal(signal.SIGTERM)
    while await leased(client, first) == entry.worker and first.alive:
        first.signal(signal.SIGTERM)
        break
    began = time.monotonic()
    await first.gone(timeout=SOON)
    second = fleet.hire()
    new = await leased(client, second)
    gate.touch()
    await run.result(timeout=SOON)
    assert time.monotonic() - began < 2 * SOON
    assert set(await workers_of(client, "endless")) == {new}
