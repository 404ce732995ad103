"""Parked runs that stay in memory, so that the next claim need not replay them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.worker.execution import Execution


class StickyCache:
    """The most recently parked runs, at most `size` of them.

    An entry is good only for the claim that directly follows its park: that claim's epoch is one more than
    the cached one, and its seq is the same. Anything else means that somebody else drove the run meanwhile.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._parked: OrderedDict[int, Execution] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._parked)

    def put(self, execution: Execution) -> None:
        """Keep a run whose park is durable; the oldest one makes room."""
        if self._size == 0:
            execution.discard()
            return
        self.drop(execution.key)
        self._parked[execution.key] = execution
        if len(self._parked) > self._size:
            _, oldest = self._parked.popitem(last=False)
            oldest.discard()

    def take(self, key: int, epoch: int, seq: int) -> Execution | None:
        """The cached run if it is exactly what was claimed; otherwise it is forgotten."""
        execution = self._parked.pop(key, None)
        if execution is not None and execution.epoch + 1 == epoch and execution.durable == seq:
            self.hits += 1
            return execution
        self.misses += 1
        if execution is not None:
            execution.discard()
        return None

    def drop(self, key: int) -> None:
        execution = self._parked.pop(key, None)
        if execution is not None:
            execution.discard()

    def clear(self) -> None:
        for key in list(self._parked):
            self.drop(key)
