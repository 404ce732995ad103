"""Connections break, servers turn read-only, poolers stand between; what comes out is one kind of error."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time

import psycopg
import pytest

from durable import Client
from durable.errors import PayloadError, StoreUnavailable
from durable.model.rows import Code, WorkerInfo
from durable.storage.postgres import PostgresStorage
from durable.storage.postgres.settings import parse
from tests.campaigns import pgbouncer
from tests.storage.postgres.players import LANE, event, finish, new_run, step


def end_sessions(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name like 'durable %'"
        )


async def test_every_connection_comes_back(durable_postgres, store, worker, keys):
    store.renew(worker, 60)
    end_sessions(durable_postgres)
    with pytest.raises(StoreUnavailable):
        await store.commit(worker, [step(keys[0])])
    with pytest.raises(StoreUnavailable):
        await store.now()
    with pytest.raises(StoreUnavailable):
        store.renew(worker, 60)
    assert [a.code for a in await store.commit(worker, [step(keys[0])])] == [Code.APPLIED]
    assert store.renew(worker, 60).worker == worker
    assert await store.run("run-0")


async def test_a_lost_answer_is_resolved_by_a_probe(durable_postgres, store, worker, keys):
    [before] = await store.probe(worker, keys[:1], [1])
    await store.commit(worker, [step(keys[0])])
    [after] = await store.probe(worker, keys[:1], [1])
    assert (before.code, before.seq, after.code, after.seq) == (3, 1, 3, 2)
    [other] = await store.probe(worker, keys[:1], [2])
    assert other.code is Code.LOST
    [fenced] = await store.probe(worker + 1000, keys[:1], [1])
    assert fenced.code is Code.FENCED


async def test_a_server_that_turns_read_only_and_back(durable_postgres, store, worker, keys):
    name = durable_postgres.rsplit("/", 1)[1]
    with psycopg.connect(durable_postgres, autocommit=True) as admin:
        admin.execute(f'alter database "{name}" set default_transaction_read_only = on'.encode())
        end_sessions(durable_postgres)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.commit(worker, [step(keys[0])])
        admin.execute("set default_transaction_read_only = off")
        admin.execute(f'alter database "{name}" reset default_transaction_read_only'.encode())
    assert [a.code for a in await store.commit(worker, [step(keys[0])])] == [Code.APPLIED]


@pytest.fixture
def fails_at_first(player):
    """A function that raises an error of any SQLSTATE the first two times, and then tells how often it was called."""
    sql = player()
    sql("create sequence {s}.tries")
    sql("""
        create function {s}.fails_at_first(code text) returns integer language plpgsql as $$
        declare n integer := nextval('{s}.tries');
        begin
            if n < 3 then raise exception 'try %', n using errcode = code; end if;
            return n;
        end $$""")
    return 'select "durable".fails_at_first(%b)'


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
async def test_a_statement_that_had_no_effect_is_tried_again(store, fails_at_first, code):
    """A serialization failure, a deadlock, a lock that was not to be had."""
    assert await store._working.ask(fails_at_first, [code]) == [(3,)]


@pytest.mark.parametrize("code", ["08006", "25006", "53100", "57014", "57P01", "58030", "XX000"])
async def test_any_other_failure_is_told_at_once(store, fails_at_first, code):
    with pytest.raises(StoreUnavailable, match="try 1"):
        await store._working.ask(fails_at_first, [code])


async def test_what_is_missing_may_come_back(store, player):
    """Who waits for the database goes on waiting, and is told why."""
    sql = player()
    sql("alter table {s}.history rename to away")
    with pytest.raises(StoreUnavailable, match="have its tables been dropped"):
        await store.run("run-0")
    sql("alter table {s}.away rename to history")
    assert await store.run("run-0") is None


@pytest.mark.parametrize("code", ["42501", "42P01", "42883", "3F000"])
async def test_what_this_user_may_not_use_or_find_is_said(store, fails_at_first, code):
    with pytest.raises(StoreUnavailable, match="may this user not use them"):
        await store._working.ask(fails_at_first, [code])


async def test_a_session_that_has_become_read_only_is_given_up(store, worker, keys):
    """As those of a server that is not the primary any more."""
    await store._committing.ask("set default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.commit(worker, [step(keys[0])])
    assert [a.code for a in await store.commit(worker, [step(keys[0])])] == [Code.APPLIED]


async def test_a_replica_is_refused(durable_postgres, store):
    """What it shows may be old, or never have been."""
    other = PostgresStorage(durable_postgres)
    check = other._sql.check.replace("pg_is_in_recovery()", "true")
    other._sql = dataclasses.replace(other._sql, check=check)
    with pytest.raises(StoreUnavailable, match="read-only replica"):
        await other.open()
    await other.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:s3cret@127.0.0.1:1/x",
        "postgresql://bob:s3cret@127.0.0.1:port/x",
        "postgresql://bob:s3cret@127.0.0.1/x?nonsense=1",
        "postgresql://bob:s3cret@127.0.0.1/x?pooler=s3cret",
    ],
)
async def test_no_message_shows_the_password(url):
    with pytest.raises(StoreUnavailable) as caught:
        await PostgresStorage(url).open()
    text = str(caught.value)
    assert "s3cret" not in text
    assert "\n" not in text


def test_what_the_url_says_wins():
    settings = parse(
        "postgresql://h/d?application_name=mine&options=-c%20work_mem%3D1MB", "durable"
    )
    arguments = settings.connect_arguments("work")
    assert arguments["application_name"] == "mine"
    assert "jit=off" in arguments["options"]
    assert arguments["options"].endswith("-c work_mem=1MB")


async def test_at_most_five_connections(durable_postgres, store, worker, keys):
    listening = asyncio.ensure_future(anext(store.hints()))
    await asyncio.gather(
        *(store.commit(worker, [step(key)]) for key in keys[:2]),
        *(store.commit(worker, [step(key)], wait=True) for key in keys[2:]),
        *(store.run(f"run-{i % 4}") for i in range(50)),
        asyncio.to_thread(store.renew, worker, 60),
    )
    await listening
    with psycopg.connect(durable_postgres) as connection:
        rows = connection.execute(
            "select application_name from pg_stat_activity where application_name like 'durable %'"
        ).fetchall()
    assert len(rows) <= 5


async def test_a_lease_is_renewed_while_the_event_loop_is_blocked(store, worker):
    first = store.renew(worker, 60)
    leases = []
    thread = threading.Thread(target=lambda: leases.append(store.renew(worker, 60)))
    thread.start()
    time.sleep(0.2)  # noqa: ASYNC251  The loop stands still here.
    thread.join(1)
    assert leases[0].expires_at > first.expires_at


# -- rows that the database refuses


async def test_a_run_with_refused_rows_is_found_and_the_others_are_written(
    store, player, worker, keys
):
    player()(f"insert into {{s}}.history values ({keys[1]}, 2, now(), null, 11, null, '')")
    answers = await store.commit(worker, [step(key) for key in keys])
    assert [a.code for a in answers] == [0, Code.POISONED, 0, 0]
    bad = finish(keys[1], 1, waiting_for=None, blocked_by="nul\0byte")
    assert [a.code for a in await store.commit(worker, [bad])] == [Code.POISONED]


async def test_a_start_with_refused_data_says_so(store):
    with pytest.raises(PayloadError):
        await store.start([new_run("nul\0byte")])
    assert await store.count(_everything()) == {}


def _everything():
    from durable.model.rows import RunFilter

    return RunFilter()


# -- hints


async def test_hints_reach_another_process(durable_postgres, store):
    other = PostgresStorage(durable_postgres)
    await other.open()
    hints = other.hints()
    await anext(hints)  # The first one: there may have been some before.
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0.05)
    for _ in range(100):
        store.hint()
    await asyncio.wait_for(waiting, 5)
    await hints.aclose()
    await other.close()


async def test_hints_survive_a_broken_connection(durable_postgres, store):
    hints = store.hints()
    await anext(hints)
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0.05)
    end_sessions(durable_postgres)
    await asyncio.wait_for(waiting, 5)  # The new connection begins with a hint of its own.
    await hints.aclose()


async def test_closing_is_idempotent_and_ends_hints(durable_postgres):
    store = PostgresStorage(durable_postgres)
    await store.open()
    hints = store.hints()
    await anext(hints)
    waiting = asyncio.ensure_future(anext(hints, "ended"))
    await asyncio.sleep(0.05)
    await store.close()
    assert await asyncio.wait_for(waiting, 5) == "ended"
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.now()


async def test_a_closed_store_can_be_opened_again(durable_postgres):
    store = PostgresStorage(durable_postgres)
    await store.open()
    store.hint()  # It is planned, and never sent.
    await store.close()
    await store.open()
    worker = (await store.register(WorkerInfo("w", "h", 1), 60)).worker
    [run] = await store.start([new_run("again", eager_owner=worker)])
    assert [a.code for a in await store.commit(worker, [step(run.key)])] == [Code.APPLIED]
    late = step(run.key, 2)
    assert [a.code for a in await store.commit(worker, [late], wait=True)] == [Code.APPLIED]
    other = PostgresStorage(durable_postgres)
    await other.open()
    hints = other.hints()
    await anext(hints)
    waiting = asyncio.ensure_future(anext(hints))
    async with asyncio.timeout(5):
        while not waiting.done():
            store.hint()
            await asyncio.sleep(0.01)
    await hints.aclose()
    await other.close()
    await store.close()


async def test_a_client_whose_first_opening_failed_at_the_clock_opens_the_next_time(
    durable_postgres, monkeypatch
):
    client = Client(durable_postgres)

    async def no_clock():
        raise PayloadError("no clock")

    with monkeypatch.context() as patch:
        patch.setattr(client.storage, "now", no_clock)
        with pytest.raises(PayloadError):
            await client.open()
    async with client:
        assert await client.list() is not None


# -- through a pooler


@pytest.mark.skipif(pgbouncer.find() is None, reason=pgbouncer.HINT)
async def test_everything_holds_through_a_pooler_in_transaction_mode(durable_postgres):
    with pgbouncer.pgbouncer(durable_postgres) as url:
        store = PostgresStorage(url)
        await store.open()
        worker = (await store.register(WorkerInfo("w", "h", 1), 60)).worker
        await store.start([new_run(f"run-{i}") for i in range(20)])
        lane = (await store.lanes([LANE]))[LANE]
        claims = await store.claim(worker, [lane], 20)
        answers = await asyncio.gather(
            *(store.commit(worker, [step(claim.key)]) for claim in claims),
            *(asyncio.to_thread(store.renew, worker, 60) for _ in range(5)),
        )
        assert all(a[0].code is Code.APPLIED for a in answers[:20])
        assert [hint async for hint in store.hints()] == []
        store.hint()
        await store.unregister(worker)
        assert await store.terminate("run-0", event(0, "RunTerminated"), b"\x01") == "terminated"
        await store.close()
