"""What only the SQLite store has: one file, two threads, group commits."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from durable.errors import InvalidInput, StoreUnavailable
from durable.model.rows import RunFilter
from durable.storage.sqlite import SqliteStorage
from durable.storage.sqlite.connection import Database
from tests.storage.conformance.world import CANCEL, TERMINATED, Now, World, new


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "durable.db"


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("durable-sqlite")}


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_closing_under_load(where: str, path: Path):
    """Everything asked is answered, done or refused; what was answered as done is done; no thread stays."""
    for n in range(15):
        file = path.with_name(f"{n}.db")
        store = SqliteStorage(None if where == "memory" else str(file))
        await store.open()
        world = World(store, Now())
        worker = await world.worker()
        asked = [asyncio.ensure_future(world.start(f"r{m}")) for m in range(50)]
        asked += [asyncio.ensure_future(world.claim(worker)) for _ in range(5)]
        asked += [asyncio.ensure_future(store.run("r1")) for _ in range(5)]
        heartbeat = asyncio.ensure_future(asyncio.to_thread(store.renew, worker, 5.0))
        await asyncio.sleep(0.0005 * n)
        await asyncio.gather(store.close(), store.close())
        answers = await asyncio.gather(*asked, heartbeat, return_exceptions=True)
        assert {type(a) for a in answers if isinstance(a, BaseException)} <= {StoreUnavailable}
        assert threads() == set()
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.run("r1")
        if where == "file":
            done = {a.id for a in answers[:50] if not isinstance(a, BaseException)}
            with sqlite3.connect(file) as connection:
                kept = {id for (id,) in connection.execute("SELECT id FROM durable_runs")}
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
            assert done <= kept


async def test_closing_what_was_never_opened():
    await SqliteStorage(None).close()


async def test_a_store_can_be_opened_again(path: Path):
    store = SqliteStorage(str(path))
    for n in range(3):
        await store.open()
        await World(store, Now()).start(f"r{n}")
        await store.close()
    await store.open()
    assert len(await store.finished(["r0"])) == 0
    assert await store.run("r0") is not None
    await store.close()


async def test_what_is_asked_together_is_committed_together(path: Path):
    """Commits, starts and claims of one process share one fsync."""
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    await world.lanes()
    commits = 0
    real = store._writer._serve

    def counting(database, jobs):
        nonlocal commits
        commits += bool(jobs)
        real(database, jobs)

    store._writer._serve = counting  # type: ignore[method-assign]
    await asyncio.gather(*(world.start(f"r{n}") for n in range(200)))
    await store.close()
    assert commits < 20


async def test_one_that_fails_does_not_take_its_group_with_it(path: Path):
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    await world.lanes()
    ids = [f"r{n}" for n in range(10)]
    ids[4] = "nul\0"
    answers = await asyncio.gather(*map(world.start, ids), return_exceptions=True)
    assert [isinstance(answer, InvalidInput) for answer in answers] == [n == 4 for n in range(10)]
    assert len(await store.runs(RunFilter())) == 9
    await store.close()


async def test_a_transaction_that_cannot_be_committed_is_nobodys(path: Path):
    """All of the group learn it; the next one goes on."""
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    await world.lanes()

    def break_group(database, _now):
        database.rollback()  # as SQLite does by itself on a full disk
        raise sqlite3.OperationalError("database or disk is full")

    async def fail() -> None:
        await store._writer.ask(break_group)

    answers = await asyncio.gather(
        world.start("a"), fail(), world.start("b"), return_exceptions=True
    )
    errors = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert len(errors) == 3
    assert all("free some space" in str(error) for error in errors)
    assert await store.run("a") is None
    assert (await world.start("a")).created
    await store.close()


async def test_hints_reach_every_listener_of_the_process():
    store = SqliteStorage(None)
    await store.open()
    heard = []

    async def listen(name: str) -> None:
        async for _ in store.hints():
            heard.append(name)  # noqa: PERF401 - it never ends

    listeners = [asyncio.ensure_future(listen(name)) for name in "ab"]
    await asyncio.sleep(0)
    store.hint()
    store.hint()
    await asyncio.sleep(0.01)
    assert sorted(heard) == ["a", "b"]
    await store.close()
    await asyncio.wait_for(asyncio.gather(*listeners), 1)


async def test_a_restart_finds_its_number_at_once(monkeypatch: pytest.MonkeyPatch):
    """However often its id was restarted before."""
    store = SqliteStorage(None)
    await store.open()
    world = World(store, Now())
    asked: list[str] = []
    one = Database.one

    def counted(database: Database, text: str, values: Any = ()) -> Any:
        asked.append(text)
        return one(database, text, values)

    monkeypatch.setattr(Database, "one", counted)
    counts = []
    await world.start("r", data=b"\x01old")
    for turn in range(12):
        asked.clear()
        await store.restart(new("r", data=b"\x01%d" % turn), TERMINATED, CANCEL)
        counts.append(len(asked))
    assert counts[1:] == [counts[1]] * 11
    assert (await world.run("r")).retried_from == "r~12"
    await store.close()
