"""What is going on that the event loop does not show: operations of the database, and attempts of steps.

Together with an empty ready queue, nothing here means that nothing can happen before time moves: that is
how a test environment knows it, without waiting to see whether something comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Activity:
    """Counts what is under way in other threads, behind sockets, and in users' own code."""

    def __init__(self) -> None:
        self._count = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._at_work: dict[object, int] = {}
        self.turns = 0
        """How often something has begun."""

    @contextmanager
    def going_on(self, who: object = None) -> Generator[None]:
        """Something is under way inside this block; `who` may wait meanwhile."""
        self.begin()
        if who is not None:
            self._at_work[who] = 0
        try:
            yield
        finally:
            tasks_that_wait = self._at_work.pop(who, 0)
            if not tasks_that_wait:  # else the first of them has ended it
                self.end()

    def knows(self, who: object) -> bool:
        """Whether `who` is under way."""
        return who in self._at_work

    def begin(self) -> None:
        """Something is under way, until `end`."""
        self._count += 1
        self.turns += 1
        self._calm.clear()

    def end(self) -> None:
        """It is over."""
        self._count -= 1
        if not self._count:
            self._calm.set()

    @contextmanager
    def waiting(self, who: object) -> Generator[None]:
        """`who` waits inside this block for what only time may bring: it is not at work, if it was."""
        if who not in self._at_work:
            yield
            return
        self._at_work[who] += 1
        if self._at_work[who] == 1:
            self.end()
        try:
            yield
        finally:
            if who in self._at_work:
                self._at_work[who] -= 1
                if not self._at_work[who]:
                    self.begin()

    @property
    def any(self) -> bool:
        """Something is under way."""
        return self._count > 0

    async def over(self) -> None:
        """Wait until nothing is under way."""
        await self._calm.wait()


class Quiet:
    """Knows when an event loop has nothing left to do. Raises `RuntimeError` on a loop that does not tell."""

    def __init__(self, activity: Activity) -> None:
        loop: Any = asyncio.get_running_loop()
        ready = getattr(loop, "_ready", None)  # asyncio's own loops have it; nothing public tells
        if ready is None:
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            message = (
                f"tests on a virtual clock need asyncio's own event loop, not {kind}: "
                "only that tells when nothing is left to do"
            )
            raise RuntimeError(message)
        self._ready = ready
        self._activity = activity

    @property
    def now(self) -> bool:
        """Nothing can happen before time moves, as far as this callback can see."""
        return not self._activity.any and not self._ready

    async def reached(self) -> None:
        """Let everybody do what can be done without time."""
        while True:
            await asyncio.sleep(0)
            if self._activity.any:
                await self._activity.over()
            elif not self._ready:
                return
