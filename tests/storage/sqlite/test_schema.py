"""The file as others see it: schema, versions, prefixes, and what is said when it is no good."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from durable.errors import InvalidInput, MigrationNeeded, StoreUnavailable
from durable.model.history import CODES
from durable.model.rows import Code
from durable.storage.migrations import newest, steps
from durable.storage.sqlite import SqliteStorage, claiming
from durable.storage.sqlite.connection import OLDEST_SQLITE, Database, Values, connect
from durable.storage.sqlite.migrating import prepare, version
from tests.storage.conformance.world import Now, World, new


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "durable.db"


async def test_a_prefix_keeps_two_installations_apart(path: Path):
    one, two = SqliteStorage(str(path)), SqliteStorage(str(path), schema="acme")
    await one.open()
    await two.open()
    await World(one, Now()).start("r")
    assert await two.run("r") is None
    assert (await World(two, Now()).start("r")).created
    await one.close()
    await two.close()
    with sqlite3.connect(path) as connection:
        names = {n for (n,) in connection.execute("SELECT name FROM sqlite_schema")}
        assert {"durable_runs", "acme_runs", "acme_runs_ready", "acme_readable_runs"} <= names
        assert connection.execute("SELECT id FROM acme_readable_runs").fetchall() == [("r",)]
    connection.close()


async def test_names_of_schemas_ignore_case(path: Path):
    """As the names of SQLite's tables do: it is the same installation."""
    one, two = SqliteStorage(str(path)), SqliteStorage(str(path), schema="Durable")
    await one.open()
    await World(one, Now()).start("r")
    await two.open()
    assert not (await World(two, Now()).start("r")).created
    await one.close()
    await two.close()


def test_an_installation_that_another_process_has_just_finished(path: Path):
    """What is missing is only known under the lock."""
    database = connect(path, "durable_")
    proper = database.execute

    def after_another(text: str, values: Values = ()) -> int:
        if text == "BEGIN IMMEDIATE":
            database.execute = proper
            other = connect(path, "durable_")
            prepare(other, "the other one")
            other.close()
        return proper(text, values)

    database.execute = after_another
    prepare(database, "this one")
    assert version(database) == newest(steps("sqlite"))
    database.close()


@pytest.mark.parametrize("schema", ["", "a b", "x;y", "1st", "a" * 41])
def test_a_bad_prefix_is_refused(schema: str):
    with pytest.raises(InvalidInput, match="schema"):
        SqliteStorage(None, schema=schema)


async def test_people_can_read_it(path: Path):
    store = SqliteStorage(str(path))
    await store.open()
    await World(store, Now()).start("r")
    await store.close()
    with sqlite3.connect(path) as connection:
        assert dict(connection.execute("SELECT name, code FROM durable_event_types")) == CODES
        assert connection.execute(
            "SELECT run_id, type FROM durable_readable_history"
        ).fetchall() == [("r", "RunStarted")]
        assert connection.execute("SELECT id, status FROM durable_readable_runs").fetchall() == [
            ("r", "pending")
        ]
    connection.close()


async def test_an_older_and_a_newer_schema_are_refused(path: Path):
    store = SqliteStorage(str(path))
    assert not any(step.applied for step in await store.migrations())
    await store.migrate()
    await store.migrate()
    steps = await store.migrations()
    assert all(step.applied for step in steps)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO durable_migrations VALUES (99, 'future', 0)")
    with pytest.raises(MigrationNeeded, match="upgrade"):
        await store.open()
    assert not [t for t in threading.enumerate() if t.name.startswith("durable-sqlite")]
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM durable_migrations")
        connection.execute("INSERT INTO durable_migrations VALUES (-1, 'past', 0)")
    connection.close()
    with pytest.raises(MigrationNeeded, match="durable migrate"):
        await store.open()


async def test_what_is_wrong_with_a_file_is_said(tmp_path: Path):
    """With its path and what to do; never as an error of `sqlite3`."""
    text = tmp_path / "notes.txt"
    text.write_text("this is no database, it is a text of some length\n" * 50)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt.*not an SQLite database"):
        await SqliteStorage(str(text)).open()
    with pytest.raises(StoreUnavailable, match="directory"):
        await SqliteStorage(str(tmp_path / "missing" / "x.db")).open()


@pytest.mark.parametrize("version", [(3, 37, 2), (3, 31, 1)])
async def test_an_sqlite_that_is_too_old_is_refused(
    path: Path, version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
):
    """At once and by its version: it would fail at every statement, which is tried again and again."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    monkeypatch.setattr(sqlite3, "sqlite_version", ".".join(map(str, version)))
    for where in (None, str(path)):
        store = SqliteStorage(where)
        with pytest.raises(StoreUnavailable, match=rf"{sqlite3.sqlite_version}.*3\.38\.0 or newer"):
            await store.open()
    assert not path.exists()  # noqa: ASYNC240
    monkeypatch.setattr(sqlite3, "sqlite_version_info", OLDEST_SQLITE)
    await store.open()
    await store.close()


async def test_dropped_tables_are_said_to_be_dropped(path: Path):
    store = SqliteStorage(str(path))
    await store.open()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE durable_inbox")
    connection.close()
    with pytest.raises(StoreUnavailable, match="have been dropped"):
        await store.inbox([(1, 0)])
    await store.close()


async def test_a_locked_file_is_said_to_be_locked(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("durable.storage.sqlite.connection.BUSY_SECONDS", 0.05)
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    await world.start("before")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process"):
        await world.start("during")
    assert await store.run("before") is not None  # readers do not wait for writers
    other.execute("ROLLBACK")
    other.close()
    assert (await world.start("during")).created
    await store.close()


async def test_keys_are_wide_enough(path: Path):
    """Runs, workers and messages beyond 2^31 and up to 2^53."""
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    await world.start("first")
    await world.worker()
    for wide in (2**31 - 2, 2**32, 2**53 - 10):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE sqlite_sequence SET seq = ?", (wide,))
        connection.close()
        worker = await world.worker()
        assert worker > wide
        for n in range(3):
            started = await world.start(f"{wide}-{n}", parent_key=wide)
            assert started.key == wide + 1 + n
            await world.deliver(f"{wide}-{n}")
        claims = {claim.key: claim for claim in await world.claim(worker)}
        claim = claims[wide + 3]
        answer = await world.commit(worker, claim, 2, consumed=1)
        assert (answer.code, answer.seq) == (Code.APPLIED, 3)
        assert len((await store.load([(claim.key, 1)]))[claim.key]) == 2
    await store.close()


async def test_a_claim_does_not_look_at_sleepers(path: Path):
    """Its cost is that of a probe per lane and priority, whatever sleeps there."""
    store = SqliteStorage(str(path))
    await store.open()
    world = World(store, Now())
    worker = await world.worker(ttl=10_000)
    lanes = await world.lanes()
    await store.start([new(f"r{n}", priority=n % 3, not_before=2**52 + n) for n in range(20_000)])
    await store.start([new(f"now{n}", priority=1) for n in range(5)])
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    def count(database: Database, now: int) -> int:
        database._connection.set_progress_handler(tick, 10)
        claims = claiming.claim(database, now, worker, lanes, 10)
        database._connection.set_progress_handler(None, 0)
        return len(claims)

    assert await store._writer.ask(count) == 5
    assert ticks < 200  # two thousand instructions of SQLite's machine
    await store.close()
