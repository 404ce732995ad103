"""The steps and undos that a history tells of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from durable.clock import to_datetime
from durable.errors import Failure
from durable.model import history
from durable.model.failure import decode_failure
from durable.model.payload import ANY
from durable.model.records import CompensationRecord, StepRecord, StepStatus
from durable.model.wire import EventRow, decode_event

_STEPS: Final = frozenset({history.StepCompleted.code, history.StepFailed.code})
_UNDOS: Final = frozenset({history.CompensationCompleted.code, history.CompensationFailed.code})
_STOPS: Final = history.FINAL_CODES | {history.ContinuedAsNew.code, history.RunRetried.code}
"""After these no attempt follows to what was asked for before them."""


def steps_of(rows: Sequence[EventRow], workers: Mapping[int, str]) -> list[StepRecord]:
    """The steps that a history tells of, in the order in which the workflow asked for them."""
    steps: dict[int, StepRecord] = {}
    for row in rows:
        if row.type in _STEPS:
            event = decode_event(row)
            assert isinstance(event, (history.StepCompleted, history.StepFailed))
            steps[event.cmd] = _step(event, steps.get(event.cmd), workers)
        elif row.type in _STOPS:
            steps |= _cancelled(steps, to_datetime(row.at))
    return [steps[cmd] for cmd in sorted(steps)]


def _cancelled(steps: Mapping[int, StepRecord], at: datetime) -> dict[int, StepRecord]:
    """Those whose next attempt never comes: the run went on, or ended, without them."""
    return {
        cmd: dataclasses.replace(step, status="cancelled", finished_at=at)
        for cmd, step in steps.items()
        if step.status == "retrying"
    }


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
    """What a history tells of undoing, in the order in which it was begun."""
    found: dict[int, CompensationRecord] = {}
    for row in rows:
        if row.type in _UNDOS:
            event = decode_event(row)
            assert isinstance(event, history.CompensationCompleted | history.CompensationFailed)
            found[event.cmd] = _compensation(event, found.get(event.cmd))
        elif row.type in _STOPS:
            found |= _given_up(found, to_datetime(row.at))
    return list(found.values())


def _given_up(
    found: Mapping[int, CompensationRecord], at: datetime
) -> dict[int, CompensationRecord]:
    """Those that were to be tried again when the run was terminated."""
    return {
        cmd: dataclasses.replace(undo, status="failed", finished_at=at)
        for cmd, undo in found.items()
        if undo.status == "running"
    }


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
