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


async def test_another_process_sees_what_this_one_wrote(path: Path):
    """Reads are never older than the last answer."""
    from durable.storage import open_storage
    from tests.storage.conformance.world import Now, World

    one, two = open_storage(f"sqlite:///{path}"), open_storage(f"sqlite:///{path}")
    await asyncio.gather(one.open(), two.open())
    for n in range(50):
        await World(one, Now()).start(f"r{n}")
        assert await two.run(f"r{n}") is not None
    await one.close()
    await two.close()
