"""Waiting for runs to end: one query per tick for all waiters of a process, none for what ends here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from durable.client.polling import Waiters
from durable.model.lifecycle import RunStatus
from durable.model.wire import EventRow

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage

End = tuple[RunStatus, EventRow]
"""How a run ended: its status and its last event."""


class Results(Waiters[str, End]):
    """Who waits for which run."""

    def __init__(self, store: Storage, clock: Clock, is_local: Callable[[str], bool]) -> None:
        self._store = store
        super().__init__(self._ended, clock, "results", is_local)

    async def _ended(self, run_ids: Sequence[str]) -> Mapping[str, End]:
        return await self._store.finished(run_ids)
