# ruff: noqa: S608 - every statement is made of constants
"""Messages to runs, from other runs and from outside, and the two orders that do not wait for a worker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from durable.model.lifecycle import HOLD_BLOCKED, RunStatus
from durable.model.rows import Delivered, Delivery
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database, Row, refuse_nul
from durable.storage.sqlite.texts import READY_BY_MESSAGE, insert_history

Post = tuple[int, str, bytes]
"""Key of the run, name and content of a message."""

_BUMP: Final = f"""
UPDATE [runs] SET inbox_head = inbox_head + new.count, ready_at = {READY_BY_MESSAGE}
FROM (SELECT value ->> 0 AS key, value ->> 1 AS count FROM json_each(:counts)) AS new
WHERE [runs].key = new.key AND finished_at IS NULL
RETURNING [runs].key, inbox_head"""
_PUT: Final = "INSERT INTO [inbox] (run_key, n, name, data)"
_TARGETS: Final = """
SELECT id, key, inbox_head, finished_at FROM [runs]
WHERE id IN (SELECT value FROM json_each(?))"""
_KNOWN: Final = "SELECT n FROM [inbox_keys] WHERE run_key = ? AND key = ?"
_REMEMBER: Final = "INSERT INTO [inbox_keys] (run_key, key, n, at) VALUES (?, ?, ?, ?)"
_FIND: Final = """
SELECT key, status, finished_at, seq, parent_key, parent_cmd FROM [runs] WHERE id = ?"""
_TERMINATE: Final = """
UPDATE [runs]
SET status = 'terminated', hold = 0, owner = NULL, epoch = epoch + 1, seq = seq + 1, ready_at = NULL,
    finished_at = ?, waiting_for = NULL, blocked_by = NULL, lost_owner = NULL
WHERE key = ?"""
_UNBLOCK: Final = f"""
UPDATE [runs]
SET hold = 0, blocked_by = NULL, waiting_for = NULL, seq = seq + 1, recoveries = 0,
    recovered_seq = seq + 1, ready_at = {READY_BY_MESSAGE}
WHERE hold = {HOLD_BLOCKED} AND lane IN (SELECT value FROM json_each(:lanes))
      AND owner IS NULL AND (blocked_by IS NULL OR blocked_by NOT IN (SELECT value FROM json_each(:codes)))
RETURNING key, seq"""


def post(database: Database, now: int, messages: Sequence[Post]) -> dict[int, int]:
    """Put messages into the inboxes of open runs and make them ready; the new heads by key.

    Messages to runs that have ended are dropped.
    """
    if not messages:
        return {}
    refuse_nul("message name", (name for _, name, _ in messages))
    counts = Counter(key for key, _, _ in messages)
    values = {"now": now, "counts": json.dumps(list(counts.items()))}
    heads: dict[int, int] = dict(database.fetch(_BUMP, values))
    numbers = {key: head - counts[key] for key, head in heads.items()}
    rows: list[Row] = []
    for key, name, data in messages:
        if key in numbers:
            numbers[key] += 1
            rows.append((key, numbers[key], name, data))
    database.insert(_PUT, rows)
    return heads


def deliver(database: Database, now: int, deliveries: Sequence[Delivery]) -> list[Delivered]:
    """Put messages from outside into inboxes. The same idempotency key gets the same number."""
    refuse_nul("message name", (delivery.name for delivery in deliveries))
    refuse_nul("idempotency key", (delivery.idempotency_key for delivery in deliveries))
    rows = database.fetch(_TARGETS, (json.dumps(list({d.run_id for d in deliveries})),))
    targets = {id: (key, ended is None) for id, key, _, ended in rows}
    heads = {key: head for _, key, head, _ in rows}
    posts: list[Post] = []
    answers: list[Delivered] = []
    for delivery in deliveries:
        if delivery.run_id not in targets:
            answers.append(Delivered(None, known=False))
            continue
        key, is_open = targets[delivery.run_id]
        number = _number_known(database, key, delivery.idempotency_key)
        if number is None and is_open:
            number = heads[key] = heads[key] + 1
            posts.append((key, delivery.name, delivery.data))
            if delivery.idempotency_key is not None:
                database.execute(_REMEMBER, (key, delivery.idempotency_key, number, now))
        answers.append(Delivered(number))
    post(database, now, posts)
    return answers


def deliver_all(
    database: Database, now: int, asked: Sequence[Sequence[Delivery]]
) -> list[list[Delivered]]:
    """The deliveries of several callers, one after the other."""
    answers = iter(deliver(database, now, [delivery for some in asked for delivery in some]))
    return [list(islice(answers, len(some))) for some in asked]


def _number_known(database: Database, key: int, idempotency_key: str | None) -> int | None:
    if idempotency_key is None:
        return None
    row = database.one(_KNOWN, (key, idempotency_key))
    return row[0] if row else None


def terminate(database: Database, now: int, run_id: str, event: EventRow) -> RunStatus | None:
    """End a run at once and tell its parent; the status that it has now."""
    found = database.one(_FIND, (run_id,))
    if found is None:
        return None
    key, status, finished_at, seq, parent_key, parent_cmd = found
    if finished_at is not None:
        over: RunStatus = status
        return over
    database.execute(_TERMINATE, (now, key))
    insert_history(database, ((key, seq + 1, event),))
    if parent_key is not None:
        post(database, now, ((parent_key, f"child:{parent_cmd}", event.data),))
    return "terminated"


def unblock(
    database: Database, now: int, lanes: Sequence[int], codes: Sequence[str], event: EventRow
) -> int:
    """Release runs that none of `codes` blocked; how many."""
    values = {"now": now, "lanes": json.dumps(list(lanes)), "codes": json.dumps(list(codes))}
    freed = database.fetch(_UNBLOCK, values)
    insert_history(database, ((key, seq, event) for key, seq in freed))
    return len(freed)
