"""One connection to the database, opened when it is first needed and again after it broke."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection
from psycopg.pq import TransactionStatus

from durable.errors import StoreUnavailable
from durable.storage.postgres import failures
from durable.storage.postgres.arrays import adapt
from durable.storage.postgres.settings import Settings

Row = tuple[Any, ...]
_TRIES: Final = 5
_PAUSE: Final = 0.01
"""Seconds before a statement that met a deadlock is sent again; doubled each time."""


class Link:
    """An asynchronous connection in autocommit; one statement at a time, in the order asked.

    Errors leave it as `StoreUnavailable`, or as `PayloadError` when the rows themselves are refused.
    """

    def __init__(self, settings: Settings, purpose: str, **session: str) -> None:
        self._settings = settings
        self._purpose = purpose
        self._session = session
        self._connection: AsyncConnection[Row] | None = None
        self._cursor: AsyncCursor[Row] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def admit(self) -> None:
        """Take back `close`: the next statement connects."""
        self._closed = False

    async def connect(self) -> None:
        """Open the connection now."""
        try:
            async with self._turn:
                await self._ready()
        except psycopg.Error as error:
            raise failures.translate(error, self._settings.where) from error

    async def close(self) -> None:
        """Until it is admitted again; what is under way fails."""
        self._closed = True
        await self.drop()

    async def ask(
        self, query: str, parameters: Sequence[Any] = (), *, retry: bool = True
    ) -> list[Row]:
        """Run one statement. With `retry`, again while it meets deadlocks and lock timeouts."""
        pause = _PAUSE
        for left in reversed(range(_TRIES if retry else 1)):
            try:
                return await self.try_once(query, parameters)
            except psycopg.Error as error:
                if not left or not failures.may_retry(error):
                    raise failures.translate(error, self._settings.where) from error
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError

    async def try_once(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and let psycopg's errors through, for callers that tell them apart."""
        async with self._turn:
            try:
                cursor = await self._ready()
                await cursor.execute(query.encode(), parameters, prepare=not self._settings.pooled)
                # Not `description`, which makes an object of every column that nobody looks at.
                return [] if cursor.rownumber is None else await cursor.fetchall()
            except psycopg.Error as error:
                if failures.is_stale(error) or (self._connection and self._connection.broken):
                    await self.drop()
                raise

    @property
    def backend(self) -> int:
        """Process id of the server's side; 0 while there is none."""
        return 0 if self._connection is None else self._connection.info.backend_pid

    async def raw(self) -> AsyncConnection[Row]:
        """The psycopg connection itself, for LISTEN."""
        async with self._turn:
            await self._ready()
        assert self._connection is not None
        return self._connection

    async def _ready(self) -> AsyncCursor[Row]:
        if self._cursor is not None and _usable(self._cursor.connection):
            return self._cursor
        if self._closed:
            message = f"{self._settings.where}: the store is closed"
            raise StoreUnavailable(message)
        await self.drop()
        connection = await AsyncConnection.connect(
            **self._settings.connect_arguments(self._purpose, **self._session),
            autocommit=True,
            prepare_threshold=None if self._settings.pooled else 5,
        )
        adapt(connection)
        self._connection = connection
        self._cursor = connection.cursor(binary=True)
        return self._cursor

    async def drop(self) -> None:
        """Close the connection; the next statement opens another one."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            await connection.close()


def _usable(connection: AsyncConnection[Row]) -> bool:
    """Open, and not in the middle of something: a reader that was cancelled may have left it so."""
    return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE


class ThreadLink:
    """A blocking connection, for the thread that renews the lease."""

    def __init__(self, settings: Settings, purpose: str) -> None:
        self._settings = settings
        self._purpose = purpose
        self._connection: Connection[Row] | None = None
        self._turn = threading.Lock()

    def ask(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement."""
        with self._turn:
            try:
                cursor = self._ready().cursor(binary=True)
                cursor.execute(query.encode(), parameters)
                return cursor.fetchall()
            except psycopg.Error as error:
                if failures.is_stale(error) or (self._connection and self._connection.broken):
                    self._drop()
                raise failures.translate(error, self._settings.where) from error

    def close(self) -> None:
        """Idempotent; waits for a statement under way."""
        with self._turn:
            self._drop()

    def _ready(self) -> Connection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                **self._settings.connect_arguments(self._purpose),
                autocommit=True,
                prepare_threshold=None if self._settings.pooled else 5,
            )
            adapt(self._connection)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
