"""What a handle sends to its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from durable.model.duration import Duration
from durable.model.events import NO_PAYLOAD, Event, Request

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.lifecycle import RunStatus
    from durable.model.records import RunDetail
    from durable.model.rows import Lane
    from durable.model.wire import EventRow

T = TypeVar("T")
A = TypeVar("A")


class Runs(Protocol):
    """The client, as a handle sees it."""

    clock: Clock

    async def ended(self, run_id: str, *, known: bool = False) -> tuple[RunStatus, EventRow]: ...
    def drives(self, run_id: str) -> bool: ...
    async def end_of(self, run_id: str) -> tuple[RunStatus, EventRow] | None: ...
    async def unserved(self, run_id: str, lane: Lane | None = None) -> str | None: ...
    async def get(self, id: str, /, *, steps: bool = True, logs: bool = False) -> RunDetail: ...
    async def cancel(self, id: str, /, *, reason: str | None = None) -> None: ...
    async def terminate(self, id: str, /, *, reason: str | None = None) -> None: ...
    async def send_event(
        self,
        id: str,
        event: Any,
        payload: Any = NO_PAYLOAD,
        /,
        *,
        idempotency_key: str | None = None,
    ) -> None: ...
    async def provide_input(
        self,
        id: str,
        name: str,
        data: object,
        /,
        *,
        by: str | None = None,
        wait: Duration = 0,
    ) -> None: ...
    async def request(
        self,
        id: str,
        request: Request[T, A],
        payload: T,
        /,
        *,
        timeout: Duration | None = 30,
        idempotency_key: str | None = None,
    ) -> A: ...


class Correspondence:
    """The verbs of a handle that send something to its run: those of the client, without the id."""

    id: str
    _client: Runs

    @overload
    async def send_event(
        self, event: Event[T], payload: T, /, *, idempotency_key: str | None = None
    ) -> None: ...
    @overload
    async def send_event(
        self, event: str, payload: object = None, /, *, idempotency_key: str | None = None
    ) -> None: ...
    @overload
    async def send_event(self, event: object, /, *, idempotency_key: str | None = None) -> None: ...
    async def send_event(
        self, event: Any, payload: Any = NO_PAYLOAD, /, *, idempotency_key: str | None = None
    ) -> None:
        """Send an event to the run; see `Client.send_event`."""
        await self._client.send_event(self.id, event, payload, idempotency_key=idempotency_key)

    async def provide_input(
        self, name: str, data: object, /, *, by: str | None = None, wait: Duration = 0
    ) -> None:
        """Answer a question of the run; see `Client.provide_input`."""
        await self._client.provide_input(self.id, name, data, by=by, wait=wait)

    async def request(
        self,
        request: Request[T, A],
        payload: T,
        /,
        *,
        timeout: Duration | None = 30,
        idempotency_key: str | None = None,
    ) -> A:
        """Ask the running workflow (`ctx.wait_for_request`) and wait for its answer.

        With the same `idempotency_key` a request of that name is asked once. Raises `InvalidInput` when the
        payload does not fit, `RequestRejected` with the workflow's reason, `RequestNotAnswered` when the run
        ends or has ended without an answer, `RunNotFound`, and `TimeoutError` after `timeout` (seconds or a
        timedelta; None: never).
        """
        return await self._client.request(
            self.id, request, payload, timeout=timeout, idempotency_key=idempotency_key
        )
