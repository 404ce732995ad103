"""Leases by the machine's clock: the writer keeps those of workers that it hears of."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from durable.clock import SECOND
from durable.model.rows import Code, WorkerInfo
from durable.storage.sqlite import SqliteStorage, workers
from tests.storage.conformance.world import Now, World, appending


async def test_a_busy_process_keeps_its_lease_by_its_commits():
    """Although its heartbeat gets no turn: every commit extends it."""
    store = SqliteStorage(None)
    await store.open()
    world = World(store, Now())
    worker = await world.worker(ttl=0.6)
    claim = await world.claimed(worker, "r")
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        (answer,) = await store.commit(worker, [appending(claim)])
        assert answer.code is Code.APPLIED
        claim = replace(claim, seq=answer.seq)
        assert (await world.reap()).workers == []
        await asyncio.sleep(0.05)
    await store.close()


async def test_a_clock_that_jumps_ends_no_lease_of_the_process_that_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A machine wakes up an hour later: what works here is not lost, whoever else may be."""
    ahead = 0
    clock = SqliteStorage._clock
    monkeypatch.setattr(SqliteStorage, "_clock", lambda store: clock(store) + ahead)
    stores = [SqliteStorage(str(tmp_path / "shared.db")) for _ in range(2)]
    for store in stores:
        await store.open()
    here, elsewhere = (World(store, Now()) for store in stores)
    worker = await here.worker(ttl=60)
    claim = await here.claimed(worker, "r")
    lost = await elsewhere.worker(ttl=60)
    ahead = 3600 * SECOND
    assert (await here.reap()).workers == [lost]
    (answer,) = await here.store.commit(worker, [appending(claim)])
    assert answer.code is Code.APPLIED
    assert (await here.reap(gone=[worker])).workers == [worker]
    for store in stores:
        await store.close()


async def test_a_worker_that_is_not_heard_of_loses_its_lease():
    """Although its process lives: it may be its heartbeat that died."""
    store = SqliteStorage(None)
    await store.open()
    world = World(store, Now())
    silent = await world.worker(ttl=0.4)
    other = await world.worker(ttl=60)
    reaped: list[int] = []
    until = time.monotonic() + 2
    while not reaped and time.monotonic() < until:
        reaped += (await world.reap()).workers
        await asyncio.sleep(0.02)
    assert reaped == [silent]
    assert store.renew(silent, 1) is None
    assert store.renew(other, 1) is not None
    await store.close()


async def test_sharing_a_file_is_warned_of_where_sqlite_may_damage_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Only when another process has a live lease, and once."""
    monkeypatch.setattr(workers, "WAL_RESET_BUG", ((3, 7, 0), (9, 0, 0)))
    store = SqliteStorage(str(tmp_path / "shared.db"))
    await store.open()
    mine, foreign = WorkerInfo("w", "host", 1), WorkerInfo("w", "host", 2)
    with caplog.at_level(logging.WARNING, "durable.storage.sqlite"):
        await store.register(mine, 10)
        await store.register(mine, 10)
        assert caplog.records == []
        await store.register(foreign, 10)
        await store.register(mine, 10)
    assert len(caplog.records) == 1
    assert "shared.db" in caplog.text
    await store.close()
