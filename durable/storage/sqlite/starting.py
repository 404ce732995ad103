# ruff: noqa: S608 - every statement is made of constants
"""Lanes and new runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from durable.clock import SECOND
from durable.model.lifecycle import RunStatus
from durable.model.rows import Lane, NewRun, Started
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database, Row, refuse_nul
from durable.storage.sqlite.texts import EVENT, EVENT_WIDTH, STATUS, insert_history

LOOK_AGAIN: Final = 10 * SECOND
"""When a claimed run is due for its owner: so a claim whose answer was lost is found again."""

_FIND_LANE: Final = "SELECT id FROM [lanes] WHERE queue = ? AND workflow = ? AND version = ?"
_ADD_LANE: Final = "INSERT INTO [lanes] (queue, workflow, version) VALUES (?, ?, ?) RETURNING id"
_ADD_RUN: Final = """
INSERT INTO [runs] (id, lane, priority, status, owner, epoch, ready_at, not_before, deadline, tags,
                    parent_key, parent_cmd, abandoned, created_at, started_at)"""
_ADDED: Final = "ON CONFLICT (id) DO NOTHING RETURNING id, key"
_EXISTING: Final = f"""
SELECT r.id, r.key, {STATUS}, l.queue, l.workflow, l.version, {EVENT.format("h")}
FROM json_each(?) asked JOIN [runs] r ON r.id = asked.value JOIN [lanes] l ON l.id = r.lane
JOIN [history] h ON h.run_key = r.key AND h.seq = 1"""
_LIVE: Final = "SELECT id FROM [workers] WHERE id IN (SELECT value FROM json_each(?))"

Lanes = Mapping[Lane, int]


def lanes(database: Database, wanted: Sequence[Lane]) -> dict[Lane, int]:
    """The numbers of these lanes, made where they are new."""
    numbers: dict[Lane, int] = {}
    for lane in wanted:
        refuse_nul("queue or workflow", (lane.queue, lane.workflow))
        values = (lane.queue, lane.workflow, lane.version)
        found = database.one(_FIND_LANE, values) or database.one(_ADD_LANE, values)
        assert found is not None
        numbers[lane] = found[0]
    return numbers


def start(database: Database, now: int, runs: Sequence[NewRun], numbers: Lanes) -> list[Started]:
    """Start runs, or find the ones that already have these ids."""
    created, owned = insert(database, now, runs, numbers)
    found = existing(database, [run.id for run in runs if run.id not in created])
    answers: list[Started] = []
    for run in runs:
        key = created.pop(run.id, None)  # an id that was asked for twice was created once
        if key is not None:
            status: RunStatus = "running" if run.id in owned else "pending"
            answers.append(
                Started(
                    key,
                    run.id,
                    created=True,
                    owned=run.id in owned,
                    status=status,
                    lane=run.lane,
                )
            )
        else:
            if run.id not in found:
                found |= existing(database, [run.id])
            answers.append(found[run.id])
    return answers


def start_all(
    database: Database, now: int, asked: Sequence[tuple[Sequence[NewRun], Lanes]]
) -> list[list[Started]]:
    """The starts of several callers, one after the other."""
    runs = [run for some, _ in asked for run in some]
    numbers = {lane: number for _, some in asked for lane, number in some.items()}
    answers = iter(start(database, now, runs, numbers))
    return [list(islice(answers, len(some))) for some, _ in asked]


def insert(
    database: Database, now: int, runs: Sequence[NewRun], numbers: Lanes
) -> tuple[dict[str, int], set[str]]:
    """Insert the runs whose ids are free: their keys by id, and the ids that are owned already."""
    fresh = {run.id: run for run in reversed(runs)}  # of an id that comes twice, the first
    refuse_nul("run id", fresh)
    for run in runs:
        if run.tags:
            refuse_nul("tag", (text for tag in run.tags.items() for text in tag))
    live = _live(database, fresh.values())
    owned = {run.id for run in fresh.values() if run.eager_owner in live and run.not_before is None}
    rows = [_row(run, now, numbers[run.lane], run.id in owned) for run in reversed(fresh.values())]
    keys: dict[str, int] = dict(database.insert(_ADD_RUN, rows, _ADDED))
    insert_history(database, ((key, 1, fresh[id].started) for id, key in keys.items()))
    return keys, owned


def _row(run: NewRun, now: int, lane: int, owned: bool) -> Row:
    ready_at = now + LOOK_AGAIN if owned else now if run.not_before is None else run.not_before
    return (
        run.id,
        lane,
        run.priority,
        "running" if owned else "pending",
        run.eager_owner if owned else None,
        1 if owned else 0,
        ready_at,
        run.not_before,
        run.deadline,
        json.dumps(dict(run.tags), ensure_ascii=False) if run.tags else None,
        run.parent_key,
        run.parent_cmd,
        int(run.abandoned),
        now,
        now if owned else None,
    )


def _live(database: Database, runs: Iterable[NewRun]) -> set[int]:
    asked = {run.eager_owner for run in runs if run.eager_owner is not None}
    if not asked:
        return set()
    return {id for (id,) in database.fetch(_LIVE, (json.dumps(list(asked)),))}


def existing(database: Database, ids: Sequence[str]) -> dict[str, Started]:
    """The runs that have these ids, as the answer to a start that comes too late."""
    if not ids:
        return {}
    answers: dict[str, Started] = {}
    for id, key, status, queue, workflow, version, *event in database.fetch(
        _EXISTING, (json.dumps(ids),)
    ):
        lane = Lane(queue, workflow, version)
        first = EventRow(*event[:EVENT_WIDTH])
        answers[id] = Started(
            key, id, created=False, owned=False, status=status, lane=lane, started=first
        )
    return answers
