"""What the store promises one caller at a time: clocks, wake-ups, holds, recoveries, children."""

from __future__ import annotations

import asyncio

import pytest

from durable.model.lifecycle import HOLD_BLOCKED
from durable.model.rows import (
    Act,
    Code,
    Commit,
    Delivery,
    Held,
    Lane,
    NewWait,
    OutMessage,
    Publication,
    RunFilter,
    WaitFilter,
    WaitKind,
    WorkerInfo,
)
from durable.storage.postgres import batches
from tests.storage.postgres.players import (
    CANCEL,
    LANE,
    SECOND,
    event,
    finish,
    new_run,
    park,
    report,
    step,
)

NOW = 1_800_000_000_123_457
END = event(0, "RunTerminated")
BLOCKED = event(0, "Blocked")


@pytest.fixture
async def clock(store):
    """The store's clock, to be set by hand."""
    now = [NOW]
    store.time = lambda: now[0]
    return now


@pytest.fixture
async def lane(store) -> int:
    return (await store.lanes([LANE]))[LANE]


async def test_times_keep_their_microseconds(store, clock, worker):
    times = [0, 1, 999_999, NOW, 4_102_444_800_000_001]
    run = new_run("exact", not_before=NOW + 7, deadline=NOW + 9)
    await store.start([run])
    [started] = await store.start([new_run("exact-2", eager_owner=worker)])
    events = [event(i + 2) for i in range(len(times))]
    given = [
        type(e)(e.seq, e.type, at, e.cmd, e.name, e.data)
        for e, at in zip(events, times, strict=True)
    ]
    await store.commit(worker, [Commit(started.key, 1, 1, given, 0)])
    assert (await store.load([(started.key, 1)]))[started.key] == given
    row = await store.run("exact")
    assert (row.created_at, row.wake_at) == (NOW, NOW + 7)
    assert await store.now() == NOW


@pytest.mark.parametrize("wide", [2**31 - 2, 2**32, 2**53 - 1000])
async def test_keys_and_numbers_are_wide_enough(store, player, wide):
    """Runs, workers, histories, messages, waits and publications beyond 2^31 and up to 2^53."""
    sql = player()
    for column in (
        "runs alter key",
        "workers alter id",
        "waits alter place",
        "publications alter n",
    ):
        sql(f"alter table {{s}}.{column} restart with {wide}")
    worker = (await store.register(WorkerInfo("wide", "here", 1), 3600)).worker
    runs = [new_run(f"wide-{n}", eager_owner=worker) for n in range(4)]
    kept, left, over, told = [run.key for run in await store.start(runs)]
    assert (worker, kept) == (wide, wide)
    sql("update {s}.runs set seq = %b, inbox_head = %b, consumed = %b", (wide, wide, wide))
    await store.deliver([Delivery("wide-3", "hello", b"")])
    child = new_run("wide-child", parent_key=left, parent_cmd=1)
    waiting = NewWait(1, WaitKind.EVENT, ("paid",), wide + 1, key="k")
    for batch in (
        [step(kept, wide, consumed=wide)],
        [step(kept, wide + 1, consumed=wide), finish(over, wide, consumed=wide)],
        [park(left, wide, consumed=wide, children=[child], messages=[report(told)])],
        [park(told, wide, consumed=wide + 2, waits=[waiting])],
    ):
        answers = await store.commit(worker, batch)
        assert [answer.code for answer in answers] == [Code.APPLIED] * len(batch)
        assert answers[0].seq in {wide + 1, wide + 2}
    assert await store.publish([Publication("paid", "k", b"", 2**52, "once")]) == [1]
    assert [row.number for row in await store.inbox([(told, wide)])] == [wide + 3]
    [row] = await store.waits(WaitFilter((WaitKind.EVENT,)))
    assert (row.run_id, row.place) == ("wide-3", wide)
    assert (await store.children(left, [1])) == {1: "wide-child"}
    assert await store.terminate("wide-0", END, CANCEL) == "terminated"


# -- ready_at


async def test_a_message_does_not_start_a_run_that_is_planned_for_later(store, clock, worker, lane):
    await store.start([new_run("later", not_before=NOW + 60 * SECOND)])
    await store.deliver([Delivery("later", "m", b"")])
    assert await store.claim(worker, [lane], 9) == []
    clock[0] += 60 * SECOND
    [claim] = await store.claim(worker, [lane], 9)
    assert (claim.inbox_head, claim.now) == (1, clock[0])


async def test_a_parked_run_wakes_at_its_time_or_by_a_message(store, clock, worker, keys, lane):
    await store.commit(worker, [park(keys[0], wake_at=NOW + 5), park(keys[1]), park(keys[2])])
    await store.deliver([Delivery("run-2", "m", b"")])
    assert [c.key for c in await store.claim(worker, [lane], 9)] == [keys[2]]
    clock[0] += 5
    assert [c.key for c in await store.claim(worker, [lane], 9)] == [keys[0]]


@pytest.mark.parametrize("full", [False, True])
async def test_every_commit_keeps_the_wake_up_of_an_unread_message(
    store, clock, worker, keys, full
):
    """Not only the one that parks: a cancel must not wait for the end of a long step."""
    await store.deliver([Delivery("run-0", "cancel", b"")])
    extra = {"messages": [OutMessage(keys[1], "m", b"")]} if full else {}
    await store.commit(worker, [step(keys[0], **extra)])
    assert keys[0] in [held.key for held in await store.owned(worker)]
    await store.commit(worker, [step(keys[0], 2, consumed=1, **extra)])
    assert keys[0] not in [held.key for held in await store.owned(worker)]


async def test_a_claim_whose_answer_was_lost_is_found_again(store, clock, worker, waiting, lane):
    claims = await store.claim(worker, [lane], 9)
    clock[0] += 10 * SECOND - 1
    assert await store.owned(worker) == []
    clock[0] += 1
    held = await store.owned(worker)
    assert sorted(h.key for h in held) == waiting
    adopted = await store.adopt(worker, [h.key for h in held])
    key = lambda claim: claim.key  # noqa: E731
    expected = [(c.key, c.id, c.epoch, c.seq) for c in sorted(claims, key=key)]
    assert [(a.key, a.id, a.epoch, a.seq) for a in adopted] == expected
    assert {a.now for a in adopted} == {clock[0]}
    await store.acknowledge(worker, held)
    assert await store.owned(worker) == []


async def test_an_acknowledgement_loses_no_message(store, clock, worker, keys):
    clock[0] += 10 * SECOND
    held = await store.owned(worker)
    assert len(held) == 4
    await store.deliver([Delivery("run-0", "m", b"")])
    await store.acknowledge(worker, [*held, Held(keys[1], 7, 1, 0, 0)])
    assert [h.key for h in await store.owned(worker)] == [keys[0]]


async def test_claims_go_by_priority_then_age(store, clock, worker, lane):
    for n, priority in enumerate([0, 5, 0, -3, 5]):
        clock[0] += 1
        await store.start([new_run(f"p{n}", priority=priority)])
    got = [c.id for _ in range(3) for c in await store.claim(worker, [lane], 2)]
    assert got == ["p1", "p4", "p0", "p2", "p3"]


# -- commit


async def test_consumed_messages_leave_the_inbox_when_the_run_parks(store, worker, keys):
    await store.deliver([Delivery("run-0", "m", b"%d" % n) for n in range(3)])
    await store.commit(worker, [step(keys[0], consumed=1)])
    await store.commit(worker, [park(keys[0], 2, consumed=2)])
    assert [m.number for m in await store.inbox([(keys[0], 0)])] == [3]


async def test_a_child_whose_id_is_taken_is_not_in_the_answer(store, worker, keys):
    await store.start([new_run("taken")])
    children = [
        new_run(i, parent_key=keys[0], parent_cmd=n) for n, i in enumerate(["kid", "taken", "kid"])
    ]
    [answer] = await store.commit(worker, [step(keys[0], children=children)])
    assert (answer.code, list(answer.children)) == (Code.APPLIED, ["kid"])
    assert (await store.run("kid")).parent_id == "run-0"
    assert (await store.run("taken")).parent_id is None
    assert len(await store.history("kid", 0, 9)) == 1


async def test_messages_to_the_finished_and_the_unknown_are_dropped(store, worker, keys):
    await store.commit(worker, [finish(keys[0])])
    mail = [OutMessage(keys[0], "m", b""), OutMessage(10**9, "m", b"")]
    [answer] = await store.commit(worker, [step(keys[1], messages=mail)])
    assert answer.code is Code.APPLIED
    assert await store.inbox([(keys[0], 0)]) == []


async def test_a_run_does_not_end_before_it_has_seen_a_control_message(store, player, worker, keys):
    await store.deliver([Delivery("run-0", "cancel", b"")])
    player()(f"update {{s}}.runs set control_head = 1 where key = {keys[0]}")
    [answer] = await store.commit(worker, [finish(keys[0])])
    assert (answer.code, answer.inbox_head) == (Code.UNSEEN, 1)
    [answer] = await store.commit(worker, [finish(keys[0], consumed=1)])
    assert answer.code is Code.APPLIED


def test_a_run_ends_alike_by_the_short_and_by_the_full_statement(player, worker, keys):
    one = player()
    one("update {s}.runs set hold = 2, blocked_by = 'old', waiting_for = 'x', lost_owner = 7")
    ended = ("seq", "consumed", "status", "owner", "epoch", "hold", "blocked_by", "waiting_for")
    columns = (*ended, "lost_owner", "ready_at", "inbox_head")
    assert one.append_or_end(worker, finish(keys[0]), step(keys[2])) == [Code.APPLIED] * 2
    assert one.commit(worker, finish(keys[1]), step(keys[3])) == [Code.APPLIED] * 2
    assert one.run(keys[0], *columns) == one.run(keys[1], *columns)
    assert one.run(keys[2], *columns) == one.run(keys[3], *columns)
    assert one("select count(*) from {s}.runs where finished_at is not null") == [(2,)]
    assert one("select count(*) from {s}.history") == [(8,)]


async def test_what_an_ending_run_took_leaves_its_inbox_and_what_others_took_stays(
    store, player, worker, keys
):
    one = player()
    for name in ("run-0", "run-1", "run-2"):
        await store.deliver([Delivery(name, "tick", b""), Delivery(name, "tick", b"")])
    batch = [finish(keys[0], consumed=2), step(keys[1], consumed=1), finish(keys[2], consumed=1)]
    assert one.append_or_end(worker, *batch) == [Code.APPLIED] * 3
    left = "select run_key, n from {s}.inbox order by run_key, n"
    assert one(left) == [(keys[1], 1), (keys[1], 2), (keys[2], 2)]


def test_what_the_short_statement_can_end():
    """Not a run that has something to tell or to start, nor one that ends in a new generation."""
    assert batches.only_ends([finish(1), step(2)])
    assert batches.only_ends([finish(1, consumed=1, ended_waits=[1])])
    assert not batches.only_ends([finish(1), step(2, ended_waits=[1])])
    assert not batches.only_ends([finish(1, first_seq=2)])
    assert not batches.only_ends([finish(1, messages=[report(2)])])
    assert not batches.only_ends([finish(1, children=[new_run("kid")])])
    assert not batches.only_ends([finish(1), park(2)])
    assert not batches.only_ends([finish(1), step(2, status="compensating")])


async def test_the_status_under_a_hold_stays(store, player, worker, keys, lane):
    one = player()
    await store.commit(worker, [step(keys[0], status="compensating")])
    held = {"act": Act.PARK, "status": "blocked", "hold": HOLD_BLOCKED, "blocked_by": "old"}
    await store.commit(worker, [step(keys[0], 2, **held), step(keys[1], **held)])
    assert await store.count(RunFilter()) == {"blocked": 2, "running": 2}
    assert [one.run(key, "status") for key in keys[:2]] == ["compensating", "waiting"]
    assert await store.claim(worker, [lane], 9) == []
    assert await store.unblock([lane], ["old"], event(0, "Unblocked")) == 0
    assert await store.unblock([lane + 1], ["new"], event(0, "Unblocked")) == 0
    assert await store.unblock([lane], ["new"], event(0, "Unblocked")) == 2
    assert [e.type for e in await store.history("run-0", 3, 9)] == [94]
    assert sorted(c.status for c in await store.claim(worker, [lane], 9)) == [
        "compensating",
        "running",
    ]


async def test_a_batch_answers_in_the_order_asked(store, worker, keys):
    batch = [step(keys[2]), step(10**9), step(keys[0], 9), step(keys[1], epoch=3), step(keys[3])]
    answers = await store.commit(worker, batch)
    assert [a.key for a in answers] == [c.key for c in batch]
    assert [a.code for a in answers] == [0, Code.LOST, Code.OTHER_SEQ, Code.LOST, 0]
    assert answers[2].seq == 1
    full = [finish(keys[3], 2), finish(10**9), finish(keys[0], 9)]
    assert [a.code for a in await store.commit(worker, full)] == [0, Code.LOST, Code.OTHER_SEQ]
    assert await store.commit(worker, []) == []


# -- recovery


async def test_runs_of_a_lost_worker_remember_it_until_something_is_written(
    store, player, worker, rival, keys, lane
):
    player().expire(worker)
    reaped = await store.reap(BLOCKED, 3)
    assert (list(reaped.workers), reaped.freed, reaped.blocked) == ([worker], 4, 0)
    claims = await store.claim(rival, [lane], 9)
    assert {(c.lost_owner, c.recoveries, c.epoch) for c in claims} == {(worker, 1, 2)}
    await store.commit(rival, [step(keys[0], epoch=2)])
    lost = {c.key: c.lost_owner for c in await store.adopt(rival, keys)}
    assert lost == {keys[0]: None, **dict.fromkeys(keys[1:], worker)}


async def test_a_run_that_kills_its_workers_is_blocked(store, player, worker, keys, lane):
    from durable.model.rows import WorkerInfo

    one = player()
    await store.reap(BLOCKED, 2, [worker])
    for _ in range(2):
        victim = (await store.register(WorkerInfo("v", "h", 1, code="bad"), 60)).worker
        assert len(await store.claim(victim, [lane], 9)) == 4
        reaped = await store.reap(BLOCKED, 2, [victim])
    assert (reaped.freed, reaped.blocked) == (0, 4)
    assert one.run(keys[0], "hold", "seq", "blocked_by") == (2, 2, "bad")
    assert [e.type for e in await store.history("run-0", 1, 9)] == [93]
    assert await store.unblock([lane], ["bad"], event(0, "Unblocked")) == 0
    assert await store.unblock([lane], ["good"], event(0, "Unblocked")) == 4


async def test_progress_forgives_recoveries(store, worker, keys, lane):
    from durable.model.rows import WorkerInfo

    owner, epoch, seq = worker, 1, 1
    for _ in range(5):
        await store.commit(owner, [step(key, seq, epoch) for key in keys])
        reaped = await store.reap(BLOCKED, 1, [owner])
        assert (reaped.freed, reaped.blocked) == (4, 0)
        owner = (await store.register(WorkerInfo("v", "h", 1), 60)).worker
        await store.claim(owner, [lane], 9)
        epoch, seq = epoch + 1, seq + 1


async def test_only_the_named_are_reaped_when_leases_are_not_to_be_judged(
    store, player, worker, rival
):
    player().expire(rival)
    assert list((await store.reap(BLOCKED, 3, [worker], expired=False)).workers) == [worker]
    assert [number for number, _ in await store.leased()] == [rival]
    assert (await store.worker_names())[worker] == "alice"


async def test_what_is_given_back_is_no_recovery(store, worker, rival, keys, lane):
    await store.unregister(worker)
    claims = await store.claim(rival, [lane], 9)
    assert {(c.lost_owner, c.recoveries) for c in claims} == {(None, 0)}
    assert store.renew(worker, 5) is None


# -- terminate and restart


async def test_terminate_tells_the_parent(store, worker, keys):
    child = new_run("kid", parent_key=keys[0], parent_cmd=42)
    await store.commit(worker, [step(keys[0], children=[child])])
    assert await store.terminate("kid", END, CANCEL) == "terminated"
    assert await store.terminate("kid", END, CANCEL) == "terminated"
    assert [m.name for m in await store.inbox([(keys[0], 0)])] == ["~child:42:5"]
    assert await store.terminate("nobody", END, CANCEL) is None


async def test_restart_renames_and_is_idempotent(store, worker, keys):
    again = new_run("run-0", tags={"round": "2"})
    different = type(again)("run-0", LANE, type(again.started)(1, 1, 8, None, "fulfil", b"\x01in"))
    first = await store.restart(different, END, CANCEL)
    second = await store.restart(different, END, CANCEL)
    assert (first.key, first.created, second.key, second.created) == (
        second.key,
        True,
        first.key,
        True,
    )
    assert (await store.run("run-0")).retried_from == "run-0~1"
    old = await store.run("run-0~1")
    assert (old.key, old.status, old.last.type) == (keys[0], "terminated", 5)
    await store.restart(again, END, CANCEL)
    assert (await store.run("run-0")).retried_from == "run-0~2"
    fresh = await store.restart(new_run("unheard-of"), END, CANCEL)
    assert fresh.created
    assert (await store.run("unheard-of")).retried_from is None


async def test_many_restarts_at_once_make_one_chain(store, worker, keys):
    runs = [
        type(r)(r.id, r.lane, type(r.started)(1, 1, 100 + n, None, "fulfil", b""))
        for n, r in enumerate([new_run("run-1")] * 4)
    ]
    await asyncio.gather(*(store.restart(run, END, CANCEL) for run in runs))
    found = await store.runs(RunFilter(id_prefix="run-1"))
    assert sorted(row.id for row in found) == ["run-1", "run-1~1", "run-1~2", "run-1~3", "run-1~4"]
    assert sum(row.finished_at is None for row in found) == 1


# -- reading


async def test_lists_filter_and_page(store, worker, keys):
    await store.start([new_run("a_b%c"), new_run("axb%c", tags={"k": "v"})])
    ids = lambda rows: [row.id for row in rows]  # noqa: E731
    assert ids(await store.runs(RunFilter(limit=2))) == ["axb%c", "a_b%c"]
    page = await store.runs(RunFilter(limit=2))
    rest = await store.runs(RunFilter(after=page[-1].key))
    assert ids(rest) == ["run-3", "run-2", "run-1", "run-0"]
    assert ids(await store.runs(RunFilter(id_prefix="a_"))) == ["a_b%c"]
    assert ids(await store.runs(RunFilter(tags={"k": "v"}))) == ["axb%c"]
    assert ids(await store.runs(RunFilter(status=["pending"], workflow="fulfil"))) == [
        "axb%c",
        "a_b%c",
    ]
    assert await store.count(RunFilter(limit=1)) == {"running": 4, "pending": 2}
    assert ids(await store.runs(RunFilter(queue="other"))) == []
    late = RunFilter(created_before=(await store.now()) - 3600 * SECOND)
    assert await store.runs(late) == []


async def test_results_of_many_waiters_in_one_query(store, worker, keys):
    await store.commit(worker, [finish(keys[0]), step(keys[1])])
    found = await store.finished(["run-0", "run-1", "nobody"])
    assert {name: (status, last.seq) for name, (status, last) in found.items()} == {
        "run-0": ("completed", 2)
    }
    row = await store.run("run-0")
    assert (row.first.type, row.last.seq, row.status) == (1, 2, "completed")
    assert await store.run("nobody") is None
    assert await store.history("nobody", 0, 5) is None


async def test_lanes_keep_their_numbers(store):
    lanes = [Lane("q", "w", version) for version in range(5)]
    store._lanes.clear()
    first = await store.lanes(lanes)
    store._lanes.clear()
    assert await store.lanes(lanes[::-1]) == first
    assert len(set(first.values())) == 5
