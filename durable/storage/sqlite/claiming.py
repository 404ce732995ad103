# ruff: noqa: S608 - every statement is made of constants
"""Claims: taking due runs, and looking after the ones that are held."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from durable.model.rows import Claim, Held
from durable.storage.sqlite.connection import Database, Row
from durable.storage.sqlite.starting import LOOK_AGAIN

_WAITING: Final = "owner IS NULL AND ready_at IS NOT NULL AND hold = 0"
_HEADS: Final = f"""
WITH RECURSIVE head (lane, priority) AS (
    SELECT asked.value, (SELECT priority FROM [runs] INDEXED BY [runs_ready]
                         WHERE lane = asked.value AND {_WAITING} ORDER BY priority DESC LIMIT 1)
    FROM json_each(?) asked
    UNION ALL
    SELECT lane, (SELECT priority FROM [runs] INDEXED BY [runs_ready]
                  WHERE lane = head.lane AND priority < head.priority AND {_WAITING}
                  ORDER BY priority DESC LIMIT 1)
    FROM head WHERE head.priority IS NOT NULL)
SELECT lane, priority,
       (SELECT ready_at FROM [runs] INDEXED BY [runs_ready]
        WHERE lane = head.lane AND priority = head.priority AND {_WAITING}
        ORDER BY ready_at LIMIT 1) AS due
FROM head WHERE priority IS NOT NULL"""
"""The run that is due first of every lane and priority: one probe of the index each."""

_DUE: Final = f"""
SELECT ready_at, key FROM [runs] INDEXED BY [runs_ready]
WHERE lane = ? AND priority = ? AND ready_at <= ? AND {_WAITING}
ORDER BY ready_at, key LIMIT ?"""
_CLAIM: Final = """
key, id, lane, epoch, seq, first_seq, consumed, inbox_head, status, lost_owner,
CASE WHEN seq > coalesce(recovered_seq, 0) THEN 0 ELSE recoveries END"""
_TAKE: Final = f"""
UPDATE [runs]
SET owner = :worker, epoch = epoch + 1, ready_at = :now + {LOOK_AGAIN}, not_before = NULL,
    status = CASE status WHEN 'compensating' THEN status ELSE 'running' END,
    waiting_for = NULL, started_at = coalesce(started_at, :now)
WHERE key IN (SELECT value FROM json_each(:keys))
RETURNING {_CLAIM}"""
_ADOPT: Final = f"""
SELECT {_CLAIM} FROM [runs]
WHERE key IN (SELECT value FROM json_each(?)) AND +owner = ?"""  # the plus: find them by key
_OWNED: Final = """
SELECT key, epoch, seq, consumed, inbox_head FROM [runs]
WHERE owner = ? AND ready_at <= ? ORDER BY ready_at, key"""
_ACKNOWLEDGE: Final = """
UPDATE [runs] SET ready_at = NULL WHERE key = ? AND owner = ? AND epoch = ? AND inbox_head = ?"""


def alive(database: Database, worker: int) -> bool:
    """Whether the worker's lease is still there: the first question of everything that it writes."""
    return database.one("SELECT 1 FROM [workers] WHERE id = ?", (worker,)) is not None


def claim(
    database: Database, now: int, worker: int, lanes: Sequence[int], limit: int
) -> list[Claim]:
    """Take up to `limit` due runs, by priority, then age."""
    if limit <= 0 or not alive(database, worker):
        return []
    keys = _pick(database, now, lanes, limit)
    if not keys:
        return []
    values = {"worker": worker, "now": now, "keys": json.dumps(keys)}
    taken = {claim.key: claim for claim in _claims(database.fetch(_TAKE, values), now)}
    return [taken[key] for key in keys]


def _pick(database: Database, now: int, lanes: Sequence[int], limit: int) -> list[int]:
    """The keys of the runs to take. Every head has a due run, so `limit` heads are enough."""
    heads = [head for head in _heads(database, lanes) if head[2] <= now]
    heads.sort(key=lambda head: (-head[1], head[2]))
    keys: list[int] = []
    for priority, same in groupby(heads[:limit], key=lambda head: head[1]):
        rows: list[Row] = []
        for lane, _, _ in same:
            rows += database.fetch(_DUE, (lane, priority, now, limit - len(keys)))
        keys += [key for _, key in sorted(rows)[: limit - len(keys)]]
        if len(keys) == limit:
            break
    return keys


def _heads(database: Database, lanes: Sequence[int]) -> list[Row]:
    return database.fetch(_HEADS, (json.dumps(sorted(set(lanes))),))


def _claims(rows: Sequence[Row], now: int) -> Iterator[Claim]:
    for row in rows:
        key, id, lane, epoch, seq, first, consumed, inbox_head, status, lost_owner, recoveries = row
        yield Claim(
            key,
            id,
            lane,
            epoch,
            seq,
            first,
            consumed,
            inbox_head,
            status,
            now,
            lost_owner,
            recoveries,
        )


def owned(database: Database, now: int, worker: int) -> list[Held]:
    """Runs of this worker that are due for a look."""
    return [Held(*row) for row in database.fetch(_OWNED, (worker, now))]


def acknowledge(database: Database, worker: int, runs: Sequence[Held]) -> None:
    """Not due any more, unless a message has come since, or was not in the history yet."""
    if alive(database, worker):
        for held in runs:
            if held.inbox_head > held.consumed:
                continue  # the commit that takes the message ends the look
            database.execute(_ACKNOWLEDGE, (held.key, worker, held.epoch, held.inbox_head))


def adopt(database: Database, now: int, worker: int, keys: Sequence[int]) -> list[Claim]:
    """What a claim would have answered for runs that this worker owns already."""
    rows = database.fetch(_ADOPT, (json.dumps(list(keys)), worker))
    found = {claim.key: claim for claim in _claims(rows, now)}
    return [found[key] for key in keys if key in found]
