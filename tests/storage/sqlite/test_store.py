"""What only the SQLite store has: one file, two threads, group commits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable.errors import InvalidInput, StoreUnavailable
from durable.model.rows import Lane, RunFilter, WorkerInfo
from durable.storage.sqlite import SqliteStorage
from durable.storage.sqlite.connection import Database, connect
from durable.storage.sqlite.desk import Desk
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


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_an_opening_knows_nothing_of_the_one_before(where: str, path: Path):
    """The database may be another, which numbers its lanes otherwise: a run must not change its workflow."""
    one, two = Lane("default", "one"), Lane("default", "two")
    store = SqliteStorage(None if where == "memory" else str(path))
    await store.open()
    await World(store, Now()).start("r", lane=one)
    await store.register(WorkerInfo("w", "host", 1), 10)
    await store.close()
    path.unlink(missing_ok=True)  # noqa: ASYNC240
    await store.open()
    assert store._leases.patience() is None
    world = World(store, Now())
    await world.start("second", lane=two)
    await world.start("first", lane=one)
    found = {id: (await world.run(id)).workflow for id in ("second", "first")}
    assert found == {"second": "two", "first": "one"}
    await store.close()


async def test_an_opening_that_failed_can_be_tried_again(path: Path):
    path.write_text("this is no database, it is a text of some length\n" * 50)  # noqa: ASYNC240
    store = SqliteStorage(str(path))
    with pytest.raises(StoreUnavailable, match="not an SQLite database"):
        await store.open()
    path.unlink()  # noqa: ASYNC240
    await store.open()
    assert (await World(store, Now()).start("r")).created
    await store.close()


async def test_an_opening_that_is_given_up_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No thread, no connection, no traceback."""
    trouble: list[object] = []
    monkeypatch.setattr(threading, "excepthook", trouble.append)
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slowly(*where: object) -> Database:
        begun.set()
        go_on.wait()
        database = connect(path, "durable_")
        proper = database.close

        def close() -> None:
            proper()
            closed.set()

        database.close = close  # type: ignore[method-assign]
        return database

    monkeypatch.setattr("durable.storage.sqlite.store.connect", slowly)
    store = SqliteStorage(str(path))
    opening = asyncio.ensure_future(store.open())
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (threads(), trouble) == (set(), [])
    assert closed.is_set()


async def test_nobody_waits_for_a_thread_that_has_ended(monkeypatch: pytest.MonkeyPatch):
    """Whoever had asked is told, and whoever asks later; opening the store again mends it."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    store = SqliteStorage(None)
    await store.open()
    world = World(store, Now())
    await world.lanes()

    def end(_database: Database, _now: int) -> None:
        raise SystemExit

    def together() -> list[asyncio.Future[object]]:
        asked = [world.start("before"), store._writer.ask(end), world.start("behind")]
        return [asyncio.ensure_future(one) for one in asked]

    answers = await asyncio.gather(*together(), return_exceptions=True)
    assert [type(answer) for answer in answers[1:]] == [StoreUnavailable, StoreUnavailable]
    assert store._writer._thread is not None
    await asyncio.to_thread(store._writer._thread.join)
    with pytest.raises(StoreUnavailable, match="open it again"):
        await world.start("later")
    with pytest.raises(StoreUnavailable, match="open it again"):
        store.renew(1, 1.0)
    await store.close()
    await store.open()
    assert (await world.start("again")).created
    await store.close()


async def test_jobs_in_the_queue_of_a_thread_that_ends_are_told(monkeypatch: pytest.MonkeyPatch):
    """They have not been taken yet: it dies while it waits for the next one."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    asked = threading.Event()

    def fail(_desk: Desk) -> object:
        asked.wait()
        raise RuntimeError("dead")

    monkeypatch.setattr("durable.storage.sqlite.desk.Desk._take", fail)
    store = SqliteStorage(None)
    await store.open()
    waiting = asyncio.ensure_future(store.run("r"))
    heartbeat = asyncio.ensure_future(asyncio.to_thread(store.renew, 1, 60.0))
    while store._writer._jobs.qsize() < 2:
        await asyncio.sleep(0)
    asked.set()
    answers = await asyncio.gather(waiting, heartbeat, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    await store.close()


async def test_a_lease_longer_than_a_lock_can_wait():
    store = SqliteStorage(None)
    await store.open()
    lease = await store.register(WorkerInfo("w", "host", 1), 1e11)
    world = World(store, Now())
    assert (await world.start("a")).created
    assert await asyncio.to_thread(store.renew, lease.worker, 1e11) is not None
    assert (await world.start("b")).created
    await store.close()


def in_a_fork(check: Callable[[], None]) -> int:
    """The exit code of a copy of this process that runs `check`."""
    child = os.fork()
    if not child:
        code = 1
        try:
            check()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_store_that_was_opened_before_a_fork(path: Path):
    """Its thread is not there, and its locks are not ours: the child is told so; the parent goes on."""
    store = SqliteStorage(str(path))

    async def start(id: str) -> bool:
        return (await World(store, Now()).start(id)).created

    def check() -> None:
        with asyncio.Runner() as runner:
            with pytest.raises(StoreUnavailable, match="after the fork"):
                runner.run(start("refused"))
            with pytest.raises(StoreUnavailable, match="after the fork"):
                store.renew(1, 1.0)
            runner.run(store.close())
            with pytest.raises(StoreUnavailable, match="after the fork"):
                runner.run(store.open())

    with asyncio.Runner() as runner:
        runner.run(store.open())
        assert runner.run(start("before"))
        assert in_a_fork(check) == 0
        assert runner.run(start("behind"))
        runner.run(store.close())


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
