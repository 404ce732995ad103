from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from durable.model.lifecycle import HOLD_BLOCKED, HOLD_PAUSED
from durable.model.rows import Act, Code, Commit, RunFilter
from tests.storage.conformance.world import (
    CANCEL,
    LANE,
    TERMINATED,
    World,
    appending,
    ended,
    event,
    events,
    finishing,
    new,
    to,
)


async def test_a_commit_appends_its_events(world: World):
    """Numbered on from what was there; the answer tells the durable length."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    answer = await world.commit(worker, claim, 3)
    assert (answer.key, answer.code, answer.seq) == (claim.key, Code.APPLIED, 4)
    history = await world.store.history("r", 0, 10)
    assert history == [event(1, "RunStarted", b"\x01input"), *events(1, 3)]
    assert (await world.run("r")).last == history[-1]


async def test_an_empty_batch_is_no_work(world: World):
    assert await world.store.commit(await world.worker(), []) == []


async def test_every_run_of_a_batch_gets_its_own_answer(world: World):
    """In order; one that fails poisons nobody."""
    worker, other = await world.worker(), await world.worker()
    await world.store.start([new(f"r{n}") for n in range(6)])
    claims = await world.claim(worker)
    await world.store.unregister(worker)
    worker = await world.worker()
    mine = {claim.id: claim for claim in await world.claim(worker, 5)}
    (foreign,) = await world.claim(other)
    one, two, three, four, five = mine.values()
    assert len(claims) == 6
    await world.commit(worker, three)
    answers = await world.store.commit(
        worker,
        [
            appending(one),
            appending(foreign),
            appending(replace(two, epoch=two.epoch - 1)),
            appending(three),
            Commit(987654321, 1, 1, events(1, 1), 0),
            appending(four, 2),
            finishing(five),
        ],
    )
    assert [answer.code for answer in answers] == [
        Code.APPLIED,
        Code.LOST,
        Code.LOST,
        Code.OTHER_SEQ,
        Code.LOST,
        Code.APPLIED,
        Code.APPLIED,
    ]
    assert [answers[n].seq for n in (0, 3, 5, 6)] == [2, 2, 3, 2]
    for id, length in [(one.id, 2), (foreign.id, 1), (two.id, 1), (three.id, 2), (four.id, 3)]:
        assert len(await world.types(id)) == length


async def test_the_same_events_are_not_appended_twice(world: World):
    """A commit that is sent again after a lost answer finds the run longer: still mine, other length."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert (await world.commit(worker, claim, 2)).code is Code.APPLIED
    again = await world.commit(worker, claim, 2)
    assert (again.code, again.seq) == (Code.OTHER_SEQ, 3)
    grown = await world.commit(worker, claim, 5)
    assert (grown.code, grown.seq) == (Code.OTHER_SEQ, 3)
    rest = await world.commit(worker, replace(claim, seq=3), 3)
    assert (rest.code, rest.seq) == (Code.APPLIED, 6)


async def test_a_probe_tells_the_durable_length(world: World):
    """Of what is still mine; everything else is lost."""
    worker, other = await world.worker(), await world.worker()
    mine = await world.claimed(worker, "mine")
    older = await world.claimed(worker, "older")
    parked = await world.claimed(worker, "parked")
    theirs = await world.claimed(other, "theirs")
    await world.commit(worker, mine, 4)
    await world.park(worker, parked)
    keys = [theirs.key, mine.key, parked.key, older.key, 987654321]
    epochs = [theirs.epoch, mine.epoch, parked.epoch, older.epoch - 1, 1]
    answers = await world.store.probe(worker, keys, epochs)
    assert [answer.key for answer in answers] == keys
    assert [answer.code for answer in answers] == [
        Code.LOST,
        Code.OTHER_SEQ,
        Code.LOST,
        Code.LOST,
        Code.LOST,
    ]
    assert answers[1].seq == 5
    assert await world.store.probe(worker, [], []) == []


async def test_a_parked_run_sleeps_until_its_time(world: World):
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    answer = await world.park(worker, claim, wake_at=world.now.after(60), waiting_for="a timer")
    assert (answer.code, answer.seq) == (Code.APPLIED, 2)
    run = await world.run("r")
    assert (run.status, run.waiting_for, run.wake_at) == ("waiting", "a timer", world.now.after(60))
    assert (await world.commit(worker, replace(claim, seq=2))).code is Code.LOST
    world.now.passes(59)
    assert await world.claim(worker) == []
    world.now.passes(1)
    (again,) = await world.claim(worker)
    assert (again.key, again.seq) == (claim.key, 2)
    run = await world.run("r")
    assert (run.status, run.waiting_for) == ("running", None)


async def test_a_run_that_parks_without_a_time_waits_for_a_message(world: World):
    worker = await world.worker(ttl=10**6)
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim)
    world.now.passes(10**5)
    assert await world.claim(worker) == []
    assert (await world.run("r")).wake_at is None
    await world.deliver("r")
    (again,) = await world.claim(worker)
    assert again.inbox_head == 1


async def test_a_finished_run_is_finished(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert await world.store.finished(["r"]) == {}
    await world.finish(worker, claim)
    status, last = (await world.store.finished(["r"]))["r"]
    assert (status, last) == ("completed", event(2, "RunCompleted", b"\x01result"))
    run = await world.run("r")
    assert (run.status, run.finished_at, run.last, run.wake_at) == (
        "completed",
        world.now(),
        last,
        None,
    )
    world.now.passes(100)
    assert await world.claim(await world.worker()) == []
    assert (await world.commit(worker, replace(claim, seq=2))).code is Code.LOST


async def test_a_batch_may_start_children(world: World):
    """With the events that say so: a child exists if and only if its parent's history knows it."""
    worker = await world.worker()
    claim = await world.claimed(worker, "parent")
    children = [new("a", parent_key=claim.key, parent_cmd=2), new("b", LANE, parent_key=claim.key)]
    stale = replace(claim, seq=7)
    assert (await world.commit(worker, stale, children=children)).code is Code.OTHER_SEQ
    assert await world.store.run("a") is None
    answer = await world.commit(worker, claim, children=children)
    assert (answer.code, sorted(answer.children)) == (Code.APPLIED, ["a", "b"])
    child = await world.run("a")
    assert (child.parent_id, child.status, child.seq) == ("parent", "pending", 1)
    assert child.first == event(1, "RunStarted", b"\x01input")
    assert sorted(claim.id for claim in await world.claim(worker)) == ["a", "b"]


async def test_a_child_whose_id_is_taken_is_not_started(world: World):
    """The answer names the ones that were; the other run is left alone."""
    worker = await world.worker()
    await world.start("taken", data=b"\x01mine")
    claims = {claim.id: claim for claim in await world.claim(worker)}
    parent = await world.claimed(worker, "parent")
    answer = await world.commit(
        worker, parent, children=[new("taken", parent_key=parent.key), new("free")]
    )
    assert (answer.code, list(answer.children)) == (Code.APPLIED, ["free"])
    run = await world.run("taken")
    assert (run.parent_id, run.key) == (None, claims["taken"].key)
    assert run.first == event(1, "RunStarted", b"\x01mine")


async def test_a_child_may_be_scheduled_for_later(world: World):
    worker = await world.worker(ttl=1000)
    parent = await world.claimed(worker, "parent")
    await world.commit(worker, parent, children=[new("child", not_before=world.now.after(60))])
    assert await world.claim(worker) == []
    world.now.passes(60)
    assert [claim.id for claim in await world.claim(worker)] == ["child"]


async def test_a_report_wakes_the_parent(world: World):
    """It comes with the child's last event, or not at all."""
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.commit(
        worker, parent, act=Act.PARK, children=[new("child", parent_key=parent.key, parent_cmd=2)]
    )
    (child,) = await world.claim(worker)
    lost = replace(child, epoch=child.epoch + 1)
    (answer,) = await world.store.commit(worker, [finishing(lost, messages=to(parent.key))])
    assert answer.code is Code.LOST
    assert await world.mail(parent.key) == []
    await world.finish(worker, child, messages=to(parent.key, "child:2"))
    assert await world.mail(parent.key) == [(1, "child:2")]
    (woken,) = await world.claim(worker)
    assert (woken.id, woken.inbox_head) == ("parent", 1)


@pytest.mark.parametrize("parent_first", [True, False])
async def test_a_parent_that_parks_while_its_child_reports_is_ready(
    world: World, parent_first: bool
):
    """In one batch, in either order: the wake-up is not lost."""
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.commit(worker, parent, children=[new("child", parent_key=parent.key)])
    (child,) = await world.claim(worker)
    batch = [
        appending(replace(parent, seq=2), act=Act.PARK, status="waiting"),
        finishing(child, messages=to(parent.key)),
    ]
    answers = await world.store.commit(worker, batch if parent_first else batch[::-1])
    assert [answer.code for answer in answers] == [Code.APPLIED, Code.APPLIED]
    (again,) = await world.claim(worker)
    assert (again.id, again.seq, again.inbox_head) == ("parent", 3, 1)


async def test_many_children_report_to_one_parent_in_one_batch(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    ids = [f"c{n:02}" for n in range(30)]
    await world.commit(worker, parent, act=Act.PARK, children=[new(id) for id in ids])
    claims = await world.claim(worker)
    batch = [finishing(claim, messages=to(parent.key, claim.id)) for claim in claims]
    answers = await world.store.commit(worker, batch)
    assert {answer.code for answer in answers} == {Code.APPLIED}
    assert await world.mail(parent.key) == [(n + 1, claim.id) for n, claim in enumerate(claims)]


async def test_a_message_to_a_run_that_has_ended_is_dropped(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    child = await world.claimed(worker, "child")
    await world.finish(worker, parent)
    await world.finish(worker, child, messages=[*to(parent.key), *to(987654321)])
    assert await world.mail(parent.key) == []
    assert (await world.run("parent")).status == "completed"


async def test_a_run_may_write_to_itself_and_to_its_neighbours(world: World):
    worker = await world.worker(ttl=1000)
    one, two = await world.claimed(worker, "one"), await world.claimed(worker, "two")
    answers = await world.store.commit(
        worker,
        [
            appending(one, messages=[*to(two.key, "a"), *to(one.key, "b")]),
            appending(two, messages=to(one.key, "c")),
        ],
    )
    assert [(answer.code, answer.inbox_head) for answer in answers] == [
        (Code.APPLIED, 2),
        (Code.APPLIED, 1),
    ]
    assert await world.mail(one.key) == [(1, "b"), (2, "c")]
    assert await world.mail(two.key) == [(1, "a")]
    assert {held.key for held in await world.store.owned(worker)} == {one.key, two.key}


@pytest.mark.parametrize("hold,status", [(HOLD_PAUSED, "paused"), (HOLD_BLOCKED, "blocked")])
async def test_a_held_run_is_not_claimed(world: World, hold: int, status: str):
    """Whatever arrives; readers see the hold instead of the status."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, wake_at=world.now(), hold=hold, blocked_by="code-1")
    await world.deliver("r")
    assert await world.claim(worker) == []
    assert (await world.run("r")).status == status
    assert await world.store.count(RunFilter()) == {status: 1}


async def test_terminate_before_a_commit(world: World):
    """One winner, and both learn it."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert await world.store.terminate("r", TERMINATED, CANCEL) == "terminated"
    answer = (await world.store.commit(worker, [finishing(claim)]))[0]
    assert answer.code is Code.LOST
    assert (await world.run("r")).status == "terminated"
    (probed,) = await world.store.probe(worker, [claim.key], [claim.epoch])
    assert probed.code is Code.LOST
    history = await world.store.history("r", 0, 10)
    assert history is not None
    assert [row.seq for row in history] == [1, 2]
    assert history[1] == replace(TERMINATED, seq=2, cmd=None)


async def test_terminate_after_a_commit(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.finish(worker, claim)
    assert await world.store.terminate("r", TERMINATED, CANCEL) == "completed"
    assert await world.store.terminate("unknown", TERMINATED, CANCEL) is None
    assert len(await world.types("r")) == 2


async def test_terminate_and_commit_at_once(worlds: Callable[[int], list[World]]):
    """In whatever order they come: one end, one last event."""
    here, there = worlds(2)
    worker = await here.worker()
    for n in range(20):
        id = f"r{n}"
        claim = await here.claimed(worker, id)
        (answers, status) = await asyncio.gather(
            here.store.commit(worker, [finishing(claim)], wait=True),
            there.store.terminate(id, TERMINATED, CANCEL),
        )
        assert len(await here.types(id)) == 2
        expected = "completed" if answers[0].code is Code.APPLIED else "terminated"
        assert status == expected == (await here.run(id)).status


async def test_terminate_tells_the_parent(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.park(worker, parent)
    await world.start("child", parent_key=parent.key, parent_cmd=4)
    await world.store.terminate("child", TERMINATED, CANCEL)
    (message,) = await world.store.inbox([(parent.key, 0)])
    assert (message.number, message.name, message.data) == (1, ended(4), TERMINATED.data)
    assert [claim.id for claim in await world.claim(worker)] == ["parent"]


async def test_terminate_ends_a_held_run(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, hold=HOLD_BLOCKED, blocked_by="code-1")
    assert await world.store.terminate("r", TERMINATED, CANCEL) == "terminated"
    assert (await world.run("r")).status == "terminated"


async def test_a_run_whose_rows_the_database_refuses_is_poisoned(world: World):
    """It alone; the others of the batch are committed."""
    worker = await world.worker()
    await world.store.start([new(f"r{n}") for n in range(5)])
    claims = await world.claim(worker)
    batch = [appending(claim) for claim in claims]
    batch[2] = replace(batch[2], events=[replace(batch[2].events[0], name="nul\0")])
    answers = await world.store.commit(worker, batch)
    codes = [answer.code for answer in answers]
    assert codes == [Code.APPLIED, Code.APPLIED, Code.POISONED, Code.APPLIED, Code.APPLIED]
    assert [len(await world.types(claim.id)) for claim in claims] == [2, 2, 1, 2, 2]
    assert (await world.commit(worker, claims[2])).code is Code.APPLIED


async def test_numbers_are_wide_enough(world: World):
    """Sequence numbers, times and messages beyond 32 bits, up to 2^53."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    last = replace(event(2), at=2**53, cmd=2**31 - 1)
    (answer,) = await world.store.commit(
        worker, [Commit(claim.key, claim.epoch, 1, [last], 0, Act.PARK, wake_at=2**52)]
    )
    assert answer.code is Code.APPLIED
    run = await world.run("r")
    assert (run.last, run.wake_at) == (last, 2**52)
