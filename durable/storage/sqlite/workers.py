# ruff: noqa: S608 - every statement is made of constants
"""Worker leases: taking one, giving it back, and reaping what the dead have left."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence
from typing import Final

from durable.clock import SECOND
from durable.model.lifecycle import HOLD_BLOCKED
from durable.model.rows import Lease, Reaped, WorkerInfo
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database
from durable.storage.sqlite.leases import extend
from durable.storage.sqlite.texts import insert_history

WAL_RESET_BUG: Final = ((3, 7, 0), (3, 51, 3))
"""First release with the bug, first one without (sqlite.org/wal.html#walresetbug)."""

_INFO: Final = "name, host, pid, boot, code, queues, workflows"
_REGISTER: Final = f"""
INSERT INTO [workers] ({_INFO}, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"""
_NAME: Final = """
INSERT INTO [worker_names] (id, name, host, pid, code, registered_at) VALUES (?, ?, ?, ?, ?, ?)"""
_NAMES: Final = "SELECT id, name FROM [worker_names] ORDER BY id DESC LIMIT 1000"
_OTHERS: Final = """
SELECT count(*) FROM [workers] WHERE expires_at > ? AND NOT (host = ? AND boot = ? AND pid = ?)"""
_LEASED: Final = f"SELECT id, {_INFO} FROM [workers] ORDER BY id"
_REMOVE: Final = "DELETE FROM [workers] WHERE id = ?"
_GIVE_BACK: Final = "UPDATE [runs] SET owner = NULL, ready_at = ? WHERE owner = ?"
_DEAD: Final = """
DELETE FROM [workers]
WHERE (:expired AND expires_at < :now) OR id IN (SELECT value FROM json_each(:gone))
RETURNING id"""
_OWNERS: Final = """
WITH RECURSIVE holder (id) AS (
    SELECT min(owner) FROM [runs] WHERE owner IS NOT NULL
    UNION ALL
    SELECT (SELECT min(owner) FROM [runs] WHERE owner > holder.id)
    FROM holder WHERE holder.id IS NOT NULL)
SELECT id FROM holder
WHERE id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM [workers] WHERE [workers].id = holder.id)"""
"""Owners that are no workers any more, with one probe of the index per owner."""

_FREE: Final = f"""
UPDATE [runs]
SET owner = NULL, lost_owner = owner, ready_at = :now,
    recoveries = CASE WHEN seq > recovered_seq THEN 1 ELSE recoveries + 1 END, recovered_seq = seq,
    hold = CASE WHEN seq <= recovered_seq AND recoveries >= :most THEN {HOLD_BLOCKED} ELSE hold END
WHERE owner = :dead
RETURNING key, hold"""
_BLOCK: Final = """
UPDATE [runs] SET seq = seq + 1, blocked_by = (SELECT code FROM [worker_names] WHERE id = ?)
WHERE key = ? RETURNING seq"""

_log: Final = logging.getLogger("durable.storage.sqlite")


def register(database: Database, now: int, worker: WorkerInfo, ttl: float) -> Lease:
    """A new worker id, leased for `ttl` seconds."""
    lists = json.dumps(list(worker.queues)), json.dumps(list(worker.workflows))
    expires_at = now + round(ttl * SECOND)
    who = (worker.name, worker.host, worker.pid, worker.boot, worker.code)
    ((id,),) = database.fetch(_REGISTER, (*who, *lists, expires_at))
    database.execute(_NAME, (id, worker.name, worker.host, worker.pid, worker.code, now))
    return Lease(id, expires_at, now)


def others(database: Database, now: int, worker: WorkerInfo) -> int:
    """How many live workers of other processes share this database."""
    row = database.one(_OTHERS, (now, worker.host, worker.boot, worker.pid))
    return int(row[0]) if row else 0


def warn_of_wal_reset(where: str) -> None:
    """Say so when this SQLite may damage a file that several processes write."""
    first, fixed = WAL_RESET_BUG
    if first <= sqlite3.sqlite_version_info < fixed:
        _log.warning(
            "%s is written by several processes, and SQLite %s has a bug that can then damage it: "
            "use SQLite %s or newer, one worker process, or PostgreSQL",
            where,
            sqlite3.sqlite_version,
            ".".join(map(str, fixed)),
        )


def renew(database: Database, now: int, worker: int, ttl: float) -> Lease | None:
    """Extend a lease; None when it is gone."""
    if not extend(database, now, worker, ttl):
        return None
    return Lease(worker, now + round(ttl * SECOND), now)


def unregister(database: Database, now: int, worker: int) -> None:
    """Give back whatever the worker still owns, ready at once, and end its lease."""
    database.execute(_REMOVE, (worker,))
    database.execute(_GIVE_BACK, (now, worker))


def leased(database: Database) -> list[tuple[int, WorkerInfo]]:
    """All registered workers."""
    return [
        (
            id,
            WorkerInfo(
                name, host, pid, boot, code, tuple(json.loads(queues)), tuple(json.loads(workflows))
            ),
        )
        for id, name, host, pid, boot, code, queues, workflows in database.fetch(_LEASED)
    ]


def names(database: Database) -> dict[int, str]:
    """Names of the workers that ever registered, the newest thousand."""
    return dict(database.fetch(_NAMES))


def reap(
    database: Database,
    now: int,
    blocked: EventRow,
    max_recoveries: int,
    gone: Sequence[int],
    *,
    expired: bool,
) -> Reaped:
    """Free the runs of the dead, and of owners that are no workers any more."""
    values = {"now": now, "gone": json.dumps(list(gone)), "expired": expired}
    workers = [id for (id,) in database.fetch(_DEAD, values)]
    dead = dict.fromkeys(workers) | dict.fromkeys(id for (id,) in database.fetch(_OWNERS))
    freed = stopped = 0
    for owner in dead:
        run = {"now": now, "most": max_recoveries, "dead": owner}
        for key, hold in database.fetch(_FREE, run):
            freed += 1
            if hold == HOLD_BLOCKED:
                stopped += 1
                _block(database, key, owner, blocked)
    return Reaped(workers, freed - stopped, stopped)


def _block(database: Database, key: int, owner: int, event: EventRow) -> None:
    """Append the event to a run that has killed too many workers. Other code than theirs may try."""
    ((seq,),) = database.fetch(_BLOCK, (owner, key))
    insert_history(database, ((key, seq, event),))
