"""The outbox: each row goes with the commit that carries its event, and never twice."""

from __future__ import annotations

from typing import Any

from durable.model.rows import Lane, NewRun, NewWait, OutMessage, WaitKind
from durable.model.wire import EventRow
from durable.worker.outbox import EndedWait, NewGeneration, Outbox


def wait(cmd: int, seq: int = 2) -> NewWait:
    return NewWait(cmd, WaitKind.EVENT, ("note",), seq)


def child(id: str) -> NewRun:
    return NewRun(id, Lane("q", "w"), EventRow(1, 1, 0, None, "w", b""))


def filled(*rows: tuple[int, Any]) -> Outbox:
    outbox = Outbox()
    for seq, row in rows:
        outbox.add(seq, row)
    return outbox


def test_rows_go_with_the_events_that_go():
    """What belongs to a later event waits for it."""
    first, second = OutMessage("b", "note", b"1"), OutMessage("b", "note", b"2")
    outbox = filled((2, first), (3, second), (4, child("kid")))
    assert outbox.until(1).messages == []
    assert outbox.until(2).messages == [first]
    rows = outbox.until(4)
    assert (rows.messages, [run.id for run in rows.children]) == ([first, second], ["kid"])


def test_a_batch_that_has_grown_sends_nothing_twice():
    """After a lost answer: what is durable is not sent again, the rest is."""
    first, second = OutMessage("b", "note", b"1"), OutMessage("b", "note", b"2")
    outbox = filled((2, first), (2, child("kid")))
    assert outbox.until(2).messages == [first]
    outbox.add(3, second)
    assert [run.id for run in outbox.settled(2)] == ["kid"]
    assert outbox.until(3).messages == [second]
    assert outbox.children == 0


def test_what_was_not_durable_is_sent_again():
    """A batch whose outcome was looked up and was not there."""
    message = OutMessage("b", "note", b"1")
    outbox = filled((2, message))
    assert outbox.until(2).messages == outbox.until(2).messages == [message]
    assert outbox.settled(1) == []
    assert outbox.until(2).messages == [message]


def test_a_wait_that_ends_in_the_same_commit_is_only_ended():
    """And one that begins again replaces the one before."""
    rows = filled((2, wait(1)), (3, EndedWait(1)), (3, EndedWait(2)), (4, wait(2, 4))).until(4)
    assert list(rows.ended_waits) == [1]
    assert rows.waits == {2: wait(2, 4)}


def test_children_are_under_way_until_their_commit_is_answered():
    """As long as it is not known whether they came to life."""
    outbox = filled((2, child("a")), (3, child("b")))
    assert outbox.children == 2
    outbox.settled(2)
    assert outbox.children == 1
    outbox.clear()
    assert (outbox.children, outbox.until(9).children) == (0, [])


def test_a_generation_says_where_it_begins():
    """The store need not read what was before."""
    assert filled((5, NewGeneration())).until(9).first_seq == 5
    assert filled((5, NewGeneration())).until(4).first_seq is None
