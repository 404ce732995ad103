from __future__ import annotations

from dataclasses import replace

import pytest

from durable.model.history import CODES
from durable.model.lifecycle import HOLD_BLOCKED
from durable.model.rows import Claim, Code
from tests.storage.conformance.world import BLOCKED, UNBLOCKED, World

MOST = 2


async def lose(world: World, claim_by: int | None = None, **more: str) -> Claim | None:
    """A worker claims the only run and dies under it; None when there was nothing to claim."""
    worker = await world.worker(**more) if claim_by is None else claim_by
    claims = await world.claim(worker)
    await world.reap(gone=[worker], most=MOST)
    return claims[0] if claims else None


async def test_the_lost_owner_is_remembered_until_something_is_written(world: World):
    lost, other = await world.worker(), await world.worker()
    claim = await world.claimed(lost, "r")
    await world.commit(lost, claim)
    await world.reap(gone=[lost])
    (again,) = await world.claim(other)
    assert (again.lost_owner, again.recoveries, again.seq) == (lost, 1, 2)
    (adopted,) = await world.store.adopt(other, [again.key])
    assert adopted.lost_owner == lost
    await world.commit(other, again)
    await world.store.unregister(other)
    (last,) = await world.claim(await world.worker())
    assert last.lost_owner is None


async def test_a_run_that_was_never_held_is_not_recovered(world: World):
    worker = await world.worker()
    await world.start("r")
    reaped = await world.reap(gone=[worker])
    assert (reaped.freed, reaped.blocked) == (0, 0)
    (claim,) = await world.claim(await world.worker())
    assert (claim.lost_owner, claim.recoveries) == (None, 0)


async def test_a_run_that_kills_its_workers_is_blocked(world: World):
    """Recovered more than `max_recoveries` times without progress; the reason is in its history."""
    await world.start("r")
    for n in range(MOST):
        claim = await lose(world)
        assert claim is not None
        assert claim.recoveries == n
    worker = await world.worker()
    (claim,) = await world.claim(worker)
    assert claim.recoveries == MOST
    reaped = await world.reap(gone=[worker], most=MOST)
    assert (reaped.freed, reaped.blocked) == (0, 1)
    run = await world.run("r")
    assert (run.status, run.seq) == ("blocked", 2)
    assert run.last == replace(BLOCKED, seq=2)
    assert await world.types("r") == [CODES["RunStarted"], CODES["Blocked"]]
    assert await lose(world) is None


async def test_only_recoveries_without_progress_count(world: World):
    await world.start("r")
    for n in range(3 * MOST):
        worker = await world.worker()
        (claim,) = await world.claim(worker)
        assert (await world.commit(worker, claim)).code is Code.APPLIED
        reaped = await world.reap(gone=[worker], most=MOST)
        assert (reaped.freed, reaped.blocked) == (1, 0)
        assert claim.seq == n + 1
    assert (await world.run("r")).status == "running"


async def test_being_taken_over_is_no_progress(world: World):
    """Nothing is written by it."""
    await world.start("r")
    claims = [await lose(world) for _ in range(MOST + 1)]
    assert {claim.seq for claim in claims if claim} == {1}
    assert (await world.run("r")).status == "blocked"


@pytest.mark.parametrize("by", ["reaper", "owner"])
async def test_a_blocked_run_is_released_once_by_other_code(world: World, by: str):
    """Code that did not block it; the same code leaves it alone."""
    if by == "reaper":
        await world.start("r")
        for _ in range(MOST + 1):
            await lose(world, code="bad")
    else:
        worker = await world.worker(code="bad")
        claim = await world.claimed(worker, "r")
        await world.park(worker, claim, hold=HOLD_BLOCKED, blocked_by="bad")
    lanes = await world.lanes()
    assert (await world.run("r")).status == "blocked"
    before = await world.types("r")
    assert await world.store.unblock(lanes, ["bad"], UNBLOCKED) == 0
    assert await world.store.unblock([], ["good"], UNBLOCKED) == 0
    assert await world.store.unblock(lanes, ["good"], UNBLOCKED) == 1
    assert await world.store.unblock(lanes, ["better"], UNBLOCKED) == 0
    assert await world.types("r") == [*before, CODES["Unblocked"]]
    worker = await world.worker(code="good")
    (claim,) = await world.claim(worker)
    assert claim.seq == len(before) + 1
    assert (await world.commit(worker, claim)).code is Code.APPLIED


async def test_a_released_run_has_all_its_chances_again(world: World):
    await world.start("r")
    for _ in range(MOST + 1):
        await lose(world, code="bad")
    await world.store.unblock(await world.lanes(), ["good"], UNBLOCKED)
    for _ in range(MOST):
        assert await lose(world, code="good") is not None
    assert (await world.run("r")).status != "blocked"


async def test_messages_survive_the_loss_of_the_owner(world: World):
    worker, other = await world.worker(), await world.worker()
    claim = await world.claimed(worker, "r")
    await world.deliver("r", "a")
    await world.commit(worker, claim, consumed=1)
    await world.deliver("r", "b")
    await world.reap(gone=[worker])
    (again,) = await world.claim(other)
    assert (again.consumed, again.inbox_head) == (1, 2)
    assert await world.mail(again.key, again.consumed) == [(2, "b")]
