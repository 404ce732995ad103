from __future__ import annotations

from durable.model.rows import Act, Code, Commit
from tests.storage.conformance.world import World, appending, event, events


async def test_a_commit_begins_a_generation(world: World):
    """`first_seq` is the event that began it: claims and adoptions say so, readers see that event first."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r", tags={"of": "one"})
    assert claim.first_seq == 1
    rows = [event(2), event(3, "ContinuedAsNew"), event(4)]
    batch = [Commit(claim.key, claim.epoch, 1, rows, 0, first_seq=3)]
    (answer,) = await world.store.commit(worker, batch)
    assert (answer.code, answer.seq) == (Code.APPLIED, 4)
    (adopted,) = await world.store.adopt(worker, [claim.key])
    assert (adopted.first_seq, adopted.seq) == (3, 4)
    row = await world.run("r")
    assert row.first == event(3, "ContinuedAsNew")
    assert (row.created_at, row.tags) == (world.now(), {"of": "one"})
    rest = await world.store.load([(claim.key, adopted.first_seq - 1)])
    assert [row.seq for row in rest[claim.key]] == [3, 4]


async def test_the_newest_generation_counts(world: World):
    """Also for a run that parks with it, and for whoever claims it then."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, first_seq=2)
    rows = events(2, 2)
    parks = Commit(claim.key, claim.epoch, 2, rows, 0, Act.PARK, "waiting", 0, first_seq=4)
    await world.store.commit(worker, [parks])
    (again,) = await world.claim(worker)
    assert (again.first_seq, again.seq) == (4, 4)
    await world.commit(worker, again)
    (same,) = await world.store.adopt(worker, [claim.key])
    assert same.first_seq == 4


async def test_a_run_that_has_undone_what_it_did_runs_again(world: World):
    """A run that is tried again as a whole is not `compensating` any more, also before it parks."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, status="compensating")
    assert (await world.run("r")).status == "compensating"
    rows = [event(3), event(4, "RunRetried")]
    await world.store.commit(
        worker, [Commit(claim.key, claim.epoch, 2, rows, 0, status="running", first_seq=4)]
    )
    assert (await world.run("r")).status == "running"


async def test_a_commit_that_is_not_applied_begins_nothing(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim)
    late = appending(claim, first_seq=2)
    (answer,) = await world.store.commit(worker, [late])
    assert answer.code is Code.OTHER_SEQ
    (same,) = await world.store.adopt(worker, [claim.key])
    assert same.first_seq == 1


async def test_who_starts_it_again_gets_the_first_event_of_all(world: World):
    """So that inputs can be compared."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, first_seq=2)
    started = (await world.start("r")).started
    assert started is not None
    assert (started.seq, started.data) == (1, b"\x01input")
