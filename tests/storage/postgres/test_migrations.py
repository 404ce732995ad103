"""The first boot is a race, and every later one meets a schema that is older, newer or just right."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from durable.errors import MigrationNeeded
from durable.model.history import CODES
from durable.model.rows import Act, Commit, Lane, NewRun, WorkerInfo
from durable.model.wire import EventRow
from durable.storage import migrations
from durable.storage.postgres import PostgresStorage
from durable.storage.postgres.schema import _LOCK
from durable_testing.postgres import Postgres, PostgresServer

BOOT = """
import asyncio, sys
from durable.storage.postgres import PostgresStorage
async def boot():
    store = PostgresStorage(sys.argv[1])
    sys.stdin.readline()
    await store.open()
    assert all(step.applied for step in await store.migrations())
    await store.close()
asyncio.run(boot())
"""


def boot(url: str, count: int) -> list[subprocess.Popen[str]]:
    """Processes that stand at the door of the database until told to go."""
    command = [sys.executable, "-c", BOOT, url]
    return [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]


@pytest.mark.slow
def test_sixteen_processes_open_an_empty_database_at_once(durable_postgres):
    processes = boot(durable_postgres, 16)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [error for error in errors if error] == []
    with psycopg.connect(durable_postgres) as connection:
        rows = connection.execute("select number from durable.schema_version").fetchall()
    assert rows == [(migrations.newest(migrations.steps("postgres")),)]


async def test_who_opens_waits_for_an_installation_under_way(durable_postgres):
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    store = PostgresStorage(durable_postgres)
    with psycopg.connect(durable_postgres) as other:
        other.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        opening = asyncio.ensure_future(store.open())
        while other.execute(waiting).fetchone() != (1,):
            assert not opening.done()
            await asyncio.sleep(0.01)
    await opening
    await store.close()


async def test_a_first_installation_that_dies_leaves_nothing_behind(durable_postgres, monkeypatch):
    known = migrations.steps("postgres")
    broken = (*known[:-1], migrations.Step(len(known), "broken", "select 1/0"))
    monkeypatch.setattr("durable.storage.postgres.schema.steps", lambda _: broken)
    with pytest.raises(Exception, match="division by zero"):
        await PostgresStorage(durable_postgres).open()
    monkeypatch.undo()
    store = PostgresStorage(durable_postgres)
    assert not any(step.applied for step in await store.migrations())
    await store.open()
    await store.close()


async def test_an_older_schema_is_named_and_migrated_on_request(durable_postgres):
    store = PostgresStorage(durable_postgres)
    await store.migrate(to=2)
    assert [step.applied for step in await store.migrations()][:3] == [True, True, False]
    with pytest.raises(MigrationNeeded, match="durable migrate"):
        await store.open()
    await store.migrate()
    await store.open()
    await store.close()


async def test_a_newer_schema_is_refused(durable_postgres, store):
    with psycopg.connect(durable_postgres, autocommit=True) as connection:
        connection.execute("update durable.schema_version set number = 999")
    with pytest.raises(MigrationNeeded, match="upgrade the durable package"):
        await PostgresStorage(durable_postgres).open()


async def test_event_types_have_the_names_of_the_code(durable_postgres, store):
    with psycopg.connect(durable_postgres) as connection:
        rows = dict(connection.execute("select name, code from durable.event_types").fetchall())
    assert rows == CODES


async def test_odd_schema_names_and_another_search_path(durable_postgres):
    name = durable_postgres.rsplit("/", 1)[1]
    with psycopg.connect(durable_postgres, autocommit=True) as connection:
        connection.execute(f'alter database "{name}" set search_path = pg_temp'.encode())
    names = ["durable_a", 'we"ird %s', "Ünicode $1", "select"]
    for schema in names:
        store = PostgresStorage(durable_postgres, schema=schema)
        await store.open()
        lane = Lane("default", "wf")
        first = EventRow(1, 1, 7, None, "wf", b"")
        [started] = await store.start([NewRun("a", lane, first, tags={"a": "b"})])
        worker = (await store.register(WorkerInfo("w", "h", 1), 9)).worker
        [claim] = await store.claim(worker, [(await store.lanes([lane]))[lane]], 5)
        assert claim.key == started.key
        assert (await store.run("a")).first == first
        await store.close()


@pytest.mark.parametrize("schema", ["", "x" * 64, "a\0b", "{x}", "$fn$"])
def test_names_that_no_schema_can_have(schema):
    with pytest.raises(ValueError, match="cannot be the name of a schema"):
        PostgresStorage("postgresql://localhost/x", schema=schema)


async def test_a_role_that_may_not_create_schemas(durable_postgres):
    """It is enough that somebody has made an empty one for it."""
    with psycopg.connect(durable_postgres, autocommit=True) as connection:
        role = "app_" + uuid.uuid4().hex[:8]
        connection.execute(f"create role {role} login".encode())
        connection.execute(f"create schema durable authorization {role}".encode())
    store = PostgresStorage(durable_postgres.replace("postgres@", f"{role}@", 1))
    await store.open()
    await store.close()
    with psycopg.connect(durable_postgres, autocommit=True) as connection:
        connection.execute(f"drop owned by {role}".encode())
        connection.execute(f"drop role {role}".encode())


@pytest.fixture
def postgres_without_autovacuum() -> Iterator[Postgres]:
    """A server on which nobody but the test itself ever holds a snapshot.

    Autovacuum analyses the catalogs of a new database a minute after its birth; rows that die while an
    ANALYZE runs cannot be pruned, and their table grows by them. It cannot be turned off for catalogs.
    """
    with PostgresServer(autovacuum="off") as server:
        yield server


@pytest.mark.slow
async def test_a_step_costs_at_most_260_bytes(postgres_without_autovacuum):
    """Of a run with ten steps: all tables and indexes, after a vacuum."""
    url = postgres_without_autovacuum.create_database()
    store = PostgresStorage(url)
    await store.open()
    worker = (await store.register(WorkerInfo("w", "h", 1), 3600)).worker
    runs, steps = 1500, 10
    for _ in range(5):
        await _runs_to_their_end(store, worker, runs // 5, steps)
    await store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum")
        sizes = connection.execute(
            "select relname, pg_total_relation_size(oid) from pg_class where relkind = 'r' and "
            "relnamespace = 'durable'::regnamespace and relname in ('runs', 'history', 'inbox')"
        ).fetchall()
    assert sum(size for _, size in sizes) / runs / steps <= 260, sizes


async def _runs_to_their_end(store: PostgresStorage, worker: int, runs: int, steps: int) -> None:
    lane, data = Lane("default", "fulfil"), b"x" * 45
    new = [
        NewRun(str(uuid.uuid4()), lane, EventRow(1, 1, 7, None, "fulfil", data), eager_owner=worker)
        for _ in range(runs)
    ]
    keys = [run.key for run in await store.start(new)]
    for seq in range(1, steps):
        event = EventRow(seq + 1, 11, 7, seq, "charge_card", data)
        await store.commit(worker, [Commit(key, 1, seq, [event], 0) for key in keys])
    last = [
        EventRow(steps + 1, 11, 7, steps, "charge_card", data),
        EventRow(steps + 2, 2, 7, None, None, data),
    ]
    ends = [Commit(key, 1, steps, last, 0, Act.FINISH, "completed") for key in keys]
    await store.commit(worker, ends)
