"""Poison: a run that kills its workers is blocked with the reason; its neighbours finish."""

from __future__ import annotations

from durable import Context, current_step, step, workflow
from durable.model.wire import decode_event
from tests.worker.world import LEASE, World

deadly: list[str] = []
worlds: list[World] = []


@step
async def deadly_step() -> None:
    deadly.append(current_step().run_id)
    await worlds[-1].clock.sleep(1000)


@step
async def add(n: int) -> int:
    return n + 1


@step
async def takes(seconds: float) -> None:
    await worlds[-1].clock.sleep(seconds)


@workflow
async def poison(ctx: Context) -> None:
    await ctx.step(add, 1)
    await ctx.step(deadly_step)


@workflow
async def neighbour(ctx: Context, n: int) -> int:
    for _ in range(3):
        n = await ctx.step(add, n)
        await ctx.step(takes, 2.0)
    return n


async def test_a_run_that_kills_its_workers_is_blocked_and_its_neighbours_finish() -> None:
    """More than max_recoveries times without progress: blocked, with the reason, as a history event."""
    deadly.clear()
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        await world.run(outside.client.start(poison, id="poison"))
        handles = [
            await world.run(outside.client.start(neighbour, n, id=f"n{n}")) for n in range(5)
        ]
        deaths = 0
        while await world.status("poison") != "blocked":
            process = await world.process(poison, neighbour, max_recoveries=3)
            for _ in range(200):
                if deadly or await world.status("poison") == "blocked":
                    break
                await world.pass_time(0.1)
            else:
                raise AssertionError(f"{deaths} deaths, then: {await world.row('poison')}")
            if deadly:
                deadly.clear()
                await process.die()
                deaths += 1
            assert deaths < 8
        assert deaths == 4
        assert [await world.result(handle) for handle in handles] == [n + 3 for n in range(5)]
        assert await world.status("poison") == "blocked"
        last = decode_event((await world.history("poison"))[-1])
        assert "3 times without progress" in last.reason  # type: ignore[union-attr]
        types = await world.types("poison")
        assert types.count("Blocked") == 1
        await world.check()


@workflow
async def long(ctx: Context, n: int) -> int:
    for _ in range(30):
        n = await ctx.step(add, n)
        await ctx.step(takes, 2.0)
    return n


async def test_progress_between_deaths_is_no_poison() -> None:
    """A recovery counts only where there was no progress."""
    async with World() as world:
        worlds.append(world)
        outside = await world.process()
        handle = await world.run(outside.client.start(long, 1, id="a"))
        for _ in range(4):
            process = await world.process(long, max_recoveries=1)
            seq = (await world.row("a")).seq
            await world.pass_time(2 * LEASE + 6)
            assert (await world.row("a")).seq > seq + 1
            await process.die()
        await world.process(long, max_recoveries=1)
        assert await world.result(handle) == 31
        await world.check()
