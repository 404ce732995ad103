from __future__ import annotations

import asyncio

from durable.model.rows import Code, WorkerInfo
from tests.storage.conformance.world import LANE, TTL, World, appending, new


async def test_a_worker_id_is_never_used_before(world: World):
    """Not even after its row is gone: old histories and old claims name it."""
    first = await world.worker()
    await world.store.unregister(first)
    second = await world.worker()
    await world.store.unregister(second)
    assert len({first, second, await world.worker()}) == 3


async def test_registered_workers_are_told_as_they_told_themselves(world: World):
    info = WorkerInfo("n", "h", 7, boot="b", code="c", queues=("q", "r"), workflows=("w",))
    lease = await world.store.register(info, TTL)
    assert (lease.now, lease.expires_at) == (world.now(), world.now.after(TTL))
    ((id, told),) = await world.store.leased()
    assert id == lease.worker
    assert (told.name, told.host, told.pid, told.boot, told.code) == ("n", "h", 7, "b", "c")
    assert (list(told.queues), list(told.workflows)) == (["q", "r"], ["w"])


async def test_names_of_workers_outlive_them(world: World):
    """A history names the dead."""
    one = await world.worker("one")
    await world.store.unregister(one)
    two = await world.worker("two")
    assert await world.store.worker_names() == {one: "one", two: "two"}


async def test_renewing_moves_the_end_of_the_lease(world: World):
    worker = await world.worker()
    world.now.passes(9)
    lease = world.store.renew(worker, TTL)
    assert lease is not None
    assert (lease.worker, lease.now, lease.expires_at) == (
        worker,
        world.now(),
        world.now.after(TTL),
    )
    world.now.passes(9)
    assert (await world.reap()).workers == []
    world.now.passes(2)
    assert list((await world.reap()).workers) == [worker]


async def test_a_lease_may_be_renewed_from_any_thread(world: World):
    worker = await world.worker()
    assert await asyncio.to_thread(world.store.renew, worker, TTL) is not None


async def test_a_lease_that_is_gone_is_not_resurrected(world: World):
    worker = await world.worker()
    world.now.passes(TTL + 1)
    await world.reap()
    assert world.store.renew(worker, TTL) is None
    assert await world.store.leased() == []
    await world.store.unregister(worker)
    assert world.store.renew(worker, TTL) is None


async def test_unregistering_gives_back_what_the_worker_owns(world: World):
    """Ready at once; a worker that goes in peace is no loss."""
    one, two = await world.worker(), await world.worker()
    claim = await world.claimed(one, "r")
    await world.store.unregister(one)
    (again,) = await world.claim(two)
    assert (again.id, again.epoch, again.seq) == ("r", claim.epoch + 1, 1)
    assert (again.lost_owner, again.recoveries) == (None, 0)
    await world.store.unregister(one)


async def test_only_expired_leases_are_reaped(world: World):
    old = await world.worker()
    world.now.passes(6)
    young = await world.worker()
    await world.claimed(old, "of-old")
    await world.claimed(young, "of-young")
    world.now.passes(5)
    reaped = await world.reap()
    assert (list(reaped.workers), reaped.freed, reaped.blocked) == ([old], 1, 0)
    assert [worker for worker, _ in await world.store.leased()] == [young]


async def test_the_known_dead_are_reaped_before_their_lease_ends(world: World):
    """`gone`; and with `expired` False, only they."""
    dead, late, alive = await world.worker(), await world.worker(), await world.worker()
    world.now.passes(TTL + 1)
    assert world.store.renew(alive, TTL) is not None
    assert list((await world.reap(gone=[dead], expired=False)).workers) == [dead]
    assert list((await world.reap()).workers) == [late]
    assert [worker for worker, _ in await world.store.leased()] == [alive]


async def test_a_reaped_worker_commits_nothing(world: World):
    one, two = await world.worker(), await world.worker()
    claim = await world.claimed(one, "r")
    await world.reap(gone=[one])
    assert (await world.commit(one, claim)).code is Code.FENCED
    assert await world.types("r") == [1]
    (again,) = await world.claim(two)
    assert (await world.commit(one, claim)).code is Code.FENCED
    assert (await world.commit(two, again)).code is Code.APPLIED
    (probed,) = await world.store.probe(one, [claim.key], [claim.epoch])
    assert probed.code is Code.FENCED


async def test_a_reaped_worker_claims_nothing(world: World):
    """A run of a worker without a row would be lost for ever."""
    worker = await world.worker()
    await world.start("r")
    await world.reap(gone=[worker])
    assert await world.claim(worker) == []
    assert [claim.id for claim in await world.claim(await world.worker())] == ["r"]


async def test_a_reaped_worker_starts_nothing_owned(world: World):
    """The run is simply ready."""
    worker, other = await world.worker(), await world.worker()
    await world.reap(gone=[worker])
    started = await world.start("r", eager_owner=worker)
    assert (started.created, started.owned, started.status) == (True, False, "pending")
    assert [claim.id for claim in await world.claim(other)] == ["r"]


async def test_the_reaper_frees_all_runs_of_the_dead(world: World):
    one, two = await world.worker(), await world.worker()
    await world.store.start([new(f"r{n}") for n in range(20)])
    assert len(await world.claim(one)) == 20
    reaped = await world.reap(gone=[one])
    assert (reaped.freed, reaped.blocked) == (20, 0)
    claims = await world.claim(two)
    assert len(claims) == 20
    assert all(claim.lost_owner == one and claim.recoveries == 1 for claim in claims)


async def test_a_live_worker_is_never_robbed(world: World):
    one, two = await world.worker(), await world.worker()
    claim = await world.claimed(one, "r")
    for _ in range(5):
        world.now.passes(TTL - 1)
        assert world.store.renew(one, TTL) is not None
        assert world.store.renew(two, TTL) is not None
        assert (await world.reap()).freed == 0
        assert await world.claim(two) == []
    (answer,) = await world.store.commit(one, [appending(claim)])
    assert answer.code is Code.APPLIED


async def test_lanes_keep_their_numbers(world: World):
    from dataclasses import replace

    others = [replace(LANE, queue="q"), replace(LANE, workflow="w"), replace(LANE, version=3)]
    numbers = await world.store.lanes([LANE, *others, LANE])
    assert len(set(numbers.values())) == 4
    assert await world.store.lanes([*others]) == {lane: numbers[lane] for lane in others}
    assert await world.store.lanes([]) == {}
