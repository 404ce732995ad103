"""Asking in batches: what is asked for while a statement is under way goes out with the next one."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from durable.client.patience import Patience, Pauses, closed
from durable.errors import StoreUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_BATCH = 500
"""Items in one statement."""
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Bytes in one statement; a single item may have more."""


class _Asked(Generic[Item, Answer]):
    """An item that somebody waits for, and until when he does while the store is away."""

    __slots__ = ("alone", "answer", "item", "until")

    def __init__(self, item: Item, until: float) -> None:
        self.item = item
        self.until = until
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.alone = False
        """A batch with it was refused: it goes out by itself."""

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batches(Generic[Item, Answer]):
    """The one place from which items of a kind go to the store, one statement after the other, in their order.

    While the store is away they stay at the front, each for as long as its caller is patient.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        size: Callable[[Item], int],
        name: str,
        patience: Patience,
    ) -> None:
        """`send` answers for each item, in order; `size` tells an item's bytes; `name` is that of the task."""
        self._send = send
        self._size = size
        self._name = name
        self._patience = patience
        self._waiting: deque[_Asked[Item, Answer]] = deque()
        self._pump: asyncio.Task[None] | None = None

    @property
    def pump(self) -> asyncio.Task[None] | None:
        """The task that is sending, if there is something to send."""
        return self._pump

    async def ask(self, item: Item) -> Answer:
        """Send one item; the answer comes with its batch."""
        self._patience.check()
        asked: _Asked[Item, Answer] = _Asked(item, self._patience.deadline())
        self._waiting.append(asked)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=self._name)
            self._pump.add_done_callback(self._never_ran)
        return await asked.answer

    async def ask_all(self, items: Sequence[Item]) -> list[Answer]:
        """Send many items, `MAX_BATCH` to a statement."""
        answers: list[Answer] = []
        while (done := len(answers)) < len(items):
            rest = items[done : done + MAX_BATCH]
            batch = rest[: self._fitting(rest)]
            answers += await self._patience(partial(self._send, batch))
        return answers

    def close(self) -> None:
        """What has not been sent yet never will be: whoever waits for it is told."""
        for asked in self._waiting:
            asked.fail(closed())
        self._waiting.clear()

    async def _run(self) -> None:
        batch: Sequence[_Asked[Item, Answer]] = ()
        pauses = Pauses(self._patience)
        try:
            while batch := self._next():
                await self._answer(batch, pauses)
        except asyncio.CancelledError:  # from outside: nobody would ever answer
            self._cut_off(batch)
            raise
        finally:
            self._pump = None

    def _never_ran(self, pump: asyncio.Task[None]) -> None:
        """It was cancelled before it had begun."""
        if self._pump is pump:
            self._pump = None
            self._cut_off(())

    def _cut_off(self, sent: Sequence[_Asked[Item, Answer]]) -> None:
        message = (
            f"the task {self._name} was cancelled: whether this was sent is not known, ask again"
        )
        for asked in (*sent, *self._waiting):
            asked.fail(StoreUnavailable(message))
        self._waiting.clear()

    def _next(self) -> Sequence[_Asked[Item, Answer]]:
        """What goes out together, without what nobody waits for any more."""
        batch: list[_Asked[Item, Answer]] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH:
            asked = self._waiting[0]
            if not asked.answer.done():
                size += self._size(asked.item)
                if batch and (asked.alone or size > MAX_BATCH_BYTES):
                    break
                batch.append(asked)
            self._waiting.popleft()
            if asked.alone and batch:
                break
        return batch

    async def _answer(self, batch: Sequence[_Asked[Item, Answer]], pauses: Pauses) -> None:
        try:
            answers = await self._send([asked.item for asked in batch])
        except StoreUnavailable as error:
            self._waiting.extendleft(reversed(batch))
            await self._be_patient(error, pauses)
            return
        except Exception as error:
            self._refused(batch, error)
        else:
            for asked, answer in zip(batch, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)
        pauses.reset()

    async def _be_patient(self, error: StoreUnavailable, pauses: Pauses) -> None:
        """The store is away: who would wait too long for the next try is told, the others wait for it."""
        if self._patience.closed:
            self.close()
            return
        next_try = pauses.end()
        for asked in self._waiting:
            if asked.until >= next_try:
                await pauses.pause()
                return
            asked.fail(_same(error))

    def _refused(self, batch: Sequence[_Asked[Item, Answer]], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].fail(error)
            return
        for asked in batch:  # the others are not to blame for what one of them holds
            asked.alone = True
        self._waiting.extendleft(reversed(batch))

    def _fitting(self, items: Sequence[Item]) -> int:
        """How many of these go out together: at least one."""
        size = 0
        for count, item in enumerate(items[:MAX_BATCH]):
            size += self._size(item)
            if size > MAX_BATCH_BYTES and count:
                return count
        return min(len(items), MAX_BATCH)


def _same(error: StoreUnavailable) -> StoreUnavailable:
    """The same error for one more caller, who may add to it and raise it on his own."""
    other = copy.copy(error).with_traceback(error.__traceback__)
    other.__cause__ = error.__cause__
    return other
