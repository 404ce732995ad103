"""Waits that others can find, their answers, and what is read of histories by what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable.model.history import CODES
from durable.model.messages import input_message
from durable.model.rows import (
    Act,
    Answer,
    Claim,
    Code,
    Commit,
    NewWait,
    WaitFilter,
    WaitKind,
    WaitRow,
)
from durable.model.wire import EventRow
from tests.storage.conformance.world import (
    CANCEL,
    START,
    TERMINATED,
    Lane,
    World,
    appending,
    event,
    finishing,
    new,
)

EVENT, INPUT, REQUEST = WaitKind
EVERYTHING = WaitFilter(tuple(WaitKind))


def asks(cmd: int, name: str = "approve", seq: int = 2, **more: Any) -> NewWait:
    return NewWait(cmd, more.pop("kind", INPUT), (name,), seq, **more)


async def asking(world: World, worker: int, id: str, *waits: NewWait, **more: Any) -> Claim:
    """A run that is parked and asks."""
    claim = await world.owned(worker, id, **more)
    answer = await world.park(worker, claim, waits=waits or (asks(1),))
    assert answer.code is Code.APPLIED
    return claim


def gives(id: str, cmd: int = 1, token: str = "t1", by: str | None = "ada") -> Answer:
    name = input_message(cmd, "approve")
    return Answer(id, cmd, name, b"\x01yes" + token.encode(), token, by, START + 5)


async def listed(world: World, where: WaitFilter = EVERYTHING) -> list[tuple[str, int]]:
    return [(wait.run_id, wait.cmd) for wait in await world.store.waits(where)]


# -- written by commits


async def test_a_wait_is_listed_with_the_event_that_says_all_of_it(world: World):
    worker = await world.worker()
    wait = asks(1, key="k-1", due=world.now.after(60), to=("ada", "bob"))
    await asking(world, worker, "r", wait)
    (row,) = await world.store.waits(EVERYTHING)
    assert row == WaitRow(
        row.place,
        "r",
        "work",
        1,
        INPUT,
        ("approve",),
        "k-1",
        world.now.after(60),
        ("ada", "bob"),
        event(2),
    )


async def test_a_commit_that_is_not_applied_writes_no_wait_and_ends_none(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, waits=(asks(1),))
    for stale in (appending(claim, waits=(asks(2),)), appending(claim, ended_waits=(1,))):
        assert (await world.store.commit(worker, [stale]))[0].code is Code.OTHER_SEQ
    assert await listed(world) == [("r", 1)]


async def test_waits_end_one_by_one(world: World):
    """Ending one that is not there is no mistake; in one commit the end wins over the beginning."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    waits = (asks(1), asks(2), asks(3))
    await world.commit(worker, claim, waits=waits)
    batch = Commit(claim.key, 1, 2, [], 0, ended_waits=(2, 9), waits=(asks(4), asks(9)))
    (answer,) = await world.store.commit(worker, [batch])
    assert answer.code is Code.APPLIED
    assert await listed(world) == [("r", 1), ("r", 3), ("r", 4)]


async def test_a_wait_written_again_replaces_the_old_one_and_its_answer(world: World):
    """It keeps its place."""
    worker = await world.worker()
    await asking(world, worker, "r", asks(1), asks(2))
    (first, _) = await world.store.waits(EVERYTHING)
    assert (await world.store.answer(gives("r"))).accepted
    assert await listed(world) == [("r", 2)]
    (claim,) = await world.claim(worker)
    again = asks(1, "again", seq=3, kind=REQUEST, key="k", to=("eve",))
    await world.commit(worker, claim, waits=(again, asks(3), asks(3, "last")), consumed=1)
    rows = await world.store.waits(EVERYTHING)
    assert [(row.cmd, row.names) for row in rows] == [
        (1, ("again",)),
        (2, ("approve",)),
        (3, ("last",)),
    ]
    assert (rows[0].place, rows[0].event.seq, rows[0].to) == (first.place, 3, ("eve",))


@pytest.mark.parametrize("end", ["finish", "terminate", "restart", "finish with new ones"])
async def test_the_end_of_a_run_ends_its_waits(world: World, end: str):
    """However it ends; those of others stay."""
    worker = await world.worker()
    await asking(world, worker, "other")
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim, waits=(asks(1), asks(2)))
    if end == "terminate":
        await world.store.terminate("r", TERMINATED, CANCEL)
    elif end == "restart":
        await world.store.restart(new("r", data=b"\x01new"), TERMINATED, CANCEL)
    else:
        more = (asks(3),) if end == "finish with new ones" else ()
        last = event(3, "RunCompleted", b"\x01")
        batch = [Commit(claim.key, 1, 2, [last], 0, Act.FINISH, "completed", waits=more)]
        assert (await world.store.commit(worker, batch))[0].code is Code.APPLIED
    assert await listed(world) == [("other", 1)]


async def test_many_runs_with_and_without_waits_end_in_one_batch(world: World):
    worker = await world.worker()
    claims = [await world.claimed(worker, f"r{n}") for n in range(6)]
    batch = [appending(claim, waits=(asks(1),)) for claim in claims[::2]]
    await world.store.commit(worker, batch)
    for claim in claims[1::2]:
        await world.commit(worker, claim)
    last = [event(3, "RunCompleted")]
    ends = [Commit(c.key, 1, 2, last, 0, Act.FINISH, "completed") for c in claims[1:]]
    assert {a.code for a in await world.store.commit(worker, ends)} == {Code.APPLIED}
    assert await listed(world) == [("r0", 1)]


# -- listed


async def test_waits_are_listed_by_what_they_wait_for(world: World):
    worker = await world.worker()
    now = world.now
    await asking(
        world, worker, "a", asks(1, due=now.after(10), to=("ada",)), asks(2, "pay", kind=EVENT)
    )
    await world.start("b", lane=Lane("default", "other"))
    (claim,) = await world.claim(worker, 9, Lane("default", "other"))
    several = NewWait(1, EVENT, ("pay", "100%", 'q"'), 2, key="ö", to=())
    await world.park(worker, claim, waits=(several, asks(2, kind=REQUEST)))
    kinds = tuple(WaitKind)
    found = {
        WaitFilter((INPUT,)): [("a", 1)],
        WaitFilter((EVENT, REQUEST)): [("a", 2), ("b", 1), ("b", 2)],
        WaitFilter(()): [],
        WaitFilter(kinds, run_id="b"): [("b", 1), ("b", 2)],
        WaitFilter(kinds, run_id="nobody"): [],
        WaitFilter(kinds, name="pay"): [("a", 2), ("b", 1)],
        WaitFilter(kinds, name="100%"): [("b", 1)],
        WaitFilter(kinds, name="pa"): [],
        WaitFilter(kinds, workflow="other"): [("b", 1), ("b", 2)],
        WaitFilter(kinds, key="ö"): [("b", 1)],
        WaitFilter(kinds, to="ada"): [("a", 1)],
        WaitFilter(kinds, due_before=now.after(10)): [],
        WaitFilter(kinds, due_before=now.after(11)): [("a", 1)],
    }
    for where, expected in found.items():
        assert await listed(world, where) == expected, where


async def test_waits_come_in_pages_oldest_first(world: World):
    worker = await world.worker()
    for id in "abc":
        await asking(world, worker, id, asks(1), asks(2, kind=EVENT))
    pages: list[list[tuple[str, int]]] = []
    after: int | None = None
    while rows := await world.store.waits(WaitFilter((INPUT, EVENT), limit=4, after=after)):
        pages.append([(row.run_id, row.cmd) for row in rows])
        after = rows[-1].place
    assert pages == [[("a", 1), ("a", 2), ("b", 1), ("b", 2)], [("c", 1), ("c", 2)]]


# -- answered


async def test_an_answer_is_a_message_and_closes_the_question(world: World):
    worker = await world.worker()
    claim = await asking(world, worker, "r")
    answered = await world.store.answer(gives("r"))
    assert (answered.accepted, answered.pending) == (True, False)
    (message,) = await world.store.inbox([(claim.key, 0)])
    assert (message.name, message.data) == (input_message(1, "approve"), b"\x01yest1")
    assert await listed(world) == []
    assert [claim.inbox_head for claim in await world.claim(worker)] == [1]


async def test_the_first_answer_is_taken(world: World):
    """The second one learns who was first and when, until the run has read it."""
    worker = await world.worker()
    claim = await asking(world, worker, "r")
    await world.store.answer(gives("r"))
    late = await world.store.answer(gives("r", token="t2", by="bob"))
    assert (late.accepted, late.pending, late.by, late.at) == (False, True, "ada", START + 5)
    assert len(await world.mail(claim.key)) == 1
    (again,) = await world.claim(worker)
    await world.commit(worker, again, consumed=1, ended_waits=(1,))
    later = await world.store.answer(gives("r", token="t3"))
    assert (later.accepted, later.pending, later.by) == (False, False, None)


async def test_an_answer_by_nobody_in_particular_is_one(world: World):
    worker = await world.worker()
    await asking(world, worker, "r")
    assert (await world.store.answer(gives("r", by=None))).accepted
    late = await world.store.answer(gives("r", token="t2"))
    assert (late.pending, late.by, late.at) == (True, None, START + 5)


async def test_the_same_answer_sent_again_is_still_this_one(world: World):
    """Also when the run has read it, and when the run has ended since."""
    worker = await world.worker()
    claim = await asking(world, worker, "r")
    for _ in range(2):
        assert (await world.store.answer(gives("r"))).accepted
    (again,) = await world.claim(worker)
    (done,) = await world.store.commit(worker, [finishing(again, consumed=1)])
    assert done.code is Code.APPLIED
    assert (await world.store.answer(gives("r"))).accepted
    assert not (await world.store.answer(gives("r", token="t2"))).accepted
    assert len(await world.mail(claim.key)) == 0


@pytest.mark.parametrize("what", ["unknown", "r", "silent"])
async def test_where_nothing_is_asked_nothing_is_taken(world: World, what: str):
    """An unknown run, one that waits for an event, one that asks for something else."""
    worker = await world.worker()
    await asking(world, worker, "r", asks(1, kind=EVENT), asks(3))
    await world.claimed(worker, "silent")
    answered = await world.store.answer(gives(what))
    assert (answered.accepted, answered.pending) == (False, False)
    assert not (await world.store.answer(gives(what, cmd=2))).accepted


async def test_two_people_answer_at_once(worlds: Callable[[int], list[World]]):
    """One winner; the other one is told who it was."""
    here, there = worlds(2)
    worker = await here.worker()
    for n in range(10):
        claim = await asking(here, worker, f"r{n}")
        answers = await asyncio.gather(
            here.store.answer(gives(f"r{n}", token="t1", by="ada")),
            there.store.answer(gives(f"r{n}", token="t2", by="bob")),
        )
        assert sorted(answer.accepted for answer in answers) == [False, True]
        (late,) = [answer for answer in answers if not answer.accepted]
        winner = "ada" if answers[0].accepted else "bob"
        assert (late.pending, late.by) == (True, winner)
        assert len(await here.mail(claim.key)) == 1


# -- read from histories


def said(seq: int, type: str, name: str, cmd: int, data: bytes = b"\x01") -> EventRow:
    return EventRow(seq, CODES[type], START + seq, cmd, name, data)


async def telling(world: World, worker: int, id: str, *rows: EventRow) -> Claim:
    claim = await world.claimed(worker, id)
    await world.store.commit(worker, [Commit(claim.key, 1, 1, rows, 0)])
    return claim


async def test_states_are_the_newest_of_each_name(world: World):
    """Of the runs asked for; runs without any are left out."""
    worker = await world.worker()
    rows = [
        said(2, "StateSet", "progress", 1, b"\x01one"),
        said(3, "StateSet", "phase", 2),
        said(4, "Patched", "progress", 3),
        said(5, "StateSet", "progress", 4, b"\x01two"),
        said(6, "StateSet", "ö", 5),
        event(7),
    ]
    await telling(world, worker, "a", *rows)
    await telling(world, worker, "b", event(2), said(3, "StateSet", "progress", 1))
    await telling(world, worker, "c", event(2))
    states = await world.store.states(["a", "c", "b", "nobody"])
    assert states == {
        "a": {"progress": rows[3], "phase": rows[1], "ö": rows[4]},
        "b": {"progress": said(3, "StateSet", "progress", 1)},
    }
    assert await world.store.states([]) == {}


@pytest.mark.parametrize("type", ["StateSet", "FollowerAdded", "InputRequested", "StepCompleted"])
async def test_the_newest_event_of_a_type_and_name(world: World, type: str):
    worker = await world.worker()
    rows = [said(2, type, "a", 1), said(3, type, "b", 2), said(4, type, "a", 3), event(5)]
    await telling(world, worker, "r", *rows)
    code = CODES[type]
    assert await world.store.newest("r", code, "a") == rows[2]
    assert await world.store.newest("r", code, "b") == rows[1]
    assert await world.store.newest("r", code, "c") is None
    assert await world.store.newest("r", CODES["Patched"], "a") is None
    assert await world.store.newest("nobody", code, "a") is None


async def test_replies_are_found_by_the_requests_number(world: World):
    """One query for many who wait."""
    worker = await world.worker()
    rows = [said(2, "RequestAnswered", "q", 7), said(3, "RequestAnswered", "q", 8), event(4)]
    await telling(world, worker, "a", *rows)
    other = said(2, "RequestAnswered", "q", 7, b"\x01other")
    await telling(world, worker, "b", other)
    asked = [("a", 7), ("a", 8), ("a", 4), ("b", 7), ("b", 8), ("nobody", 7)]
    assert await world.store.replies(asked) == {
        ("a", 7): rows[0],
        ("a", 8): rows[1],
        ("b", 7): other,
    }
    assert await world.store.replies([]) == {}
