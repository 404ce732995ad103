"""From rows and history events to the records that users read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from durable.clock import to_datetime
from durable.errors import Failure
from durable.model import history
from durable.model.failure import decode_failure
from durable.model.history import NAMES
from durable.model.payload import ANY
from durable.model.records import HistoryEvent, Run, RunDetail, StepRecord, StepStatus
from durable.model.rows import RunRow
from durable.model.wire import EventRow, decode_event


def run_of(row: RunRow) -> Run:
    """The public view of a stored run."""
    return Run(**_fields(row))


def detail_of(row: RunRow, events: Sequence[EventRow], workers: Mapping[int, str]) -> RunDetail:
    """A run with its steps; `workers` names the ids in its history."""
    return RunDetail(**_fields(row), steps=tuple(steps_of(events, workers)))


def _fields(row: RunRow) -> dict[str, Any]:
    started = None if row.first is None else decode_event(row.first)
    last = None if row.last is None else decode_event(row.last)
    given = started.input if isinstance(started, history.RunStarted) else None
    root = started.root_id if isinstance(started, history.RunStarted) else None
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
        "state": {},
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


_PAYLOADS = frozenset({"input", "result", "payload"})


def event_of(row: EventRow, workers: Mapping[int, str]) -> HistoryEvent:
    """The public view of a history event: payloads decoded as plain data."""
    event = decode_event(row)
    data: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        name, value = field.name, getattr(event, field.name)
        if name in ("at", "cmd", "name") or value is None:
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
    if name in _PAYLOADS:
        return ANY.decode(value, name)
    if name == "failure":
        return dataclasses.asdict(decode_failure(value))
    if name in ("worker", "lost"):
        return workers.get(value, str(value))
    if name in ("due", "retry_at", "deadline"):
        return to_datetime(value)
    return value
