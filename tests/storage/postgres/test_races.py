"""Two and three sessions at the worst moment: who waits, who wins, and what the other one learns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from durable import Client
from durable.errors import DurableError
from durable.model.rows import (
    Answer,
    Code,
    Delivered,
    Delivery,
    Publication,
    Subscription,
    WorkerInfo,
)
from durable.storage.postgres import PostgresStorage
from tests.storage.postgres.players import event, finish, new_run, park, report, step, waits

LOCK_WAITS = "select pid, query_start from pg_stat_activity where wait_event_type = 'Lock'"

# -- the fence


def test_a_commit_waits_for_a_reaper_that_deletes_its_lease_and_then_writes_nothing(
    player, worker, keys
):
    reaper, committer = player(), player()
    reaper("begin")
    reaper(f"delete from {{s}}.workers where id = {worker}")
    committer.background(committer.append, worker, step(keys[0]))
    assert committer.waiting
    reaper("commit")
    assert committer.answer() == [Code.FENCED]
    assert reaper.run(keys[0], "seq") == 1


@pytest.mark.parametrize("verb", ["append", "append_or_end", "commit"])
def test_a_reaper_passes_a_worker_whose_commit_is_under_way(player, worker, keys, verb):
    committer, reaper, other = player(), player(), player()
    committer("begin")
    assert getattr(committer, verb)(worker, step(keys[0])) == [Code.APPLIED]
    other.expire(worker)  # the heartbeat's row changes under the commit's lock: it must not wait
    assert reaper.reap()[0] == []
    committer("commit")
    assert reaper.reap()[0] == [worker]
    assert reaper.run(keys[0], "seq", "owner", "lost_owner") == (2, None, worker)


def test_the_lock_of_a_commit_outlives_a_heartbeat(player, worker, keys):
    committer, heart, deleter = player(), player(), player()
    committer("begin")
    committer.append(worker, step(keys[0]))
    heart(f"update {{s}}.workers set beats = beats + 1 where id = {worker}")
    deleter.background(deleter, f"delete from {{s}}.workers where id = {worker}")
    assert deleter.waiting
    committer("commit")
    deleter.answer()


def test_a_commit_does_not_wait_for_a_heartbeat(player, worker, keys):
    heart, committer = player(), player()
    with heart.transaction():
        heart(f"update {{s}}.workers set beats = beats + 1 where id = {worker}")
        assert committer.append(worker, step(keys[0])) == [Code.APPLIED]


def test_no_unique_index_holds_a_column_that_a_heartbeat_changes(player):
    """With one, an update of the row would take a lock that waits for every commit."""
    rows = player()("""
        select a.attname from pg_index i
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
         where i.indrelid = '{s}.workers'::regclass and i.indisunique""")
    assert rows == [("id",)]


def test_a_reaper_sees_a_renewal_that_it_had_to_pass(player, worker, keys):
    heart, reaper = player(), player()
    heart.expire(worker)
    heart("begin")
    heart(f"update {{s}}.workers set expires_at = now() + interval '1 hour' where id = {worker}")
    assert reaper.reap()[0] == []
    heart("commit")
    assert reaper.reap() == ([], 0, 0)


# -- the reaper


def test_a_claim_under_way_when_its_worker_is_deleted_is_freed_all_the_same(
    player, worker, waiting
):
    claimer, deleter, reaper = player(), player(), player()
    claimer("begin")
    assert sorted(claimer.claim(worker)) == waiting
    deleter.background(deleter, f"delete from {{s}}.workers where id = {worker}")
    assert deleter.waiting
    claimer("commit")
    deleter.answer()
    assert reaper.reap() == ([], 4, 0)
    assert all(reaper.run(key, "owner") is None for key in waiting)


async def test_a_worker_without_a_lease_claims_and_owns_nothing(store, player, worker, waiting):
    player().reap(worker)
    assert (
        await store.claim(worker, list((await store.lanes([new_run("x").lane])).values()), 9) == []
    )
    [started] = await store.start([new_run("eager", eager_owner=worker)])
    assert started.created
    assert not started.owned
    assert player().run(started.key, "owner", "epoch", "status") == (None, 0, "pending")


def test_an_eager_start_waits_for_the_reaper_of_its_worker(player, worker):
    reaper, starter = player(), player()
    reaper("begin")
    reaper(f"delete from {{s}}.workers where id = {worker}")
    starter.background(starter.start, new_run("eager", eager_owner=worker))
    assert starter.waiting
    reaper("commit")
    [(_, key, owned)] = starter.answer()
    assert not owned
    assert reaper.run(key, "owner") is None


async def test_the_sweep_does_not_rob_a_worker_registered_since(store, player, worker, keys):
    """The owner of a locked row may be another one by the time that the sweep gets at it."""
    holder, reaper = player(), player()
    holder(f"update {{s}}.runs set owner = 999 where key = {keys[0]}")
    holder("begin")
    holder(f"update {{s}}.runs set owner = null where key = {keys[0]}")
    assert reaper.reap() == ([], 0, 0)
    holder("commit")
    young = (await store.register(WorkerInfo("carol", "here", 3), 3600)).worker
    holder(f"update {{s}}.runs set owner = {young} where key = {keys[0]}")
    assert reaper.reap() == ([], 0, 0)
    assert holder.run(keys[0], "owner") == young


def test_owners_without_a_lease_are_swept(player, worker, keys):
    one = player()
    one(f"update {{s}}.runs set owner = 900 + key where key = any('{{{keys[0]},{keys[1]}}}')")
    assert one.reap() == ([], 2, 0)
    assert one.run(keys[2], "owner") == worker


async def test_a_stopped_worker_holds_off_nobody_else_and_is_evicted_in_the_end(
    store, player, worker, rival, keys
):
    """A process stopped inside a transaction keeps its locks until the server ends its session."""
    stopped, other = player(), player()
    stopped("begin")
    stopped.append(worker, step(keys[0]))
    other.expire(worker)
    other.expire(rival)
    assert (await store.reap(event(0, "Blocked"), 3)).workers == [rival]
    other(
        f"update {{s}}.workers set ttl = 1, expires_at = now() - interval '3 s' where id = {worker}"
    )
    await store.reap(event(0, "Blocked"), 3)
    assert await store.leased() == []
    with pytest.raises(psycopg.OperationalError):
        stopped("commit")
    assert (await store.reap(event(0, "Blocked"), 3)).freed == 4
    assert all(other.run(key, "owner") is None for key in keys)


# -- claims


def test_a_claim_skips_what_a_rival_is_claiming(player, worker, rival, waiting):
    one, two = player(), player()
    with one.transaction():
        first = one.claim(worker, 2)
        assert len(first) == 2
        second = two.claim(rival, 10)
    assert sorted(first + second) == waiting
    assert all(one.run(key, "owner") == worker for key in first)


def test_a_claim_does_not_take_what_a_rival_has_just_taken(player, worker, rival, waiting):
    one, two = player(), player()
    one("begin")
    one(f"update {{s}}.runs set owner = {worker}, ready_at = null where key = {waiting[0]}")
    two.background(two.claim, rival)
    one("commit")
    assert waiting[0] not in two.answer()
    assert one.run(waiting[0], "owner") == worker


async def test_many_claimers_share_without_stealing(durable_postgres, store, worker, rival):
    """Candidates come from an older snapshot than the lock: only repeated conditions save them."""
    total = 300
    await store.start([new_run(f"many-{i}") for i in range(total)])
    lane = (await store.lanes([new_run("x").lane]))[new_run("x").lane]
    stores = [PostgresStorage(durable_postgres) for _ in range(6)]
    for one in stores:
        await one.open()

    async def drain(one: PostgresStorage, me: int) -> list[int]:
        mine: list[int] = []
        while len(mine) < total and (got := await one.claim(me, [lane], 7)):
            mine += [claim.key for claim in got]
        return mine

    parts = await asyncio.gather(
        *(drain(one, (worker, rival)[i % 2]) for i, one in enumerate(stores))
    )
    taken = [key for part in parts for key in part]
    for one in stores:
        await one.close()
    assert len(taken) == len(set(taken)) == total


# -- one statement, one row


async def test_a_parent_that_parks_and_the_child_that_reports_in_one_batch(
    store, player, worker, keys
):
    parent, child = keys[0], keys[1]
    batch = [park(parent), finish(child, messages=[report(parent)])]
    assert [a.code for a in await store.commit(worker, batch)] == [0, 0]
    row = player().run(parent, "seq", "inbox_head", "owner", "ready_at is not null")
    assert row == (2, 1, None, True)
    [message] = await store.inbox([(parent, 0)])
    assert (message.number, message.name) == (1, "child:1")


async def test_many_children_report_to_one_parent_in_order(store, worker, keys):
    parent, *children = keys
    batch = [finish(key, messages=[report(parent, f"child:{key}")]) for key in children]
    answers = await store.commit(worker, batch)
    assert [a.code for a in answers] == [0, 0, 0]
    found = await store.inbox([(parent, 0)])
    assert [(m.number, m.name) for m in found] == [
        (i + 1, f"child:{k}") for i, k in enumerate(children)
    ]


# -- parking and messages


def test_a_park_that_meets_a_message_under_way_is_put_off(player, worker, keys):
    sender, owner = player(), player()
    with sender.transaction():
        assert sender.deliver("run-0") == 1
        assert owner.commit(worker, park(keys[0]), park(keys[1])) == [Code.BUSY, Code.APPLIED]
    assert owner.run(keys[0], "owner", "seq") == (worker, 1)


def test_a_park_that_waits_for_a_message_sees_it(player, worker, keys):
    sender, owner = player(), player()
    sender("begin")
    sender.deliver("run-0")
    owner.background(owner.commit, worker, park(keys[0]), wait=True)
    assert owner.waiting
    sender("commit")
    assert owner.answer() == [Code.APPLIED]
    assert owner.run(keys[0], "owner", "inbox_head", "ready_at is not null") == (None, 1, True)


def test_messages_are_numbered_in_the_order_of_their_commits(player, keys):
    one, two = player(), player()
    one("begin")
    assert one.deliver("run-0") == 1
    two.background(two.deliver, "run-0")
    assert two.waiting
    one("rollback")
    assert two.answer() == 1, "a number that was rolled back leaves no hole"


def test_one_idempotency_key_from_two_senders_at_once(player, keys):
    one, two = player(), player()
    one("begin")
    assert one.deliver("run-0", key="k") == 1
    two.background(two.deliver, "run-0", key="k")
    assert two.waiting
    one("commit")
    assert two.answer() == 1
    assert one.run(keys[0], "inbox_head") == 1


def test_an_idempotency_key_whose_first_sender_rolls_back(player, keys):
    one, two = player(), player()
    one("begin")
    one.deliver("run-0", key="k")
    two.background(two.deliver, "run-0", key="k")
    one("rollback")
    assert two.answer() == 1
    assert one.run(keys[0], "inbox_head") == 1


# -- somebody else's open transaction


def test_messages_pass_by_a_locked_run_and_say_so(player, keys):
    user, sender = player(), player()
    with user.transaction():
        user.deliver("run-0")
        answers = sender.deliver_at_once("run-0", "run-1", "nobody", "run-0")
        assert answers == [(None, True), (1, False), (None, False), (None, True)]
    assert sender.deliver_at_once("run-1", "run-0") == [(1, False), (2, False)]


def test_a_run_that_got_its_id_from_one_that_was_locked_is_not_unknown(player, keys):
    """Whoever passes by an older run under restart must not take the id for nobody's."""
    starter, sender = player(), player()
    again = new_run("run-0")
    with starter.transaction():
        starter.restart(replace(again, started=replace(again.started, data=b"\x01new")))
        assert sender.deliver_at_once("run-0") == [(None, True)]
    assert sender.deliver_at_once("run-0") == [(1, False)]


async def test_a_message_that_waits_leaves_the_working_connection_alone(store, player, keys):
    user = player()
    letter = Delivery("run-0", "m", b"", "key")
    with user.transaction():
        user.deliver("run-0")
        [busy] = await store.deliver([letter])
        waiting = asyncio.ensure_future(store.deliver([letter], wait=True))
        while not user("select 1 from pg_locks where not granted"):
            assert await store.run("run-1")
        assert [busy, *await waiting] == [Delivered(None, busy=True)] * 2
    assert await store.deliver([letter], wait=True) == [Delivered(2)]
    assert await store.deliver([letter]) == [Delivered(2)]


async def test_a_client_that_closes_tells_whose_message_was_waiting(durable_postgres, player, keys):
    user, client = player(), Client(durable_postgres)
    await client.open()
    with user.transaction():
        user("select 1 from {s}.runs where id = 'run-0' for update")
        send = asyncio.ensure_future(client.send_event("run-0", "n"))
        while not client._post._held.tasks:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(DurableError, match="closed before"):
            await send
    assert user.mail(keys[0]) == []


@pytest.mark.parametrize(
    "verb", ["terminate", "pause", "restart", "answer", "publish", "subscribe"]
)
async def test_an_order_that_waits_leaves_the_working_connection_alone(
    store, player, worker, keys, verb
):
    user, watcher, end = player(), player(), event(0, "RunTerminated")
    user.commit(worker, park(keys[0], waits=waits()))
    user.publish("paid", key="other")
    paid = Publication("paid", "k", b"", 4_000_000_000_000_000)
    orders = {
        "terminate": lambda: store.terminate("run-0", end, b""),
        "pause": lambda: store.pause("run-0", end),
        "restart": lambda: store.restart(replace(new_run("run-0"), priority=1), end, b""),
        "answer": lambda: store.answer(Answer("run-0", 1, "~input:1:t", b"", "t", None, 1)),
        "publish": lambda: store.publish([paid]),
        "subscribe": lambda: store.subscribe([Subscription(keys[0], ["paid"], "other")]),
    }
    with user.transaction():
        user("select 1 from {s}.runs where id = 'run-0' for update")
        order = asyncio.ensure_future(orders[verb]())
        while not (seen := watcher(LOCK_WAITS)):
            await asyncio.sleep(0.01)
        assert await store.run("run-1")
        assert watcher(LOCK_WAITS) == seen, "a look at another run had to wait for the next try"
    await order


async def test_a_client_delivers_to_free_runs_while_another_is_locked(
    durable_postgres, player, keys
):
    """What goes to the locked one arrives when the lock is gone: once, and in its order."""
    user = player()
    async with Client(durable_postgres) as client, asyncio.timeout(10):
        with user.transaction():
            user("select 1 from {s}.runs where id = 'run-0' for update")
            late = [asyncio.ensure_future(client.send_event("run-0", f"n{n}")) for n in range(2)]
            await client.send_event("run-1", "n")
            many = [("run-0", "n2", None), ("run-2", "n", None), ("run-0", "n3", None)]
            late.append(asyncio.ensure_future(client.send_events(many)))
            while not user.mail(keys[2]):
                assert await client.storage.run("run-1")
            late.append(asyncio.ensure_future(client.cancel("run-0")))
            assert not any(send.done() for send in late)
        await asyncio.gather(*late)
    assert user.mail(keys[0]) == ["n0", "n1", "n2", "n3", "~cancel"]


def test_a_users_open_transaction_holds_up_one_run_and_no_other(player, worker, keys):
    user, owner = player(), player()
    with user.transaction():
        user.deliver("run-0")
        batch = [step(key) for key in keys]
        assert owner.append(worker, *batch) == [Code.BUSY, 0, 0, 0]


def test_a_run_whose_target_is_locked_is_put_off_whole(player, worker, keys):
    user, owner = player(), player()
    with user.transaction():
        user.deliver("run-0")
        batch = [finish(keys[1], messages=[report(keys[0])]), step(keys[2])]
        assert owner.commit(worker, *batch) == [Code.BUSY, Code.APPLIED]
    assert owner.run(keys[1], "seq", "status") == (1, "running")


async def test_a_child_whose_id_an_open_transaction_is_inserting(store, player, worker, keys):
    user = player()
    with user.transaction():
        user.start(new_run("kid"))
        child = new_run("kid", parent_key=keys[0], parent_cmd=1)
        batch = [step(keys[0], children=[child]), step(keys[1])]
        answers = await store.commit(worker, batch)
    assert [a.code for a in answers] == [Code.BUSY, Code.APPLIED]


async def test_a_start_waits_for_another_one_of_the_same_id_and_finds_it(store, player):
    user = player()
    user("begin")
    [(_, key, _)] = user.start(new_run("same"))
    asked = asyncio.ensure_future(store.start([new_run("same")]))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    user("commit")
    [found] = await asked
    assert (found.created, found.key) == (False, key)
    assert found.started == new_run("same").started


async def test_many_starts_of_one_id_make_one_run(durable_postgres, store, worker):
    stores = [PostgresStorage(durable_postgres) for _ in range(4)]
    for one in stores:
        await one.open()
    for round_ in range(10):
        run = new_run(f"one-{round_}", eager_owner=worker)
        answers = await asyncio.gather(*(one.start([run]) for one in stores))
        flat = [answer for [answer] in answers]
        assert sum(answer.created for answer in flat) == 1
        assert len({answer.key for answer in flat}) == 1
    for one in stores:
        await one.close()


# -- epochs


@pytest.mark.parametrize("verb", ["append", "append_or_end", "commit"])
def test_an_older_instance_of_the_same_worker_writes_nothing(player, worker, keys, verb):
    """Owner and seq are the same again after a pause and a resume; only the epoch tells."""
    one = player()
    one(f"update {{s}}.runs set owner = null, ready_at = now() where key = {keys[0]}")
    assert one.claim(worker) == [keys[0]]
    write = getattr(one, verb)
    assert write(worker, step(keys[0], epoch=1)) == [Code.LOST]
    assert one.run(keys[0], "seq") == 1
    assert write(worker, step(keys[0], epoch=2)) == [Code.APPLIED]


def test_a_repeated_commit_learns_how_long_its_history_is(player, worker, keys):
    one = player()
    assert one.append(worker, step(keys[0])) == [Code.APPLIED]
    assert one.append(worker, step(keys[0])) == [Code.OTHER_SEQ]
    assert one.commit(worker, step(keys[0])) == [Code.OTHER_SEQ]
    assert one("select count(*) from {s}.history where run_key = %s", [keys[0]]) == [(2,)]


# -- terminate against commit


def test_terminate_first_commit_second(player, worker, keys):
    killer, owner = player(), player()
    killer("begin")
    assert killer.terminate("run-0") == "terminated"
    owner.background(owner.commit, worker, finish(keys[0]), wait=True)
    assert owner.waiting
    killer("commit")
    assert owner.answer() == [Code.LOST]
    assert owner.run(keys[0], "status", "seq") == ("terminated", 2)


def test_commit_first_terminate_second(player, worker, keys):
    killer, owner = player(), player()
    owner("begin")
    assert owner.commit(worker, finish(keys[0])) == [Code.APPLIED]
    killer.background(killer.terminate, "run-0")
    assert killer.waiting
    owner("commit")
    assert killer.answer() == "completed"
    assert owner.run(keys[0], "status", "seq") == ("completed", 2)


def test_terminate_and_a_report_to_the_parent_do_not_deadlock(player, worker, keys):
    """Both lock parent and child, by ascending key."""
    parent, child = keys[0], keys[1]
    one, two = player(), player()
    one(f"update {{s}}.runs set parent_key = {parent}, parent_cmd = 1 where key = {child}")
    for _ in range(5):
        with one.transaction():
            one.commit(worker, step(parent, one.run(parent, "seq"), messages=[report(child)]))
            two.background(two.terminate, "run-1")
        two.answer()
        one(f"update {{s}}.runs set status='running', finished_at=null, owner={worker}, epoch=1 "
            f"where key = {child}")  # fmt: skip


# -- isolation


async def test_a_database_that_defaults_to_repeatable_read(durable_postgres, player, worker, keys):
    name = durable_postgres.rsplit("/", 1)[1]
    player()(f"alter database \"{name}\" set default_transaction_isolation = 'repeatable read'")
    store = PostgresStorage(durable_postgres)
    await store.open()
    rows = await store._committing.ask("show transaction_isolation")
    assert rows == [("read committed",)]
    assert [a.code for a in await store.commit(worker, [step(keys[0])])] == [Code.APPLIED]
    await store.close()
