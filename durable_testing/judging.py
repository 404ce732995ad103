"""What must hold of every run, however it was disturbed, and what of those that were only disturbed a little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from durable.model import history
from durable.model.failure import decode_failure
from durable.model.history_file import HistoryFile
from durable.model.payload import ANY
from durable.model.wire import EventRow, decode_event
from durable_testing.replaying import replay
from durable_testing.steering import is_free, kind_of

if TYPE_CHECKING:
    from durable.model.runnable import Workflow

Outcome: TypeAlias = "tuple[str, object]"
"""The status of a run that has ended, and its result as it is stored, or the type of its error."""

Call: TypeAlias = "tuple[str, int]"
"""The run that a step was called in, and the number of the command."""

_UNDOING: Final = frozenset({"failed", "cancelled", "compensated", "compensation_failed"})


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of a case, as it ended."""

    run_id: str
    workflow: Workflow[Any, Any] | None
    """Its code, where it is not mocked."""
    rows: Sequence[EventRow]


@dataclass(frozen=True, slots=True)
class Traces:
    """What a case has left behind."""

    outcome: Outcome
    effects: Counter[str] | None
    """The entries of the ledger; None: there is none."""


def outcome_of(status: str, last: EventRow) -> Outcome:
    """How a run has ended, in a form that can be compared."""
    event = decode_event(last)
    if isinstance(event, history.RunCompleted):
        return status, event.result
    if isinstance(event, history.RunFailed):
        return status, decode_failure(event.failure).type
    return status, None


def effects_of(ledger: Any) -> Counter[str] | None:
    """What a ledger holds; a dict has each key once. None where there is none."""
    if ledger is None:
        return None
    items = getattr(ledger, "items", None)
    return Counter(map(repr, ledger if items is None else items()))


def problems_of_runs(runs: Iterable[Ended], undoable: Collection[Call]) -> Iterator[str]:
    """Of each run by itself: its code goes the way of its history, and what it did is undone if it must be."""
    for run in runs:
        if run.workflow is not None:
            report = replay(run.workflow, HistoryFile(run.workflow.name, run.run_id, run.rows))
            if not report.ok:
                yield f"a replay of the history goes another way: {report.explanation}"
        yield from _not_undone(run, undoable)


def _not_undone(run: Ended, undoable: Collection[Call]) -> Iterator[str]:
    events = [decode_event(row) for row in run.rows]
    last = events[-1]
    status = last.status if isinstance(last, history.RunFailed | history.RunCancelled) else ""
    if status not in _UNDOING:
        return
    done = Counter(
        event.name
        for event in events
        if isinstance(event, history.StepCompleted) and (run.run_id, event.cmd) in undoable
    )
    undone = Counter(
        event.step for event in events if isinstance(event, history.CompensationCompleted)
    )
    for name, times in done.items():
        if undone[name] < times:
            yield f"run {run.run_id} is {status}, and {name} has not been undone"


def problems_of_outcome(
    schedule: Sequence[str], traces: Traces, calm: Traces, *, same_result: bool
) -> Iterator[str]:
    """Against the undisturbed run: what no crash may change, and how a cancelled run may end."""
    if not any(map(is_free, schedule)):
        if same_result:
            yield from _differs(traces, calm)
    elif all(kind_of(disturbance) == "cancel" for disturbance in schedule):
        status = traces.outcome[0]
        if status not in {"cancelled", "completed", calm.outcome[0]}:
            yield f"a cancel makes it end as {told(traces.outcome)}"


def _differs(traces: Traces, calm: Traces) -> Iterator[str]:
    if traces.outcome != calm.outcome:
        yield f"it ends as {told(traces.outcome)}, and undisturbed as {told(calm.outcome)}"
    if traces.effects is None or calm.effects is None:
        return
    for entry in sorted(traces.effects.keys() | calm.effects.keys()):
        happened, expected = traces.effects[entry], calm.effects[entry]
        if happened != expected:
            yield f"the ledger has {entry} {_times(happened)}, and undisturbed {_times(expected)}"


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def told(outcome: Outcome) -> str:
    """An outcome in words."""
    status, detail = outcome
    if isinstance(detail, bytes):
        return f"{status} with {ANY.decode(detail, 'the end of a run')!r}"
    return status if detail is None else f"{status} with {str(detail).rpartition(':')[2]}"
