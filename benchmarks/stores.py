"""The one place that knows how to reach durable's own tables from outside its public API."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

from durable.storage import open_storage


async def migrate(url: str) -> None:
    """Make durable's tables in an empty database."""
    storage = open_storage(url)
    await storage.open()
    await storage.close()


def sqlite_file(url: str) -> Path:
    """The file behind a `sqlite:///` URL."""
    return Path(url.removeprefix("sqlite:///"))


def connect(url: str) -> psycopg.Connection[Any] | sqlite3.Connection:
    """A connection of one's own that commits by itself, with the durability that durable asks for."""
    if not url.startswith("sqlite"):
        return psycopg.connect(url, autocommit=True)
    connection = sqlite3.connect(sqlite_file(url), timeout=30, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    return connection


def table(url: str, name: str) -> str:
    """The full name of one of durable's tables."""
    connection = connect(url)
    if isinstance(connection, sqlite3.Connection):
        query = f"select name from sqlite_master where type = 'table' and name like '%{name}'"
    else:
        query = (
            "select n.nspname || '.' || c.relname from pg_class c "
            "join pg_namespace n on n.oid = c.relnamespace "
            f"where c.relkind = 'r' and c.relname = '{name}'"
        )
    try:
        row = connection.execute(query).fetchone()
    finally:
        connection.close()
    if row is None:
        raise LookupError(f"durable has no table {name} in this database")
    return str(row[0])
