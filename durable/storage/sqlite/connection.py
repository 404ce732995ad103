"""One SQLite connection, its settings, and the wall that no `sqlite3` error crosses."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

from durable.errors import InvalidInput, PayloadError, PayloadTooLarge, StoreUnavailable

BUSY_SECONDS: Final = 5.0
"""How long a statement waits for another process to give up the lock."""

OLDEST_SQLITE: Final = (3, 38, 0)
"""The first one with the operator `->>` and with JSON for sure; STRICT tables came before, with 3.37."""

WAL_LIMIT: Final = 64 * 2**20
"""Bytes of the write-ahead log that may stay on the disk."""

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]

REFUSALS: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    UnicodeEncodeError,
    OverflowError,
    InvalidInput,
)
"""Errors that are about the data, not about the database."""

_BURSTS: Final = (256, 64, 16, 4, 1)
_NAME: Final = re.compile(r"\[(?=[a-z])")
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_ADVICE: Final = (
    ("locked", f"another process has held it for {BUSY_SECONDS:.0f} s: is one stopped?"),
    ("full", "the disk is full: free some space"),
    ("readonly", "it is read only: check the rights of the file and its directory"),
    ("unable to open", "it cannot be opened: does its directory exist, may we write there?"),
    ("not a database", "it is not an SQLite database: check the path"),
    ("malformed", "it is damaged: stop all workers and restore a backup"),
    ("no such table", "its tables have been dropped: restore a backup, or open an empty file"),
    ("disk i/o", "the disk reports an error: check the device"),
)


class Again(Exception):
    """Something failed where no savepoint was set: roll back, and do it again carefully."""


class Database:
    """A connection that belongs to one thread, and the prefix of this installation's tables.

    Statements write names of tables in square brackets, `[runs]`, which is SQL as it stands; a prefix
    is put in front of each.
    """

    def __init__(self, connection: sqlite3.Connection, prefix: str = "") -> None:
        self._connection = connection
        self._prefix = prefix
        self._texts: dict[str, str] = {}
        self.careful = True
        """Whether savepoints are set. Hardly one is ever needed, and each is two statements."""

    def execute(self, text: str, values: Values = ()) -> int:
        """Run a statement that answers nothing; how many rows it changed."""
        return self._connection.execute(self.named(text), values).rowcount

    def fetch(self, text: str, values: Values = ()) -> list[Row]:
        """All rows that a statement answers, so that none is open when the next one begins."""
        return self._connection.execute(self.named(text), values).fetchall()

    def one(self, text: str, values: Values = ()) -> Row | None:
        """The only row that a statement answers, or None."""
        rows = self.fetch(text, values)
        return rows[0] if rows else None

    def insert(self, into: str, rows: Sequence[Row], then: str = "") -> list[Row]:
        """`into VALUES (...), (...) then` for many rows, in few statements.

        Every step of a statement gives up Python's global lock, and getting it back from a busy event
        loop takes 5 ms each: a statement per row (`executemany`) would crawl behind one.
        """
        answers: list[Row] = []
        for burst in _bursts(rows):
            row = "(" + ",".join("?" * len(burst[0])) + ")"
            text = f"{into} VALUES {','.join([row] * len(burst))} {then}"
            answers += self.fetch(text, list(chain.from_iterable(burst)))
        return answers

    def named(self, text: str) -> str:
        """The statement with this installation's names."""
        if not self._prefix:
            return text
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = _NAME.sub(f"[{self._prefix}", text)
        return known

    @contextmanager
    def savepoint(self, name: str) -> Generator[None]:
        """All or nothing inside a transaction. `name` is a constant of ours.

        Unless the database is `careful`, an error costs the whole transaction: `Again`.
        """
        if not self.careful:
            try:
                yield
            except Exception as error:
                raise Again from error
            return
        self.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if self.in_transaction:  # else SQLite has rolled everything back by itself
                self.execute(f"ROLLBACK TO {name}")
                self.execute(f"RELEASE {name}")
            raise
        self.execute(f"RELEASE {name}")

    @property
    def in_transaction(self) -> bool:
        """False too when SQLite has rolled back on its own account (disk full, I/O error)."""
        return self._connection.in_transaction

    def rollback(self) -> None:
        """Leave the transaction, if there is one, whatever state it is in."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; an error now has nobody to be told."""
        with suppress(sqlite3.Error):
            self._connection.close()


def prefix_of(schema: str) -> str:
    """What is put in front of the names of an installation's tables: the file may be the user's own."""
    if not _SCHEMA.fullmatch(schema):
        raise InvalidInput(f"schema {schema!r}: use up to 40 letters, digits and underscores")
    return f"{schema}_"


def printable(path: object) -> str:
    """A path that can be said everywhere: one may be bytes that are no text."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def connect(path: Path | None, prefix: str, *, reading: bool = False) -> Database:
    """Open a database file, or a private one in memory, for the calling thread."""
    _refuse_old()
    connection = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        cached_statements=256,
    )
    try:
        if reading:
            connection.execute("PRAGMA wal_autocheckpoint=0")  # only the writer moves pages
            connection.execute("PRAGMA query_only=ON")
        elif path is not None:
            _enter_wal(connection)
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-16384")
    except sqlite3.Error:
        connection.close()
        raise
    return Database(connection, prefix)


def _refuse_old() -> None:
    """`StoreUnavailable` for an SQLite that does not know our statements: each would fail, for ever."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreUnavailable(
            f"this Python brings SQLite {sqlite3.sqlite_version}, and durable needs {oldest} or newer: "
            "use a Python built with a newer one, or PostgreSQL"
        )


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. Changing the mode does not always wait for the lock by itself."""
    for last in (*[False] * 50, True):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if last or "locked" not in str(error):
                raise
            time.sleep(0.02)
        else:
            return


def _bursts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Slices of a few fixed sizes: each size is one prepared statement that stays in the cache."""
    start = 0
    for size in _BURSTS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def translate(error: Exception, where: str) -> Exception:
    """What callers may see of an error: `StoreUnavailable`, or what is wrong with their data."""
    if isinstance(error, sqlite3.DataError):
        return PayloadTooLarge(f"a value is too large for {where}: {error}")
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return PayloadError(f"a value cannot be stored in {where}: {error}")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return InvalidInput(f"{where} was given a value of a wrong type: {error}")
    if isinstance(error, sqlite3.Error):
        text = str(error).lower()
        advice = next((advice for mark, advice in _ADVICE if mark in text), "")
        return StoreUnavailable(f"{where}: {advice} ({error})" if advice else f"{where}: {error}")
    return error


@contextmanager
def translated(where: str) -> Generator[None]:
    """Errors of `sqlite3` leave this block as our own."""
    try:
        yield
    except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
        raise translate(error, where) from error


def refuse_nul(what: str, values: Iterable[str | None]) -> None:
    """`InvalidInput` for a text with a NUL character or a lone surrogate, which not every store can keep."""
    for value in values:
        if value is not None and not value.isprintable():
            _refuse(what, value)


def _refuse(what: str, value: str) -> None:
    if "\0" in value:
        raise InvalidInput(f"{what} {value!r} has a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what} {value!r} has a lone surrogate") from None
