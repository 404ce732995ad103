"""What comes to runs from outside: messages, answers, publications, and orders that are carried out at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import psycopg

from durable.model.lifecycle import RunStatus
from durable.model.rows import Answer, Answered, Delivered, Delivery, Publication, Subscription
from durable.model.wire import EventRow
from durable.storage.postgres import failures
from durable.storage.postgres.arrays import int4s, micros, texts, time
from durable.storage.postgres.batches import (
    delivery_arrays,
    event_scalars,
    order_scalars,
    publication_arrays,
    subscription_arrays,
)
from durable.storage.postgres.database import Database

_COMMIT: Final = 20
"""Milliseconds for which all messages of a batch wait for a lock: mostly it is that of a commit under way."""
_PASS_BY: Final = 0
_PATIENCE: Final = 250
"""Those for which one run's messages wait. Few enough: others want the second connection too."""


class Messages(Database):
    """Verbs of clients that change runs.

    What may have to wait for the row of a run goes over the second connection: nobody else waits for it there.
    """

    async def deliver(
        self, deliveries: Sequence[Delivery], *, wait: bool = False
    ) -> list[Delivered]:
        """Put messages into inboxes and make the runs ready; those to locked runs are `busy`."""
        if not deliveries:
            return []
        parameters = [self._now(), *delivery_arrays(deliveries)]
        link, patience = (self._second, _PATIENCE) if wait else (self._working, _COMMIT)
        try:
            rows = await link.try_once(self._sql.deliver, [*parameters, patience])
        except psycopg.Error as error:
            if not failures.may_retry(error):
                raise failures.translate(error, self._settings.where) from error
            if wait:
                return [Delivered(None, busy=True) for _ in deliveries]
            rows = await link.ask(self._sql.deliver, [*parameters, _PASS_BY])
        return [Delivered(*row) for row in rows]

    async def answer(self, answer: Answer) -> Answered:
        """Give a run the input that its open wait asks for: the first one is taken."""
        message = [answer.name, answer.data, answer.token, answer.by, time(answer.at)]
        parameters = [self._now(), answer.run_id, answer.cmd, *message]
        [row] = await self._second.ask(self._sql.answer, parameters)
        accepted, pending, by, at = row
        return Answered(accepted, pending, by, micros(at))

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Keep each publication, and put it into the inbox of every open run that waits for it."""
        if not publications:
            return []
        parameters = [self._now(), *publication_arrays(publications)]
        return [reached for (reached,) in await self._second.ask(self._sql.publish, parameters)]

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Put what is kept for these waits, and what their runs have not had yet, into their inboxes."""
        if subscriptions:
            parameters = [self._now(), *subscription_arrays(subscriptions)]
            await self._second.ask(self._sql.subscribe, parameters)

    async def pause(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Hold a run; the status that it has now."""
        return await self._order(self._sql.pause, run_id, event)

    async def resume(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Lift the hold of a paused run; the status that it has now."""
        return await self._order(self._sql.resume, run_id, event)

    async def terminate(self, run_id: str, event: EventRow, cancel: bytes) -> RunStatus | None:
        """End a run at once; `event` is its last."""
        return await self._order(self._sql.terminate, run_id, event, cancel)

    async def _order(
        self, statement: str, run_id: str, event: EventRow, *more: bytes
    ) -> RunStatus | None:
        parameters = [self._now(), run_id, *order_scalars(event), *more]
        [(status,)] = await self._second.ask(statement, parameters)
        return cast("RunStatus | None", status)

    async def unblock(self, lanes: Sequence[int], codes: Sequence[str], event: EventRow) -> int:
        """Release runs of these lanes that none of `codes` blocked."""
        parameters = [self._now(), int4s(lanes), texts(codes), *event_scalars(event)]
        [(count,)] = await self._working.ask(self._sql.unblock, parameters)
        return int(count)
