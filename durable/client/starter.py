"""Starting runs, in batches; a start whose answer was lost finds its own run again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from durable.client.batches import Batches
from durable.errors import StoreUnavailable
from durable.model.rows import NewRun, Started

if TYPE_CHECKING:
    from durable.client.patience import Patience
    from durable.storage.base import Storage


_log = logging.getLogger("durable.client")


class Owners(Protocol):
    """The client, through which what is started finds the workers of this process."""

    def expecting(self, runs: Sequence[NewRun]) -> AbstractContextManager[None]:
        """These are about to be started."""
        ...

    def hand_over(self, run: NewRun, answer: Started) -> None:
        """One of them was started, or was there before."""
        ...


class _Start:
    """A run to start, and whether a try has been made whose answer is not known."""

    __slots__ = ("run", "unsure")

    def __init__(self, run: NewRun) -> None:
        self.run = run
        self.unsure = False


class Starter:
    """The one place that sends starts to the store."""

    def __init__(self, store: Storage, patience: Patience, owners: Owners) -> None:
        self._store = store
        self._owners = owners
        self.batches: Batches[_Start, Started] = Batches(
            self._send, lambda start: len(start.run.started.data), "durable-starts", patience
        )

    async def start(self, run: NewRun) -> Started:
        """Start one run; the answer comes with its batch."""
        return await self.batches.ask(_Start(run))

    async def start_all(self, runs: Sequence[NewRun]) -> list[Started]:
        """Start many runs."""
        return await self.batches.ask_all([_Start(run) for run in runs])

    async def _send(self, starts: Sequence[_Start]) -> list[Started]:
        """Whoever has asked may have gone meanwhile: what was started finds its worker all the same."""
        runs = [start.run for start in starts]
        with self._owners.expecting(runs):
            answers = await self._answers(starts, runs)
            for run, answer in zip(runs, answers, strict=True):
                self._hand_over(run, answer)
        return answers

    def _hand_over(self, run: NewRun, answer: Started) -> None:
        try:
            self._owners.hand_over(run, answer)
        except Exception:  # it was started all the same, and so were the others of its batch
            _log.exception("run %s: its worker did not take it; it is looked for", run.id)

    async def _answers(self, starts: Sequence[_Start], runs: Sequence[NewRun]) -> list[Started]:
        try:
            answers = await self._store.start(runs)
        except StoreUnavailable:
            for start in starts:
                start.unsure = True
            raise
        if not any(start.unsure for start in starts):
            # Nothing was lost: an equal row is that of somebody who asked in the same microsecond.
            return answers
        first = {start.run.id: start for start in reversed(starts)}
        return [
            _own(start.run, answer) if start.unsure and first[start.run.id] is start else answer
            for start, answer in zip(starts, answers, strict=True)
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
