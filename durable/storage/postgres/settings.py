"""Where the database is, and how this process speaks to it: the URL, the pooler option, the schema."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from durable.errors import StoreUnavailable

LOCK_TIMEOUT: Final = 2.0
"""Seconds that a statement waits for a lock that somebody else holds."""

_NAME_LIMIT: Final = 63
"""Bytes of a PostgreSQL identifier; longer ones are cut off in silence."""

_SESSION: Final = {
    # A database's own default may be stricter; the protocol is made for this one.
    "default_transaction_isolation": "read committed",
    "jit": "off",
    "lock_timeout": f"{LOCK_TIMEOUT:g}s",
    # A worker that was stopped inside a transaction must not hold its locks for long.
    "idle_in_transaction_session_timeout": "10s",
}
_SOCKET: Final[dict[str, int | str]] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    # Of several hosts the one that may be written to: what a standby shows may be old.
    "target_session_attrs": "read-write",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """A database's address, taken apart."""

    conninfo: dict[str, Any]
    schema: str
    pooled: bool
    """Through a pooler in transaction mode: nothing survives a statement but what is in tables."""

    @property
    def where(self) -> str:
        """The database in words, for messages; never with a password."""
        host = self.conninfo.get("host") or self.conninfo.get("hostaddr") or "local socket"
        port = self.conninfo.get("port", 5432)
        name = self.conninfo.get("dbname") or self.conninfo.get("user") or "default database"
        return f"PostgreSQL {name} at {host}:{port} (schema {self.schema})"

    @property
    def quoted(self) -> str:
        """The schema as it stands in SQL."""
        return '"' + self.schema.replace('"', '""') + '"'

    @property
    def in_query(self) -> str:
        """The schema in a text with placeholders, where psycopg reads a percent sign as one."""
        return self.quoted.replace("%", "%%")

    @property
    def channel(self) -> str:
        """Where hints are sent: one channel per schema."""
        return "durable_" + hashlib.sha256(self.schema.encode()).hexdigest()[:16]

    def connect_arguments(self, purpose: str, **session: str) -> dict[str, Any]:
        """Arguments for psycopg's `connect`; the user's own choices in the URL win.

        `session` are more settings of the server's; through a pooler there are none.
        """
        mine = {**_SOCKET, "application_name": f"durable {purpose}"}
        if not self.pooled:
            chosen = {**_SESSION, **session}
            given = self.conninfo.get("options", "")
            options = " ".join(f"-c {name}={_escape(value)}" for name, value in chosen.items())
            mine["options"] = f"{options} {given}".strip()
        given_here = {name: value for name, value in self.conninfo.items() if name != "options"}
        return {**mine, **given_here}


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def parse(url: str, schema: str) -> Settings:
    """Take a URL apart; `StoreUnavailable` when it makes no sense, without repeating it."""
    _check_schema(schema)
    base, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    pooler = [value for name, value in options if name == "pooler"]
    if pooler not in ([], ["transaction"], ["none"]):
        message = "the database URL has an unknown pooler= option; the one there is: transaction"
        raise StoreUnavailable(message)
    rest = urlencode([option for option in options if option[0] != "pooler"], quote_via=quote)
    try:
        conninfo = conninfo_to_dict(f"{base}?{rest}" if rest else base)
    except psycopg.Error:
        # What libpq says of it may quote the password.
        message = "the database URL is not one that PostgreSQL understands"
        raise StoreUnavailable(message) from None
    return Settings(conninfo, schema, pooler == ["transaction"])


def _check_schema(schema: str) -> None:
    size = len(schema.encode())
    if not 0 < size <= _NAME_LIMIT or "\0" in schema or "$fn$" in schema or "{" in schema:
        message = f"{schema!r} cannot be the name of a schema: 1 to {_NAME_LIMIT} plain characters"
        raise ValueError(message)
