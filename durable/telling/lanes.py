"""From a run's history to what its timeline shows: lanes of bars, and shifts of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from durable.telling.story import GENERATIONS, Story, story_of
from durable.telling.words import clean, count

if TYPE_CHECKING:
    from durable.model.records import HistoryEvent

Look = Literal["done", "failed", "backoff", "wait"]

ENDS = {"RunCompleted", "RunFailed", "RunCancelled", "RunTerminated"}
_ATTEMPTS = {"StepCompleted", "StepFailed", "CompensationCompleted", "CompensationFailed"}
_TIMERS = {"TimerStarted", "TimerFired"}
_BEGINNINGS = {"WaitStarted", "InputRequested", "TimerStarted", "ChildStarted"}


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took from `start` to `end`, in seconds since the epoch."""

    start: float
    end: float
    look: Look
    ended: bool = True


@dataclass(slots=True)
class Lane:
    """One row of the picture: everything that one command did, or several of one kind and name."""

    label: str
    kind: str = ""
    bars: list[Bar] = field(default_factory=list[Bar])
    attempts: int = 0
    said: str = ""
    """How it ended, where the drawing does not show it."""

    @property
    def note(self) -> str:
        """What is said beside the drawing."""
        tries = count(self.attempts, "attempt") if self.attempts > 1 else ""
        return ", ".join(filter(None, (tries, self.said)))


@dataclass(frozen=True, slots=True)
class Shift:
    """The time in which one worker drove the run; `lost` when it ended in a crash."""

    start: float
    end: float
    lost: bool


def lanes_of(events: Sequence[HistoryEvent], end: float) -> list[Lane]:
    """One lane for each command that took time, in the order in which history names them."""
    sketch = _Sketch(story_of(events), events[0].at.timestamp())
    for event in events:
        sketch.add(event)
    return sketch.lanes_until(end)


def folded(lanes: Sequence[Lane], room: int) -> list[Lane]:
    """The same in at most `room` lanes where that can be: those of one kind and name share a lane."""
    if len(lanes) <= room:
        return list(lanes)
    groups: dict[tuple[str, str], list[Lane]] = {}
    for lane in lanes:
        groups.setdefault((lane.kind, lane.label), []).append(lane)
    return [group[0] if len(group) == 1 else _together(group) for group in groups.values()]


def _together(group: Sequence[Lane]) -> Lane:
    looks = Counter(_look_of(lane) for lane in group)
    told = [f"{looks[look]} {_LOOK_WORDS[look]}" for look in _LOOK_WORDS if looks[look]]
    bars = [bar for lane in group for bar in lane.bars]
    return Lane(f"{group[0].label} x {len(group)}", group[0].kind, bars, said=", ".join(told))


_LOOK_WORDS: Final = {"done": "done", "failed": "failed", "open": "open"}


def _look_of(lane: Lane) -> str:
    last = lane.bars[-1] if lane.bars else None
    if last is None or not last.ended:
        return "open"
    return "failed" if last.look == "failed" else "done"


class _Sketch:
    """The lanes so far, and what is open in them."""

    def __init__(self, story: Story, begun: float) -> None:
        self._story = story
        self._lanes: dict[Hashable, Lane] = {}
        self._open: dict[Hashable, float] = {}
        self._before = begun

    def add(self, event: HistoryEvent) -> None:
        at = event.at.timestamp()
        if event.type in _TIMERS and event.name == "retry of the run":
            return  # drawn where the run failed
        if event.type in _ATTEMPTS:
            self._attempt(event, at)
        elif event.type in _BEGINNINGS:
            lane = self._lane(event.command, event)
            lane.said = _BEGUN.get(event.type, _nothing)(event)
            self._open[event.command] = at
        elif event.type in _ANSWERS:
            self._close(event.command, event, at, _ANSWERS[event.type](event))
        elif event.type in {"EventReceived", "RequestReceived"}:
            self._arrival(event, at)
        elif event.type in _MARKS:
            self._mark(event, at)
        self._before = at

    def lanes_until(self, end: float) -> list[Lane]:
        """All of them; what is still open reaches to `end`."""
        for key, begun in self._open.items():
            self._lanes[key].bars.append(Bar(begun, end, "wait", ended=False))
        return list(self._lanes.values())

    def _lane(self, key: Hashable, event: HistoryEvent, label: str = "") -> Lane:
        found = self._lanes.get(key)
        if found is None:
            kind = event.type.partition("Started")[0]
            label = label or clean(event.name or event.type)
            found = self._lanes[key] = Lane(label, kind)
        return found

    def _attempt(self, event: HistoryEvent, at: float) -> None:
        lane = self._lane(event.command, event)
        lane.kind = "Step"
        took = _seconds(event.data.get("took"))
        failed = event.type.endswith("Failed")
        lane.attempts = max(lane.attempts + 1, int(event.data.get("attempt") or 0))
        lane.bars.append(Bar(at - took, at, "failed" if failed else "done"))
        if "step" in event.data:
            lane.said = f"undoes {clean(event.data['step'])}"
        retry_at = _moment(event.data.get("retry_at"))
        if failed and retry_at is not None:
            lane.bars.append(Bar(at, retry_at, "backoff", ended=False))

    def _close(self, key: Hashable, event: HistoryEvent, at: float, said: str | None) -> None:
        lane = self._lane(key, event)
        lane.bars.append(Bar(self._open.pop(key, self._before), at, "wait"))
        if event.type == "ChildFailed":
            lane.bars.append(Bar(at, at, "failed"))
        if said is not None:
            lane.said = said

    def _arrival(self, event: HistoryEvent, at: float) -> None:
        """It ends the wait that took it; one that nobody took by name has a lane for all of its name."""
        taker = self._story.takers.get(event.seq)
        if taker in self._open:
            self._close(taker, event, at, None)
            return
        lane = self._lane((event.type, event.name), event)
        lane.bars.append(Bar(at, at, "done"))
        lane.said = f"{len(lane.bars)} came" if len(lane.bars) > 1 else "came"

    def _mark(self, event: HistoryEvent, at: float) -> None:
        """Something that happened to the run itself."""
        key, label, goes_on = _MARKS[event.type]
        if goes_on is None:
            begun = self._open.pop(key, None)
            if begun is not None:
                self._lanes[key].bars.append(Bar(begun, at, "wait"))
            return
        lane = self._lane(key, event, label)
        lane.said = clean(event.data.get("reason") or "")
        if event.type in GENERATIONS:
            self._end_generation(at)
            if event.type == "RunRetried":
                due = _moment(event.data.get("due")) or at
                lane.bars += [Bar(at, at, "failed"), Bar(at, due, "backoff", ended=False)]
                lane.said = f"now attempt {event.data.get('attempt')}"
            else:
                lane.bars.append(Bar(at, at, "done"))
                lane.said = f"now generation {self._story.generations[event.seq]}"
        elif goes_on:
            self._open.setdefault(key, at)
        else:
            lane.bars.append(Bar(at, at, "failed"))

    def _end_generation(self, at: float) -> None:
        """What was waited for is not waited for any more; children go on."""
        for key in [key for key in self._open if isinstance(key, int)]:
            if self._lanes[key].kind != "Child":
                self._lanes[key].bars.append(Bar(self._open.pop(key), at, "wait", ended=False))


def _nothing(_: HistoryEvent) -> str:
    return ""


_BEGUN: Final[Mapping[str, Callable[[HistoryEvent], str]]] = {
    "ChildStarted": lambda event: clean(event.data.get("child_id", "")),
    "InputRequested": lambda event: (
        f"asks {clean(', '.join(event.data['to']))}" if event.data.get("to") else ""
    ),
}
_ANSWERS: Final[Mapping[str, Callable[[HistoryEvent], str | None]]] = {
    "TimerFired": lambda _: None,
    "WaitTimedOut": lambda _: "timed out",
    "InputProvided": lambda event: f"answered by {clean(event.data.get('by') or 'somebody')}",
    "ChildCompleted": lambda _: None,
    "ChildFailed": lambda _: None,
}
"""Events that end what their command began, and what is said of that."""
_MARKS: Final[Mapping[str, tuple[str, str, bool | None]]] = {
    "Paused": ("paused", "paused", True),
    "Resumed": ("paused", "paused", None),
    "Blocked": ("blocked", "blocked", True),
    "Unblocked": ("blocked", "blocked", None),
    "CancelRequested": ("cancel", "cancel", False),
    "DeadlinePassed": ("deadline", "time-out of the run", False),
    "ContinuedAsNew": ("generations", "new generation", False),
    "RunRetried": ("retries", "retry of the run", False),
}
"""Key and label of a lane of the run itself, and whether it goes on: None ends it."""


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
