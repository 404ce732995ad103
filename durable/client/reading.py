"""From rows to the records of runs that users read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from durable.client.steps import compensations_of, steps_of
from durable.clock import to_datetime
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.failure import decode_failure
from durable.model.payload import ANY
from durable.model.records import Run, RunDetail
from durable.model.rows import SEPARATOR, RunRow
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
        "waiting_for": tuple(row.waiting_for.split(SEPARATOR)) if row.waiting_for else (),
    }
