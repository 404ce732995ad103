"""The life of worker processes: they drain, they are stopped, they stall, and they lose their lease."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from durable import Client
from durable.clock import SECOND
from durable.model import history
from durable.model.history import RunStarted
from durable.model.rows import NewRun
from durable.model.wire import decode_event, encode_event
from tests.campaigns import labour
from tests.campaigns.effects import Entry
from tests.campaigns.fleet import Fleet, WorkerProcess, until
from tests.campaigns.worker_process import DRAINING

pytestmark = pytest.mark.crash

LONG = 15.0
"""A lease or grace whose end nobody has the time to wait for."""
SOON = 5.0
"""Seconds: enough on a busy machine, and far less than a long lease."""
BOTH = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
POSTGRES = pytest.mark.parametrize("url", ["postgres"], indirect=True)


@pytest.fixture
def url(request) -> str:
    return request.getfixturevalue(f"durable_{request.param}")


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as opened:
        yield opened


@pytest.fixture
def fleet(url: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(url, tmp_path, lease=LONG, grace=LONG) as fleet:
        yield fleet


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that steps wait for."""
    return tmp_path / "gate"


async def events_of(client: Client, run_id: str) -> list[history.Event]:
    rows = await client.storage.history(run_id, 0, 1000) or []
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [decode_event(row) for row in rows]


async def workers_of(client: Client, run_id: str) -> list[int]:
    """The workers that completed steps of the run."""
    events = await events_of(client, run_id)
    return [event.worker for event in events if isinstance(event, history.StepCompleted)]


async def lost_by(client: Client, run_id: str) -> list[int]:
    """The workers that the run was recovered from."""
    events = await events_of(client, run_id)
    return [event.lost for event in events if isinstance(event, history.Recovered)]


def running(fleet: Fleet, run_id: str) -> list[Entry]:
    """Steps of the run that are running now."""
    list(fleet.reader.advance())
    found = [fleet.reader.running(member.pid) for member in fleet.members]
    return [entry for entries in found for entry in entries if entry.run == run_id]


async def step_of(fleet: Fleet, run_id: str) -> Entry:
    """A step of the run, as soon as one is running."""
    await until(lambda: running(fleet, run_id), f"a step of {run_id}")
    return running(fleet, run_id)[0]


async def worker_of(client: Client, member: WorkerProcess) -> int:
    """The worker id of a process, as soon as it has one."""
    while True:
        for worker, info in await client.storage.leased():
            if info.pid == member.pid:
                return worker


@pytest.mark.parametrize(
    "url, number",
    [("postgres", signal.SIGTERM), ("sqlite", signal.SIGINT)],
    indirect=["url"],
)
async def test_a_drain_commits_what_runs_and_hands_back_the_rest(client, fleet, gate, number):
    first = fleet.hire(slots=1)
    run = await client.start(labour.gated, str(gate), id="running")
    entry = await step_of(fleet, "running")
    held = await client.start_many(labour.single, {f"held-{n}": n for n in range(3)})
    second = fleet.hire()
    new = await worker_of(client, second)
    first.signal(number)
    await until(lambda: DRAINING in first.log, "the drain")
    gate.touch()
    assert await first.gone() == 0
    ended = time.monotonic()
    for one in (run, *held):
        await one.result(timeout=SOON)
    assert time.monotonic() - ended < SOON, "nobody waits for a lease"
    assert await workers_of(client, "running") == [entry.worker, new]
    assert [await workers_of(client, one.id) for one in held] == [[new]] * len(held)
    assert [await lost_by(client, one.id) for one in (run, *held)] == [[]] * 4
    assert "ERROR" not in first.log


@pytest.mark.parametrize(
    "url, workflow",
    [("sqlite", labour.gated), ("postgres", labour.gated_in_thread)],
    indirect=["url"],
)
async def test_a_second_signal_stops_at_once(client, fleet, gate, workflow):
    """It waits for no step, not even for one in a thread; another worker takes over."""
    first = fleet.hire()
    run = await client.start(workflow, str(gate), id="endless")
    old = (await step_of(fleet, "endless")).worker
    first.signal(signal.SIGTERM)
    await until(lambda: DRAINING in first.log, "the drain")
    first.signal(signal.SIGTERM)
    await first.gone(timeout=SOON)
    new = await worker_of(client, fleet.hire())
    gate.touch()
    await run.result(timeout=SOON)
    assert old not in await workers_of(client, "endless")
    assert new in await workers_of(client, "endless")


@POSTGRES
async def test_a_step_that_blocks_the_event_loop_for_five_leases_loses_none(client, fleet):
    """The lease is renewed from a thread; the log names the line that blocks."""
    member = fleet.hire(lease=1)
    rival = fleet.hire(lease=1)
    run = await client.start(labour.blocking, 5.0)
    entry = await step_of(fleet, run.id)
    assert await run.result(timeout=LONG) == 5.0
    assert await workers_of(client, run.id) == [entry.worker]
    assert await lost_by(client, run.id) == []
    guilty = member if member.pid == entry.pid else rival
    assert "the event loop has been blocked for" in guilty.log
    assert "time.sleep(seconds)" in guilty.log
    assert "lost its lease" not in guilty.log


@BOTH
async def test_a_worker_that_lost_its_lease_joins_again(client, fleet, gate):
    """What it held goes on, under its new id; what its old id was doing is never written."""
    member = fleet.hire(lease=1)
    run = await client.start(labour.gated, str(gate), id="taken")
    old = (await step_of(fleet, "taken")).worker
    await client.storage.unregister(old)
    await until(
        lambda: any(entry.worker != old for entry in running(fleet, "taken")), "the step again"
    )
    gate.touch()
    await run.result(timeout=SOON)
    new = await worker_of(client, member)
    assert await workers_of(client, "taken") == [new, new]
    assert "lost its lease" in member.log


@BOTH
async def test_a_run_that_a_worker_owns_without_knowing_is_adopted(client, fleet):
    """As after a claim whose answer was lost: the row names the worker, which never heard of it."""
    member = fleet.hire()
    owner = await worker_of(client, member)
    now = await client.storage.now()
    lane = labour.single.lane(None)
    given = labour.single.input.encode(5, "input")
    started = RunStarted(now, lane.workflow, given, labour.single.version, lane.queue)
    run = NewRun("orphan", lane, encode_event(1, started), eager_owner=owner)
    client.storage.time = lambda: now - 30 * SECOND  # so that it is due for a look now
    [answer] = await client.storage.start([run])
    client.storage.time = None
    assert answer.owned
    assert await client.handle("orphan", labour.single).result(timeout=SOON) is not None
    assert await workers_of(client, "orphan") == [owner]
    assert await lost_by(client, "orphan") == []
