"""Events, requests, decisions and outcomes are simple values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from durable import Decision, Err, Event, Ok, Request

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_event_has_a_name_and_a_type():
    assert (Event("paid", int).name, Event("paid", int).type) == ("paid", int)
    assert Event("paid").type is Any
    assert repr(Event("paid")) == "Event('paid')"
    assert repr(Event("paid", int)) == "Event('paid', <class 'int'>)"


@pytest.mark.parametrize("name", ["", "x" * 256, "a\n", 3])
def test_an_event_needs_a_name(name: Any):
    with pytest.raises((ValueError, TypeError), match="name"):
        Event(name)
    with pytest.raises((ValueError, TypeError), match="name"):
        Request(name, int, str)


def test_a_request_has_a_question_and_an_answer():
    add = Request("add", int, str)
    assert (add.name, add.asks, add.answers) == ("add", int, str)
    assert repr(add) == "Request('add', <class 'int'>, <class 'str'>)"


def test_a_decision_is_true_when_approved():
    assert Decision(approved=True, at=NOW)
    no = Decision(approved=False, comment="too dear", by="ann", at=NOW)
    assert not no
    assert (no.comment, no.by) == ("too dear", "ann")


def test_outcomes_are_matched():
    def told(outcome: Ok[int] | Err) -> str:
        match outcome:
            case Ok(value):
                return f"got {value}"
            case Err(error):
                return f"failed: {error}"

    assert told(Ok(3)) == "got 3"
    assert told(Err(ValueError("no"))) == "failed: no"
    assert Ok(3) == Ok(3)
