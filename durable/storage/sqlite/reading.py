# ruff: noqa: S608 - every statement is made of constants
"""What clients and workers read: runs, histories, inboxes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Final

from durable.model.history import CODES
from durable.model.lifecycle import RunStatus
from durable.model.rows import Message, RunFilter, RunRow, ShapeRow
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database, Row
from durable.storage.sqlite.filters import conditions
from durable.storage.sqlite.texts import EVENT, EVENT_WIDTH, STATUS

_PAIRS: Final = "(SELECT value ->> 0 AS key, value ->> 1 AS after FROM json_each(?)) AS asked"
_LOAD: Final = f"""
SELECT h.run_key, {EVENT.format("h")}
FROM {_PAIRS} JOIN [history] h ON h.run_key = asked.key AND h.seq > asked.after"""
_INBOX: Final = f"""
SELECT i.run_key, i.n, i.name, i.data
FROM {_PAIRS} JOIN [inbox] i ON i.run_key = asked.key AND i.n > asked.after"""
_RUN: Final = f"""
SELECT r.key, r.id, l.workflow, l.version, l.queue, {STATUS}, r.priority, r.tags, r.created_at,
       r.started_at, r.finished_at, r.seq, r.recoveries, r.waiting_for, p.id,
       CASE WHEN r.owner IS NULL THEN r.ready_at END, r.retried_from,
       {EVENT.format("b")}, {EVENT.format("e")}
FROM [runs] r JOIN [lanes] l ON l.id = r.lane LEFT JOIN [runs] p ON p.key = r.parent_key
LEFT JOIN [history] b ON b.run_key = r.key AND b.seq = r.first_seq
LEFT JOIN [history] e ON e.run_key = r.key AND e.seq = r.seq"""
_TAGS: Final = 7
"""Where the tags stand in a row of `_RUN`."""

_HISTORY: Final = f"""
SELECT {EVENT.format("h")} FROM [history] h WHERE h.run_key = ? AND h.seq > ?
ORDER BY h.seq LIMIT ?"""
_FINISHED: Final = f"""
SELECT r.id, r.status, {EVENT.format("h")}
FROM json_each(?) asked JOIN [runs] r ON r.id = asked.value
JOIN [history] h ON h.run_key = r.key AND h.seq = r.seq
WHERE r.finished_at IS NOT NULL"""


_CHILDREN: Final = """
SELECT parent_cmd, id FROM [runs]
WHERE parent_key = ? AND parent_cmd IN (SELECT value FROM json_each(?)) ORDER BY key"""
_STATES: Final = f"""
WITH RECURSIVE named (id, key, name) AS (
    SELECT r.id, r.key, (SELECT name FROM [history] INDEXED BY [history_states]
                         WHERE run_key = r.key AND type = 60 ORDER BY name LIMIT 1)
    FROM json_each(?) asked JOIN [runs] r ON r.id = asked.value
    UNION ALL
    SELECT id, key, (SELECT h.name FROM [history] h INDEXED BY [history_states]
                     WHERE h.run_key = named.key AND h.type = 60
                           AND h.name > named.name ORDER BY h.name LIMIT 1)
    FROM named WHERE name IS NOT NULL)
SELECT named.id, {EVENT.format("h")} FROM named CROSS JOIN [history] h
ON h.run_key = named.key AND h.seq = (
    SELECT max(seq) FROM [history] INDEXED BY [history_states]
    WHERE run_key = named.key AND type = 60 AND name = named.name)"""
"""One probe per name that a run has published, however often. CROSS: in this order, whatever SQLite thinks."""

_NEWEST: Final = f"""
SELECT {EVENT.format("h")} FROM [runs] r JOIN [history] h {{index}} ON h.run_key = r.key
WHERE r.id = ? AND h.type = {{type:d}} AND h.name = ? ORDER BY h.seq DESC LIMIT 1"""
_REPLIES: Final = f"""
SELECT r.id, {EVENT.format("h")}
FROM (SELECT value ->> 0 AS id, value ->> 1 AS cmd FROM json_each(?)) AS asked
JOIN [runs] r ON r.id = asked.id
JOIN [history] h INDEXED BY [history_replies]
ON h.run_key = r.key AND h.type = {CODES["RequestAnswered"]} AND h.cmd = asked.cmd"""
_EVENTS_OF_SHAPES: Final = """
WITH chosen AS (
    SELECT * FROM (SELECT key, id, lane, first_seq, 0 AS ended FROM [runs] WHERE finished_at IS NULL)
    UNION ALL
    SELECT * FROM (SELECT key, id, lane, first_seq, 1 FROM [runs] WHERE finished_at IS NOT NULL
                   ORDER BY key DESC LIMIT ?))
SELECT l.workflow, l.version, c.ended, c.id, h.type, h.cmd, h.name
FROM chosen c JOIN [lanes] l ON l.id = c.lane
JOIN [history] h ON h.run_key = c.key AND h.seq >= c.first_seq
ORDER BY c.key, h.seq"""
_NEXT_DUE: Final = "SELECT min(ready_at) FROM [runs] WHERE ready_at > ? AND hold = 0"


def load(database: Database, runs: Sequence[tuple[int, int]]) -> dict[int, list[EventRow]]:
    """Histories by run key, of each the events after a number."""
    histories: dict[int, list[EventRow]] = {key: [] for key, _ in runs}
    for key, *event in _sorted(database.fetch(_LOAD, (json.dumps(list(runs)),))):
        histories[key].append(EventRow(*event))
    return histories


def inbox(database: Database, runs: Sequence[tuple[int, int]]) -> list[Message]:
    """Messages above a number, ordered by key and number."""
    return [Message(*row) for row in _sorted(database.fetch(_INBOX, (json.dumps(list(runs)),)))]


def _sorted(rows: list[Row]) -> list[Row]:
    """By key and number. They come out of the index in that order; SQLite would copy them to sort."""
    return sorted(rows, key=itemgetter(0, 1))


def run(database: Database, run_id: str) -> RunRow | None:
    """One run with its first and last event."""
    row = database.one(f"{_RUN} WHERE r.id = ?", (run_id,))
    return _run_row(row) if row else None


def runs(database: Database, where: RunFilter) -> list[RunRow]:
    """One page of runs, newest first."""
    texts, values = conditions(where)
    if where.after is not None:
        texts.append("r.key < ?")
        values.append(where.after)
    text = f"{_RUN} WHERE {' AND '.join(texts)} ORDER BY r.key DESC LIMIT ?"
    return [_run_row(row) for row in database.fetch(text, (*values, where.limit))]


def count(database: Database, where: RunFilter) -> dict[RunStatus, int]:
    """How many runs there are by status."""
    texts, values = conditions(where)
    text = f"SELECT {STATUS} AS s, count(*) FROM [runs] r WHERE {' AND '.join(texts)} GROUP BY s"
    return dict(database.fetch(text, values))


def history(database: Database, run_id: str, after: int, limit: int) -> list[EventRow] | None:
    """A page of a run's history."""
    found = database.one("SELECT key FROM [runs] WHERE id = ?", (run_id,))
    if found is None:
        return None
    return [EventRow(*row) for row in database.fetch(_HISTORY, (found[0], after, limit))]


def finished(database: Database, run_ids: Sequence[str]) -> dict[str, tuple[RunStatus, EventRow]]:
    """Of these runs the ones that have ended, with their last event."""
    rows = database.fetch(_FINISHED, (json.dumps(list(run_ids)),))
    return {id: (status, EventRow(*event)) for id, status, *event in rows}


def children(database: Database, parent: int, commands: Sequence[int]) -> dict[int, str]:
    """Of these commands of a run those whose child exists, with the newest child's id."""
    return dict(database.fetch(_CHILDREN, (parent, json.dumps(list(commands)))))


def states(database: Database, run_ids: Sequence[str]) -> dict[str, dict[str, EventRow]]:
    """Per run the newest `StateSet` event of each name."""
    found: dict[str, dict[str, EventRow]] = {}
    for id, *event in database.fetch(_STATES, (json.dumps(list(run_ids)),)):
        row = EventRow(*event)
        found.setdefault(id, {})[row.name or ""] = row
    return found


def newest(database: Database, run_id: str, type: int, name: str) -> EventRow | None:
    """The newest event of this type and name."""
    # The type as it stands: an index of one type serves no statement for any type.
    index = "INDEXED BY [history_states]" if type == CODES["StateSet"] else ""
    row = database.one(_NEWEST.format(type=type, index=index), (run_id, name))
    return EventRow(*row) if row else None


def replies(
    database: Database, asked: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], EventRow]:
    """Of these requests those that were answered."""
    rows = database.fetch(_REPLIES, (json.dumps(list(asked)),))
    answers = ((id, EventRow(*event)) for id, *event in rows)
    return {(id, event.cmd or 0): event for id, event in answers}


def _run_row(row: Row) -> RunRow:
    facts = list(row[: -2 * EVENT_WIDTH])
    facts[_TAGS] = json.loads(facts[_TAGS]) if facts[_TAGS] else {}
    return RunRow(*facts, *_events(row[-2 * EVENT_WIDTH :]))


def _events(row: Row) -> Iterator[EventRow | None]:
    for event in (row[:EVENT_WIDTH], row[EVENT_WIDTH:]):
        yield EventRow(*event) if event[0] is not None else None


def shapes(database: Database, finished: int) -> list[ShapeRow]:
    """Open runs, and some that have ended, by the shapes of their histories."""
    found: dict[tuple[str, int, bool, bytes], list[str]] = {}
    rows = database.fetch(_EVENTS_OF_SHAPES, (finished,))
    for (workflow, version, ended, id), events in groupby(rows, key=itemgetter(0, 1, 2, 3)):
        shape = sha256(repr([event[4:] for event in events]).encode("utf-8", "surrogatepass"))
        found.setdefault((workflow, version, not ended, shape.digest()), []).append(id)
    shaped = [ShapeRow(*place[:3], sorted(ids)) for place, ids in found.items()]
    return sorted(
        shaped,
        key=lambda s: (s.workflow, s.version, not s.is_open, -len(s.run_ids), s.run_ids[0]),
    )


def next_due(database: Database, now: int) -> int | None:
    """When the next run falls due that is not due yet."""
    ((due,),) = database.fetch(_NEXT_DUE, (now,))
    return due  # type: ignore[no-any-return]
