"""One timer for many points in time: wakes the claimer when a run parked here falls due."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable.clock import SECOND

if TYPE_CHECKING:
    from durable.clock import Timer

_HORIZON = 60 * SECOND


class Alarm:
    """Calls `ring` at each of the times that it was given; a million of them need one timer."""

    def __init__(
        self,
        now: Callable[[], int],
        call_at: Callable[[int, Callable[[], object]], Timer],
        ring: Callable[[], object],
    ) -> None:
        self._now = now
        self._call_at = call_at
        self._ring = ring
        self._dues: list[int] = []
        self._timer: Timer | None = None

    def at(self, due: int) -> None:
        """Ring at `due` too, unless that is far away: the poll finds what is due by itself."""
        if due - self._now() > _HORIZON:
            return
        earliest = self._dues[0] if self._dues else None
        heapq.heappush(self._dues, due)
        if earliest is None or due < earliest:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_at(self._dues[0], self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._now()
        while self._dues and self._dues[0] <= now:
            heapq.heappop(self._dues)
        self._ring()
        if self._dues:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dues.clear()
