"""Looking at runs: for people, for clients that wait, for dashboards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from durable.model.lifecycle import RunStatus
from durable.model.rows import RunFilter, RunRow, ShapeRow, WaitFilter, WaitKind, WaitRow
from durable.model.wire import EventRow
from durable.storage.postgres.arrays import PG_EPOCH, int2s, int4s, long_texts, micros, texts, time
from durable.storage.postgres.batches import event_row, event_rows
from durable.storage.postgres.database import Database
from durable.storage.postgres.link import Row

_LAST_CHARACTER = chr(0x10FFFF)


class Readings(Database):
    """Verbs that change nothing."""

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its first and last event."""
        rows = await self._working.ask(f"{self._sql.runs} where r.id = %b", [run_id])
        return _run(rows[0]) if rows else None

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """One page of runs, newest first, with first and last events."""
        condition, parameters = _conditions(where, self._sql.key_of)
        if where.after is not None:
            condition += " and r.key < %b"
            parameters.append(where.after)
        query = f"{self._sql.runs} where {condition} order by r.key desc limit %b"
        # A filter that little fits may read far: not on the connection that claims and starts.
        rows = await self._second.ask(query, [*parameters, where.limit])
        return [_run(row) for row in rows]

    async def count(self, where: RunFilter) -> dict[RunStatus, int]:
        """How many runs there are by status; paging is ignored."""
        condition, parameters = _conditions(where, self._sql.key_of)
        query = f"{self._sql.count} where {condition} group by 1"
        # The one query that may well read a whole table, so not on the connection of the others.
        return dict(await self._second.ask(query, parameters))

    async def history(self, run_id: str, after: int, limit: int) -> list[EventRow] | None:
        """A page of a run's history; None: unknown id."""
        keys = await self._working.ask(self._sql.key_of, [run_id])
        if not keys:
            return None
        return event_rows(await self._working.ask(self._sql.history, [keys[0][0], after, limit]))

    async def waits(self, where: WaitFilter) -> list[WaitRow]:
        """One page of open waits, oldest first."""
        condition, parameters = _wait_conditions(where, self._sql.key_of)
        query = self._sql.waits.replace("{where}", condition)
        kinds = int2s(sorted(set(where.kinds)))
        rows = await self._second.ask(query, [kinds, *parameters, where.limit, where.limit])
        return [_wait(row) for row in rows]

    async def states(self, run_ids: Sequence[str]) -> dict[str, dict[str, EventRow]]:
        """Per run the newest `StateSet` event of each name."""
        states: dict[str, dict[str, EventRow]] = {}
        for run_id, *event in await self._working.ask(self._sql.states, [long_texts(run_ids)]):
            row = event_row(event)
            states.setdefault(run_id, {})[row.name or ""] = row
        return states

    async def newest(self, run_id: str, type: int, name: str) -> EventRow | None:
        """The newest event of this type and name in a run's history."""
        # The type as it stands: no plan for any type could use the index of a few.
        query = self._sql.newest.replace("{type}", str(int(type)))
        rows = await self._working.ask(query, [run_id, name])
        return event_row(rows[0]) if rows else None

    async def replies(self, asked: Sequence[tuple[str, int]]) -> dict[tuple[str, int], EventRow]:
        """Of these requests those that were answered."""
        arrays = [long_texts([run_id for run_id, _ in asked]), int4s([n for _, n in asked])]
        rows = await self._working.ask(self._sql.replies, arrays)
        answers = [(row[0], event_row(row[1:])) for row in rows]
        return {(run_id, event.cmd or 0): event for run_id, event in answers}

    async def finished(self, run_ids: Sequence[str]) -> dict[str, tuple[RunStatus, EventRow]]:
        """Of these runs the ones that have ended, with their last event."""
        rows = await self._working.ask(self._sql.finished, [long_texts(run_ids)])
        return {row[0]: (row[1], event_row(row[2:])) for row in rows}

    async def shapes(self, finished: int) -> list[ShapeRow]:
        """Open runs, and some that have ended, by the shapes of their histories."""
        return [ShapeRow(*row) for row in await self._second.ask(self._sql.shapes, [finished])]

    async def next_due(self) -> int | None:
        """When the next run falls due that is not due yet."""
        rows = await self._second.ask(self._sql.next_due, [self._now()])
        return micros(rows[0][0])


def _wait_conditions(where: WaitFilter, key_of: str) -> tuple[str, list[Any]]:
    found = [
        (f"w.run_key = ({key_of})", where.run_id),
        ("l.workflow = %b", where.workflow),
        ("w.key = %b", where.key),
        ("w.names @> array[%b::text]", where.name),
        ("w.recipients @> array[%b::text]", where.to),
        ("w.due < %b", time(where.due_before)),
        ("w.place > %b", where.after),
    ]
    pieces = [piece for piece, value in found if value is not None]
    return " and ".join(pieces) or "true", [value for _, value in found if value is not None]


def _wait(row: Row) -> WaitRow:
    place, run_id, workflow, cmd, kind, names, key, due, recipients = row[:9]
    return WaitRow(
        place=place,
        run_id=run_id,
        workflow=workflow,
        cmd=cmd,
        kind=WaitKind(kind),
        names=tuple(names),
        key=key,
        due=micros(due),
        to=tuple(recipients),
        event=event_row(row[9:15]),
    )


def _conditions(where: RunFilter, key_of: str) -> tuple[str, list[Any]]:
    """What `where` asks for, as fixed pieces of SQL and their parameters."""
    found = [
        ("l.workflow = %b", where.workflow),
        ("l.queue = %b", where.queue),
        (f"r.parent_key = ({key_of})", where.parent_id),
        ("r.tags @> %b::text::jsonb", json.dumps(dict(where.tags)) if where.tags else None),
        ("r.created_at > %b", time(where.created_after)),
        ("r.created_at < %b", time(where.created_before)),
    ]
    pieces = [piece for piece, value in found if value is not None]
    parameters: list[Any] = [value for _, value in found if value is not None]
    if where.status:
        pieces.append(
            "case r.hold when 1 then 'paused' when 2 then 'blocked' else r.status end = any(%b)"
        )
        parameters.append(texts(where.status))
    if where.id_prefix:
        # Not LIKE: a prefix may hold % and _. The ids are ordered by code point.
        pieces.append("r.id >= %b and r.id < %b")
        parameters += [where.id_prefix, where.id_prefix + _LAST_CHARACTER]
    return " and ".join(pieces) or "true", parameters


def _run(row: Row) -> RunRow:
    key, run_id, workflow, version, queue, status, priority, tags = row[:8]
    created, started, finished, seq, recoveries, waiting_for, parent, wake, retried = row[8:17]
    return RunRow(
        key=key,
        id=run_id,
        workflow=workflow,
        version=version,
        queue=queue,
        status=status,
        priority=priority,
        tags=json.loads(tags) if tags else {},
        created_at=created + PG_EPOCH,
        started_at=micros(started),
        finished_at=micros(finished),
        seq=seq,
        recoveries=recoveries,
        waiting_for=waiting_for,
        parent_id=parent,
        wake_at=micros(wake),
        retried_from=retried,
        first=None if row[17] is None else event_row(row[17:23]),
        last=None if row[23] is None else event_row(row[23:29]),
    )
