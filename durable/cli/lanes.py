"""From a run's history to what its timeline shows: lanes of bars, and shifts of workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from durable.cli.words import clean, count

if TYPE_CHECKING:
    from durable import HistoryEvent

Look = Literal["done", "failed", "backoff", "wait"]

ENDS = {"RunCompleted", "RunFailed", "RunCancelled", "RunTerminated"}
_BEGINNINGS = {"WaitStarted", "InputRequested", "TimerStarted", "ChildStarted"}
_ANSWERS = {
    "WaitTimedOut",
    "WaitCancelled",
    "InputProvided",
    "TimerFired",
    "ChildCompleted",
    "ChildFailed",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took from `start` to `end`, in seconds since the epoch."""

    start: float
    end: float
    look: Look
    ended: bool = True


@dataclass(slots=True)
class Lane:
    """One row of the picture: everything that one command did."""

    label: str
    bars: list[Bar] = field(default_factory=list[Bar])
    attempts: int = 0

    @property
    def note(self) -> str:
        """What is said beside the drawing."""
        return count(self.attempts, "attempt") if self.attempts > 1 else ""


@dataclass(frozen=True, slots=True)
class Shift:
    """The time in which one worker drove the run; `lost` when it ended in a crash."""

    start: float
    end: float
    lost: bool


def lanes_of(events: Sequence[HistoryEvent], end: float) -> list[Lane]:
    """One lane for each command that took time, in the order in which history names them."""
    lanes: dict[int | None, Lane] = {}
    open_since: dict[int | None, float] = {}
    before = events[0].at.timestamp()
    for event in events:
        at, key = event.at.timestamp(), event.command
        if event.type in {"StepCompleted", "StepFailed", "CompensationCompleted"}:
            _add_attempt(_lane(lanes, event), event, at)
        elif event.type in _BEGINNINGS:
            _lane(lanes, event)
            open_since[key] = at
        elif event.type in _ANSWERS:
            begun = open_since.pop(key, before)
            _lane(lanes, event).bars.append(Bar(begun, at, "wait"))
        elif event.type == "EventReceived" and key in open_since:
            lanes[key].bars.append(Bar(open_since.pop(key), at, "wait"))
        before = at
    for key, begun in open_since.items():
        lanes[key].bars.append(Bar(begun, end, "wait", ended=False))
    return list(lanes.values())


def _lane(lanes: dict[int | None, Lane], event: HistoryEvent) -> Lane:
    return lanes.setdefault(event.command, Lane(clean(event.name or event.type)))


def _add_attempt(lane: Lane, event: HistoryEvent, at: float) -> None:
    took = _seconds(event.data.get("took"))
    failed = event.type == "StepFailed"
    lane.attempts = max(lane.attempts + 1, int(event.data.get("attempt") or 0))
    lane.bars.append(Bar(at - took, at, "failed" if failed else "done"))
    retry_at = _moment(event.data.get("retry_at"))
    if failed and retry_at is not None:
        lane.bars.append(Bar(at, retry_at, "backoff", ended=False))


def shifts_of(events: Sequence[HistoryEvent], end: float) -> list[Shift]:
    """Who drove the run and when: a new shift begins where a worker took over from a lost one."""
    shifts: list[Shift] = []
    since = last = events[0].at.timestamp()
    taken_over = False
    for event in events:
        at = event.at.timestamp()
        if event.type == "Recovered":
            shifts.append(Shift(since, last, lost=True))
            since, taken_over = at, True
        elif taken_over:
            # A recovery is written with what the new worker did first, and that began earlier.
            since, taken_over = max(last, at - _seconds(event.data.get("took"))), False
        if event.type != "Recovered":
            last = at
    return [*shifts, Shift(since, end, lost=False)]


def _seconds(microseconds: Any) -> float:
    return microseconds / 1e6 if isinstance(microseconds, int | float) else 0.0


def _moment(value: Any) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else (_seconds(value) or None)
