"""A run in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from durable.telling.words import between, clean, count

if TYPE_CHECKING:
    from durable.model.records import HistoryEvent, Run


def summary(run: Run, events: Sequence[HistoryEvent], now: datetime | None = None) -> str:
    """Say in words how long it took (until `now`), what it waits for, what it survived."""
    failed = sum(event.type == "StepFailed" for event in events)
    attempts = failed + sum(event.type == "StepCompleted" for event in events)
    crashes = sum(event.type == "Recovered" for event in events)
    tries = max((e.data.get("attempt", 1) for e in events if e.type == "RunRetried"), default=1)
    generations = sum(event.type == "ContinuedAsNew" for event in events) + 1
    parts = [
        f"{'took' if run.finished_at else 'since'} {between(run.created_at, run.finished_at or now)}",
        waiting_in_words(run),
        f"{count(attempts, 'attempt')}{f', {failed} failed' if failed else ''}" if attempts else "",
        f"tried {tries} times as a whole" if tries > 1 else "",
        f"{generations} generations" if generations > 1 else "",
        f"survived {count(crashes, 'crash', 'crashes')}" if crashes else "",
    ]
    return " · ".join(filter(None, parts))


def waiting_in_words(run: Run, most: int = 2) -> str:
    """What an open run waits for: the first `most` things, and how many more."""
    if not run.waiting_for:
        return ""
    told = ", ".join(map(clean, run.waiting_for[:most]))
    more = len(run.waiting_for) - most
    said = f"{told}, and {more} more" if more > 0 else told
    return said if run.status == "blocked" else f"waits for {said}"
