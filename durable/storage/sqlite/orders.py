# ruff: noqa: S608 - every statement is made of constants
"""Orders from outside that are carried out at once: the end of a run, holds, and releases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final, cast

from durable.model.history import CODES
from durable.model.lifecycle import HOLD_BLOCKED, HOLD_PAUSED, RunStatus
from durable.model.messages import CANCEL, PAUSE, RESUME, child_message
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database
from durable.storage.sqlite.messaging import Post, post
from durable.storage.sqlite.texts import READY_BY_MESSAGE, STATUS, insert_history
from durable.storage.sqlite.waiting import end_waits_of

_FIND: Final = f"""
SELECT key, {STATUS}, finished_at, hold, owner, seq, consumed, parent_key, parent_cmd
FROM [runs] r WHERE id = ?"""
_FOLLOWERS: Final = f"""
SELECT name FROM [history]
WHERE run_key = :key AND type = {CODES["FollowerAdded"]}
UNION
SELECT substr(name, length('~follow:') + 1) FROM [inbox]
WHERE run_key = :key AND n > :consumed AND name GLOB '~follow:*'"""
_DEPENDANTS: Final = """
SELECT key FROM [runs]
WHERE parent_key = ? AND finished_at IS NULL AND abandoned = 0 ORDER BY key"""
_TERMINATE: Final = """
UPDATE [runs]
SET status = 'terminated', hold = 0, owner = NULL, epoch = epoch + 1, seq = seq + 1, ready_at = NULL,
    finished_at = ?, waiting_for = NULL, blocked_by = NULL, lost_owner = NULL
WHERE key = ?"""
_HOLD: Final = f"UPDATE [runs] SET hold = {HOLD_PAUSED}, seq = seq + 1 WHERE key = ?"
_RELEASE: Final = f"""
UPDATE [runs] SET hold = 0, seq = seq + 1, ready_at = {READY_BY_MESSAGE} WHERE key = :key"""
_STATUS: Final = f"SELECT {STATUS} FROM [runs] r WHERE key = ?"
_PAUSES: Final = f"""
SELECT type = {CODES["Paused"]} FROM [history]
WHERE run_key = ? AND type IN ({CODES["Paused"]}, {CODES["Resumed"]}) ORDER BY seq DESC LIMIT 1"""
_UNREAD: Final = "SELECT 1 FROM [inbox] WHERE run_key = ? AND n > ? AND name = ?"
_UNBLOCK: Final = f"""
UPDATE [runs]
SET hold = 0, blocked_by = NULL, waiting_for = NULL, seq = seq + 1, recoveries = 0,
    recovered_seq = seq + 1, ready_at = {READY_BY_MESSAGE}
WHERE hold = {HOLD_BLOCKED} AND lane IN (SELECT value FROM json_each(:lanes))
      AND owner IS NULL AND (blocked_by IS NULL OR blocked_by NOT IN (SELECT value FROM json_each(:codes)))
RETURNING key, seq"""


def terminate(
    database: Database, now: int, run_id: str, event: EventRow, cancel: bytes
) -> RunStatus | None:
    """End a run at once and tell those whom it concerns; the status that it has now."""
    found = database.one(_FIND, (run_id,))
    if found is None:
        return None
    key, status, finished_at, _, _, seq, consumed, parent_key, parent_cmd = found
    if finished_at is not None:
        return cast("RunStatus", status)
    told = set(_followers(database, key, consumed))
    if parent_key is not None and parent_cmd is not None:
        told.add((parent_key, parent_cmd))
    posts = [Post(to, child_message(cmd, event.type), event.data) for to, cmd in sorted(told)]
    children = database.fetch(_DEPENDANTS, (key,))
    posts += [Post(child, CANCEL, cancel, control=True) for (child,) in children]
    database.execute(_TERMINATE, (now, key))
    insert_history(database, ((key, seq + 1, event),))
    end_waits_of(database, (key,))
    post(database, now, posts)
    return "terminated"


def _followers(database: Database, key: int, consumed: int) -> Iterator[tuple[int, int]]:
    """Runs that wait for the end of this one, and as which of their commands."""
    for (name,) in database.fetch(_FOLLOWERS, {"key": key, "consumed": consumed}):
        run, _, cmd = name.partition(":")
        if run.isdecimal() and cmd.isdecimal():
            yield int(run), int(cmd)


def pause(database: Database, now: int, run_id: str, event: EventRow) -> RunStatus | None:
    """Hold a run, at once when nobody owns it; the status that it has now."""
    found = database.one(_FIND, (run_id,))
    if found is None:
        return None
    key, status, finished_at, hold, owner, seq, *_ = found
    if finished_at is not None or hold:
        return cast("RunStatus", status)
    if owner is not None:
        post(database, now, [Post(key, PAUSE, event.data)])
        return cast("RunStatus", status)
    database.execute(_HOLD, (key,))
    insert_history(database, ((key, seq + 1, event),))
    return "paused"


def resume(database: Database, now: int, run_id: str, event: EventRow) -> RunStatus | None:
    """Lift the hold of a paused run; the status that it has now."""
    found = database.one(_FIND, (run_id,))
    if found is None:
        return None
    key, status, finished_at, hold, owner, seq, consumed, *_ = found
    if finished_at is not None or hold == HOLD_BLOCKED:
        return cast("RunStatus", status)
    unread = database.one(_UNREAD, (key, consumed, PAUSE)) is not None
    if not hold:
        # It goes on already, and may have read a `~pause`, or will read one.
        if owner is not None or unread or database.one(_PAUSES, (key,)) == (1,):
            post(database, now, [Post(key, RESUME, event.data)])
        return cast("RunStatus", status)
    database.execute(_RELEASE, {"now": now, "key": key})
    insert_history(database, ((key, seq + 1, event),))
    if unread:
        post(database, now, [Post(key, RESUME, event.data)])
    ((status,),) = database.fetch(_STATUS, (key,))
    return cast("RunStatus", status)


def unblock(
    database: Database, now: int, lanes: Sequence[int], codes: Sequence[str], event: EventRow
) -> int:
    """Release runs that none of `codes` blocked; how many."""
    values = {"now": now, "lanes": json.dumps(list(lanes)), "codes": json.dumps(list(codes))}
    freed = database.fetch(_UNBLOCK, values)
    insert_history(database, ((key, seq, event) for key, seq in freed))
    return len(freed)
