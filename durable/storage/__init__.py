"""Where runs are kept. `open_storage` finds the store that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from durable.storage.base import Storage
from durable.storage.sqlite import SqliteStorage

if TYPE_CHECKING:
    from durable.storage.postgres import PostgresStorage

__all__ = ["Storage", "open_storage"]

_FORMS = "sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory) or postgresql://..."


def open_storage(url: str, *, schema: str = "durable") -> Storage:
    """The store that `url` names, not opened yet.

    `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` (private, in memory), or
    `postgresql://user@host/database`. `ValueError` for anything else; `ImportError` that says what to
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
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"an SQLite URL has three or four slashes, a path and nothing else: {_FORMS}"
        )
    path = unquote(parts.path.removeprefix("/"))
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
