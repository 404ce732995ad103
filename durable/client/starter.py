"""Starting runs, in batches; a start whose answer was lost finds its own run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.client.batches import Batches
from durable.client.patience import patiently
from durable.model.rows import NewRun, Started

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage


class Starter:
    """The one place that sends starts to the store."""

    def __init__(self, store: Storage, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.batches = Batches(self._send, lambda run: len(run.started.data), "durable-starts")

    async def start(self, run: NewRun) -> Started:
        """Start one run; the answer comes with its batch."""
        return await self.batches.ask(run)

    async def start_all(self, runs: Sequence[NewRun]) -> list[Started]:
        """Start many runs."""
        return await self.batches.ask_all(runs)

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
