"""Which workers of this process hold a lease, and how the writer keeps it for them.

A heartbeat waits for the writing lock like everybody else, and SQLite's lock is not fair. So every
transaction of this process extends the leases of its workers, and an idle writer wakes up for it. It
does so only for workers that it has heard of within half a lease: a worker whose heartbeat thread died
must lose its lease although the process lives on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from durable.clock import SECOND
from durable.storage.sqlite.connection import Database

_EXTEND: Final = "UPDATE [workers] SET expires_at = ? WHERE id = ?"


@dataclass(slots=True)
class _Kept:
    ttl: float
    heard: float
    renewed: float

    def due(self, now: float) -> bool:
        return now - self.renewed > self.ttl / 6 and now - self.heard < self.ttl / 2

    def lives(self, now: float) -> bool:
        return now - self.heard < self.ttl / 2


@dataclass(slots=True)
class Leases:
    """The leases taken through one store. `active` is False under a virtual clock: tests beat by hand."""

    active: Callable[[], bool]
    _kept: dict[int, _Kept] = field(default_factory=dict[int, _Kept])

    def add(self, worker: int, ttl: float) -> None:
        """From now on kept, as long as it is heard of."""
        now = time.monotonic()
        self._kept[worker] = _Kept(ttl, now, now)

    def drop(self, worker: int) -> None:
        """Not kept any more."""
        self._kept.pop(worker, None)

    def clear(self) -> None:
        """None is kept any more."""
        self._kept.clear()

    def heard(self, worker: int) -> None:
        """It claims, commits or beats: it lives."""
        kept = self._kept.get(worker)
        if kept is not None:
            kept.heard = time.monotonic()

    def due(self) -> bool:
        """Whether a lease should be extended now."""
        now = time.monotonic()
        return self.active() and any(kept.due(now) for kept in list(self._kept.values()))

    def patience(self) -> float | None:
        """How long an idle writer may sleep, in seconds."""
        if not self.active():
            return None
        return min((kept.ttl / 6 for kept in list(self._kept.values())), default=None)

    def keep(self, database: Database, now: int) -> list[int]:
        """Extend what is due; which ones, to be confirmed when that is committed.

        A lease that is gone stays gone: the row is updated, never inserted.
        """
        if not self._kept or not self.active():
            return []
        moment = time.monotonic()
        due = [(worker, kept) for worker, kept in list(self._kept.items()) if kept.due(moment)]
        for worker, kept in due:
            if not extend(database, now, worker, kept.ttl):
                self.drop(worker)
        return [worker for worker, _ in due]

    def keep_all(self, database: Database, now: int) -> None:
        """Extend whatever is heard of, due or not, before leases are looked for that have expired.

        By the wall clock all may have: it jumps when a machine wakes up or is set right.
        """
        if not self.active():
            return
        moment = time.monotonic()
        for worker, kept in list(self._kept.items()):
            if kept.lives(moment):
                extend(database, now, worker, kept.ttl)

    def confirm(self, workers: Sequence[int]) -> None:
        """These have been extended for good."""
        for worker in workers:
            kept = self._kept.get(worker)
            if kept is not None:
                kept.renewed = time.monotonic()


def extend(database: Database, now: int, worker: int, ttl: float) -> bool:
    """Move the end of a lease; False when it is gone."""
    return database.execute(_EXTEND, (now + round(ttl * SECOND), worker)) == 1
