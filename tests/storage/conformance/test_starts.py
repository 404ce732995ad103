from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable.errors import DurableError, StoreUnavailable
from durable.model.rows import Act, Code, Delivery, Lane
from tests.storage.conformance.world import CANCEL, LANE, TERMINATED, World, ended, event, new


async def test_a_start_makes_a_run_with_its_first_event(world: World):
    started = await world.start("r", tags={"k": "v"}, priority=3)
    assert (started.id, started.created, started.owned, started.status) == (
        "r",
        True,
        False,
        "pending",
    )
    assert (started.lane, started.started) == (LANE, None)
    run = await world.run("r")
    assert (run.key, run.status, run.seq, run.priority) == (started.key, "pending", 1, 3)
    assert (run.workflow, run.version, run.queue, run.tags) == ("work", 0, "default", {"k": "v"})
    assert (run.created_at, run.started_at, run.finished_at) == (world.now(), None, None)
    assert run.first == run.last == event(1, "RunStarted", b"\x01input")


async def test_a_second_start_finds_the_first_run(world: World):
    """And never alters it."""
    first = await world.start("r", data=b"\x01one")
    again = await world.start("r", lane=Lane("other", "thing", 2), data=b"\x01two", priority=9)
    assert (again.key, again.created, again.owned) == (first.key, False, False)
    assert again.started == event(1, "RunStarted", b"\x01one")
    assert (again.lane, again.status) == (LANE, "pending")
    assert await world.types("r") == [1]


async def test_a_start_tells_what_has_become_of_the_run(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    assert (await world.start("r")).status == "running"
    await world.finish(worker, claim)
    again = await world.start("r")
    assert (again.created, again.status) == (False, "completed")


async def test_starts_are_answered_in_the_order_asked(world: World):
    await world.start("c")
    answers = await world.store.start([new(id) for id in "dcbab"])
    assert [answer.id for answer in answers] == list("dcbab")
    assert [answer.created for answer in answers] == [True, False, True, True, False]
    assert answers[2].key == answers[4].key
    assert await world.store.start([]) == []


async def test_fifty_concurrent_starts_of_one_id_make_one_run(worlds: Callable[[int], list[World]]):
    """From several stores at once: one creates it, and all learn the same key."""
    all_worlds = worlds(3)
    answers = await asyncio.gather(*(all_worlds[n % 3].start("one") for n in range(50)))
    assert [answer.created for answer in answers].count(True) == 1
    assert len({answer.key for answer in answers}) == 1
    assert await all_worlds[0].types("one") == [1]


async def test_an_eager_start_is_owned_from_its_first_moment(world: World):
    worker, other = await world.worker(), await world.worker()
    started = await world.start("r", eager_owner=worker)
    assert (started.created, started.owned, started.status) == (True, True, "running")
    assert await world.claim(other) == []
    (claim,) = await world.store.adopt(worker, [started.key])
    assert (claim.epoch, claim.seq, claim.status) == (1, 1, "running")
    assert (await world.commit(worker, claim)).code is Code.APPLIED
    assert (await world.run("r")).started_at == world.now()


async def test_an_eager_start_whose_answer_was_lost_is_found_again(world: World):
    """By its owner, after ten seconds; a repeated start does not hand it out a second time."""
    worker = await world.worker()
    started = await world.start("r", eager_owner=worker)
    again = await world.start("r", eager_owner=worker)
    assert (again.created, again.owned) == (False, False)
    assert await world.store.owned(worker) == []
    world.now.passes(10)
    assert [held.key for held in await world.store.owned(worker)] == [started.key]


async def test_a_run_that_is_scheduled_for_later_is_not_claimed_before(world: World):
    """Whatever arrives."""
    worker = await world.worker(ttl=1000)
    started = await world.start("r", not_before=world.now.after(60))
    assert await world.claim(worker) == []
    assert (await world.deliver("r")).number == 1
    assert await world.claim(worker) == []
    world.now.passes(60)
    (claim,) = await world.claim(worker)
    assert (claim.key, claim.inbox_head) == (started.key, 1)


async def test_a_scheduled_run_is_like_any_other_once_it_was_claimed(world: World):
    """A message wakes it at once."""
    worker = await world.worker(ttl=1000)
    await world.start("r", not_before=world.now.after(60))
    world.now.passes(60)
    (claim,) = await world.claim(worker)
    await world.park(worker, claim, wake_at=world.now.after(500))
    await world.deliver("r")
    assert [claim.id for claim in await world.claim(worker)] == ["r"]


ODD = [
    "100%",
    "under_score",
    "back\\slash",
    "quo'te\"s",
    "semi;colon--",
    " spaces ",
    "new\nline\ttab",
    "ünïcödé-日本-🎉",
    "{json: [1]}",
    "null",
    "0",
    "x" * 255,
    "\x7f\x01",
    "﷽\u200b\u202e",
]


@pytest.mark.parametrize("text", ODD)
async def test_any_printable_and_most_other_text_is_kept(world: World, text: str):
    """As id, queue, workflow, tag, message name and idempotency key."""
    worker = await world.worker()
    lane = Lane(text, text, 7)
    started = await world.start(text, lane=lane, tags={text: text, "other": "x"})
    assert (await world.start(text)).lane == lane
    assert (await world.deliver(text, text, text)).number == 1
    assert (await world.deliver(text, text, text)).number == 1
    (claim,) = await world.claim(worker, 10, lane)
    assert (claim.id, claim.key) == (text, started.key)
    assert await world.mail(started.key) == [(1, text)]
    assert (await world.run(text)).tags == {text: text, "other": "x"}
    await world.finish(worker, claim)
    assert list(await world.store.finished([text, "unknown"])) == [text]


@pytest.mark.parametrize("bad", ["nul\0", "\0", "lone\ud800surrogate"])
async def test_text_that_not_every_store_can_keep_is_refused(world: World, bad: str):
    """With an error that shows it, and without doing anything."""
    await world.start("r")
    asks = [
        world.store.start([new("good"), new(bad)]),
        world.store.start([new("good", lane=Lane(bad, "w"))]),
        world.store.start([new("good", lane=Lane("q", bad))]),
        world.store.deliver([Delivery("r", bad, b"")]),
        world.store.deliver([Delivery("r", "fine", b"", bad)]),
    ]
    for ask in asks:
        with pytest.raises(DurableError) as caught:
            await ask
        assert not isinstance(caught.value, StoreUnavailable)
    assert await world.store.run("good") is None
    assert await world.mail((await world.run("r")).key) == []


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)), b"\xff" * 100_000])
async def test_bytes_are_kept_as_they_are(world: World, data: bytes):
    worker = await world.worker()
    started = await world.start("r", data=data)
    await world.store.deliver([Delivery("r", "m", data)])
    (claim,) = await world.claim(worker)
    (message,) = await world.store.inbox([(claim.key, 0)])
    assert message.data == data
    histories = await world.store.load([(started.key, 0)])
    assert histories[started.key][0].data == data


async def test_a_restart_ends_the_old_run_and_takes_its_id(world: World):
    """The old run is terminated, told to its parent, renamed, and named by the new one."""
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    await world.commit(worker, parent, act=Act.PARK, status="waiting")
    await world.start("r", data=b"\x01old", parent_key=parent.key, parent_cmd=5)
    (claim,) = await world.claim(worker)
    started = await world.store.restart(new("r", data=b"\x01new"), TERMINATED, CANCEL)
    assert (started.created, started.owned) == (True, False)
    assert started.key != claim.key
    old = await world.run("r~1")
    assert (old.key, old.status, old.seq) == (claim.key, "terminated", 2)
    assert (await world.commit(worker, claim)).code is Code.LOST
    fresh = await world.run("r")
    assert (fresh.key, fresh.retried_from, fresh.seq) == (started.key, "r~1", 1)
    assert await world.mail(parent.key) == [(1, ended(5))]
    again = await world.store.restart(new("r", data=b"\x01third"), TERMINATED, CANCEL)
    assert (await world.run("r")).retried_from == "r~2"
    assert (await world.run("r~2")).key == started.key != again.key


async def test_a_restart_of_a_finished_run_only_renames_it(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.finish(worker, claim)
    await world.store.restart(new("r", data=b"\x01new"), TERMINATED, CANCEL)
    assert (await world.run("r~1")).status == "completed"
    assert len(await world.types("r~1")) == 2
    assert (await world.run("r")).status == "pending"


async def test_a_restart_of_nothing_is_a_start(world: World):
    started = await world.store.restart(new("r"), TERMINATED, CANCEL)
    assert (started.created, (await world.run("r")).retried_from) == (True, None)


async def test_a_repeated_restart_restarts_nothing(world: World):
    """Its answer was lost: the run that stands there is the one it made."""
    await world.start("r", data=b"\x01old")
    first = await world.store.restart(new("r", data=b"\x01new"), TERMINATED, CANCEL)
    again = await world.store.restart(new("r", data=b"\x01new"), TERMINATED, CANCEL)
    assert (again.key, again.created) == (first.key, True)
    assert await world.store.run("r~2") is None


async def test_a_restart_leaves_a_run_of_another_workflow_alone(world: World):
    """It is answered as by a start, and nothing has happened to it."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    before = await world.run("r")
    other = new("r", Lane("default", "other"), data=b"\x01new")
    answer = await world.store.restart(other, TERMINATED, CANCEL)
    assert (answer.key, answer.created, answer.lane) == (claim.key, False, LANE)
    assert answer.started is not None
    assert await world.run("r") == before
    assert await world.store.run("r~1") is None
    await world.finish(worker, claim)
    assert not (await world.store.restart(other, TERMINATED, CANCEL)).created
    later = new("r", Lane("default", "work", 2), data=b"\x01new")
    assert (await world.store.restart(later, TERMINATED, CANCEL)).created


async def restart(world: World, id: str, count: int) -> list[str | None]:
    """Restart a run so many times; what the older ones are called then."""
    names = []
    for n in range(count):
        await world.store.restart(new(id, data=b"\x01%d" % n), TERMINATED, CANCEL)
        names.append((await world.run(id)).retried_from)
    return names


async def test_restarted_runs_are_numbered_from_the_newest(world: World):
    """Also where the first ones are gone, or somebody has chosen such an id himself."""
    await world.start("r", data=b"\x01old")
    await world.start("r~4", data=b"\x01other")
    assert await restart(world, "r", 5) == ["r~1", "r~2", "r~3", "r~5", "r~6"]
    await world.start("r~3~1", data=b"\x01other")
    assert await restart(world, "r~3", 2) == ["r~3~2", "r~3~3"]


async def test_the_id_of_a_restarted_run_keeps_within_its_limit(world: World):
    """The number stays, the end of the id goes."""
    for id in ("x" * 255, "y" * 254, "z" * 253):
        await world.start(id, data=b"\x01old")
        assert await restart(world, id, 11) == [
            id[: 255 - len(f"~{n}")] + f"~{n}" for n in range(1, 12)
        ]
