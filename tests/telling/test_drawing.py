"""The one picture of a run, drawn from its history."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from durable.telling.axis import FOLD_COLUMNS, axis
from durable.telling.drawing import MAX_LANES, timeline
from tests.telling.facts import START, Fact, fact, numbered, step


def drawn(*facts: Fact, width: int = 60, now: float = 0) -> list[str]:
    return timeline(numbered(*facts), width, START + timedelta(seconds=now))


def test_an_empty_history_has_no_picture():
    assert drawn() == []


def test_steps_one_after_the_other():
    lines = drawn(
        fact(0, "RunStarted", name="order"),
        step(4, 4, 1, "reserve"),
        step(10, 6, 2, "ship"),
        fact(10, "RunCompleted"),
        width=33,
    )
    assert lines == [
        "workers  aaaaaaaaaaaaaaaaaaaa",
        "reserve  ████████✓",
        "ship             ████████████✓",
        "         0 s              10 s",
    ]


def test_attempts_share_a_row_and_are_counted():
    failed = fact(
        2,
        "StepFailed",
        1,
        "charge",
        took=2_000_000,
        attempt=1,
        retry_at=START + timedelta(seconds=6),
    )
    lines = drawn(
        fact(0, "RunStarted"),
        failed,
        fact(10, "StepCompleted", 1, "charge", took=4_000_000, attempt=2),
        width=40,
    )
    assert lines[1] == "charge   ▓▓▓▓✕·······████████✓   2 attempts"


def test_a_crash_ends_one_shift_and_begins_another():
    lines = drawn(
        fact(0, "RunStarted"),
        step(4, 4, 1, "reserve"),
        fact(8, "Recovered", lost="w1", worker="w2"),
        step(16, 8, 2, "pack"),
        fact(16, "RunCompleted"),
        width=33,
    )
    assert lines[0] == "workers  aaaaa✕    ↻bbbbbbbbb"
    assert lines[2] == "pack               ██████████✓"


def test_a_wait_without_end_reaches_to_now():
    lines = drawn(
        fact(0, "RunStarted"), fact(5, "TimerStarted", 1, "sleep", due=START), now=10, width=33
    )
    assert lines[1] == "sleep              ░░░░░░░░░░"


def test_an_idle_week_is_folded_and_says_its_length():
    lines = drawn(
        fact(0, "RunStarted"),
        step(2, 2, 1, "ask"),
        fact(2, "TimerStarted", 2, "sleep"),
        fact(2 + 7 * 86_400, "TimerFired", 2, "sleep"),
        step(6 + 7 * 86_400, 4, 3, "remind"),
        fact(6 + 7 * 86_400, "RunCompleted"),
        width=50,
    )
    assert "┈7 d┈" in lines[0]
    assert lines[3].count("█") == 2 * lines[1].count("█")
    assert lines[-1].endswith("7 d")


def test_a_run_with_very_many_steps_says_what_it_left_out():
    facts = [fact(0, "RunStarted"), *(step(n, 1, n, f"step{n}") for n in range(1, 101))]
    lines = drawn(*facts)
    assert len(lines) == MAX_LANES + 3
    assert lines[-2] == f"…        and {100 - MAX_LANES} more"


def test_a_long_name_is_cut_and_a_wild_one_is_tamed():
    lines = drawn(fact(0, "RunStarted"), step(1, 1, 1, "n" * 100), step(2, 1, 2, "a\nb"))
    assert lines[1].startswith("n" * 23 + "…")
    assert lines[2].startswith("a b ")


def test_two_hundred_children_share_one_lane_that_says_how_they_ended():
    """The picture stays readable: lanes of one kind and name are folded into one."""
    started = [fact(0, "ChildStarted", n, "mail", child_id=f"r.{n}") for n in range(200)]
    ended = [fact(1 + n / 100, "ChildCompleted", n, result=None) for n in range(150)]
    failed = [fact(3, "ChildFailed", n, status="failed") for n in range(150, 190)]
    lines = drawn(fact(0, "RunStarted"), *started, *ended, *failed, now=5)
    assert len(lines) == 3
    assert lines[1].startswith("mail x 200  ░")
    assert lines[1].endswith("   150 done, 40 failed, 10 open")


def test_a_few_children_have_a_lane_each_with_their_ids():
    started = [fact(0, "ChildStarted", n, "mail", child_id=f"r.{n}") for n in (1, 2)]
    lines = drawn(fact(0, "RunStarted"), *started, now=5)
    assert [line.split()[-1] for line in lines[1:3]] == ["r.1", "r.2"]


def test_a_thousand_events_of_one_name_are_one_lane():
    came = [fact(n, "EventReceived", None, "tick", number=n) for n in range(1000)]
    lines = drawn(fact(0, "RunStarted"), *came)
    assert len(lines) == 3
    assert lines[1].endswith("   1000 came")


def test_an_event_ends_the_wait_that_took_it():
    wait = fact(0, "WaitStarted", 1, "paid", kind="event", names=["paid"], mode="one")
    lines = drawn(fact(0, "RunStarted"), wait, fact(5, "EventReceived", None, "paid"), now=10)
    assert lines[1].count("░") == lines[0].count("a") // 2
    assert len(lines) == 3


def test_a_question_says_who_was_asked_and_then_who_answered():
    asked = fact(1, "InputRequested", 1, "boss", to=["ann", "bob"])
    assert drawn(fact(0, "RunStarted"), asked, now=9)[1].endswith("   asks ann, bob")
    answered = fact(5, "InputProvided", 1, "boss", by="ann", payload=True)
    assert drawn(fact(0, "RunStarted"), asked, answered)[1].endswith("   answered by ann")


def test_an_undo_says_what_it_undoes():
    undo = fact(2, "CompensationFailed", 3, "refund", took=1_000_000, attempt=1, step="charge")
    lines = drawn(fact(0, "RunStarted"), undo, fact(2, "RunFailed"))
    assert lines[1].endswith("▓✕   undoes charge")


def test_what_happened_to_the_run_itself_has_lanes_of_its_own():
    lines = drawn(
        fact(0, "RunStarted"),
        fact(2, "Paused"),
        fact(4, "Resumed"),
        fact(5, "ContinuedAsNew", None, "r", base=0),
        fact(6, "CancelRequested", reason="no need"),
        fact(6, "RunCancelled"),
    )
    assert [line.split("  ")[0] for line in lines[1:4]] == ["paused", "new generation", "cancel"]
    assert lines[2].endswith("now generation 2")
    assert lines[3].endswith("no need")


def test_a_new_generation_ends_the_waits_before_it_and_not_the_children():
    lines = drawn(
        fact(0, "RunStarted"),
        fact(0, "TimerStarted", 1, "sleep", due=START),
        fact(0, "ChildStarted", 2, "mail", child_id="r.2"),
        fact(5, "ContinuedAsNew", None, "r", base=2),
        now=10,
    )
    assert lines[1].count("░") == lines[2].count("░") // 2


def test_a_retry_of_the_whole_run_is_drawn_with_its_pause():
    lines = drawn(
        fact(0, "RunStarted"),
        fact(5, "RunRetried", None, "r", attempt=2, due=START + timedelta(seconds=8)),
        fact(8, "TimerFired", 1, "retry of the run"),
        fact(10, "RunCompleted"),
    )
    assert len(lines) == 3
    assert "✕···" in lines[1]
    assert lines[1].endswith("   now attempt 2")


moments = st.floats(0, 1e7)


@given(
    st.lists(st.tuples(moments, moments).map(sorted).map(tuple)),
    st.tuples(moments, moments).map(sorted),
    st.integers(20, 200),
)
def test_later_is_never_further_left(busy, ends, width):
    start, end = ends
    inside = [(max(start, a), min(end, b)) for a, b in busy if a <= end and b >= start]
    scale = axis(inside, start, end, width)
    times = sorted({start, end, *(time for interval in inside for time in interval)})
    columns = [scale.column(time) for time in times]
    assert columns == sorted(columns)
    assert columns[0] == 0
    assert columns[-1] <= width


@given(st.integers(0, 300))
def test_many_folds_never_eat_the_picture(gaps):
    busy = [(n * 1000.0, n * 1000.0 + 1) for n in range(gaps + 1)]
    scale = axis(busy, 0, gaps * 1000.0 + 1, 80)
    assert sum(1 for _ in scale.folds) * FOLD_COLUMNS <= 40
