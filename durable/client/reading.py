"""From rows and history events to the records that users read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from durable.clock import to_datetime
from durable.errors import Failure
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.failure import decode_failure
from durable.model.forms import unpack_form
from durable.model.history import NAMES
from durable.model.payload import ANY
from durable.model.records import (
    CompensationRecord,
    HistoryEvent,
    Run,
    RunDetail,
    StepRecord,
    StepStatus,
)
from durable.model.rows import RunRow
from durable.model.wire import EventRow, decode_event

State = Mapping[str, EventRow]
"""The newest `StateSet` of each name."""


def run_of(row: RunRow, state: State) -> Run:
    """The public view of a stored run."""
    return Run(**_fields(row, state))


def detail_of(
    row: RunRow, state: State, events: Sequence[EventRow], workers: Mapping[int, str]
) -> RunDetail:
    """A run with its steps; `workers` names the ids in its history."""
    return RunDetail(
        **_fields(row, state),
        steps=tuple(steps_of(events, workers)),
        compensations=tuple(compensations_of(events)),
    )


def state_of(run_id: str, state: State) -> dict[str, Any]:
    """What a run has published, as plain data."""
    values: dict[str, Any] = {}
    for name, row in state.items():
        event = decode_event(row)
        assert isinstance(event, history.StateSet)
        values[name] = ANY.decode(event.payload, f"state {name} of run {run_id}")
    return values


def _begun(row: RunRow) -> tuple[bytes | None, str | None]:
    """The input of the current generation, and the run that began the family."""
    event = None if row.first is None else decode_event(row.first)
    if isinstance(event, history.RunStarted):
        return event.input, event.root_id
    if isinstance(event, history.ContinuedAsNew | history.RunRetried):
        return event.input, unpack_carried(event.carried).started.root_id
    return None, None


def _fields(row: RunRow, state: State) -> dict[str, Any]:
    last = None if row.last is None else decode_event(row.last)
    given, root = _begun(row)
    result = last.result if isinstance(last, history.RunCompleted) else None
    failure = last.failure if isinstance(last, history.RunFailed) else None
    return {
        "id": row.id,
        "workflow": row.workflow,
        "version": row.version or 1,
        "status": row.status,
        "queue": row.queue,
        "priority": row.priority,
        "tags": row.tags,
        "input": None if given is None else ANY.decode(given, f"input of run {row.id}"),
        "result": None if result is None else ANY.decode(result, f"result of run {row.id}"),
        "error": None if failure is None else decode_failure(failure),
        "state": state_of(row.id, state),
        "created_at": to_datetime(row.created_at),
        "started_at": None if row.started_at is None else to_datetime(row.started_at),
        "finished_at": None if row.finished_at is None else to_datetime(row.finished_at),
        "parent_id": row.parent_id,
        "root_id": root or row.id,
        "retried_from": row.retried_from,
        "forked_from": None,
        "recoveries": row.recoveries,
        "waiting_for": tuple(row.waiting_for.split(", ")) if row.waiting_for else (),
    }


def steps_of(rows: Sequence[EventRow], workers: Mapping[int, str]) -> list[StepRecord]:
    """The steps that a history tells of, in the order in which the workflow asked for them."""
    steps: dict[int, StepRecord] = {}
    for row in rows:
        if row.type in (history.StepCompleted.code, history.StepFailed.code):
            event = decode_event(row)
            assert isinstance(event, (history.StepCompleted, history.StepFailed))
            steps[event.cmd] = _step(event, steps.get(event.cmd), workers)
    return [steps[cmd] for cmd in sorted(steps)]


def _step(
    event: history.StepCompleted | history.StepFailed,
    before: StepRecord | None,
    workers: Mapping[int, str],
) -> StepRecord:
    began = to_datetime(event.at - event.took)
    result: Any = None
    error: Failure | None = None
    status: StepStatus = "completed"
    if isinstance(event, history.StepCompleted):
        result = ANY.decode(event.result, f"result of step {event.name}")
    else:
        error = decode_failure(event.failure)
        status = "failed" if event.retry_at is None else "retrying"
    return StepRecord(
        name=event.name,
        seq=event.cmd,
        status=status,
        attempts=event.attempt,
        started_at=began if before is None else before.started_at,
        finished_at=None if status == "retrying" else to_datetime(event.at),
        input=None,
        result=result,
        error=error,
        worker=workers.get(event.worker, str(event.worker)),
    )


def compensations_of(rows: Sequence[EventRow]) -> list[CompensationRecord]:
    """What a history tells of undoing, in the order in which it happened."""
    found: dict[int, CompensationRecord] = {}
    for row in rows:
        if row.type in (history.CompensationCompleted.code, history.CompensationFailed.code):
            event = decode_event(row)
            assert isinstance(event, history.CompensationCompleted | history.CompensationFailed)
            found[event.cmd] = _compensation(event, found.get(event.cmd))
    return list(found.values())


def _compensation(
    event: history.CompensationCompleted | history.CompensationFailed,
    before: CompensationRecord | None,
) -> CompensationRecord:
    error: Failure | None = None
    status: Literal["running", "completed", "failed"] = "completed"
    if isinstance(event, history.CompensationFailed):
        error = decode_failure(event.failure)
        status = "failed" if event.retry_at is None else "running"
    began = to_datetime(event.at - event.took)
    return CompensationRecord(
        step=event.step,
        name=event.name,
        status=status,
        attempts=event.attempt,
        error=error,
        started_at=began if before is None else before.started_at,
        finished_at=None if status == "running" else to_datetime(event.at),
    )


_PAYLOADS = frozenset({"input", "result", "payload", "answer"})
_HIDDEN = frozenset({"at", "cmd", "name", "carried", "fingerprint"})
"""Not shown: what stands elsewhere in the record, and what only durable itself can read."""


def event_of(row: EventRow, workers: Mapping[int, str]) -> HistoryEvent:
    """The public view of a history event: payloads decoded as plain data."""
    event = decode_event(row)
    data: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        name, value = field.name, getattr(event, field.name)
        if name in _HIDDEN or value is None:
            continue
        data[name] = _plain(name, value, workers)
    return HistoryEvent(
        seq=row.seq,
        type=NAMES[row.type],
        at=to_datetime(row.at),
        command=row.cmd,
        name=row.name,
        data=data,
    )


def _plain(name: str, value: Any, workers: Mapping[int, str]) -> Any:
    if name in _PAYLOADS and isinstance(value, bytes):
        return ANY.decode(value, name)
    if name == "form":
        return dataclasses.asdict(unpack_form(value))
    if name == "failure":
        return dataclasses.asdict(decode_failure(value))
    if name in ("worker", "lost"):
        return workers.get(value, str(value))
    if name in ("due", "retry_at", "deadline"):
        return to_datetime(value)
    return value
