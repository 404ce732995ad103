"""Bringing a database to the schema that this version of durable knows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Final

from durable.model.history import CODES
from durable.storage.migrations import Step, check_version, pending, steps
from durable.storage.sqlite.connection import Database

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS [migrations] (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT"""
_EXISTS: Final = """
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"""
"""Whether there is such a table: for SQLite, names that differ in case are the same."""


def version(database: Database) -> int:
    """The newest step that a database has; 0: none."""
    name = database.named("[migrations]").strip("[]")
    if not database.fetch(_EXISTS, (name,)):
        return 0
    return int(database.fetch("SELECT coalesce(max(number), 0) FROM [migrations]")[0][0])


def prepare(database: Database, where: str) -> None:
    """Migrate an empty database; `MigrationNeeded` unless it then has the schema of this version."""
    known = steps("sqlite")
    if version(database) == 0:
        _first_boot(database, known)
    check_version(known, version(database), where)
    _name_types(database)


def migrate(database: Database, to: int | None) -> None:
    """Run the steps that are missing, each in a transaction of its own."""
    for step in pending(steps("sqlite"), 0, to):
        _run(database, (step,))
    _name_types(database)


def _first_boot(database: Database, known: Sequence[Step]) -> None:
    """All steps in one transaction: no other process may meet a schema that is half there."""
    _run(database, known)


def _run(database: Database, some: Sequence[Step]) -> None:
    """Run those of `some` that a database still lacks once the lock is ours."""
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute(_TABLE)
        have = version(database)
        for step in some:
            if step.number > have:
                _apply(database, step)
        database.execute("COMMIT")
    finally:
        database.rollback()


def _apply(database: Database, step: Step) -> None:
    for statement in _statements(step.text):
        database.execute(statement)
    database.execute(
        "INSERT INTO [migrations] (number, name, applied_at) VALUES (?, ?, ?)",
        (step.number, step.name, time.time_ns() // 1000),
    )


def _statements(text: str) -> Iterator[str]:
    """Split a script; `executescript` would commit the transaction that it is in."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _name_types(database: Database) -> None:
    """Keep the names of event types beside the histories, for people and other languages."""
    if version(database) == 0:
        return
    named = {name: code for code, name in database.fetch("SELECT code, name FROM [event_types]")}
    if CODES.items() <= named.items():
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for name, code in CODES.items():
            database.execute(
                "INSERT INTO [event_types] (code, name) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (code, name),
            )
        database.execute("COMMIT")
    finally:
        database.rollback()
