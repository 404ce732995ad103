"""Starting a run under the id of an older one, which ends and gets another id."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from durable.model.ids import replaced_id, times_replaced
from durable.model.rows import NewRun, Started
from durable.model.wire import EventRow
from durable.storage.sqlite.connection import Database
from durable.storage.sqlite.orders import terminate
from durable.storage.sqlite.starting import Lanes, existing, start

_OWNER: Final = "SELECT owner, epoch, seq FROM [runs] WHERE key = ?"
_RENAME: Final = "UPDATE [runs] SET id = ? WHERE key = ?"
_NAME_ORIGIN: Final = "UPDATE [runs] SET retried_from = ? WHERE key = ?"
_ORIGIN: Final = "SELECT retried_from FROM [runs] WHERE key = ?"
_TAKEN: Final = "SELECT 1 FROM [runs] WHERE id = ?"


def restart(
    database: Database, now: int, run: NewRun, ended: EventRow, cancel: bytes, numbers: Lanes
) -> Started:
    """End and rename the run that has this id, then start `run`; see `Storage.restart`."""
    old = existing(database, [run.id]).get(run.id)
    if old is not None and old.started == replace(run.started, seq=1):
        return _as_created(database, old, run)
    origin = None
    if old is not None:
        if run.parent_key is None and old.lane.workflow != run.lane.workflow:
            return old
        terminate(database, now, run.id, ended, cancel)
        origin = _free_id(database, run.id, old.key)
        database.execute(_RENAME, (origin, old.key))
    (started,) = start(database, now, [run], numbers)
    database.execute(_NAME_ORIGIN, (origin, started.key))
    return started


def _as_created(database: Database, old: Started, run: NewRun) -> Started:
    """The answer that was lost: the run that stands there is the one asked for."""
    mine = database.one(_OWNER, (old.key,)) == (run.eager_owner, 1, 1)
    return Started(old.key, old.id, created=True, owned=mine, status=old.status, lane=old.lane)


def _free_id(database: Database, id: str, key: int) -> str:
    """`<id>~<n>` with the number after the one that the run's own predecessor got."""
    (origin,) = database.one(_ORIGIN, (key,)) or (None,)
    number = times_replaced(id, origin) + 1
    step = 1
    while database.one(_TAKEN, (replaced_id(id, number),)):  # by somebody who chose that id himself
        number += step
        step *= 2
    return replaced_id(id, number)
