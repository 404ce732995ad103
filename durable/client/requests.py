"""Requests to running workflows: asked once, and answered while the run lives."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from durable.client.answering import Answering
from durable.client.checked import asked_id
from durable.client.messaging import request_delivery
from durable.client.polling import Waiters
from durable.clock import TimeLimit
from durable.errors import (
    IllegalTransition,
    InvalidInput,
    PayloadError,
    RequestNotAnswered,
    RequestRejected,
)
from durable.model.duration import Duration, seconds_of
from durable.model.events import Request
from durable.model.forms import problems_of
from durable.model.history import RequestAnswered
from durable.model.lifecycle import RunStatus
from durable.model.payload import shape_of
from durable.model.wire import EventRow, decode_event

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage

T = TypeVar("T")
A = TypeVar("A")

Asked: TypeAlias = tuple[str, int]
"""A request: the run's id, and its number in the inbox there."""
Outcome: TypeAlias = EventRow | RunStatus
"""What became of it: its `RequestAnswered`, or how the run ended that never answered."""


class Replies(Waiters[Asked, Outcome]):
    """Who waits for the answer to which request."""

    def __init__(self, store: Storage, clock: Clock) -> None:
        self._store = store
        super().__init__(self._answered, clock, "answers")

    async def _answered(self, asked: Sequence[Asked]) -> Mapping[Asked, Outcome]:
        # In this order: a run that had ended before its answers were looked for gives no more of them.
        ended = await self._store.finished(sorted({run_id for run_id, _ in asked}))
        found: dict[Asked, Outcome] = {one: ended[one[0]][0] for one in asked if one[0] in ended}
        found.update(await self._store.replies(asked))
        return found


class Requesting(Answering):
    """Verbs for requests."""

    _replies: Replies

    async def request(
        self,
        id: str,
        request: Request[T, A],
        payload: T,
        /,
        *,
        timeout: Duration | None = 30,
        idempotency_key: str | None = None,
    ) -> A:
        """Ask a running workflow and wait for its answer; see `Handle.request`."""
        asked_id(id)
        name = request.name
        try:
            data = shape_of(request.asks).encode(payload, f"request {name}")
        except PayloadError as error:
            raise InvalidInput(str(error), problems_of(error)) from error
        seconds = None if timeout is None else seconds_of(timeout, "request(timeout=)")
        try:
            async with contextlib.AsyncExitStack() as stack:
                if seconds is not None:
                    await stack.enter_async_context(TimeLimit(self.clock, seconds))
                number = await self._tell(request_delivery(id, name, data, idempotency_key))
                outcome = await self._replies.wait((id, number))
        except IllegalTransition as error:
            raise RequestNotAnswered(f"run {id} has ended: it answers no request {name}") from error
        except TimeoutError:
            message = (
                f"run {id} has not answered request {name} within {seconds:g} s; it may do so yet"
            )
            raise TimeoutError(message) from None
        return self._answer(id, request, outcome)

    def _answer(self, run_id: str, request: Request[Any, A], outcome: Outcome) -> A:
        if isinstance(outcome, str):
            message = f"run {run_id} is {outcome} and never answered request {request.name}"
            raise RequestNotAnswered(message)
        event = decode_event(outcome)
        assert isinstance(event, RequestAnswered)
        if event.answer is None:
            message = f"run {run_id} rejected request {request.name}: {event.rejected}"
            raise RequestRejected(message)
        where = f"answer of run {run_id} to request {request.name}"
        return shape_of(request.answers).decode(event.answer, where)  # type: ignore[no-any-return]
