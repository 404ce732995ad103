"""The real SQLite store on one connection in memory that all simulated processes share, without its threads.

The store of each process has its own caches. What is asked is done at once, by the code that its writer's
thread would run. Between two simulations the tables are emptied, so that statements stay prepared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from durable.storage.sqlite import migrating
from durable.storage.sqlite.connection import Database, connect, prefix_of, translate
from durable.storage.sqlite.desk import Job, Writer
from durable.storage.sqlite.store import SqliteStorage

T = TypeVar("T")
_PREFIX: Final = prefix_of("durable")
_KEPT: Final = {"durable_migrations", "durable_event_types"}
"""Tables that hold the same in every simulation."""


class InlineWriter(Writer):
    """Serves whatever is asked in the turn of whoever asks."""

    database: Database

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = True

    async def close(self) -> None:
        self._open = False

    def _put(self, job: Job) -> None:
        try:
            self._serve(self.database, [job])
        except Exception as error:
            self.database.rollback()
            job.fail(translate(error, self._where))
        job.settle()


class InlineReader(InlineWriter):
    """Reads in the turn of whoever asks; no transaction of others can be under way in it."""

    def _put(self, job: Job) -> None:
        try:
            job.value = job.work(self.database, self._clock())
        except Exception as error:
            job.fail(translate(error, self._where))
        job.settle()


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The answer of a store whose desk serves in the turn of whoever asks."""
    try:
        call.send(None)
    except StopIteration as answer:
        return answer.value  # type: ignore[no-any-return]
    call.close()
    raise AssertionError("this store makes nobody wait")


class SharedDatabase:
    """One database, emptied for every simulation. Belongs to one thread."""

    def __init__(self) -> None:
        self.connection = connect(None, _PREFIX)
        migrating.prepare(self.connection, "the simulation")
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        self.tables = [name for (name,) in self.connection.fetch(tables) if name not in _KEPT]

    def clear(self) -> None:
        """Begin anew: no rows, and numbers from 1."""
        self.connection.rollback()
        for table in self.tables:
            self.connection.execute(f"DELETE FROM {table}")

    def store(self, now: Callable[[], int]) -> SqliteStorage:
        """What a process opens."""
        store = SqliteStorage(None)
        parts = ("", store._where, store._connect, store._clock, store._leases)
        store._writer, store._reader = InlineWriter(*parts), InlineReader(*parts)
        store._writer.database = store._reader.database = self.connection  # type: ignore[attr-defined]
        store.time = now
        return store

    @property
    def changes(self) -> int:
        """A number that grows with every row that is written."""
        return self.connection._connection.total_changes

    def rows(self, text: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """What a query answers, for those who watch."""
        return self.connection.fetch(text, values)

    def contents(self) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """All rows of all tables."""
        return [(table, sorted(self.rows(f"SELECT * FROM {table}"))) for table in self.tables]
