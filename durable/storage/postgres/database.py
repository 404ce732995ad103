"""What all verbs of the store stand on: its connections, its texts and its clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from durable.errors import StoreUnavailable
from durable.model.rows import Lane, MigrationStep
from durable.storage import migrations
from durable.storage.postgres import failures, schema
from durable.storage.postgres.arrays import Time, int4s, micros, texts, time
from durable.storage.postgres.link import Link, Row, ThreadLink
from durable.storage.postgres.settings import Settings, parse
from durable.storage.postgres.statements import Statements, statements

WORK: Final = {"enable_seqscan": "off"}
"""A prepared plan outlives the time when its table was small: reads go by index from the start."""


class Database:
    """The connections of one process, at most five: commit, work, second try, listen, heartbeat.

    The second one is for whoever may have to wait for the row of a single run.
    """

    time: Callable[[], int] | None

    def __init__(self, url: str, *, schema: str = "durable") -> None:
        self.time = None
        self._settings: Settings = parse(url, schema)
        self._sql: Statements = statements(self._settings)
        self._committing = Link(self._settings, "commit")
        self._working = Link(self._settings, "work", **WORK)
        self._second = Link(self._settings, "second try", **WORK)
        self._links = (self._committing, self._working, self._second)
        self._beating = ThreadLink(self._settings, "heartbeat")
        self._lanes: dict[Lane, int] = {}
        self._open = False

    async def open(self) -> None:
        """Connect. Migrates an empty schema; `MigrationNeeded` for an older or newer one."""
        for link in self._links:
            link.admit()
        try:
            version = await self._check()
            if version == 0:
                await self.migrate()
            else:
                known = migrations.steps("postgres")
                migrations.check_version(known, version, self._settings.where)
            await self._committing.connect()
        except BaseException:
            await self._working.drop()
            raise
        self._open = True

    async def close(self) -> None:
        """Release everything; idempotent."""
        self._open = False
        for link in self._links:
            await link.close()
        await asyncio.to_thread(self._beating.close)

    async def migrations(self) -> Sequence[MigrationStep]:
        """The steps that this version knows, and which of them the database has."""
        return migrations.report(migrations.steps("postgres"), await self._version())

    async def migrate(self, to: int | None = None) -> None:
        """Bring the schema to step `to` (None: the newest)."""
        link = Link(self._settings, "migrate")
        try:
            connection = await link.raw()
            await schema.migrate(connection, self._settings, to)
        except psycopg.Error as error:
            raise failures.translate(error, self._settings.where) from error
        finally:
            await link.close()

    async def now(self) -> int:
        """The database's clock."""
        rows = await self._working.ask(self._sql.now, [self._now()])
        return _time_of(rows[0][0])

    async def _check(self) -> int:
        """The version of a database that can be written to."""
        [(replica, exists)] = await self._working.ask(
            self._sql.check, [f"{self._settings.quoted}.schema_version"]
        )
        if replica:
            message = f"{self._settings.where} is a read-only replica: use its primary"
            raise StoreUnavailable(message)
        return await self._version() if exists else 0

    async def _version(self) -> int:
        link = Link(self._settings, "version")
        try:
            return await schema.current_version(await link.raw(), self._settings)
        except psycopg.Error as error:
            raise failures.translate(error, self._settings.where) from error
        finally:
            await link.close()

    def _now(self) -> Time | None:
        """What takes the clock's place in a statement; null: the database's own."""
        return None if self.time is None else time(self.time())

    async def _number(self, lanes: Sequence[Lane]) -> dict[Lane, int]:
        """Numbers of lanes, looked up once per process."""
        missing = sorted({lane for lane in lanes if lane not in self._lanes}, key=_order)
        if missing:
            arrays = [
                texts([lane.queue for lane in missing]),
                texts([lane.workflow for lane in missing]),
                int4s([lane.version for lane in missing]),
            ]
            self._remember(await self._working.ask(self._sql.lanes, arrays))
            if any(lane not in self._lanes for lane in missing):
                await self._working.ask(self._sql.new_lanes, arrays)
                # A new statement: only that sees what another process inserted at the same time.
                self._remember(await self._working.ask(self._sql.lanes, arrays))
        return {lane: self._lanes[lane] for lane in lanes}

    def _remember(self, rows: Sequence[Row]) -> None:
        for number, queue, workflow, version in rows:
            self._lanes[Lane(queue, workflow, version)] = number

    async def lanes(self, lanes: Sequence[Lane]) -> dict[Lane, int]:
        """The numbers of these lanes, made where they are new."""
        return await self._number(lanes)


def _order(lane: Lane) -> tuple[str, str, int]:
    return (lane.queue, lane.workflow, lane.version)


def _time_of(value: Any) -> int:
    result = micros(value)
    assert result is not None
    return result
