"""The end of a run and whom it concerns; children; holds."""

from __future__ import annotations

from dataclasses import replace

from durable.model.history import CODES
from durable.model.messages import CANCEL as CANCELLED
from durable.model.messages import PAUSE, RESUME, follow_message
from durable.model.rows import Act, Code, Commit, NewWait, RunFilter, WaitFilter, WaitKind
from durable.model.wire import EventRow
from tests.storage.conformance.world import (
    CANCEL,
    START,
    TERMINATED,
    World,
    appending,
    ended,
    event,
    finishing,
    new,
)

PAUSED = replace(event(0, "Paused", b"\x01\x90"), cmd=None)
RESUMED = replace(event(0, "Resumed", b"\x01\x90"), cmd=None)
BLOCK = {"hold": 2, "blocked_by": "code-1"}
INPUTS = WaitFilter((WaitKind.INPUT,))


async def families(world: World, worker: int) -> tuple[int, dict[str, int]]:
    """A parent with an open, an abandoned, an owned and a finished child."""
    parent = await world.claimed(worker, "parent")
    kids = [
        new(id, parent_key=parent.key, parent_cmd=n, abandoned=id == "abandoned")
        for n, id in enumerate(["open", "abandoned", "owned", "finished"], 1)
    ]
    await world.commit(worker, parent, children=kids)
    claims = {claim.id: claim for claim in await world.claim(worker)}
    await world.finish(worker, claims["finished"])
    await world.park(worker, claims["open"])
    return parent.key, {id: claim.key for id, claim in claims.items()}


# -- children


async def test_children_are_found_by_their_parents_commands(world: World):
    worker = await world.worker()
    parent, _ = await families(world, worker)
    assert await world.store.children(parent, [1, 2, 4, 9]) == {
        1: "open",
        2: "abandoned",
        4: "finished",
    }
    assert await world.store.children(parent, []) == {}
    assert await world.store.children(999, [1]) == {}


async def test_a_parents_children_can_be_listed(world: World):
    worker = await world.worker()
    await families(world, worker)
    await world.start("stranger")
    rows = await world.store.runs(RunFilter(parent_id="parent"))
    assert {row.id for row in rows} == {"open", "abandoned", "owned", "finished"}
    assert {row.parent_id for row in rows} == {"parent"}
    assert await world.store.runs(RunFilter(parent_id="nobody")) == []
    assert await world.store.count(RunFilter(parent_id="parent", status=["waiting"])) == {
        "waiting": 1
    }


# -- terminate


async def test_terminate_cancels_open_children_that_are_not_abandoned(world: World):
    """They get a control message with the data given, and are due at once."""
    worker = await world.worker()
    _, keys = await families(world, worker)
    assert await world.store.terminate("parent", TERMINATED, CANCEL) == "terminated"
    assert await world.mail(keys["open"]) == [(1, CANCELLED)]
    assert await world.mail(keys["owned"]) == [(1, CANCELLED)]
    assert await world.mail(keys["abandoned"]) == []
    assert await world.mail(keys["finished"]) == []
    (message,) = await world.store.inbox([(keys["open"], 0)])
    assert message.data == CANCEL
    (claim,) = await world.claim(worker)
    assert claim.id == "open"
    (answer,) = await world.store.commit(worker, [finishing(claim)])
    assert (answer.code, answer.inbox_head) == (Code.UNSEEN, 1)


async def test_terminate_tells_followers_that_the_run_has_read_of_and_others(world: World):
    """Each of their commands once, with the event's data; those that have ended or never were are left out."""
    worker = await world.worker()
    claims = {id: await world.claimed(worker, id) for id in ("r", "early", "late", "over")}
    run, early, late = (claims[id].key for id in ("r", "early", "late"))
    names = [f"{early}:3", f"{early}:4", f"{claims['over'].key}:1", "123456:1", "strange"]
    rows = [
        EventRow(n, CODES["FollowerAdded"], START, None, name, b"\x01\x90")
        for n, name in enumerate(names, 2)
    ]
    await world.store.commit(worker, [Commit(run, 1, 1, rows, 0)])
    await world.deliver("r", follow_message(late, 7))
    await world.deliver("r", follow_message(early, 3))  # once more, not read yet
    await world.finish(worker, claims["over"])
    await world.store.terminate("r", TERMINATED, CANCEL)
    assert await world.mail(early) == [(1, ended(3)), (2, ended(4))]
    (message,) = await world.store.inbox([(late, 0)])
    assert (message.name, message.data) == (ended(7), TERMINATED.data)


async def test_a_parent_that_also_follows_hears_of_both_commands(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.start("kid", parent_key=parent.key, parent_cmd=1)
    await world.deliver("kid", follow_message(parent.key, 2))
    await world.deliver("kid", follow_message(parent.key, 1))
    await world.store.terminate("kid", TERMINATED, CANCEL)
    assert await world.mail(parent.key) == [(1, ended(1)), (2, ended(2))]


async def test_a_second_terminate_tells_nobody_again(world: World):
    worker = await world.worker()
    _, keys = await families(world, worker)
    for _ in range(2):
        await world.store.terminate("parent", TERMINATED, CANCEL)
    assert await world.mail(keys["open"]) == [(1, CANCELLED)]


async def test_terminate_of_a_parent_of_many(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    kids = [new(f"kid-{n}", parent_key=parent.key, parent_cmd=n) for n in range(1, 1201)]
    await world.commit(worker, parent, children=kids)
    await world.store.terminate("parent", TERMINATED, CANCEL)
    row = await world.run("kid-1200")
    assert await world.mail(row.key) == [(1, CANCELLED)]
    claims = await world.claim(worker, 2000)
    assert {claim.inbox_head for claim in claims} == {1}
    assert len(claims) == 1200


async def test_a_restart_ends_the_older_run_as_terminate_does(world: World):
    worker = await world.worker()
    _, keys = await families(world, worker)
    await world.store.restart(new("parent", data=b"\x01new"), TERMINATED, CANCEL)
    assert await world.mail(keys["open"]) == [(1, CANCELLED)]
    assert await world.mail(keys["abandoned"]) == []
    assert (await world.run("open")).parent_id == "parent~1"


async def test_a_scheduled_child_hears_of_it_but_does_not_come_before_its_time(world: World):
    worker = await world.worker(ttl=1000)
    parent = await world.claimed(worker, "parent")
    kid = new("kid", parent_key=parent.key, parent_cmd=1, not_before=world.now.after(60))
    await world.commit(worker, parent, children=(kid,))
    await world.store.terminate("parent", TERMINATED, CANCEL)
    assert await world.claim(worker) == []
    world.now.passes(60)
    assert [claim.inbox_head for claim in await world.claim(worker)] == [1]


# -- holds


async def test_a_run_that_nobody_owns_is_held_at_once(world: World):
    """It is shown as paused, its history says so, and nothing makes it claimable but `resume`."""
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, wake_at=world.now.after(5))
    assert await world.store.pause("r", PAUSED) == "paused"
    row = await world.run("r")
    assert (row.status, row.seq) == ("paused", 3)
    assert row.last == replace(PAUSED, seq=3)
    await world.deliver("r")
    world.now.passes(60)
    assert await world.claim(worker) == []
    assert await world.store.pause("r", PAUSED) == "paused"
    assert (await world.run("r")).seq == 3
    assert await world.store.resume("r", RESUMED) == "waiting"
    (again,) = await world.claim(worker)
    assert (again.seq, again.inbox_head, again.epoch) == (4, 1, 2)
    assert (await world.types("r"))[2:] == [CODES["Paused"], CODES["Resumed"]]


async def test_a_run_that_has_not_begun_can_be_held(world: World):
    """And keeps the time it is planned for."""
    worker = await world.worker(ttl=1000)
    await world.start("r", not_before=world.now.after(30))
    assert await world.store.pause("r", PAUSED) == "paused"
    assert await world.store.resume("r", RESUMED) == "pending"
    assert await world.claim(worker) == []
    world.now.passes(30)
    assert [claim.id for claim in await world.claim(worker)] == ["r"]


async def test_a_run_that_is_owned_is_asked(world: World):
    """By messages, which make it due for a look."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert await world.store.pause("r", PAUSED) == "running"
    assert await world.store.resume("r", RESUMED) == "running"
    assert await world.mail(claim.key) == [(1, PAUSE), (2, RESUME)]
    assert [held.inbox_head for held in await world.store.owned(worker)] == [2]
    assert (await world.run("r")).seq == 1


async def test_an_owner_that_obeys_holds_its_run(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.pause("r", PAUSED)
    parks = appending(claim, act=Act.PARK, status="paused", hold=1, consumed=1)
    await world.store.commit(worker, [parks])
    assert (await world.run("r")).status == "paused"
    assert await world.claim(worker) == []
    assert await world.store.resume("r", RESUMED) == "waiting"
    assert [claim.seq for claim in await world.claim(worker)] == [3]


async def test_an_owner_that_obeys_before_it_has_read_the_resume_holds_nothing(world: World):
    """It comes between what the owner has read and what it writes: nobody would lift that hold any more."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.pause("r", PAUSED)
    await world.store.resume("r", RESUMED)
    parks = appending(claim, act=Act.PARK, status="paused", hold=1, consumed=1)
    await world.store.commit(worker, [parks])
    (again,) = await world.claim(worker)
    assert await world.mail(claim.key) == [(2, RESUME)]
    parks = appending(again, act=Act.PARK, status="paused", hold=1, consumed=2)
    await world.store.commit(worker, [parks])
    assert (await world.run("r")).status == "paused"
    assert await world.claim(worker) == []


async def test_a_pause_that_nobody_has_obeyed_yet_can_be_answered(world: World):
    """Its owner let go of the run meanwhile."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.pause("r", PAUSED)
    await world.park(worker, claim)
    assert await world.store.resume("r", RESUMED) == "waiting"
    assert await world.mail(claim.key) == [(1, PAUSE), (2, RESUME)]


async def test_a_pause_that_is_in_the_history_and_not_obeyed_yet_can_be_answered(world: World):
    """Its owner had read it, and was lost before it let go of the run."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.pause("r", PAUSED)
    read = replace(PAUSED, seq=2)
    await world.store.commit(worker, [Commit(claim.key, claim.epoch, 1, [read], 1)])
    await world.store.unregister(worker)
    assert await world.store.resume("r", RESUMED) in {"waiting", "pending", "running"}
    assert (2, RESUME) in await world.mail(claim.key)


async def test_a_pause_behind_a_hold_is_answered_too(world: World):
    """It was asked for twice: of an owner that was lost, and then at once."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.pause("r", PAUSED)
    await world.park(worker, claim)
    assert await world.store.pause("r", PAUSED) == "paused"
    assert await world.store.resume("r", RESUMED) == "waiting"
    assert await world.mail(claim.key) == [(1, PAUSE), (2, RESUME)]


async def test_resume_of_a_run_that_goes_on_by_itself_does_nothing(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim)
    assert await world.store.resume("r", RESUMED) == "waiting"
    assert await world.mail(claim.key) == []
    assert await world.claim(worker) == []


async def test_holds_leave_ended_and_blocked_runs_alone(world: World):
    worker = await world.worker()
    over = await world.claimed(worker, "over")
    await world.finish(worker, over)
    stuck = await world.claimed(worker, "stuck")
    await world.park(worker, stuck, **BLOCK)
    for verb, row in ((world.store.pause, PAUSED), (world.store.resume, RESUMED)):
        assert await verb("over", row) == "completed"
        assert await verb("stuck", row) == "blocked"
        assert await verb("unknown", row) is None
    assert len(await world.types("over")) == 2
    assert len(await world.types("stuck")) == 2


async def test_the_owner_that_was_lost_is_not_forgotten_by_a_pause(world: World):
    """The next one writes it into the history."""
    worker, other = await world.worker(), await world.worker()
    claim = await world.claimed(worker, "r")
    await world.reap(gone=[worker])
    await world.store.pause("r", PAUSED)
    await world.store.resume("r", RESUMED)
    (again,) = await world.claim(other)
    assert (again.key, again.lost_owner) == (claim.key, worker)


async def test_a_paused_run_keeps_its_waits_and_can_be_terminated(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, waits=(NewWait(1, WaitKind.INPUT, ("ok",), 2),))
    await world.store.pause("r", PAUSED)
    assert [wait.run_id for wait in await world.store.waits(INPUTS)] == ["r"]
    assert await world.store.terminate("r", TERMINATED, CANCEL) == "terminated"
    assert await world.store.waits(INPUTS) == []
