"""Where runs are kept. `open_storage` finds the store that a URL names."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from durable.storage.base import Storage
from durable.storage.sqlite import SqliteStorage

if TYPE_CHECKING:
    from durable.storage.postgres import PostgresStorage

__all__ = ["Storage", "open_storage"]

_FORMS: Final = (
    "sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory) or postgresql://..."
)
_SQLITE: Final = re.compile(r"sqlite://(?:/(?P<path>[^?#]*))?", re.IGNORECASE | re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def open_storage(url: str, *, schema: str = "durable") -> Storage:
    """The store that `url` names, not opened yet.

    `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` (private, in memory), or
    `postgresql://user@host/database`. In a path `%20` and the like stand for bytes. `ValueError` for anything else; `ImportError` that says what to
    install when PostgreSQL's driver is missing. No message shows a password.
    """
    scheme = urlsplit(url).scheme.lower()
    if scheme == "sqlite":
        return SqliteStorage(_sqlite_path(url), schema=schema)
    if scheme in {"postgresql", "postgres"}:
        return _postgres()(url, schema=schema)
    if not scheme:
        raise ValueError(f"a database is named by a URL: {_FORMS}")
    raise ValueError(f"no store for {scheme!r} databases: use {_FORMS}")


def _sqlite_path(url: str) -> str | None:
    # Read as it stands: `urlsplit` would drop tabs and line breaks, and name another file.
    parts = _SQLITE.fullmatch(url)
    if parts is None:
        raise ValueError(
            f"an SQLite URL has three or four slashes, a path and nothing else: {_FORMS}"
        )
    path = os.fsdecode(unquote_to_bytes(os.fsencode(parts["path"] or "")))
    if _CONTROL.search(path):
        raise ValueError(f"the path of an SQLite URL has a control character: {path!r}")
    if path in {"", ":memory:"}:
        return None
    return path


def _postgres() -> type[PostgresStorage]:
    try:
        from durable.storage.postgres import PostgresStorage  # noqa: PLC0415 - its driver is optional
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"psycopg", "psycopg_pool"}:
            raise
        hint = "PostgreSQL needs its driver: pip install 'durable-sdk[postgres]'"
        raise ImportError(hint, name=error.name) from error
    return PostgresStorage
