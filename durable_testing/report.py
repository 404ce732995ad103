"""What happened to the runs of an environment, as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from durable.telling import clean, count, summary, timeline

if TYPE_CHECKING:
    from durable.client import Client
    from durable.model.records import Run

MAX_RUNS: Final = 20
"""Runs that are drawn, the newest ones."""
WIDTH: Final = 100
"""Columns of a drawing."""


async def drawn(client: Client, now: datetime, run_id: str | None = None) -> str:
    """All runs, or one: each with a sentence and its timeline, the oldest first."""
    runs: Sequence[Run]
    if run_id is not None:
        runs, more = [await client.get(run_id, steps=False)], None
    else:
        page = await client.list(limit=MAX_RUNS)
        runs, more = page.items[::-1], page.next
    parts = [await _drawn(client, run, now) for run in runs]
    if more:
        parts.insert(0, f"the newest {count(MAX_RUNS, 'run')}:")
    return "\n\n".join(parts) or "no runs"


async def _drawn(client: Client, run: Run, now: datetime) -> str:
    events = [event async for event in client.history(run.id)]
    head = f"{clean(run.workflow)}  {clean(run.id)}  {run.status}  {summary(run, events, now)}"
    lines = [head, *(f"  {line}" for line in timeline(events, WIDTH, now))]
    if run.error is not None:
        lines.append(f"  error  {run.error.type.rpartition(':')[2]}: {clean(run.error.message)}")
    return "\n".join(lines)
