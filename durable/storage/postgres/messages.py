"""What comes to runs from outside: messages, terminations, releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from durable.model.lifecycle import RunStatus
from durable.model.rows import Delivered, Delivery
from durable.model.wire import EventRow
from durable.storage.postgres.arrays import int4s, texts, time
from durable.storage.postgres.batches import delivery_arrays, event_scalars
from durable.storage.postgres.database import Database


class Messages(Database):
    """Verbs of clients that change runs."""

    async def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered]:
        """Put messages into inboxes and make the runs ready."""
        if not deliveries:
            return []
        parameters = [self._now(), *delivery_arrays(deliveries)]
        return [Delivered(*row) for row in await self._working.ask(self._sql.deliver, parameters)]

    async def terminate(self, run_id: str, event: EventRow) -> RunStatus | None:
        """End a run at once; `event` is its last."""
        parameters = [self._now(), run_id, time(event.at), event.type, event.name, event.data]
        [(status,)] = await self._working.ask(self._sql.terminate, parameters)
        return cast("RunStatus | None", status)

    async def unblock(self, lanes: Sequence[int], codes: Sequence[str], event: EventRow) -> int:
        """Release runs of these lanes that none of `codes` blocked."""
        parameters = [self._now(), int4s(lanes), texts(codes), *event_scalars(event)]
        [(count,)] = await self._working.ask(self._sql.unblock, parameters)
        return int(count)
