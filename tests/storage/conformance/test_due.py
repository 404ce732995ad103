"""When the next run falls due, for who moves the clock by hand."""

from __future__ import annotations

from durable.model.lifecycle import HOLD_PAUSED
from tests.storage.conformance.world import World


async def test_nothing_is_due_where_there_is_nothing(world: World):
    assert await world.store.next_due() is None


async def test_what_is_due_already_is_not_due_next(world: World):
    await world.start("r")
    assert await world.store.next_due() is None


async def test_the_earliest_of_those_that_are_put_off_or_parked(world: World):
    worker = await world.worker(ttl=1000)
    parked = await world.claimed(worker, "parked")
    await world.park(worker, parked, wake_at=world.now.after(30))
    await world.start("later", not_before=world.now.after(60))
    assert await world.store.next_due() == world.now.after(30)
    world.now.passes(30)
    assert await world.store.next_due() == world.now.after(30)
    world.now.passes(31)
    assert await world.store.next_due() is None


async def test_a_parked_run_without_a_time_is_never_due(world: World):
    worker = await world.worker()
    await world.park(worker, await world.claimed(worker, "r"))
    assert await world.store.next_due() is None
    await world.deliver("r")  # it is due now
    assert await world.store.next_due() is None


async def test_one_that_is_held_back_is_not_due(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, wake_at=world.now.after(30), hold=HOLD_PAUSED)
    assert await world.store.next_due() is None


async def test_a_claim_is_looked_at_again_until_its_owner_has_said_something(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert await world.store.next_due() == world.now.after(10)
    await world.commit(worker, claim)
    assert await world.store.next_due() is None


async def test_the_end_of_a_run_is_the_end_of_it(world: World):
    worker = await world.worker()
    await world.finish(worker, await world.claimed(worker, "r"))
    assert await world.store.next_due() is None
