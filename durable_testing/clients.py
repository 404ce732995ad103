"""A client as it is, but that time passes while it waits for something."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, TypeVar

from durable.client import Client
from durable.client.ids import id_of
from durable.model.duration import Duration, seconds_of

if TYPE_CHECKING:
    from durable.client.results import End
    from durable.clock import Clock
    from durable.model.events import Request
    from durable.model.wire import EventRow
    from durable.storage.base import Storage
    from durable_testing.timing import TimeKeeper

T = TypeVar("T")
A = TypeVar("A")


class TestClient(Client):
    """A client of a test environment, which opens and closes it."""

    __test__ = False

    def __init__(self, storage: Storage, clock: Clock, keeper: TimeKeeper, random: Random) -> None:
        super().__init__("sqlite://")
        self.storage = storage
        self.clock = clock
        self._keeper = keeper
        self._random = random
        self.on_end: Callable[[EventRow], object] = _ignore
        """Told of the last event of each run whose end somebody has waited for."""

    def _new_id(self) -> str:
        return id_of(self.clock.now() // 1000, self._random.randbytes(10))

    async def ended(self, run_id: str, *, known: bool = False) -> End:
        """Wait until the run has ended, with time passing."""
        end = await self._keeper.wait(super().ended(run_id, known=known), run_id)
        self.on_end(end[1])
        return end

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
        """Ask a running workflow and wait for its answer, with time passing."""
        act = super().request(
            id, request, payload, timeout=timeout, idempotency_key=idempotency_key
        )
        return await self._keeper.wait(act)

    async def provide_input(
        self,
        id: str,
        name: str,
        data: object,
        /,
        *,
        by: str | None = None,
        wait: Duration = 0,
    ) -> None:
        """Answer a question, with time passing where it has to be waited for."""
        act = super().provide_input(id, name, data, by=by, wait=wait)
        if seconds_of(wait, "provide_input(wait=)"):
            await self._keeper.wait(act)
        else:
            await act


def _ignore(_last: EventRow) -> None:
    """Nobody wants to be told."""
