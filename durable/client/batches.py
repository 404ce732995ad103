"""Asking in batches: what is asked for while a statement is under way goes out with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from durable.errors import StoreUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_BATCH = 500
"""Items in one statement."""
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""Bytes in one statement; a single item may have more."""


class Batches(Generic[Item, Answer]):
    """The one place from which items of a kind go to the store, one statement after the other, in their order."""

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        size: Callable[[Item], int],
        name: str,
    ) -> None:
        """`send` answers for each item, in order; `size` tells an item's bytes; `name` is that of the task."""
        self._send = send
        self._size = size
        self._name = name
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._pump: asyncio.Task[None] | None = None

    @property
    def pump(self) -> asyncio.Task[None] | None:
        """The task that is sending, if there is something to send."""
        return self._pump

    async def ask(self, item: Item) -> Answer:
        """Send one item; the answer comes with its batch."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=self._name)
        return await answer

    async def ask_all(self, items: Sequence[Item]) -> list[Answer]:
        """Send many items, `MAX_BATCH` to a statement."""
        answers: list[Answer] = []
        while (done := len(answers)) < len(items):
            rest = items[done : done + MAX_BATCH]
            answers += await self._send(rest[: self._fitting(rest)])
        return answers

    async def _run(self) -> None:
        try:
            while self._waiting:
                size = self._fitting([item for item, _ in self._waiting[:MAX_BATCH]])
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                await self._answer(batch)
        finally:
            self._pump = None

    async def _answer(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for one in batch:  # the others are not to blame for what one of them holds
                    await self._answer([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _fitting(self, items: Sequence[Item]) -> int:
        """How many of these go out together: at least one."""
        size = 0
        for count, item in enumerate(items[:MAX_BATCH]):
            size += self._size(item)
            if size > MAX_BATCH_BYTES and count:
                return count
        return min(len(items), MAX_BATCH)
