"""One run told in words and drawn as a timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from durable.cli.screen import Screen, Styled, status_cell
from durable.telling import clean, count, short, summary, timeline

if TYPE_CHECKING:
    from durable import CompensationRecord, Failure, HistoryEvent, RunDetail

MAX_QUESTIONS = 10
"""So many of the newest questions to people are told."""

PIPE_WIDTH = 100
"""How wide a timeline is drawn where there is no window."""


def describe(screen: Screen, run: RunDetail, events: Sequence[HistoryEvent]) -> None:
    """Show everything that a person wants to know about a run first."""
    screen.line(
        Styled(clean(run.workflow), "bold"), f"  {clean(run.id)}  ", status_cell(run.status),
        f"  {summary(run, events)}",
    )  # fmt: skip
    screen.line()
    for line in timeline(events, screen.width or PIPE_WIDTH):
        screen.line("  ", line)
    screen.line()
    for name, value in _facts(run, events):
        screen.line(Styled(f"  {name:<8} ", "dim"), clean(value))
    if run.error is not None:
        _show_failure(screen, run.error)


def _facts(run: RunDetail, events: Sequence[HistoryEvent]) -> Iterator[tuple[str, str]]:
    """What is told below the picture, one line each."""
    if run.parent_id is not None:
        yield "parent", run.parent_id
    if run.input is not None:
        yield "input", short(run.input, 200)
    yield from (("state", f"{name} = {short(value)}") for name, value in run.state.items())
    yield from (("waits", words) for words in run.waiting_for)
    yield from (("asked", words) for words in _questions(events))
    yield from (("children", words) for words in _children(events))
    yield from (("undone", _undone(undo)) for undo in run.compensations)
    reasons = [e.data["reason"] for e in events if e.type in _STOPPED and e.data.get("reason")]
    yield from (("reason", reason) for reason in reasons[-1:])
    if run.result is not None:
        yield "result", short(run.result, 200)


_STOPPED = {"RunCancelled", "RunTerminated"}


def _questions(events: Sequence[HistoryEvent]) -> list[str]:
    """What people were asked, and who answered what; the newest ones."""
    said: dict[int | None, str] = {}
    for event in events:
        name = event.name or ""
        if event.type == "InputRequested":
            parts = (name, ", ".join(event.data.get("to") or ()), event.data.get("prompt") or "")
            said[event.command] = short(": ".join(filter(None, parts)), 120)
        elif event.type == "InputProvided":
            asked = said.get(event.command, name)
            by = event.data.get("by") or "somebody"
            said[event.command] = f"{asked} → {by}: {short(event.data.get('payload'))}"
        elif event.type == "WaitTimedOut" and event.command in said:
            said[event.command] += " → no answer in time"
    return list(said.values())[-MAX_QUESTIONS:]


def _children(events: Sequence[HistoryEvent]) -> list[str]:
    """How many children, and how they ended."""
    started = sum(event.type == "ChildStarted" for event in events)
    ends = Counter(
        "completed" if event.type == "ChildCompleted" else str(event.data.get("status"))
        for event in events
        if event.type in {"ChildCompleted", "ChildFailed"}
    )
    open_ones = started - ends.total()
    told = [f"{number} {status}" for status, number in ends.items()]
    told += [f"{open_ones} not ended"] if open_ones > 0 else []
    return [f"{started}: {', '.join(told)}"] if started else []


def _undone(undo: CompensationRecord) -> str:
    error = "" if undo.error is None else f": {undo.error.message}"
    tries = f", {count(undo.attempts, 'attempt')}" if undo.attempts > 1 else ""
    return f"{undo.step} by {undo.name}, {undo.status}{tries}{error}"


def _show_failure(screen: Screen, failure: Failure) -> None:
    name = failure.type.rpartition(":")[2]
    screen.line(Styled("  error    ", "dim"), Styled(f"{name}: {clean(failure.message)}", "red"))
    for line in failure.traceback.rstrip().splitlines()[-6:]:
        screen.line(Styled(f"    {clean(line) if line.strip() else ''}", "dim"))
