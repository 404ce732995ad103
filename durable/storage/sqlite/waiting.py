# ruff: noqa: S608 - every statement is made of constants
"""Waits that others can find: writing them, listing them, and answering the ones for an input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from durable.model.rows import Answer, Answered, NewWait, WaitFilter, WaitKind, WaitRow
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database, Row, refuse_nul
from durable.storage.sqlite.messaging import Post, keys_of, number_of, post, remember
from durable.storage.sqlite.texts import EVENT

_WRITE: Final = """
INSERT INTO [waits] (run_key, cmd, kind, names, key, due, recipients, seq)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_key, cmd) DO UPDATE
SET kind = excluded.kind, names = excluded.names, key = excluded.key, due = excluded.due,
    recipients = excluded.recipients, seq = excluded.seq, answered_by = NULL, answered_at = NULL,
    subscribed = 0"""
_MARK: Final = "UPDATE [runs] SET has_waits = 1 WHERE key = ?"
_END: Final = """
DELETE FROM [waits] WHERE run_key = ? AND cmd IN (SELECT value FROM json_each(?))"""
_END_OF: Final = "DELETE FROM [waits] WHERE run_key IN (SELECT value FROM json_each(?))"
_ASKED: Final = f"""
SELECT answered_by, answered_at FROM [waits]
WHERE run_key = ? AND cmd = ? AND kind = {WaitKind.INPUT:d}"""
_ANSWERED: Final = """
UPDATE [waits] SET answered_by = ?, answered_at = ? WHERE run_key = ? AND cmd = ?"""
_LIST: Final = f"""
SELECT w.place, r.id, l.workflow, w.cmd, w.kind, w.names, w.key, w.due, w.recipients,
       {EVENT.format("h")}
FROM [waits] w {{index}} JOIN [runs] r ON r.key = w.run_key JOIN [lanes] l ON l.id = r.lane
JOIN [history] h ON h.run_key = w.run_key AND h.seq = w.seq
WHERE {{kind}} = ? AND w.answered_at IS NULL AND {{where}} ORDER BY w.place LIMIT ?"""
_CONDITIONS: Final = (
    ("run_id", "w.run_key = (SELECT key FROM [runs] WHERE id = ?)"),
    ("workflow", "l.workflow = ?"),
    ("key", "w.key = ?"),
    ("name", "EXISTS (SELECT 1 FROM json_each(w.names) n WHERE n.value = ?)"),
    ("to", "EXISTS (SELECT 1 FROM json_each(w.recipients) n WHERE n.value = ?)"),
    ("due_before", "w.due < ?"),
    ("after", "w.place > ?"),
)
"""Fields of a filter, and what each asks of a wait `w` when it is set."""


def write_waits(
    database: Database, key: int, waits: Sequence[NewWait], ended: Sequence[int]
) -> None:
    """Write the waits of one run that outlive their commit; of several under one command the last."""
    kept = {wait.cmd: wait for wait in waits if wait.cmd not in ended}
    for wait in kept.values():
        refuse_nul("wait", (wait.key, *wait.names, *wait.to))
        lists = json.dumps(list(wait.names)), json.dumps(list(wait.to))
        state = (lists[0], wait.key, wait.due, lists[1], wait.seq)
        database.execute(_WRITE, (key, wait.cmd, int(wait.kind), *state))
    if kept:
        database.execute(_MARK, (key,))


def end_waits(database: Database, key: int, commands: Sequence[int]) -> None:
    """These waits of a run are over."""
    database.execute(_END, (key, json.dumps(list(commands))))


def end_waits_of(database: Database, keys: Sequence[int]) -> None:
    """All waits of these runs are over."""
    if keys:
        database.execute(_END_OF, (json.dumps(list(keys)),))


def answer(database: Database, now: int, given: Answer) -> Answered:
    """Take an answer for an input that a run asks for: the first one."""
    refuse_nul("answer", (given.name, given.token, given.by))
    key, _ = keys_of(database, (given.run_id,)).get(given.run_id, (None, None))
    if key is None:
        return Answered(accepted=False, pending=False)
    token = f"~answer:{given.token}"
    if number_of(database, key, token) is not None:
        return Answered(accepted=True, pending=False)
    asked = database.one(_ASKED, (key, given.cmd))
    if asked is None:
        return Answered(accepted=False, pending=False)
    by, at = asked
    if at is not None:
        return Answered(accepted=False, pending=True, by=by, at=at)
    database.execute(_ANSWERED, (given.by, given.at, key, given.cmd))
    number = post(database, now, [Post(key, given.name, given.data)])[key]
    remember(database, now, key, token, number)
    return Answered(accepted=True, pending=False)


def waits(database: Database, where: WaitFilter) -> list[WaitRow]:
    """One page of open waits, oldest first. Every kind has an index of its own places."""
    asked = [(text, getattr(where, name)) for name, text in _CONDITIONS]
    texts = [text for text, value in asked if value is not None]
    values = [value for _, value in asked if value is not None]
    # The waits of a run are found by the run (the plus), those under a key by the key: not by their kind.
    by_key = where.key is not None and where.run_id is None
    text = _LIST.format(
        index="INDEXED BY [waits_key]" if by_key else "",
        kind="w.kind" if where.run_id is None else "+w.kind",
        where=" AND ".join(texts) or "1",
    )
    rows: list[Row] = []
    for kind in set(where.kinds):
        rows += database.fetch(text, (int(kind), *values, where.limit))
    return [_wait_row(row) for row in sorted(rows)[: where.limit]]


def _wait_row(row: Row) -> WaitRow:
    place, run_id, workflow, cmd, kind, names, key, due, recipients, *event = row
    return WaitRow(
        place,
        run_id,
        workflow,
        cmd,
        WaitKind(kind),
        tuple(json.loads(names)),
        key,
        due,
        tuple(json.loads(recipients)),
        EventRow(*event),
    )
