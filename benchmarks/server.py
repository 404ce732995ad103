"""The databases that a run makes for itself: one PostgreSQL server, and files of SQLite beside it.

The server has its default settings, with `fsync`, `synchronous_commit` and `full_page_writes` on: what a
benchmark says about durability is worth nothing without them. Every measurement gets a fresh, empty
database, and what earlier ones left to be written is written before the clock starts.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from durable_testing.postgres import PostgresServer

DEFAULT_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_connections": "100",
}
"""PostgreSQL's own defaults, spelled out because a server for tests has others."""

_SHOWN = (*DEFAULT_SETTINGS, "shared_buffers", "max_wal_size", "wal_sync_method")


class Databases:
    """Fresh databases for one run of the benchmark."""

    def __init__(self, postgres: PostgresServer, folder: Path) -> None:
        self._postgres = postgres
        self._folder = folder
        self._made = 0

    @contextmanager
    def fresh(self, store: str) -> Iterator[str]:
        """The URL of an empty database of `store`, dropped afterwards."""
        self._made += 1
        name = f"bench_{self._made}"
        if store == "sqlite":
            folder = self._folder / name
            folder.mkdir()
            os.sync()
            yield f"sqlite:///{folder}/runs.db"
            shutil.rmtree(folder, ignore_errors=True)
            return
        url = self._postgres.create_database(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("checkpoint")
        os.sync()
        try:
            yield url
        finally:
            self._postgres.drop_database(name)

    @property
    def server_pid(self) -> int | None:
        """The process id of the PostgreSQL server."""
        return self._postgres.pid

    def about(self) -> dict[str, Any]:
        """Version and the settings that matter, as the server itself tells them."""
        with psycopg.connect(self._postgres.url(), autocommit=True) as connection:
            version = connection.execute("select version()").fetchone()
            rows = connection.execute(
                "select name, current_setting(name) from pg_settings where name = any(%s)",
                [list(_SHOWN)],
            ).fetchall()
        return {"version": version[0] if version else "", "settings": dict(rows)}


@contextmanager
def databases() -> Iterator[Databases]:
    """Start the server and a folder for files on the same disk; end and remove both."""
    with PostgresServer(**DEFAULT_SETTINGS) as server:
        folder = Path(tempfile.mkdtemp(prefix="durable-bench-", dir=server.directory.parent))
        try:
            yield Databases(server, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def filesystem(path: Path) -> str:
    """The type of the file system that `path` lies on: on `tmpfs` a commit costs nothing."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        inside = str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, name
    return kind
