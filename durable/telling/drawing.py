"""The one picture of a run, as text: who drove it, what it did, where it waited, what it survived.

Made from the history alone, so it looks the same wherever and whenever it is drawn:

    workers  aaaaaaaaaaaa✕    ↻bbbbbbbbb
    reserve  ██✓
    charge     ██✕···██✓                   2 attempts
    pack                        █████✓
    ship                             ██✓
             0 s                    6.1 s
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import cycle
from typing import TYPE_CHECKING

from durable.telling.axis import Axis, axis
from durable.telling.lanes import ENDS, Lane, Shift, folded, lanes_of, shifts_of
from durable.telling.words import duration

if TYPE_CHECKING:
    from durable.model.records import HistoryEvent

MAX_LANES = 40
"""Lanes drawn; of a run with more those of one name share a lane, and it says how many it left out."""

LABEL_WIDTH = 24

FILLS: Mapping[str, str] = {"done": "█", "failed": "▓", "backoff": "·", "wait": "░"}
MARKS: Mapping[str, str] = {"done": "✓", "failed": "✕"}


def timeline(events: Sequence[HistoryEvent], width: int, now: datetime | None = None) -> list[str]:
    """Draw a run's history on lines of about `width` columns."""
    if not events:
        return []
    start = events[0].at.timestamp()
    end = events[-1].at.timestamp()
    if events[-1].type not in ENDS:
        end = max(end, (now or datetime.now(UTC)).timestamp())
    lanes = lanes_of(events, end)
    shifts = shifts_of(events, end)
    rows = folded(lanes, MAX_LANES)
    shown = rows[:MAX_LANES]
    label = min(LABEL_WIDTH, max(len(lane.label) for lane in [*shown, Lane("workers")]))
    note = max((len(lane.note) for lane in shown), default=0)
    busy = [(bar.start, bar.end) for lane in lanes for bar in lane.bars if bar.look != "wait"]
    busy += [(at, at) for at in (event.at.timestamp() for event in events)]
    scale = axis(busy, start, end, max(20, width - label - note - 6))
    lines = [_line("workers", _draw_shifts(shifts, scale), label)]
    lines += [_line(lane.label, _draw(lane, scale), label, lane.note) for lane in shown]
    if len(rows) > MAX_LANES:
        lines.append(_line("…", f"and {len(rows) - MAX_LANES} more", label))
    return [*lines, _line("", _ruler(scale, start, end), label)]


def _draw(lane: Lane, scale: Axis) -> str:
    row: dict[int, str] = {}
    marks: dict[int, str] = {}
    for bar in lane.bars:
        left, right = scale.column(bar.start), scale.column(bar.end)
        right = max(right, left + 1)
        row.update(dict.fromkeys(range(left, right), FILLS[bar.look]))
        if bar.ended and bar.look in MARKS:
            marks[right] = MARKS[bar.look]
    row.update(marks)  # over whatever followed at once
    _fold(row, scale)
    return _text(row)


def _draw_shifts(shifts: Sequence[Shift], scale: Axis) -> str:
    row: dict[int, str] = {}
    for shift, letter in zip(shifts, cycle(string.ascii_lowercase), strict=False):
        left, right = scale.column(shift.start), scale.column(shift.end)
        row.update(dict.fromkeys(range(left, max(right, left + 1)), letter))
        if shift is not shifts[0]:
            row[left] = "↻"
        if shift.lost:
            row[max(right, left + 1)] = "✕"
    _fold(row, scale, say=True)
    return _text(row)


def _fold(row: dict[int, str], scale: Axis, *, say: bool = False) -> None:
    """Dot the folded gaps of a row that has something in them; the first row says how long they were."""
    for fold in scale.folds:
        columns = range(int(fold.left) + 1, int(fold.right))
        if say or any(column in row for column in columns):
            words = duration(fold.end - fold.start).center(len(columns), "┈") if say else ""
            row.update(dict.fromkeys(columns, "┈"))
            row.update(zip(columns, words, strict=False))


def _text(row: Mapping[int, str]) -> str:
    return "".join(row.get(column) or " " for column in range(max(row, default=-1) + 1)).rstrip()


def _line(label: str, drawing: str, width: int, note: str = "") -> str:
    name = label if len(label) <= width else f"{label[: width - 1]}…"
    return f"{name.ljust(width)}  {drawing}{'   ' + note if note else ''}"


def _ruler(scale: Axis, start: float, end: float) -> str:
    last = duration(end - start)
    return f"0 s{last.rjust(max(len(last) + 2, scale.column(end) - 2))}"
