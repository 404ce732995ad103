"""Delivering messages: those to a run whose row somebody has locked wait by themselves, in their order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from durable.errors import DurableError, StoreUnavailable
from durable.model.rows import Delivered, Delivery

if TYPE_CHECKING:
    from durable.clock import Clock

Later: TypeAlias = "asyncio.Future[Delivered]"
"""The answer to a message that waits."""

_PAUSES: Final = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds before each try to get the lock; the last one from then on."""
_TOGETHER: Final = 500
"""Messages in one try."""


@dataclass(slots=True)
class _Waiting:
    """A message, and until when it may wait (seconds of the clock)."""

    delivery: Delivery
    until: float
    answer: Later


@dataclass(slots=True)
class _Lane:
    """What waits for one run; whatever comes for it meanwhile waits behind."""

    waiting: list[_Waiting] = field(default_factory=list[_Waiting])
    together: int = _TOGETHER


class HeldBack:
    """Passes messages on to a store, and goes on with those that it answers are `busy`."""

    def __init__(
        self,
        deliver: Callable[[Sequence[Delivery], bool], Awaitable[Sequence[Delivered]]],
        clock: Clock,
        patience: float = math.inf,
    ) -> None:
        """`deliver` is the store's, with its `wait`; who waits for longer than `patience` seconds gets `StoreUnavailable`."""
        self._deliver = deliver
        self._clock = clock
        self._patience = patience
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """What goes on trying, one for each run that is locked."""
        return tuple(self._tasks)

    async def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivered | Later]:
        """An answer for each, in order; for those that wait, one that comes later.

        When the store fails, nothing of this call waits: it may be repeated.
        """
        late = {d.run_id for d in deliveries if d.run_id in self._lanes} if self._lanes else ()
        free = [d for d in deliveries if d.run_id not in late] if late else deliveries
        delivered = iter(await self._deliver(free, False) if free else ())
        answers: list[Delivered | Later] = []
        for delivery in deliveries:
            answer = None if delivery.run_id in late else next(delivered)
            answers.append(self._hold(delivery) if answer is None or answer.busy else answer)
        return answers

    def close(self, error: DurableError | None = None) -> None:
        """Stop trying. Whoever waits gets the error, or is cancelled."""
        for task in self._tasks:
            task.cancel()
        for lane in self._lanes.values():
            for one in lane.waiting:
                if error is None:
                    one.answer.cancel()
                else:
                    _fail(one, error)
        self._lanes.clear()

    def _hold(self, delivery: Delivery) -> Later:
        lane = self._lanes.get(delivery.run_id)
        if lane is None:
            lane = self._lanes[delivery.run_id] = _Lane()
            name = f"durable-held-{delivery.run_id}"
            task = asyncio.create_task(self._insist(delivery.run_id, lane), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        answer: Later = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Waiting(delivery, self._clock.monotonic() + self._patience, answer))
        return answer

    async def _insist(self, run_id: str, lane: _Lane) -> None:
        """Until nothing waits for the run any more."""
        tries = 0
        try:
            while lane.waiting:
                await self._clock.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
                came_through = await self._try(run_id, lane)
                tries = 0 if came_through else tries + 1
        finally:
            if self._lanes.get(run_id) is lane:
                del self._lanes[run_id]
            for one in lane.waiting:
                one.answer.cancel()

    async def _try(self, run_id: str, lane: _Lane) -> bool:
        """Deliver what waits; False when it has to wait for longer."""
        batch = lane.waiting[: lane.together]
        try:
            answers = await self._deliver([one.delivery for one in batch], True)
        except StoreUnavailable as error:
            self._give_up(lane, error)
            return False
        except Exception as error:
            if len(batch) > 1:
                lane.together = 1  # the others are not to blame for what one of them holds
            else:
                _fail(lane.waiting.pop(0), error)
            return True
        if any(answer.busy for answer in answers):
            message = (
                f"run {run_id} is locked by a transaction of somebody else, so its messages wait: "
                "end that transaction (pg_stat_activity shows it), then send again"
            )
            self._give_up(lane, StoreUnavailable(message))
            return False
        del lane.waiting[: len(batch)]
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)
        return True

    def _give_up(self, lane: _Lane, error: StoreUnavailable) -> None:
        """Tell those who have waited for long enough, who are the first."""
        now = self._clock.monotonic()
        while lane.waiting and lane.waiting[0].until <= now:
            _fail(lane.waiting.pop(0), error)


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.answer.done():
        one.answer.set_exception(error)
