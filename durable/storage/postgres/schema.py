"""Bringing a database's schema up to date, safely when many processes do it at once.

A version is believed only when it was read under the migration lock, and the lock is one of the
transaction, so that it works through a pooler. An empty database gets all steps in one transaction:
nobody ever sees half of a first installation. Later steps run one transaction each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import AsyncConnection

from durable.model.history import CODES
from durable.storage.migrations import Step, pending, steps
from durable.storage.postgres.settings import Settings

_LOCK: Final = 0x6475_7261_626C_65
"""Key of the advisory lock: "durable" in ASCII."""

_BOOK: Final = """
create table if not exists {schema}.schema_version (
    one     boolean primary key default true check (one),
    number  integer not null);
insert into {schema}.schema_version (number) values (0) on conflict (one) do nothing;
"""

_NUMBER: Final = "select number from {schema}.schema_version"
_ADVANCE: Final = "update {schema}.schema_version set number = %s"
_TYPES: Final = """
insert into {schema}.event_types (code, name) select * from unnest(%s::int2[], %s::text[])
    on conflict (code) do update set name = excluded.name"""


async def current_version(connection: AsyncConnection[Any], settings: Settings) -> int:
    """Number of the newest step that the database has; 0 when it has none."""
    book = f"{settings.quoted}.schema_version"
    found = await _one(connection, "select to_regclass(%s) is not null", (book,))
    if not found:
        return 0
    return int(await _one(connection, _NUMBER.replace("{schema}", settings.quoted).encode()) or 0)


async def migrate(connection: AsyncConnection[Any], settings: Settings, to: int | None) -> None:
    """Run the missing steps up to `to` (None: the newest)."""
    known = steps("postgres")
    while await _advance(connection, settings, known, to):
        pass


async def _advance(
    connection: AsyncConnection[Any], settings: Settings, known: Sequence[Step], to: int | None
) -> bool:
    """One transaction's worth of steps; whether there may be more to do."""
    async with connection.transaction():
        # Waiting for a longer migration of somebody else is what this is for.
        await connection.execute("set local lock_timeout = 0")
        await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        version = await current_version(connection, settings)
        missing = pending(known, version, to)
        if version == 0:
            await _prepare(connection, settings)
        now = missing if version == 0 else missing[:1]
        for step in now:
            await connection.execute(step.sql({"schema": settings.quoted}).encode(), prepare=False)
            query = _ADVANCE.replace("{schema}", settings.in_query)
            await connection.execute(query.encode(), (step.number,))
        if now:
            await _name_events(connection, settings)
        return len(missing) > len(now)


async def _prepare(connection: AsyncConnection[Any], settings: Settings) -> None:
    # CREATE SCHEMA IF NOT EXISTS wants a right on the database even where the schema exists.
    exists = "select exists (select 1 from pg_namespace where nspname = %s)"
    if not await _one(connection, exists, (settings.schema,)):
        await connection.execute(f"create schema {settings.quoted}".encode())
    await connection.execute(_BOOK.replace("{schema}", settings.quoted).encode(), prepare=False)


async def _name_events(connection: AsyncConnection[Any], settings: Settings) -> None:
    """Keep the lookup of event types in step with the code."""
    found = await _one(connection, "select to_regclass(%s)", (f"{settings.quoted}.event_types",))
    if not found:
        return
    query = _TYPES.replace("{schema}", settings.in_query)
    await connection.execute(query.encode(), (list(CODES.values()), list(CODES)))


async def _one(connection: AsyncConnection[Any], query: Any, parameters: Sequence[Any] = ()) -> Any:
    row = await (await connection.execute(query, parameters or None)).fetchone()
    return None if row is None else row[0]
