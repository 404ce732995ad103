"""The sticky cache: valid only for the claim that directly follows the park."""

from __future__ import annotations

from typing import Any

import pytest

from durable import Context, step, workflow
from durable.worker.cache import StickyCache
from tests.worker.world import World, world_with


class Parked:
    def __init__(self, key: int, epoch: int = 3, durable: int = 5) -> None:
        self.key, self.epoch, self.durable = key, epoch, durable
        self.discarded = 0

    def discard(self) -> None:
        self.discarded += 1


def cache_of(size: int, *runs: Parked) -> Any:
    cache: Any = StickyCache(size)
    for run in runs:
        cache.put(run)
    return cache


def test_only_the_next_epoch_at_the_same_seq_is_a_hit() -> None:
    """`claimed.epoch == cached.epoch + 1 AND claimed.seq == cached.seq`."""
    run = Parked(1)
    assert cache_of(2, run).take(1, 4, 5) is run
    assert run.discarded == 0


@pytest.mark.parametrize("epoch, seq", [(3, 5), (5, 5), (4, 6), (4, 4), (2, 5)])
def test_anything_else_is_forgotten(epoch: int, seq: int) -> None:
    """Somebody else drove the run meanwhile: the instance is dropped for good."""
    run = Parked(1)
    cache = cache_of(2, run)
    assert cache.take(1, epoch, seq) is None
    assert run.discarded == 1
    assert cache.take(1, 4, 5) is None
    assert (cache.hits, cache.misses, len(cache)) == (0, 2, 0)


def test_the_oldest_makes_room() -> None:
    first, second, third = Parked(1), Parked(2), Parked(3)
    cache = cache_of(2, first, second, third)
    assert (first.discarded, len(cache)) == (1, 2)
    cache.clear()
    assert (second.discarded, third.discarded, len(cache)) == (1, 1, 0)


def test_a_run_that_parks_again_replaces_itself_and_a_size_of_none_keeps_nothing() -> None:
    old, new, other = Parked(1), Parked(1), Parked(2)
    cache = cache_of(2, old, new)
    assert (old.discarded, len(cache)) == (1, 1)
    assert len(cache_of(0, other)) == 0
    assert other.discarded == 1


@step
async def add(n: int) -> int:
    return n + 1


@workflow
async def naps(ctx: Context, n: int) -> int:
    for _ in range(3):
        n = await ctx.step(add, n)
        await ctx.sleep(10)
    return n


@pytest.mark.parametrize("size, loads", [(1000, 0), (0, 3)])
async def test_a_history_is_the_same_with_and_without_a_cache(size: int, loads: int) -> None:
    """Cache size 0 and infinite give identical histories; only the latter spares the replay."""
    async with world_with(naps, cache=size) as (world, process):
        handle = await world.run(process.client.start(naps, 1, id="a"))
        assert await world.result(handle) == 4
        assert await world.types("a") == [
            "RunStarted",
            *["StepCompleted", "TimerStarted", "TimerFired"] * 3,
            "RunCompleted",
        ]
        assert process.storage.calls["load"] == loads


async def test_two_workers_that_take_turns_never_resume_a_wrong_instance() -> None:
    """The other one drove it meanwhile: its cached instance is not gone on with."""
    async with World() as world:
        first = await world.process(naps, name="first")
        handle = await world.run(first.client.start(naps, 1, id="a"))
        await world.until_status("a", "waiting")
        other = await world.process(naps, name="other")
        lanes = first.worker._roster.open_lanes
        first.worker._roster.open_lanes = lambda: ()  # it claims nothing for a while
        await world.pass_time(12)
        other.worker._roster.open_lanes = lambda: ()
        first.worker._roster.open_lanes = lanes
        assert await world.result(handle) == 4
        await world.check()
        assert first.worker._roster.cache.misses >= 1
