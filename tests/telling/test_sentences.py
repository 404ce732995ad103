"""Every event of a history is said in words that a person understands."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable.model.history import EVENT_CLASSES
from durable.telling.sentences import told
from durable.telling.story import story_of
from tests.telling.facts import START, Fact, fact, numbered

IN_3_DAYS = START + timedelta(days=3)
BROKEN = {"type": "shop:Declined", "message": "no funds"}


def said(*facts: Fact) -> str:
    """What is said of the last one."""
    events = numbered(*facts)
    return told(events[-1], story_of(events))


@pytest.mark.parametrize(
    "type, data, words",
    [
        ("RunStarted", {"input": "ada", "version": 1, "queue": "default"}, "input ada"),
        ("RunStarted", {"version": 2, "queue": "ai"}, "version 2, on queue ai"),
        ("RunStarted", {"parent_id": "p", "tags": {"a": "b"}}, "child of p, a=b"),
        ("RunStarted", {"deadline": IN_3_DAYS}, "must end by 2026-01-04 00:00:00 UTC"),
        ("RunCompleted", {"result": 3}, "result 3"),
        ("RunFailed", {"failure": BROKEN, "status": "failed"}, "Declined: no funds"),
        (
            "RunFailed",
            {"failure": BROKEN, "status": "compensated"},
            "Declined: no funds, what it did is undone",
        ),
        ("RunCancelled", {"reason": "no need"}, "reason: no need"),
        ("RunCancelled", {"status": "compensation_failed"}, "not everything could be undone"),
        ("RunTerminated", {"reason": "stuck"}, "reason: stuck"),
        ("StepCompleted", {"result": 1, "took": 4000, "attempt": 1}, "result 1, took 4 ms"),
        ("StepCompleted", {"took": 4000, "attempt": 2}, "attempt 2, took 4 ms"),
        (
            "StepFailed",
            {
                "failure": BROKEN,
                "took": 4000,
                "attempt": 1,
                "retry_at": START + timedelta(seconds=2),
            },
            "Declined: no funds, attempt 1, took 4 ms, again in 2.0 s",
        ),
        (
            "StepFailed",
            {"failure": BROKEN, "attempt": 3},
            "Declined: no funds, attempt 3, no further attempt",
        ),
        ("TimerStarted", {"due": IN_3_DAYS}, "until 2026-01-04 00:00:00 UTC (3 d)"),
        ("TimerFired", {"due": START}, "is over"),
        (
            "WaitStarted",
            {"kind": "event", "names": ["a", "b"], "mode": "any", "key": "k", "due": IN_3_DAYS},
            "waits for event a or b, under key k, until 2026-01-04 00:00:00 UTC (3 d)",
        ),
        (
            "WaitStarted",
            {"kind": "event", "names": ["a", "b"], "mode": "all"},
            "waits for event a and b",
        ),
        (
            "WaitStarted",
            {"kind": "request", "names": ["price"], "mode": "one"},
            "waits for request price",
        ),
        ("WaitTimedOut", {"kind": "event"}, "nothing came in time"),
        ("WaitCancelled", {"number": 4}, "somebody ended the oldest wait of this name"),
        ("EventReceived", {"payload": {"n": 1}}, '{"n": 1}, kept for a wait to come'),
        (
            "EventReceived",
            {"payload": None, "key": "k"},
            "published under key k, kept for a wait to come",
        ),
        ("MessageSent", {"target": "r-2"}, "sent to run r-2"),
        ("MessageSent", {"key": "k"}, "published under key k"),
        ("MessageSent", {"target": "r", "refused": "ended"}, "run r has ended: not sent"),
        ("MessageSent", {"target": "r", "refused": "unknown"}, "run r does not exist: not sent"),
        (
            "InputRequested",
            {"kind": "approval", "to": ["ann", "bob"], "prompt": "Ship it?", "due": IN_3_DAYS},
            "asks ann, bob for approval, “Ship it?”, until 2026-01-04 00:00:00 UTC (3 d)",
        ),
        (
            "InputRequested",
            {"kind": "choice", "choices": [["a", "Express"], ["b", "Slow"]]},
            "asks for choice, offers Express | Slow",
        ),
        (
            "InputProvided",
            {"by": "ann", "payload": {"approved": True}},
            'ann answered {"approved": true}',
        ),
        ("InputProvided", {"payload": "yes"}, "somebody answered yes"),
        (
            "RequestReceived",
            {"payload": 3, "number": 7},
            "request 7 asks 3, kept for a wait to come",
        ),
        ("ChildStarted", {"child_id": "r.3"}, "child r.3"),
        (
            "ChildStarted",
            {"child_id": "r.3", "abandoned": True},
            "child r.3, goes on when this run ends",
        ),
        ("ChildCompleted", {"result": 1}, "child of command 3 completed, result 1"),
        ("ChildRefused", {"child_id": "x"}, "run of command 3 is no child: its id was taken"),
        ("FollowerAdded", {"number": 1}, "another run waits for the end of this one"),
        ("StateSet", {"payload": "packed"}, "is packed"),
        ("Patched", {}, "goes the new way"),
        ("CancelRequested", {"reason": "no need", "number": 1}, "reason: no need"),
        ("DeadlinePassed", {}, "its time-out has passed: it is cancelled"),
        ("CompensationStarted", {}, "undoes what it has done"),
        (
            "CompensationCompleted",
            {"step": "charge", "took": 1000, "attempt": 1},
            "undid charge, took 1 ms",
        ),
        (
            "CompensationFailed",
            {"step": "charge", "failure": BROKEN, "attempt": 1},
            "could not undo charge, Declined: no funds, attempt 1, no further attempt",
        ),
        (
            "ContinuedAsNew",
            {"input": 2, "unread": ["a", "b"], "children": ["r.1"]},
            "generation 2 begins, with 2, takes along 2 unread events, 1 child still running",
        ),
        (
            "RunRetried",
            {"attempt": 2, "due": START + timedelta(seconds=1), "failure": BROKEN},
            "attempt 2 of the whole run at 2026-01-01 00:00:01 UTC (1.0 s), after Declined: no funds",
        ),
        ("Paused", {}, "nothing new begins"),
        ("Resumed", {}, "goes on"),
        (
            "Recovered",
            {"lost": "w1", "worker": "w2"},
            "worker w2 took over from w1, which was lost",
        ),
        ("Blocked", {"reason": "other code\nmore", "by": "x"}, "other code"),
        ("Unblocked", {"by": "x"}, "tried again with other code"),
    ],
)
def test_an_event_says(type: str, data: dict[str, Any], words: str):
    assert said(fact(0, type, 3, "it", **data)) == words


def test_every_type_of_event_has_words():
    """None is shown as its fields."""
    from durable.telling.sentences import _TELLERS

    assert {cls.__name__ for cls in EVENT_CLASSES} == set(_TELLERS)


def test_an_event_of_a_newer_version_is_shown_as_it_is():
    assert said(fact(0, "Sung", 1, "it", tune="C major", site="x.py:1")) == "tune=C major"


def test_the_end_of_a_child_names_it():
    begun = fact(0, "ChildStarted", 3, "mail", child_id="r.3")
    assert said(begun, fact(1, "ChildCompleted", 3, result=1)) == "child r.3 completed, result 1"
    failed = fact(1, "ChildFailed", 3, status="failed", failure=BROKEN)
    assert said(begun, failed) == "child r.3 failed, Declined: no funds"
    cancelled = fact(1, "ChildFailed", 3, status="cancelled", reason="too late")
    assert said(begun, cancelled) == "child r.3 was cancelled, reason: too late"
    late = fact(1, "WaitTimedOut", 3, "mail", kind="child")
    assert said(begun, late) == "child r.3 did not end in time"


def wait(command: int, *names: str, kind: str = "event", mode: str = "one", key: Any = None):
    return fact(0, "WaitStarted", command, kind=kind, names=list(names), mode=mode, key=key)


def came(name: str, **data: Any) -> Fact:
    return fact(1, "EventReceived", None, name, payload=None, **data)


def test_an_event_goes_to_the_oldest_wait_of_its_name():
    waits = wait(1, "other"), wait(2, "paid"), wait(3, "paid")
    assert said(*waits, came("paid")) == "taken by wait 2"
    assert said(*waits, came("paid"), came("paid")) == "taken by wait 3"
    assert said(*waits, came("paid"), came("paid"), came("paid")) == "kept for a wait to come"


def test_a_wait_that_timed_out_has_taken_nothing():
    timed_out = fact(2, "WaitTimedOut", 1, "paid", kind="event")
    events = numbered(wait(1, "paid"), came("paid"), timed_out)
    assert told(events[1], story_of(events)) == "kept for a wait to come"


def test_a_wait_for_all_takes_one_of_each_name():
    waits = wait(1, "a", "b", mode="all"), came("a")
    assert said(*waits) == "taken by wait 1"
    assert said(*waits, came("a")) == "kept for a wait to come"
    assert said(*waits, came("b")) == "taken by wait 1"


def test_what_was_published_goes_only_to_a_wait_with_its_key():
    assert said(wait(1, "a"), came("a", key="k")).endswith("kept for a wait to come")
    assert said(wait(1, "a", key="k"), came("a", key="k")).endswith("taken by wait 1")
    assert said(wait(1, "a", key="k"), came("a")) == "taken by wait 1"


def test_requests_have_waits_of_their_own():
    asked = fact(1, "RequestReceived", None, "price", payload=3, number=2)
    assert said(wait(1, "price"), asked) == "request 2 asks 3, kept for a wait to come"
    assert said(wait(1, "price", kind="request"), asked) == "request 2 asks 3, taken by wait 1"
    answered = fact(2, "RequestAnswered", 2, "price", answer=10)
    assert said(asked, answered) == "request 2 is answered: 10"
    rejected = fact(2, "RequestAnswered", 2, "price", rejected="closed")
    assert said(asked, rejected) == "request 2 is rejected: closed"


def test_generations_are_counted():
    begun = fact(0, "ContinuedAsNew", None, "loop", input=1), fact(1, "ContinuedAsNew", input=2)
    assert said(*begun) == "generation 3 begins, with 2"


def test_waits_end_with_their_generation():
    assert said(wait(1, "a"), fact(0, "ContinuedAsNew"), came("a")) == "kept for a wait to come"


def test_no_text_of_a_user_steers_the_terminal():
    assert "\x1b" not in said(fact(0, "CancelRequested", reason="\x1b[31m"))
