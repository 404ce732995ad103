"""The commit: one statement for many runs, an answer for each, and nobody's fault stops the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from durable.model.rows import Code, Commit, Committed
from durable.storage.postgres import failures
from durable.storage.postgres.arrays import Packed, int8s
from durable.storage.postgres.batches import (
    append_arrays,
    append_or_end_arrays,
    brings_more,
    commit_arrays,
    is_plain,
    lanes_of,
    more_arrays,
    only_ends,
)
from durable.storage.postgres.database import Database
from durable.storage.postgres.link import Link

_TRIES: Final = 3
_PAUSE: Final = 0.01
"""Seconds before a batch that met a deadlock is sent again."""
_LOCK_TIMEOUT: Final = "55P03"


class Commits(Database):
    """Verbs on the committing connection, and on the one for second tries."""

    async def commit(
        self, worker: int, batch: Sequence[Commit], *, wait: bool = False
    ) -> list[Committed]:
        """Append for many runs at once, each all or nothing, and answer a code for each, in order."""
        if not batch:
            return []
        # Before the statement: it must never wait for another round trip.
        await self._number(list(lanes_of(batch)))
        link = self._second if wait else self._committing
        return await self._commit(link, worker, batch, wait)

    async def _commit(
        self, link: Link, worker: int, batch: Sequence[Commit], wait: bool
    ) -> list[Committed]:
        for left in reversed(range(_TRIES)):
            try:
                return await self._send(link, worker, batch, wait)
            except psycopg.Error as error:
                if failures.in_data(error) or failures.sqlstate(error) == _LOCK_TIMEOUT:
                    return await self._halve(link, worker, batch, wait, error)
                if not left or not failures.may_retry(error):
                    raise failures.translate(error, self._settings.where) from error
            await asyncio.sleep(_PAUSE)
        raise AssertionError

    async def _halve(
        self, link: Link, worker: int, batch: Sequence[Commit], wait: bool, error: psycopg.Error
    ) -> list[Committed]:
        """Send both halves of a batch that one run spoils, until that run is alone."""
        if len(batch) == 1:
            code = Code.POISONED if failures.in_data(error) else Code.BUSY
            return [Committed(batch[0].key, code, batch[0].seq, 0)]
        middle = len(batch) // 2
        first = await self._commit(link, worker, batch[:middle], wait)
        return first + await self._commit(link, worker, batch[middle:], wait)

    async def _send(
        self, link: Link, worker: int, batch: Sequence[Commit], wait: bool
    ) -> list[Committed]:
        short: tuple[str, list[Packed]] | None = None
        if not wait and is_plain(batch):
            short = self._sql.append, append_arrays(batch)
        elif not wait and only_ends(batch):
            short = self._sql.append_or_end, append_or_end_arrays(batch)
        if short is not None:
            query, arrays = short
            rows = await link.try_once(query, [worker, self._now(), *arrays])
            return [
                Committed(commit.key, _CODES[code], seq, head)
                for commit, (code, seq, head) in zip(batch, rows, strict=True)
            ]
        parameters: list[Any] = [worker, self._now(), wait, *commit_arrays(batch, self._lanes)]
        if brings_more(batch):
            parameters += more_arrays(batch)
            rows = await link.try_once(self._sql.commit_more, parameters)
        else:
            rows = await link.try_once(self._sql.commit, parameters)
        return [
            Committed(commit.key, _CODES[code], seq, head, children or ())
            for commit, (code, seq, head, children) in zip(batch, rows, strict=True)
        ]

    async def probe(
        self, worker: int, keys: Sequence[int], epochs: Sequence[int]
    ) -> list[Committed]:
        """After a lost answer: `OTHER_SEQ` for runs still mine, `LOST`, or `FENCED`."""
        packed = int8s(keys)
        rows = await self._working.ask(self._sql.probe, [worker, packed, int8s(epochs), packed])
        found = {key: (seq, head, mine) for key, seq, head, mine in rows}
        return [_probed(key, found) for key in keys]


_CODES: Final = {int(code): code for code in Code}


def _probed(key: int, found: dict[int, tuple[int | None, int | None, bool | None]]) -> Committed:
    if key not in found:
        return Committed(key, Code.FENCED, 0, 0)
    seq, head, mine = found[key]
    return Committed(key, Code.OTHER_SEQ if mine else Code.LOST, seq or 0, head or 0)
