"""Runs in an SQLite file: one process, or a few on one machine."""

from durable.storage.sqlite.store import SqliteStorage

__all__ = ["SqliteStorage"]
