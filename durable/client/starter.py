"""Starting runs in batches: what is asked for while a statement is under way goes out with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.client.patience import patiently
from durable.errors import StoreUnavailable
from durable.model.rows import NewRun, Started

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage

MAX_BATCH = 500
"""Runs in one statement."""
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Bytes of input in one statement; a single run may have more."""


class Starter:
    """The one place that sends starts to the store."""

    def __init__(self, store: Storage, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: list[tuple[NewRun, asyncio.Future[Started]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def start(self, run: NewRun) -> Started:
        """Start one run; the answer comes with its batch."""
        answer: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._waiting.append((run, answer))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="durable-starts")
        return await answer

    async def start_all(self, runs: Sequence[NewRun]) -> list[Started]:
        """Start many runs, `MAX_BATCH` to a statement."""
        answers: list[Started] = []
        while (done := len(answers)) < len(runs):
            rest = runs[done : done + MAX_BATCH]
            answers += await self._send(rest[: _batch(rest)])
        return answers

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = _batch([run for run, _ in self._waiting[:MAX_BATCH]])
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                await self._answer(batch)
        finally:
            self._pump = None

    async def _answer(self, batch: list[tuple[NewRun, asyncio.Future[Started]]]) -> None:
        try:
            answers = await self._send([run for run, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for one in batch:  # the others are not to blame for what one of them holds
                    await self._answer([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _send(self, runs: Sequence[NewRun]) -> list[Started]:
        tries: list[int] = []

        async def attempt() -> list[Started]:
            tries.append(1)
            return await self._store.start(runs)

        answers = await patiently(self._clock, attempt)
        if len(tries) == 1:
            # Nothing was lost: an equal row is that of somebody who asked in the same microsecond.
            return answers
        first = {run.id: run for run in reversed(runs)}
        return [
            _own(run, answer) if first[run.id] is run else answer
            for run, answer in zip(runs, answers, strict=True)
        ]


def _batch(runs: Sequence[NewRun]) -> int:
    """How many of these runs go out together: at least one."""
    size = 0
    for count, run in enumerate(runs[:MAX_BATCH]):
        size += len(run.started.data)
        if size > MAX_BATCH_BYTES and count:
            return count
    return min(len(runs), MAX_BATCH)


def _own(run: NewRun, answer: Started) -> Started:
    """After a lost answer a start meets its own row: that run was created, by us."""
    found = answer.started
    if answer.created or found is None:
        return answer
    if (found.at, found.data) != (run.started.at, run.started.data) or answer.lane != run.lane:
        return answer
    return Started(
        answer.key, answer.id, created=True, owned=False, status=answer.status, lane=answer.lane
    )
