"""Several processes on one file: claims and commits at once, first boots, sudden deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from durable.errors import StoreUnavailable
from durable.storage import open_storage
from durable.storage.sqlite import SqliteStorage, place, wal
from durable.storage.sqlite.connection import BUSY_SECONDS, WAL_LIMIT, Database
from tests.storage.conformance.world import Now, World

ROOT = Path(__file__).parents[3]

HAMMER = """
import asyncio, sys
from dataclasses import replace
from durable.model.rows import Code
from durable.storage import open_storage
from tests.storage.conformance.world import Now, World, appending, finishing, new

async def main(url, name):
    store = open_storage(url)
    await store.open()
    world = World(store, Now())
    worker = await world.worker(name, ttl=60)
    await store.start([new(f"{name}-{n}") for n in range(60)])
    done = 0
    while done < 40:
        claims = await world.claim(worker, 8)
        for _ in range(3):
            answers = await store.commit(worker, [appending(c, 2) for c in claims])
            assert all(a.code is Code.APPLIED for a in answers), answers
            claims = [replace(c, seq=a.seq) for c, a in zip(claims, answers)]
        await asyncio.gather(*(world.deliver(f"{name}-{n}") for n in range(5)))
        answers = await store.commit(worker, [finishing(c) for c in claims])
        assert all(a.code is Code.APPLIED for a in answers), answers
        done += len(claims)
        assert store.renew(worker, 60) is not None
    await store.unregister(worker)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""

BOOT = """
import asyncio, sys
from durable.storage import open_storage

async def main(url):
    store = open_storage(url)
    await store.open()
    await store.lanes([])
    await store.close()

asyncio.run(main(sys.argv[1]))
"""

WRITE_FOR_EVER = """
import asyncio, sys
from durable.storage import open_storage
from tests.storage.conformance.world import Now, World

async def main(url):
    store = open_storage(url)
    await store.open()
    world = World(store, Now())
    n = 0
    while True:
        await asyncio.gather(*(world.start(f"{n}-{m}") for m in range(20)))
        print(n, flush=True)  # acknowledged
        n += 1

asyncio.run(main(sys.argv[1]))
"""


def run(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> None:
    results = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors


def check_file(path: Path) -> None:
    """Whole, and every history gapless and as long as its run says."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        wrong = connection.execute(
            "SELECT r.id FROM durable_runs r LEFT JOIN durable_history h ON h.run_key = r.key GROUP BY r.key "
            "HAVING count(h.seq) <> r.seq OR max(h.seq) <> r.seq"
        )
        assert wrong.fetchall() == []
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


async def test_a_transaction_that_reads_before_it_writes_lets_nobody_write_in_between(path: Path):
    """SQLite would refuse its write at once, however long it is told to wait."""
    store = SqliteStorage(str(path))
    await store.open()
    other = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)

    def read_then_write(database: Database, _now: int) -> str:
        database.one("SELECT count(*) FROM [runs]")
        try:
            other.execute("INSERT INTO durable_worker_names VALUES (7, 'other', 'h', 1, '', 0)")
        except sqlite3.OperationalError as error:
            database.execute("DELETE FROM [worker_names]")
            return str(error)
        return "written"

    try:
        assert await store._writer.ask(read_then_write) == "database is locked"
    finally:
        other.close()
        await store.close()


@pytest.mark.slow
def test_processes_hammer_one_file(path: Path):
    """Claims, commits and messages of three processes: nobody is told that it is busy."""
    finish([run(HAMMER, f"sqlite:///{path}", f"p{n}") for n in range(3)])
    check_file(path)


@pytest.mark.slow
def test_sixteen_processes_boot_on_an_empty_file(path: Path):
    finish([run(BOOT, f"sqlite:///{path}") for _ in range(16)])
    check_file(path)
    with sqlite3.connect(path) as connection:
        steps = connection.execute(
            "SELECT number FROM durable_migrations ORDER BY number"
        ).fetchall()
        assert steps == [(n,) for n in range(1, len(steps) + 1)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2])
def test_a_killed_process_leaves_a_good_file(path: Path, seconds: float):
    """Everything acknowledged is there, and nothing by halves."""
    process = run(WRITE_FOR_EVER, f"sqlite:///{path}")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    acknowledged = 1 + len([line for line in rest.splitlines(keepends=True) if line.endswith("\n")])
    check_file(path)
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM durable_runs").fetchone()
    connection.close()
    assert count >= acknowledged * 20


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_removed_is_missed(
    path: Path, replaced: bool, monkeypatch: pytest.MonkeyPatch
):
    """It would take everything that is written, for nobody to find."""
    monkeypatch.setattr(place, "LOOK_SECONDS", 0.0)
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    worker = await world.worker()
    aside = path.with_suffix(".aside")
    path.rename(aside)  # noqa: ASYNC240
    if replaced:
        path.write_bytes(aside.read_bytes())  # noqa: ASYNC240
    with pytest.raises(StoreUnavailable, match=r"shared\.db was removed or replaced.*open"):
        await world.start("lost")
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.run("lost")
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await asyncio.to_thread(store.renew, worker, 10.0)
    aside.rename(path)
    assert (await world.start("found")).created
    await store.close()


async def test_a_file_is_looked_for_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not with every transaction."""
    looks = 0
    look = place.Place.look

    def counting(self: place.Place) -> None:
        nonlocal looks
        looks += 1
        look(self)

    monkeypatch.setattr(place, "LOOK_SECONDS", 1000.0)
    store = SqliteStorage(str(path))
    await store.open()
    monkeypatch.setattr(place.Place, "look", counting)
    world = World(store, Now())
    for n in range(5):
        await world.start(f"r{n}")
        assert await store.run(f"r{n}") is not None
    assert looks == 0
    store._place._looked -= 1000.0
    await world.start("last")
    assert looks == 1
    await store.close()


async def test_a_file_that_is_replaced_between_two_connections(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of one opening: the one would read what the other has not written."""
    store = SqliteStorage(str(path))
    remember = store._place.remember

    def then_replaced() -> None:
        remember()
        path.rename(path.with_suffix(".aside"))

    monkeypatch.setattr(store._place, "remember", then_replaced)
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.open()


async def test_a_log_that_has_grown_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Once nobody reads what it holds; whoever does is not waited for."""
    monkeypatch.setattr(wal, "WAL_LIMIT", 100_000)
    monkeypatch.setattr(wal, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(wal, "_SHARE", 0)
    log = path.with_name(f"{path.name}-wal")
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM durable_runs").fetchone()
    for n in range(3):
        await world.start(f"r{n}", data=b"x" * 100_000)
    assert log.stat().st_size > 300_000
    other.execute("ROLLBACK")
    await world.start("last")
    await store._writer.ask(lambda database, _now: database.one("SELECT 1"))  # behind the cut
    assert log.stat().st_size < 100_000
    timeout = await store._writer.ask(lambda database, _: database.one("PRAGMA busy_timeout"))
    assert timeout == (round(BUSY_SECONDS * 1000),)
    other.close()
    await store.close()
    check_file(path)


async def test_a_log_that_begins_anew_gives_its_length_back(path: Path):
    """By SQLite itself: what one long read made of it does not stay on the disk."""
    store = SqliteStorage(str(path))
    await store.open()
    limit = await store._writer.ask(lambda database, _: database.one("PRAGMA journal_size_limit"))
    assert limit == (WAL_LIMIT,)
    await store.close()


async def test_another_process_sees_what_this_one_wrote(path: Path):
    """Reads are never older than the last answer."""
    one, two = open_storage(f"sqlite:///{path}"), open_storage(f"sqlite:///{path}")
    await asyncio.gather(one.open(), two.open())
    for n in range(50):
        await World(one, Now()).start(f"r{n}")
        assert await two.run(f"r{n}") is not None
    await one.close()
    await two.close()
