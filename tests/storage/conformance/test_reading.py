from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from durable.errors import InvalidInput
from durable.model.rows import Lane, RunFilter
from tests.storage.conformance.world import CANCEL, LANE, START, TERMINATED, World, events, new


async def ids(world: World, **where: object) -> list[str]:
    return [run.id for run in await world.store.runs(RunFilter(**where))]  # type: ignore[arg-type]


async def test_unknown_runs(world: World):
    assert await world.store.run("nobody") is None
    assert await world.store.history("nobody", 0, 10) is None
    assert await world.store.finished(["nobody"]) == {}
    assert await world.store.finished([]) == {}
    assert await world.store.runs(RunFilter()) == []
    assert await world.store.count(RunFilter()) == {}
    assert await world.store.load([]) == {}
    assert await world.store.inbox([]) == []


async def test_a_history_comes_in_pages(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, 25)
    pages, after = [], 0
    while page := await world.store.history("r", after, 10):
        pages.append([row.seq for row in page])
        after = page[-1].seq
    assert pages == [list(range(1, 11)), list(range(11, 21)), list(range(21, 27))]


async def test_histories_are_loaded_from_where_they_are_known(world: World):
    worker = await world.worker()
    one, two = await world.claimed(worker, "one"), await world.claimed(worker, "two")
    await world.commit(worker, one, 3)
    await world.commit(worker, two, 2)
    loaded = await world.store.load([(two.key, 0), (one.key, 2)])
    assert loaded[one.key] == events(1, 3)[1:]
    assert [row.seq for row in loaded[two.key]] == [1, 2, 3]
    known = await world.store.load([(one.key, 4)])
    assert known.get(one.key, []) == []


async def test_runs_come_newest_first_and_in_pages(world: World):
    for n in range(7):
        await world.start(f"r{n}")
    assert await ids(world, limit=3) == ["r6", "r5", "r4"]
    seen: list[str] = []
    after = None
    while page := await world.store.runs(RunFilter(limit=3, after=after)):
        seen += [run.id for run in page]
        after = page[-1].key
        await world.start(f"later-{len(seen)}")
    assert seen == [f"r{n}" for n in range(6, -1, -1)]


async def test_runs_are_found_by_what_they_are(world: World):
    worker = await world.worker()
    billing = Lane("billing", "charge", 2)
    await world.start("done")
    await world.start("stopped", tags={"team": "a", "x": "1"})
    await world.start("charged", lane=billing, tags={"team": "a"})
    await world.start("waiting", lane=billing, tags={"team": "b"})
    done, stopped = await world.claim(worker, 2)
    await world.finish(worker, done)
    await world.store.terminate(stopped.id, TERMINATED, CANCEL)
    (charged,) = await world.claim(worker, 1, billing)
    world.now.passes(10)
    await world.start("child", parent_key=charged.key, parent_cmd=1)
    assert await ids(world, workflow="charge") == ["waiting", "charged"]
    assert await ids(world, queue="billing") == ["waiting", "charged"]
    assert await ids(world, queue="default", workflow="charge") == []
    assert await ids(world, status=["completed", "terminated"]) == ["stopped", "done"]
    assert await ids(world, status=["running"]) == ["charged"]
    assert await ids(world, status=["pending", "completed"]) == ["child", "waiting", "done"]
    assert await ids(world, tags={"team": "a"}) == ["charged", "stopped"]
    assert await ids(world, tags={"team": "a", "x": "1"}) == ["stopped"]
    assert await ids(world, tags={"team": "c"}) == []
    assert await ids(world, parent_id="charged") == ["child"]
    assert await ids(world, parent_id="nobody") == []
    assert await ids(world, created_after=START) == ["child"]
    assert await ids(world, created_before=START + 1) == ["waiting", "charged", "stopped", "done"]
    assert await ids(world, status=["paused"]) == []


async def test_counts_are_by_status_and_not_by_page(world: World):
    worker = await world.worker()
    await world.store.start([new(f"r{n}") for n in range(5)])
    one, _two = await world.claim(worker, 2)
    await world.finish(worker, one)
    where = RunFilter(limit=1)
    assert await world.store.count(where) == {"completed": 1, "running": 1, "pending": 3}
    assert await world.store.count(RunFilter(status=["pending"])) == {"pending": 3}
    assert await world.store.count(RunFilter(workflow="other")) == {}


PREFIXES = ["%", "_", "a%", "a_", "a\\", "a'", "A", "ab", "ü", "🎉", "[a]", "a*"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_prefix_means_itself(world: World, prefix: str):
    """What is a pattern elsewhere is a letter here; upper and lower case differ."""
    known = [f"{p}{rest}" for p in PREFIXES for rest in ("", "x", "\U0010fffd")]
    await world.store.start([new(id) for id in known])
    expected = {id for id in known if id.startswith(prefix)}
    assert set(await ids(world, id_prefix=prefix, limit=100)) == expected
    assert sum((await world.store.count(RunFilter(id_prefix=prefix))).values()) == len(expected)


@pytest.mark.parametrize("text", ["a'b", 'a"b', "a\\b", "%", "", "null", "1", "ü\n"])
async def test_tags_mean_themselves(world: World, text: str):
    await world.store.start([new("one", tags={text: "v", "k": text}), new("two", tags={"k": "v"})])
    assert await ids(world, tags={text: "v"}) == (["one"])
    assert await ids(world, tags={"k": text}) == ["one"]
    assert await ids(world, tags={"k": "1.0", text: "v"}) == []


async def test_finished_answers_for_many(world: World):
    worker = await world.worker()
    await world.store.start([new(f"r{n}") for n in range(30)])
    claims = await world.claim(worker)
    for claim in claims[::2]:
        await world.finish(worker, claim)
    found = await world.store.finished([f"r{n}" for n in range(30)])
    assert sorted(found) == sorted(claim.id for claim in claims[::2])
    assert {status for status, _ in found.values()} == {"completed"}


async def test_a_row_tells_the_whole_run(world: World):
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.start(
        "r", lane=replace(LANE, version=4), priority=-2, tags={"a": "b"}, parent_key=parent.key
    )
    world.now.passes(1)
    (claim,) = await world.claim(worker, 1, replace(LANE, version=4))
    await world.park(worker, claim, waiting_for="event paid", wake_at=world.now.after(5))
    run = await world.run("r")
    assert (run.key, run.id, run.workflow, run.version, run.queue) == (
        claim.key,
        "r",
        "work",
        4,
        "default",
    )
    assert (run.status, run.priority, run.tags, run.parent_id) == (
        "waiting",
        -2,
        {"a": "b"},
        "parent",
    )
    assert (run.created_at, run.started_at, run.finished_at) == (START, START + 10**6, None)
    assert (run.seq, run.recoveries, run.waiting_for) == (2, 0, "event paid")
    assert run.wake_at == world.now.after(5)
    assert (run.first, run.last) == (new("r").started, events(1, 1)[0])
    assert await world.store.runs(RunFilter(id_prefix="r")) == [run]


@pytest.mark.parametrize("id", [uuid.UUID(int=7), 7, object()], ids=["uuid", "int", "object"])
async def test_an_id_of_a_wrong_type_is_no_absent_database(world: World, id: Any):
    """Where it is not just another unknown id, it is refused at once: waiting would not help."""
    try:
        assert await world.store.run(id) is None
    except InvalidInput as error:
        assert "wrong type" in str(error)
    await world.start("r")
    assert (await world.run("r")).id == "r"
