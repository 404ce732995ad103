"""Pieces of SQL that several statements share, and the rows that they answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from durable.model.lifecycle import HOLD_BLOCKED, HOLD_PAUSED
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database, refuse_nul

STATUS: Final = (
    f"CASE r.hold WHEN {HOLD_PAUSED} THEN 'paused' WHEN {HOLD_BLOCKED} THEN 'blocked' "
    "ELSE r.status END"
)
"""What a reader sees of a run `r`."""

EVENT: Final = "{0}.seq, {0}.type, {0}.at, {0}.cmd, {0}.name, {0}.data"
"""The columns of an event, of a history row called `{0}`."""

EVENT_WIDTH: Final = 6

READY_BY_MESSAGE: Final = "max(min(coalesce(ready_at, :now), :now), coalesce(not_before, 0))"
"""When a run is due now that a message has come: at once, but never before its scheduled time."""

_NAME: Final = 5
_ADD_HISTORY: Final = "INSERT INTO [history] (run_key, seq, type, at, cmd, name, data)"


def insert_history(database: Database, events: Iterable[tuple[int, int, EventRow]]) -> None:
    """Append `(run key, seq, event)`; the number counts, not what the row says."""
    rows = [(key, seq, e.type, e.at, e.cmd, e.name, e.data) for key, seq, e in events]
    refuse_nul("event name", {row[_NAME] for row in rows})  # a few names, again and again
    database.insert(_ADD_HISTORY, rows)
