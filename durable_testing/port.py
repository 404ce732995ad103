"""The one door to a database that all processes of a test share: knows what is under way, and what changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from durable.model.lifecycle import HOLD_BLOCKED

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.rows import Reaped
    from durable.model.wire import EventRow
    from durable.storage.base import Storage
    from durable_testing.activity import Activity

T = TypeVar("T")

LOOKS: Final = frozenset({"claim", "owned", "finished", "replies", "unblock"})
"""Verbs by which somebody looks for work or news: they count where they have found some."""
READS: Final = frozenset(
    {
        "adopt", "children", "count", "history", "inbox", "lanes", "leased", "load", "migrations",
        "newest", "next_due", "now", "probe", "run", "runs", "shapes", "states", "waits", "worker_names",
    }
)  # fmt: skip
"""Verbs that change nothing."""


class Port:
    """`Storage` in front of a real one, which it takes the time from a clock for.

    Opening and closing it does nothing: the real store outlives the processes that come and go.
    """

    def __init__(self, inner: Storage, clock: Clock, activity: Activity) -> None:
        self.inner = inner
        inner.time = clock.now
        self.activity = activity
        self.changes = 0
        """How often the database was changed, or somebody found news in it."""
        self.blocked = 0
        """How often a run was blocked."""
        self.on_events: Callable[[int, Sequence[EventRow]], object] = _ignore
        """Told of events that have become durable by a commit, with the key of their run."""

    async def open(self) -> None:
        """Open already."""

    async def close(self) -> None:
        """Stays open."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def passed_on(*arguments: Any, **options: Any) -> Any:
            return await self._pass(name, found(*arguments, **options))

        self.__dict__[name] = passed_on
        return passed_on

    async def commit(self, worker: int, batch: Sequence[Any], *, wait: bool = False) -> Any:
        """Pass on, and tell of the events that are durable now."""
        answers = await self._pass("commit", self.inner.commit(worker, batch, wait=wait))
        for item, answer in zip(batch, answers, strict=True):
            if answer.code == 0:
                self.blocked += item.hold == HOLD_BLOCKED
                self.on_events(item.key, item.events)
        return answers

    async def reap(self, *arguments: Any, **options: Any) -> Reaped:
        """Pass on."""
        reaped = await self._pass("reap", self.inner.reap(*arguments, **options))
        self.blocked += reaped.blocked
        return reaped

    async def _pass(self, name: str, answer: Awaitable[T]) -> T:
        with self.activity.going_on():
            found = await answer
        if name not in READS and (found or name not in LOOKS):
            self.changes += 1
        return found


def _ignore(_key: int, _events: Sequence[EventRow]) -> None:
    """Nobody wants to be told."""
