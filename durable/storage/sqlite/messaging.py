# ruff: noqa: S608 - every statement is made of constants
"""Messages to runs, from other runs and from outside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final, NamedTuple

from durable.model.rows import MAX_UNREAD, Delivered, Delivery
from durable.storage.sqlite.connection import Database, Row, refuse_nul
from durable.storage.sqlite.texts import READY_BY_MESSAGE


class Post(NamedTuple):
    """A message to a run, by key."""

    to: int
    name: str
    data: bytes
    control: bool = False
    """The run must not end before it has read this."""


_BUMP: Final = f"""
UPDATE [runs]
SET inbox_head = inbox_head + new.count, ready_at = {READY_BY_MESSAGE},
    control_head = CASE WHEN new.control = 0 THEN control_head ELSE inbox_head + new.control END
FROM (SELECT value ->> 0 AS key, value ->> 1 AS count, value ->> 2 AS control
      FROM json_each(:counts)) AS new
WHERE [runs].key = new.key AND finished_at IS NULL
RETURNING [runs].key, inbox_head"""
_PUT: Final = "INSERT INTO [inbox] (run_key, n, name, data)"
_KEYS: Final = """
SELECT id, key, parent_key FROM [runs] WHERE id IN (SELECT value FROM json_each(?))"""
_TARGETS: Final = """
SELECT id, key, inbox_head, consumed, finished_at FROM [runs]
WHERE id IN (SELECT value FROM json_each(?))"""
_KNOWN: Final = "SELECT n FROM [inbox_keys] WHERE run_key = ? AND key = ?"
_REMEMBER: Final = "INSERT INTO [inbox_keys] (run_key, key, n, at) VALUES (?, ?, ?, ?)"


def keys_of(database: Database, ids: Collection[str]) -> dict[str, tuple[int, int | None]]:
    """The keys of the runs that have these ids, and of their parents."""
    rows = database.fetch(_KEYS, (json.dumps(list(ids)),)) if ids else ()
    return {id: (key, parent) for id, key, parent in rows}


def post(database: Database, now: int, messages: Sequence[Post]) -> dict[int, int]:
    """Put messages into the inboxes of open runs and make them ready; the new heads by key.

    Messages to runs that have ended are dropped.
    """
    if not messages:
        return {}
    refuse_nul("message name", (message.name for message in messages))
    counts: Counter[int] = Counter()
    controls: dict[int, int] = {}
    for message in messages:
        counts[message.to] += 1
        if message.control:
            controls[message.to] = counts[message.to]
    bumps = [(key, count, controls.get(key, 0)) for key, count in counts.items()]
    heads: dict[int, int] = dict(database.fetch(_BUMP, {"now": now, "counts": json.dumps(bumps)}))
    numbers = {key: head - counts[key] for key, head in heads.items()}
    rows: list[Row] = []
    for key, name, data, _ in messages:
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
    targets = {id: (key, ended is None) for id, key, _, _, ended in rows}
    heads = {key: head for _, key, head, *_ in rows}
    places = Counter({key: head - consumed for _, key, head, consumed, _ in rows})
    posts: list[Post] = []
    answers: list[Delivered] = []
    for delivery in deliveries:
        if delivery.run_id not in targets:
            answers.append(Delivered(None, known=False, is_open=False))
            continue
        key, is_open = targets[delivery.run_id]
        idempotency_key = delivery.idempotency_key
        number = None if idempotency_key is None else number_of(database, key, idempotency_key)
        if number is None and is_open:
            places[key] += 1
            if delivery.control or places[key] <= MAX_UNREAD:
                number = heads[key] = heads[key] + 1
                posts.append(Post(key, delivery.name, delivery.data, delivery.control))
                if idempotency_key is not None:
                    remember(database, now, key, idempotency_key, number)
        answers.append(Delivered(number, is_open=is_open))
    post(database, now, posts)
    return answers


def deliver_all(
    database: Database, now: int, asked: Sequence[Sequence[Delivery]]
) -> list[list[Delivered]]:
    """The deliveries of several callers, one after the other."""
    answers = iter(deliver(database, now, [delivery for some in asked for delivery in some]))
    return [list(islice(answers, len(some))) for some in asked]


def number_of(database: Database, key: int, idempotency_key: str) -> int | None:
    """Under which number a run has accepted this key, if it has."""
    row = database.one(_KNOWN, (key, idempotency_key))
    return row[0] if row else None


def remember(database: Database, now: int, key: int, idempotency_key: str, number: int) -> None:
    """That a run has accepted this key."""
    database.execute(_REMEMBER, (key, idempotency_key, number, now))
