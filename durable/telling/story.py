"""What a history tells only between its lines: which child an end is of, and which wait took an event.

History has an event when it came, not what took it: that follows from the code. As far as it shows from
outside, it is told here: the oldest wait of that name which is written down, open, and never timed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.model.records import HistoryEvent

GENERATIONS = {"ContinuedAsNew", "RunRetried"}
"""Events that begin the function anew."""


@dataclass(frozen=True, slots=True)
class Story:
    """Of one history."""

    children: Mapping[int, str]
    """Ids of children, by the command that started them."""
    takers: Mapping[int, int]
    """Which wait, by its command, took the event of this number."""
    generations: Mapping[int, int]
    """Which generation, from 2 on, the event of this number begins."""


@dataclass(slots=True)
class _Wait:
    kind: str
    names: set[str]
    whole: bool
    key: str | None
    given: set[str] = field(default_factory=set[str])

    def takes(self, event: HistoryEvent) -> bool:
        """Whether it would have this event."""
        kind = "event" if event.type == "EventReceived" else "request"
        key = event.data.get("key")
        fits = self.kind == kind and event.name in self.names - self.given
        return fits and (key is None or key == self.key)


def story_of(events: Sequence[HistoryEvent]) -> Story:
    """Read it all."""
    children: dict[int, str] = {}
    takers: dict[int, int] = {}
    generations: dict[int, int] = {}
    empty_handed = {e.command for e in events if e.type == "WaitTimedOut"}
    waits: dict[int, _Wait] = {}
    for event in events:
        if event.type in GENERATIONS:
            generations[event.seq] = len(generations) + 2
            waits.clear()
        elif event.type in {"EventReceived", "RequestReceived"}:
            _give(event, waits, takers)
        elif event.command is None:
            continue
        elif event.type == "ChildStarted":
            children[event.command] = str(event.data.get("child_id"))
        elif event.type == "WaitStarted" and event.command not in empty_handed:
            waits[event.command] = _wait_of(event)
    return Story(children, takers, generations)


def _wait_of(event: HistoryEvent) -> _Wait:
    data = event.data
    return _Wait(
        str(data.get("kind")),
        set(data.get("names", ())),
        data.get("mode") == "all",
        data.get("key"),
    )


def _give(event: HistoryEvent, waits: dict[int, _Wait], takers: dict[int, int]) -> None:
    for command, wait in sorted(waits.items()):
        if wait.takes(event):
            takers[event.seq] = command
            wait.given.add(event.name or "")
            if not wait.whole or wait.given == wait.names:
                del waits[command]
            return
