"""Runs by the shapes of their histories."""

from __future__ import annotations

from durable.model.rows import ShapeRow
from tests.storage.conformance.world import LANE, World


async def test_runs_are_told_apart_by_events_commands_and_names(world: World):
    """Only the open ones; each shape with all of its runs, the most frequent first."""
    assert await world.store.shapes(0) == []
    worker = await world.worker()
    for name in ("a", "b", "c", "d"):
        await world.start(name)
    claims = {claim.id: claim for claim in await world.claim(worker)}
    await world.commit(worker, claims["b"])
    await world.finish(worker, claims["c"])
    place = LANE.workflow, LANE.version
    alike, other = ShapeRow(*place, True, ["a", "d"]), ShapeRow(*place, True, ["b"])
    assert await world.store.shapes(0) == [alike, other]
    assert await world.store.shapes(5) == [alike, other, ShapeRow(*place, False, ["c"])]


async def test_only_the_newest_finished_runs_are_looked_at(world: World):
    worker = await world.worker()
    for name in ("a", "b", "c"):
        await world.finish(worker, await world.claimed(worker, name))
    [shape] = await world.store.shapes(2)
    assert (shape.is_open, list(shape.run_ids)) == (False, ["b", "c"])
