"""Ends, answers and publications at the worst moment: who waits, who wins, and that nothing is missed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from durable.model.rows import Code, Subscription
from tests.storage.postgres.players import (
    CANCEL,
    event,
    finish,
    new_run,
    park,
    report,
    step,
    waits,
)

CHILD_ENDED = "~child:{}:5"
PUBLISHED = "~published:{}:1:kpaid"

# -- a publication against a wait that is committed at the same time


def test_who_looks_after_a_wait_waits_for_a_publication_under_way(player, worker, keys):
    """The publisher did not see the wait, so whoever looks must see the publication."""
    publisher, owner = player(), player()
    publisher("begin")
    assert publisher.publish("paid") == [0]
    assert owner.commit(worker, park(keys[0], waits=waits())) == [Code.APPLIED]
    owner.background(owner.subscribe, keys[0], "paid")
    assert owner.waiting
    publisher("commit")
    owner.answer()
    assert owner.mail(keys[0]) == [PUBLISHED.format(1)]
    assert owner.run(keys[0], "ready_at is not null")


def test_a_publisher_waits_for_who_looks_and_then_sees_the_wait(player, worker, keys):
    """Both may find each other: the run gets it once."""
    publisher, owner = player(), player()
    assert owner.commit(worker, park(keys[0], waits=waits())) == [Code.APPLIED]
    owner("begin")
    owner.subscribe(keys[0], "paid")
    publisher.background(publisher.publish, "paid")
    assert publisher.waiting
    owner("commit")
    assert publisher.answer() == [1]
    owner.subscribe(keys[0], "paid")
    assert owner.mail(keys[0]) == [PUBLISHED.format(1)]


def test_a_wait_that_is_not_committed_yet_is_found_by_its_own_look(player, worker, keys):
    publisher, owner = player(), player()
    owner("begin")
    assert owner.commit(worker, park(keys[0], waits=waits())) == [Code.APPLIED]
    assert publisher.publish("paid") == [0]
    owner("commit")
    owner.subscribe(keys[0], "paid")
    assert owner.mail(keys[0]) == [PUBLISHED.format(1)]


def test_a_wait_that_ends_before_the_publisher_has_its_run_gets_nothing(player, worker, keys):
    publisher, owner = player(), player()
    owner.commit(worker, step(keys[0], waits=waits()))
    owner("begin")
    assert owner.commit(worker, step(keys[0], 2, ended_waits=[1])) == [Code.APPLIED]
    publisher.background(publisher.publish, "paid")
    assert publisher.waiting
    owner("commit")
    assert publisher.answer() == [0]
    assert owner.mail(keys[0]) == []


def test_publications_are_numbered_in_the_order_of_their_commits(player, worker, keys):
    one, two = player(), player()
    one("begin")
    assert one.publish("paid") == [0]
    two.background(two.publish, "paid")
    assert two.waiting
    one("commit")
    two.answer()
    rows = one("select n, xmin::text::bigint from {s}.publications order by n")
    assert [n for n, _ in rows] == [1, 2]
    assert rows[0][1] < rows[1][1]


def test_publishers_of_several_topics_do_not_deadlock(player, worker, keys):
    """Topics are taken in one order, whatever order they are given in."""
    one, two = player(), player()
    for _ in range(5):
        one("begin")
        one.publish("paid", "refused")
        two.background(two.publish, "refused", "paid")
        assert two.waiting
        one("commit")
        two.answer()
    assert one("select count(*) from {s}.topics") == [(0,)]


def test_a_commit_passes_a_run_that_a_publisher_holds(player, worker, keys):
    """It is put off, alone; nobody waits in a circle."""
    publisher, owner = player(), player()
    owner.commit(worker, step(keys[0], waits=waits()))
    publisher("begin")
    assert publisher.publish("paid") == [1]
    batch = [step(keys[0], 2), step(keys[1])]
    assert owner.append(worker, *batch) == [Code.BUSY, Code.APPLIED]
    publisher("commit")
    assert owner.append(worker, batch[0]) == [Code.APPLIED]


async def test_many_publish_while_many_wait(store, player, worker):
    """Every run gets every publication of its key exactly once, whoever was first."""
    runs = await store.start([new_run(f"r{n}", eager_owner=worker) for n in range(60)])

    async def owner() -> None:
        for n, run in enumerate(runs):
            await store.commit(worker, [park(run.key, waits=waits(key=f"k{n % 3}"))], wait=True)
            await store.subscribe([Subscription(run.key, ["paid"], f"k{n % 3}")])

    publishers = [player() for _ in range(3)]
    posts = [
        asyncio.to_thread(lambda p=p: [p.publish("paid", key=f"k{n % 3}") for n in range(30)])
        for p in publishers
    ]
    await asyncio.gather(owner(), *posts)
    for run in runs:
        mail = publishers[0].mail(run.key)
        assert len(mail) == len(set(mail)) == 30


# -- answers


def test_the_second_answer_waits_for_the_first_and_learns_of_it(player, worker, keys):
    one, two = player(), player()
    one.commit(worker, park(keys[0], waits=waits(key=None)))
    one("begin")
    assert one.answer_question("run-0", "ada") == (True, False, None)
    two.background(two.answer_question, "run-0", "bob")
    assert two.waiting
    one("commit")
    assert two.answer() == (False, True, "ada")
    assert one.mail(keys[0]) == ["~input:1:ada"]


def test_an_answer_that_was_rolled_back_leaves_the_question_open(player, worker, keys):
    one, two = player(), player()
    one.commit(worker, park(keys[0], waits=waits(key=None)))
    one("begin")
    assert one.answer_question("run-0", "ada") == (True, False, None)
    two.background(two.answer_question, "run-0", "bob")
    one("rollback")
    assert two.answer() == (True, False, None)


def test_an_answer_that_comes_while_the_wait_ends_is_refused(player, worker, keys):
    one, owner = player(), player()
    owner.commit(worker, step(keys[0], waits=waits(key=None)))
    owner("begin")
    owner.commit(worker, step(keys[0], 2, ended_waits=[1]))
    one.background(one.answer_question, "run-0", "ada")
    assert one.waiting
    owner("commit")
    assert one.answer() == (False, False, None)


# -- control messages against the end


def test_a_finish_is_put_off_by_a_control_message_under_way_and_then_refused(player, worker, keys):
    sender, owner = player(), player()
    sender("begin")
    assert sender.deliver("run-0", "~cancel", control=True) == 1
    assert owner.commit(worker, finish(keys[0])) == [Code.BUSY]
    owner.background(owner.commit, worker, finish(keys[0]), wait=True)
    assert owner.waiting
    sender("commit")
    assert owner.answer() == [Code.UNSEEN]
    assert owner.run(keys[0], "seq", "status") == (1, "running")
    assert owner.commit(worker, finish(keys[0], consumed=1)) == [Code.APPLIED]


def test_a_control_message_that_comes_after_the_end_is_told_so(player, worker, keys):
    sender, owner = player(), player()
    owner("begin")
    assert owner.commit(worker, finish(keys[0])) == [Code.APPLIED]
    sender.background(sender.deliver, "run-0", "~cancel", control=True)
    assert sender.waiting
    owner("commit")
    assert sender.answer() is None


# -- a restart


@pytest.mark.parametrize("verb", ["deliver", "terminate"])
def test_who_waits_for_a_restart_reaches_the_new_run(player, worker, keys, verb):
    """It has the id now; the older one goes by another."""
    starter, other = player(), player()
    starter("begin")
    again = new_run("run-0")
    fresh = starter.restart(replace(again, started=replace(again.started, data=b"\x01new")))
    assert fresh not in keys
    other.background(getattr(other, verb), "run-0")
    assert other.waiting
    starter("commit")
    assert other.answer() == (1 if verb == "deliver" else "terminated")
    assert other.run(fresh, "inbox_head" if verb == "deliver" else "seq") == 1 + (verb != "deliver")


# -- the end of a parent against its child


@pytest.mark.parametrize("wait", [False, True])
def test_a_parent_is_terminated_while_its_child_finishes(player, worker, keys, wait):
    """Both need both rows, and take them in one order: somebody waits, nobody deadlocks."""
    parent, child = keys[0], keys[1]
    killer, owner = player(), player()
    killer(f"update {{s}}.runs set parent_key = {parent}, parent_cmd = 1 where key = {child}")
    killer("begin")
    assert killer.terminate("run-0") == "terminated"
    done = finish(child, messages=[report(parent, "~child:1:2")])
    if not wait:
        assert owner.commit(worker, done) == [Code.BUSY]
        killer("commit")
        assert owner.commit(worker, done) == [Code.BUSY]  # it has to read its cancel
    else:
        owner.background(owner.commit, worker, done, wait=True)
        assert owner.waiting
        killer("commit")
        assert owner.answer() == [Code.BUSY]
    assert owner.mail(child) == ["~cancel"]
    assert owner.commit(worker, finish(child, consumed=1)) == [Code.APPLIED]


def test_a_child_finishes_while_its_parent_is_terminated(player, worker, keys):
    parent, child = keys[1], keys[0]
    killer, owner = player(), player()
    killer(f"update {{s}}.runs set parent_key = {parent}, parent_cmd = 1 where key = {child}")
    owner("begin")
    done = finish(child, messages=[report(parent, "~child:1:2")])
    assert owner.commit(worker, done) == [Code.APPLIED]
    killer.background(killer.terminate, "run-1")
    assert killer.waiting
    owner("commit")
    assert killer.answer() == "terminated"
    assert owner.mail(parent) == ["~child:1:2"]
    assert owner.mail(child) == []


def test_a_child_that_is_born_while_its_parent_is_terminated_is_cancelled(player, worker, keys):
    """The list of those concerned is read again under the parent's lock."""
    killer, owner = player(), player()
    owner("begin")
    kid = new_run("kid", parent_key=keys[0], parent_cmd=1)
    assert owner.commit(worker, step(keys[0], children=[kid])) == [Code.APPLIED]
    killer.background(killer.terminate, "run-0")
    assert killer.waiting
    owner("commit")
    assert killer.answer() == "terminated"
    [(key,)] = owner("select key from {s}.runs where id = 'kid'")
    assert owner.mail(key) == ["~cancel"]


def test_a_follower_that_comes_while_a_run_is_terminated_hears_of_it(player, worker, keys):
    """Although its row comes before the run's own in the order of locks."""
    killer, follower = player(), player()
    follower("begin")
    assert follower.deliver("run-3", f"~follow:{keys[0]}:7", control=True) == 1
    killer.background(killer.terminate, "run-3")
    assert killer.waiting
    follower("commit")
    assert killer.answer() == "terminated"
    assert killer.mail(keys[0]) == [CHILD_ENDED.format(7)]


async def test_families_end_in_all_directions_at_once(store, worker, keys):
    """Parents and children are terminated, finish and follow each other: no deadlock, no error."""
    parent = keys[2]
    for turn in range(6):
        kids = [
            new_run(f"kid-{turn}-{n}", parent_key=parent, parent_cmd=n, eager_owner=worker)
            for n in range(8)
        ]
        born = await store.start([*kids, new_run(f"next-{turn}", eager_owner=worker)])
        *children, following = [run.key for run in born]
        ends = [
            store.commit(worker, [finish(key, messages=[report(parent, "~child:1:2")])], wait=True)
            for key in children[:4]
        ]
        stops = [
            store.terminate(f"kid-{turn}-{n}", event(0, "RunTerminated"), CANCEL)
            for n in range(2, 8)
        ]
        whole = store.terminate(
            "run-2" if not turn else f"next-{turn - 1}", event(0, "RunTerminated"), CANCEL
        )
        await asyncio.gather(*ends, whole, *stops)
        parent = following
    rows = await store.finished([f"kid-5-{n}" for n in range(4, 8)])
    assert {status for status, _ in rows.values()} == {"terminated"}
    assert len(rows) == 4
