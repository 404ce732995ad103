from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from durable.model.rows import Act, Code, Lane
from tests.storage.conformance.world import LANE, World, new, to


async def test_a_claim_tells_what_the_worker_needs_to_know(world: World):
    worker = await world.worker()
    started = await world.start("r")
    (claim,) = await world.claim(worker)
    assert (claim.key, claim.id, claim.lane) == (started.key, "r", (await world.lanes())[0])
    assert (claim.epoch, claim.seq, claim.consumed, claim.inbox_head) == (1, 1, 0, 0)
    assert (claim.status, claim.now, claim.lost_owner) == ("running", world.now(), None)
    assert (await world.run("r")).status == "running"


async def test_what_is_claimed_is_not_claimed_again(world: World):
    one, two = await world.worker(), await world.worker()
    await world.claimed(one, "r")
    assert await world.claim(one) == []
    assert await world.claim(two) == []


async def test_claims_go_by_priority_then_age(world: World):
    """Over all lanes together."""
    worker = await world.worker()
    other = Lane("default", "other")
    for id, priority, lane in [
        ("old-low", 0, LANE),
        ("old-high", 5, other),
        ("young-high", 5, LANE),
        ("negative", -3, other),
        ("young-low", 0, other),
        ("highest", 9, other),
    ]:
        await world.start(id, priority=priority, lane=lane)
        world.now.passes(1)
    taken = []
    for limit in (1, 2, 10):
        taken += [claim.id for claim in await world.claim(worker, limit, LANE, other)]
    assert taken == ["highest", "old-high", "young-high", "old-low", "young-low", "negative"]


async def test_a_worker_claims_only_from_its_lanes(world: World):
    worker = await world.worker()
    pinned = Lane("default", "work", 2)
    await world.start("unpinned")
    await world.start("pinned", lane=pinned)
    await world.start("elsewhere", lane=Lane("other", "work"))
    assert [claim.id for claim in await world.claim(worker, 10, pinned)] == ["pinned"]
    assert [claim.id for claim in await world.claim(worker)] == ["unpinned"]
    assert await world.store.claim(worker, [], 10) == []


@pytest.mark.parametrize("limit", [1, 3, 7])
async def test_a_claim_takes_no_more_than_its_limit(world: World, limit: int):
    worker = await world.worker()
    lanes = [Lane("q", f"w{n}") for n in range(4)]
    await world.store.start([new(f"r{n}", lane=lanes[n % 4], priority=n % 2) for n in range(20)])
    claims = await world.claim(worker, limit, *lanes)
    assert len(claims) == limit
    assert await world.store.claim(worker, await world.lanes(*lanes), 0) == []


async def test_every_claim_raises_the_epoch(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, wake_at=world.now())
    (again,) = await world.claim(worker)
    assert again.epoch == claim.epoch + 1


async def test_the_same_worker_cannot_write_under_an_older_claim(world: World):
    """Owner and seq are no fence: it may hold the run a second time at the same length."""
    worker, other = await world.worker(), await world.worker()
    old = await world.claimed(worker, "r")
    parked = await world.commit(worker, old, count=0, act=Act.PARK, wake_at=world.now())
    assert (parked.code, parked.seq) == (Code.APPLIED, 1)
    (young,) = await world.claim(worker)
    assert (young.seq, young.epoch) == (old.seq, old.epoch + 1)
    assert (await world.commit(worker, old)).code is Code.LOST
    assert (await world.commit(other, young)).code is Code.LOST
    assert await world.types("r") == [1]
    assert (await world.commit(worker, young)).code is Code.APPLIED


@pytest.mark.parametrize("act", [Act.KEEP, Act.PARK, Act.FINISH])
async def test_who_has_let_a_run_go_writes_nothing_more(world: World, act: Act):
    """Epoch and seq are no fence either: nobody has claimed it since."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, count=0, act=Act.PARK)
    status = "completed" if act is Act.FINISH else "running"
    for messages in ((), to(claim.key)):
        again = await world.commit(worker, claim, act=act, status=status, messages=messages)
        assert again.code is Code.LOST
    assert await world.types("r") == [1]
    assert await world.mail(claim.key) == []


async def test_a_claimed_run_is_due_for_its_owner_after_ten_seconds(world: World):
    """So a claim whose answer was lost is found again and adopted."""
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    world.now.passes(9.9)
    assert await world.store.owned(worker) == []
    world.now.passes(0.1)
    (held,) = await world.store.owned(worker)
    assert (held.key, held.epoch, held.seq) == (claim.key, claim.epoch, claim.seq)
    assert (held.consumed, held.inbox_head) == (0, 0)
    (adopted,) = await world.store.adopt(worker, [claim.key])
    assert (adopted.key, adopted.id, adopted.lane) == (claim.key, claim.id, claim.lane)
    assert (adopted.epoch, adopted.seq, adopted.status) == (claim.epoch, claim.seq, "running")
    assert (await world.commit(worker, adopted)).code is Code.APPLIED


async def test_nobody_adopts_what_another_one_owns(world: World):
    one, two = await world.worker(), await world.worker()
    claim = await world.claimed(one, "r")
    assert await world.store.adopt(two, [claim.key, 12345]) == []
    assert await world.store.owned(two) == []


async def test_a_commit_ends_the_look(world: World):
    """Only a commit does, or an acknowledgement."""
    worker = await world.worker(ttl=1000)
    one = await world.claimed(worker, "one")
    await world.claimed(worker, "two")
    await world.commit(worker, one)
    world.now.passes(11)
    (held,) = await world.store.owned(worker)
    await world.store.acknowledge(worker, [held])
    assert await world.store.owned(worker) == []


async def test_an_acknowledgement_does_not_hide_a_message(world: World):
    """That has come since."""
    worker = await world.worker(ttl=1000)
    await world.claimed(worker, "r")
    world.now.passes(11)
    (held,) = await world.store.owned(worker)
    await world.deliver("r")
    await world.store.acknowledge(worker, [held])
    (again,) = await world.store.owned(worker)
    assert (again.inbox_head, again.consumed) == (1, 0)


async def test_an_acknowledgement_does_not_hide_what_is_not_read_yet(world: World):
    """That was there when its owner looked: until it is in the history."""
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    await world.deliver("r")
    (held,) = await world.store.owned(worker)
    await world.store.acknowledge(worker, [held])
    assert await world.store.owned(worker) == [held]
    await world.commit(worker, claim, consumed=1)
    assert await world.store.owned(worker) == []


async def test_an_acknowledgement_of_an_old_claim_does_nothing(world: World):
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    world.now.passes(11)
    (held,) = await world.store.owned(worker)
    await world.park(worker, claim, wake_at=world.now())
    (claim,) = await world.claim(worker)
    world.now.passes(11)
    await world.store.acknowledge(worker, [held])
    assert [held.epoch for held in await world.store.owned(worker)] == [claim.epoch]


async def test_a_claim_keeps_a_run_compensating(world: World):
    worker, other = await world.worker(), await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, status="compensating")
    await world.reap(gone=[worker])
    (again,) = await world.claim(other)
    assert again.status == "compensating"


async def test_concurrent_claims_never_share_a_run(worlds: Callable[[int], list[World]]):
    """Workers of several processes empty a lane: every run has one owner."""
    all_worlds = worlds(3)
    await all_worlds[0].store.start([new(f"r{n}") for n in range(120)])
    workers = [await world.worker() for world in all_worlds]
    taken: list[str] = []

    async def empty(world: World, worker: int) -> None:
        while claims := await world.claim(worker, 7):
            taken.extend(claim.id for claim in claims)

    await asyncio.gather(*map(empty, all_worlds, workers))
    while len(taken) < 120:  # a claim may have skipped what another one held for a moment
        await asyncio.gather(*map(empty, all_worlds, workers))
    assert max(Counter(taken).values()) == 1
