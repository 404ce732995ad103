"""One run told in words and drawn as a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.cli.screen import Screen, Styled, status_cell
from durable.cli.timeline import timeline
from durable.cli.words import between, clean, count, short

if TYPE_CHECKING:
    from durable import Failure, HistoryEvent, RunDetail

PIPE_WIDTH = 100
"""How wide a timeline is drawn where there is no window."""


def describe(screen: Screen, run: RunDetail, events: Sequence[HistoryEvent]) -> None:
    """Show everything that a person wants to know about a run first."""
    screen.line(
        Styled(clean(run.workflow), "bold"), f"  {clean(run.id)}  ", status_cell(run.status),
        f"  {_sentence(run, events)}",
    )  # fmt: skip
    screen.line()
    for line in timeline(events, screen.width or PIPE_WIDTH):
        screen.line("  ", line)
    screen.line()
    for name, value in (("input", run.input), ("result", run.result)):
        if value is not None:
            screen.line(Styled(f"  {name:<8} ", "dim"), short(value, 200))
    if run.error is not None:
        _show_failure(screen, run.error)


def _sentence(run: RunDetail, events: Sequence[HistoryEvent]) -> str:
    """Say in words how long it took, what it waits for, what it survived."""
    failed = sum(event.type == "StepFailed" for event in events)
    attempts = failed + sum(event.type == "StepCompleted" for event in events)
    crashes = sum(event.type == "Recovered" for event in events)
    parts = [
        f"{'took' if run.finished_at else 'since'} {between(run.created_at, run.finished_at)}",
        f"waits for {', '.join(map(clean, run.waiting_for))}" if run.waiting_for else "",
        f"{count(attempts, 'attempt')}{f', {failed} failed' if failed else ''}" if attempts else "",
        f"survived {count(crashes, 'crash', 'crashes')}" if crashes else "",
    ]
    return " · ".join(filter(None, parts))


def _show_failure(screen: Screen, failure: Failure) -> None:
    name = failure.type.rpartition(":")[2]
    screen.line(Styled("  error    ", "dim"), Styled(f"{name}: {clean(failure.message)}", "red"))
    for line in failure.traceback.rstrip().splitlines()[-6:]:
        screen.line(Styled(f"    {clean(line) if line.strip() else ''}", "dim"))
