"""What a client sends to runs: events, to one of them or under a key, and the end of a wait."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable.client.base import ClientBase, not_found
from durable.client.batches import Batches
from durable.client.checked import asked_id, can_exist, id_text, text_or_none
from durable.client.later import refuse_options
from durable.client.paging import checked_cursor, checked_limit
from durable.client.patience import PATIENCE_SECONDS, closed
from durable.clock import SECOND, to_datetime, to_micros
from durable.errors import DurableError, IllegalTransition
from durable.model import history
from durable.model.duration import days
from durable.model.events import NO_PAYLOAD, Event, checked_event_name, sent
from durable.model.messages import end_wait_message, request_message
from durable.model.naming import checked_text
from durable.model.records import Listing, Page, PendingEvent
from durable.model.rows import (
    MAX_UNREAD,
    Delivered,
    Delivery,
    Publication,
    WaitFilter,
    WaitKind,
    WaitRow,
)
from durable.model.wire import decode_event
from durable.storage.held_back import HeldBack, Later

if TYPE_CHECKING:
    from durable.client.patience import Patience
    from durable.clock import Clock
    from durable.storage.base import Storage

T = TypeVar("T")

KEPT = round(days(7).total_seconds() * SECOND)
"""How long, in microseconds, what is published waits for waits that begin later."""


class Post:
    """The one place that sends messages and publications to the store."""

    def __init__(self, store: Storage, patience: Patience, clock: Clock) -> None:
        self._store = store
        self._held = HeldBack(self._pass_on, clock, PATIENCE_SECONDS)
        self.deliveries = Batches(
            self._deliver, lambda one: len(one.data), "durable-deliveries", patience
        )
        self.publications = Batches(
            self._publish, lambda one: len(one.data), "durable-publications", patience
        )

    async def close(self) -> None:
        """What has not been sent yet, or waits for the lock on a run, goes no further: whoever sent it is told."""
        self.deliveries.close()
        self.publications.close()
        held = self.held
        self._held.close(closed())
        if held:
            # The server goes on with a statement that waits there, unless it is told; they tell it.
            await asyncio.wait(held)

    @property
    def held(self) -> Sequence[asyncio.Task[None]]:
        """The tasks that wait for locked runs."""
        return self._held.tasks

    async def deliver(self, delivery: Delivery) -> Delivered:
        """Deliver one message, after those that were given for its run before."""
        answer = await self.deliveries.ask(delivery)
        return answer if isinstance(answer, Delivered) else await answer

    async def deliver_all(self, deliveries: Sequence[Delivery]) -> list[Delivered]:
        """Deliver many messages."""
        answers = await self.deliveries.ask_all(deliveries)
        return [one if isinstance(one, Delivered) else await one for one in answers]

    async def _deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | Later]:
        return await self._held.deliver(deliveries)

    async def _pass_on(self, deliveries: Sequence[Delivery], wait: bool) -> list[Delivered]:
        return await self._store.deliver(deliveries, wait=wait)

    async def _publish(self, publications: Sequence[Publication]) -> list[int]:
        return await self._store.publish(publications)


class Messaging(ClientBase):
    """Verbs for events. Each send has an idempotency key: a lost answer never makes two of one event."""

    _post: Post

    @overload
    async def send_event(
        self,
        id: str,
        event: Event[T],
        payload: T,
        /,
        *,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    @overload
    async def send_event(
        self,
        id: str,
        event: str,
        payload: object = None,
        /,
        *,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    @overload
    async def send_event(
        self,
        id: str,
        event: object,
        /,
        *,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    async def send_event(
        self,
        id: str,
        event: Any,
        payload: Any = NO_PAYLOAD,
        /,
        *,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None:
        """Send an event to a run: by name and payload, or as an object, whose class names it.

        It is durable when this returns, and lies in the run's inbox until a wait takes it. Of one name a run
        takes one event with the same `idempotency_key`. Raises `RunNotFound`, `IllegalTransition` when the run has ended,
        `PayloadError` when the payload does not fit the event, `DurableError` when it has 10,000 unread
        ones, `StoreUnavailable` after 30 s.
        """
        refuse_options("send_event", conn=conn)
        asked_id(id)
        name, data = sent(event, payload)
        await self._tell(Delivery(id, name, data, _key_of(name, idempotency_key)))

    async def send_events(
        self,
        events: Iterable[tuple[str, object] | tuple[str, object, object]],
        /,
        *,
        idempotency_key: str | None = None,
    ) -> None:
        """Send many events: tuples `(run id, event)` or `(run id, event name or Event, payload)`, in few statements.

        Those for one run keep their order. The first that cannot be delivered is told, as by `send_event`,
        when all others are. With `idempotency_key` the same list sent again sends nothing twice.
        """
        self._check_open()
        key = _key(idempotency_key)
        messages = [
            (id_text(run_id), *sent(event, *(payload or [NO_PAYLOAD])))
            for run_id, event, *payload in events
        ]
        deliveries = [
            Delivery(run_id, name, data, _key_of(name, f"{key}:{number}"))
            for number, (run_id, name, data) in enumerate(messages)
        ]
        try:
            sendable = [one for one in deliveries if can_exist(one.run_id)]
            answers = iter(await self._post.deliver_all(sendable))
        finally:
            self.stirred()  # some may have arrived also where others did not
        for delivery in deliveries:
            if not can_exist(delivery.run_id):
                raise not_found(delivery.run_id)
            _check_delivered(delivery.run_id, next(answers))

    async def _tell(self, delivery: Delivery) -> int:
        """Deliver a message; its number in the run's inbox."""
        self._check_open()
        answer = await self._post.deliver(delivery)
        number = _check_delivered(delivery.run_id, answer)
        self.stirred(delivery.run_id)
        return number

    @overload
    async def publish(
        self,
        event: Event[T],
        payload: T,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    @overload
    async def publish(
        self,
        event: str,
        payload: object = None,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    @overload
    async def publish(
        self,
        event: object,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None: ...
    async def publish(
        self,
        event: Any,
        payload: Any = NO_PAYLOAD,
        /,
        *,
        key: str,
        idempotency_key: str | None = None,
        conn: object = None,
    ) -> None:
        """Publish an event for every run that waits for it under `key`, and for those that will within 7 days.

        Each run gets it once. Nobody need wait for it. Errors as of `send_event`, but for those of a run.
        """
        self._check_open()
        refuse_options("publish", conn=conn)
        name, data = sent(event, payload)
        checked_text(key, "publish(key=)")
        await self._refresh_clock()
        until = self._now() + KEPT
        publication = Publication(name, key, data, until, _key(idempotency_key))
        await self._post.publications.ask(publication)
        self.stirred()

    async def cancel_wait(self, id: str, name: str, /) -> None:
        """Let the oldest wait of this name in a run time out now, be it for an event, a request or an input.

        Nothing happens where nobody waits by then. `RunNotFound`, `IllegalTransition` when the run has ended.
        """
        asked_id(id)
        message = end_wait_message(checked_event_name(name))
        await self._tell(Delivery(id, message, b"", _key(None)))

    def pending_events(
        self,
        *,
        run_id: str | None = None,
        name: str | None = None,
        key: str | None = None,
        expiring_before: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Listing[PendingEvent]:
        """Waits for events of parked runs, oldest first: `await` for a page, `async for` for all of them."""
        where = WaitFilter(
            (WaitKind.EVENT,),
            None if run_id is None else id_text(run_id),
            text_or_none(name, "pending_events(name=)"),
            key=text_or_none(key, "pending_events(key=)"),
            due_before=None if expiring_before is None else to_micros(expiring_before),
            limit=checked_limit(limit),
        )

        async def page(cursor: str | None) -> Page[PendingEvent]:
            rows, more = await self._waits(where, cursor)
            return Page([_pending_event(row) for row in rows], more)

        return Listing(page, after)

    async def _waits(
        self, where: WaitFilter, cursor: str | None
    ) -> tuple[Sequence[WaitRow], str | None]:
        """A page of open waits, and what to ask the next one with."""
        self._check_open()
        page = dataclasses.replace(where, after=checked_cursor(cursor))
        if where.run_id is not None and not can_exist(where.run_id):
            return (), None
        rows = await self._try(lambda: self.storage.waits(page))
        return rows, str(rows[-1].place) if len(rows) == where.limit else None


def _key(given: str | None) -> str:
    """An idempotency key of one's own where none is given: a lost answer is asked for again."""
    if given is None:
        return f"~{secrets.token_hex(12)}"
    return checked_text(given, "an idempotency key")


def _key_of(message: str, given: str | None) -> str:
    """A key that a user has given holds for one name of events or requests, as that of a publication does."""
    return _key(None) if given is None else f"{len(message)}:{message}{_key(given)}"


def request_delivery(run_id: str, name: str, data: bytes, idempotency_key: str | None) -> Delivery:
    """The message that asks a run."""
    message = request_message(name)
    return Delivery(run_id, message, data, _key_of(message, idempotency_key))


def _check_delivered(run_id: str, answer: Delivered) -> int:
    if not answer.known:
        raise not_found(run_id)
    if answer.number is not None:
        return answer.number
    if not answer.is_open:
        message = f"run {run_id} has ended: it takes no events"
        raise IllegalTransition(message)
    message = (
        f"run {run_id} has {MAX_UNREAD:,} unread events, the limit, and did not take this one: "
        "send it again when a worker has read them (is one serving the run? is it paused or blocked?)"
    )
    raise DurableError(message)


def _pending_event(row: WaitRow) -> PendingEvent:
    event = decode_event(row.event)
    return PendingEvent(
        run_id=row.run_id,
        names=tuple(row.names),
        mode=event.mode if isinstance(event, history.WaitStarted) else "one",
        key=row.key,
        since=to_datetime(event.at),
        expires_at=None if row.due is None else to_datetime(row.due),
    )
