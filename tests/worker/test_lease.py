"""The lease: what holds without it, what ends with it, and when others may be judged."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

import pytest

from durable import Client, Context, Worker, step, workflow
from durable.clock import SECOND, VirtualClock
from durable.errors import StoreUnavailable
from durable.model.rows import Lease, Reaped, WorkerInfo
from durable.worker import lease as room
from durable.worker.lease import LeaseKeeper, Reaper
from durable_testing.faults import ERROR_BEFORE, Delay, Fault, FaultyStorage, Operation
from tests.worker.world import LEASE, World, world_with

worlds: list[World] = []
began: list[int] = []


@step
async def work(seconds: float) -> float:
    began.append(1)
    await worlds[-1].clock.sleep(seconds)
    return seconds


@workflow
async def two_steps(ctx: Context) -> float:
    return await ctx.step(work, 2.7) + await ctx.step(work, 0.3)


@pytest.fixture(autouse=True)
def forget() -> None:
    began.clear()


def no_renewals(world: World) -> Any:
    return lambda operation: ERROR_BEFORE if operation.verb == "renew" else None


async def test_a_worker_that_cannot_renew_starts_nothing_new_and_goes_on_when_it_can() -> None:
    """A worker that cannot renew by TTL - margin starts no new step."""
    async with world_with(two_steps) as (world, process):
        worlds.append(world)
        handle = await world.run(process.client.start(two_steps, id="a"))
        await world.until(lambda: began)
        process.storage._fault_of = no_renewals(world)
        await world.pass_time(LEASE)
        assert not process.worker.health().details["lease"]
        assert not process.worker.health().ready
        assert process.worker.health().details["backlog"] == 1
        assert len(began) == 1
        process.storage._fault_of = lambda operation: None
        assert await world.result(handle) == 3
        assert process.worker.health().ready
        assert len(began) == 2


async def test_a_fenced_worker_starts_over_with_a_new_id() -> None:
    """Fenced: discard all, new worker id; its runs go on elsewhere, and no step is recorded twice."""
    async with World() as world:
        worlds.append(world)
        first = await world.process(two_steps)
        handle = await world.run(first.client.start(two_steps, id="a"))
        await world.until(lambda: began)
        old = first.worker.worker_id
        first.storage._fault_of = no_renewals(world)
        await world.process(two_steps, name="other")
        await world.pass_time(3 * LEASE)
        first.storage._fault_of = lambda operation: None
        assert await world.result(handle) == 3
        await world.pass_time(2 * LEASE)
        assert first.worker.worker_id not in {0, old}
        assert first.worker.health().ready
        assert first.worker.health().details["runs"] == 0
        await world.check()
        again = await world.run(first.client.start(two_steps, id="b"))
        assert await world.result(again) == 3


class Interrupted:
    """Each beginning of a worker up to the given one ends fenced, the last of them while its last question is answered."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._begun = 0

    def __call__(self, operation: Operation) -> Fault | None:
        if operation.verb == "register":
            self._begun += 1
        if operation.verb == "renew" and self._begun <= self._last:
            return ERROR_BEFORE if operation.nth % 16 else None
        if operation.verb == "unblock" and self._begun == self._last:
            return Delay(8 * LEASE)
        return None


@pytest.mark.parametrize("last", [1, 2])
async def test_a_worker_that_is_fenced_while_it_begins_begins_again(last: int) -> None:
    """At its first start (1), or when it has been fenced before: the database takes long to answer its last question."""
    async with World() as world:
        worlds.append(world)
        await world.process(two_steps, name="other")
        process = await world.process(two_steps, plan=Interrupted(last))
        await world.pass_time(20 * LEASE)
        alive = await world.database.inner.leased()
        assert process.worker.worker_id in [worker for worker, _ in alive]
        assert process.worker.health().ready
        claiming = [task for task in process.worker._tasks if task.get_name() == "durable-claims"]
        assert [task.done() for task in claiming].count(False) == 1


async def test_a_worker_that_comes_back_in_two_tries_holds_nothing_from_the_first() -> None:
    """Nobody renews the lease that the first try got."""
    async with World() as world:
        worlds.append(world)
        registered: list[int] = []
        forgotten: list[int] = []

        def fault(operation: Operation) -> Fault | None:
            if operation.verb == "register":
                registered.append(operation.nth)
            if operation.verb == "renew" and len(registered) == 1:
                return ERROR_BEFORE if operation.nth % 16 else None
            if operation.verb == "unblock" and len(registered) == 2:
                return ERROR_BEFORE
            return None

        await world.process(two_steps, name="other")
        process = await world.process(two_steps, plan=fault)
        roster: Any = process.worker._roster
        forget_all = roster.forget_all

        def forget() -> None:
            forgotten.append(len(registered))
            forget_all()

        roster.forget_all = forget
        await world.pass_time(20 * LEASE)
        roster.forget_all = forget_all
        assert len(registered) == 3
        assert forgotten == [1, 2]
        assert process.worker.health().ready


async def test_a_commit_that_is_told_fenced_does_the_same() -> None:
    """Whoever learns it first, the heartbeat or a commit, everything held is dropped once."""
    async with world_with(two_steps) as (world, process):
        worlds.append(world)
        handle = await world.run(process.client.start(two_steps, id="a"))
        await world.until(lambda: began)
        old = process.worker.worker_id
        await world.run(world.database.unregister(old))
        assert await world.result(handle) == 3
        assert process.worker.worker_id != old
        assert len(began) == 3  # the first attempt was not durable
        await world.check()


class Registry:
    """A store with leases only."""

    def __init__(self, clock: VirtualClock, ahead: float = 0.0) -> None:
        self.clock = clock
        self.ahead = round(ahead * SECOND)
        self.registered = 0
        self.renewals = 0
        self.trouble: Exception | None = None
        self.slow = 0.0
        self.reaps: list[tuple[tuple[int, ...], bool]] = []
        self.others: list[tuple[int, WorkerInfo]] = []

    def _lease(self) -> Lease:
        now = self.clock.now() + self.ahead
        return Lease(self.registered, now + 3 * SECOND, now)

    async def register(self, info: WorkerInfo, ttl: float) -> Lease:
        self.registered += 1
        return self._lease()

    def renew(self, worker: int, ttl: float) -> Lease | None:
        self.renewals += 1
        if self.slow:
            self.clock._now += round(self.slow * SECOND)  # as if the call had taken so long
            self.slow = 0.0
        if self.trouble is not None:
            raise self.trouble
        return self._lease()

    async def leased(self) -> Any:
        return self.others

    async def reap(self, blocked: Any, most: int, gone: Any = (), *, expired: bool = True) -> Any:
        self.reaps.append((tuple(gone), expired))
        return Reaped((), 1, 0)


class Kept:
    """A lease keeper on a virtual clock."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.store = Registry(self.clock, ahead)
        self.told: list[str] = []
        store: Any = self.store
        self.keeper = LeaseKeeper(
            store,
            self.clock,
            3.0,
            on_fenced=lambda: self.told.append("fenced"),
            on_healthy=lambda: self.told.append("healthy"),
        )
        self.reaper = Reaper(store, self.keeper, 5)

    async def __aenter__(self) -> Self:
        await self.keeper.register(WorkerInfo("w", "host", 1))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.keeper.stop()
        await asyncio.sleep(0)

    async def passes(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            for _ in range(4):
                await asyncio.sleep(0)


async def test_time_is_the_database_s() -> None:
    """Database time = offset measured at each heartbeat + monotonic clock (a worker 3 h behind)."""
    async with Kept(ahead=3 * 3600) as kept:
        assert kept.keeper.now() == kept.clock.now() + 3 * 3600 * SECOND
        await kept.passes(2.5)
        assert kept.keeper.now() == kept.clock.now() + 3 * 3600 * SECOND


async def test_a_slow_answer_does_not_set_the_clock() -> None:
    """It may have been read at any time while it was on its way."""
    async with Kept() as kept:
        kept.store.slow = 2.0
        await kept.passes(1.1)
        assert kept.store.renewals == 1
        assert kept.keeper.now() == kept.clock.now()


async def test_it_reaps_only_after_its_own_lease_has_held_for_a_whole_ttl() -> None:
    """Reap only after one's own renewals have succeeded for a whole TTL."""
    async with Kept() as kept:
        assert await kept.reaper.reap() == 0
        await kept.passes(2.5)
        assert kept.store.reaps == []
        await kept.passes(1)
        assert await kept.reaper.reap() == 1
        kept.store.trouble = StoreUnavailable("away")
        await kept.passes(1.2)
        assert not kept.keeper.steady
        kept.store.trouble = None
        await kept.passes(2.5)
        assert await kept.reaper.reap() == 0


async def test_a_renewal_that_hung_past_the_lease_counts_as_an_outage() -> None:
    """Database outage = every lease expired: the first one back must not reap all others."""
    async with Kept() as kept:
        await kept.passes(4)
        assert kept.keeper.steady
        kept.store.slow = 60.0
        await kept.passes(1.1)
        assert kept.keeper.healthy()
        assert not kept.keeper.steady
        await kept.passes(3.1)
        assert kept.keeper.steady


async def test_a_lease_lasts_from_when_its_renewal_was_asked_for() -> None:
    """When the database took it down is not known: it may have been at once, and the answer slow."""
    async with Kept() as kept:
        kept.store.slow = 2.0
        await kept.passes(1.1)
        kept.store.trouble = StoreUnavailable("away")
        assert kept.keeper.healthy()
        await kept.passes(0.6)
        assert not kept.keeper.healthy()


async def test_it_says_when_it_is_healthy_again_and_survives_any_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Kept() as kept:
        kept.store.trouble = ValueError("a bug")
        await kept.passes(4)
        assert not kept.keeper.healthy()
        kept.store.trouble = None
        await kept.passes(2)
        assert kept.keeper.healthy()
        assert "healthy" in kept.told
    assert caplog.records


async def test_registering_again_leaves_one_renewal() -> None:
    """A start that was tried twice renews one lease, not two."""
    async with Kept() as kept:
        await kept.keeper.register(WorkerInfo("w", "host", 1))
        await kept.passes(10)
        assert kept.store.renewals in {9, 10}


async def test_processes_of_this_machine_that_are_gone_are_taken_over_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row of the same host, boot and pid namespace that is provably gone: taken over at once."""
    monkeypatch.setattr(room, "machine", lambda: ("here", "boot 1"))
    monkeypatch.setattr(room, "_alive", lambda pid: pid != 666)
    async with Kept() as kept:
        kept.store.others = [
            (1, WorkerInfo("dead", "here", 666, boot="boot 1")),
            (2, WorkerInfo("alive", "here", 7, boot="boot 1")),
            (3, WorkerInfo("elsewhere", "there", 666, boot="boot 1")),
            (4, WorkerInfo("before the last boot", "here", 666, boot="boot 0")),
            (5, WorkerInfo("unknown boot", "here", 666)),
        ]
        assert await kept.reaper.reap() == 1
        assert kept.store.reaps == [((1,), False)]


def test_who_is_alive() -> None:
    """A process that exists is; one that does not is not; without a boot id nothing is provable."""
    import os
    import subprocess
    import sys

    assert room._alive(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not room._alive(ended.pid)
    assert room.machine()[0]


async def test_the_real_thread_renews_and_ends() -> None:
    """Sent from a thread of its own, so that user code that blocks the event loop loses no lease."""
    async with Client("sqlite://") as client:
        client.storage = FaultyStorage(client.storage)
        worker = Worker(client, workflows=[two_steps], lease=1)
        async with worker:
            thread = worker._keeper._thread
            assert thread is not None
            loop_blocked_for = 1.3
            import time

            time.sleep(loop_blocked_for)  # noqa: ASYNC251  the point of this test
            assert worker._keeper.healthy()
            assert worker._keeper.renewals >= 3
        assert not thread.is_alive()


async def test_a_lease_of_a_thousand_years_is_no_overflow() -> None:
    """What a thread can wait for has an end; there is nothing to renew before that."""
    async with Client("sqlite://") as client:
        async with Worker(client, workflows=[two_steps], lease=1e11) as worker:
            thread = worker._keeper._thread
            assert thread is not None
            thread.join(0.1)
            assert thread.is_alive()
        assert not thread.is_alive()


async def test_a_loop_that_is_gone_is_no_error() -> None:
    logging.getLogger("durable.worker").debug("see the debug line of `_call`")
    loop = asyncio.new_event_loop()
    loop.close()
    room._call(loop, lambda: None)
