"""The one picture of a run, drawn from its history."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durable.cli.axis import FOLD_COLUMNS, axis
from durable.cli.timeline import MAX_LANES, timeline

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Fact:
    """As much of a history event as the picture needs."""

    type: str
    at: datetime
    command: int | None = None
    name: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


def fact(seconds: float, type: str, command: int | None = None, name: str | None = None, **data):
    return Fact(type, START + timedelta(seconds=seconds), command, name, data)


def step(ended: float, took: float, command: int, name: str, **data) -> Fact:
    return fact(ended, "StepCompleted", command, name, took=int(took * 1e6), attempt=1, **data)


def drawn(*facts: Fact, width: int = 60, now: float = 0) -> list[str]:
    return timeline(facts, width, START + timedelta(seconds=now))


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
