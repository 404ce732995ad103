"""Keeping the write-ahead log short.

SQLite begins the log anew when all of it has been copied into the file and nobody reads from it. Where
several processes write all the time, that moment never comes by itself.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from durable.storage.sqlite import connection
from durable.storage.sqlite.connection import WAL_LIMIT, Database

LOOK_SECONDS = 1.0
_PATIENCE: Final = 100
"""Milliseconds for which others may be waited for, who have to wait meanwhile."""

_SHARE: Final = 20
"""An attempt that took a while is followed by this many times as long without one."""


class Wal:
    """The log beside a database file; None: in memory, where there is none."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else Path(f"{path}-wal")
        self._next = 0.0

    def tend(self, database: Database) -> None:
        """Cut a log that has grown too long. Looks about once a second."""
        began = time.monotonic()
        if self._file is None or began < self._next:
            return
        if _size(self._file) > WAL_LIMIT:
            _cut(database)
        took = time.monotonic() - began
        self._next = began + max(LOOK_SECONDS, _SHARE * took)


def _cut(database: Database) -> None:
    """Copy what is left of it into the file and truncate it, unless others are in the way for too long."""
    with suppress(sqlite3.Error):  # whatever it is, the next transaction meets it and says so
        database.fetch(f"PRAGMA busy_timeout={_PATIENCE}")
        try:
            database.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            database.fetch(f"PRAGMA busy_timeout={round(connection.BUSY_SECONDS * 1000)}")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
