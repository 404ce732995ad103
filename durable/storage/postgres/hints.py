"""Hints over NOTIFY: they make idle polls shorter and carry no truth.

Never sent inside a commit: a transaction that notifies takes one lock of the whole server when it
commits. A process sends at most one per `_PAUSE`, without a payload.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import psycopg
from psycopg import sql

from durable.errors import DurableError
from durable.storage.postgres.database import Database
from durable.storage.postgres.link import Link

_PAUSE: Final = 0.01
"""Seconds between two hints of one process."""
_QUIET: Final = 30.0
"""Seconds without a hint after which the listening connection is tried for life."""
_RECONNECT: Final = 1.0


class Hints(Database):
    """Sending and receiving hints."""

    def __init__(self, url: str, *, schema: str = "durable") -> None:
        super().__init__(url, schema=schema)
        self._planned: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._listening: set[Link] = set()

    def hint(self) -> None:
        """Tell other processes that there is work. Coalesced, best effort, never awaited."""
        if self._open and self._planned is None:
            self._planned = asyncio.get_running_loop().call_later(_PAUSE, self._send_hint)

    def _send_hint(self) -> None:
        self._planned = None
        if self._open and (self._sending is None or self._sending.done()):
            self._sending = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        with contextlib.suppress(DurableError):
            await self._working.ask(self._sql.notify, [self._settings.channel], retry=False)

    async def hints(self) -> AsyncIterator[None]:
        """Yields when there may be work. Ends when hints cannot be had."""
        if self._settings.pooled:
            return
        link = Link(self._settings, "listen")
        self._listening.add(link)
        try:
            while self._open:
                try:
                    connection = await link.raw()
                    await connection.execute(
                        sql.SQL("listen {}").format(sql.Identifier(self._settings.channel))
                    )
                    yield  # Whatever was sent before this connection listened.
                    async for _ in self._arrivals(connection):
                        yield
                except (psycopg.Error, DurableError):
                    if self._open:
                        await asyncio.sleep(_RECONNECT)
        finally:
            self._listening.discard(link)
            await link.close()

    async def _arrivals(self, connection: Any) -> AsyncIterator[None]:
        """One item per bunch of notifications of others; ends with an error when the connection is dead."""
        while self._open:
            bunch = connection.notifies(timeout=_QUIET, stop_after=1)
            senders = [note.pid async for note in bunch]
            if not senders:
                await connection.execute("select 1")
            elif any(sender != self._working.backend for sender in senders):
                yield

    async def close(self) -> None:
        """Release everything; idempotent."""
        self._open = False
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        for link in list(self._listening):
            await link.close()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await super().close()
