"""Tasks that a cancel reaches in a way of their own: that of the workflow function, and those that undo.

The cancel of a run is delivered once; in cleanup every verb of asyncio works as if there had been none. So it
must not stay in the task's count of cancel requests, from which `asyncio.timeout` and `TaskGroup` tell their
own cancellation from others: on Python 3.11 every later time-out would take its own for a stranger's, and on
3.13 every later group that fails would cancel its task once more. It must be in the count for those that were
entered before it, lest a time-out that expires later takes the cancel of the run for its own.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, TypeVar

from durable.engine.numbered import WorkflowTask
from durable.engine.replaced import stock_leave

T = TypeVar("T")


class MainTask(WorkflowTask[T]):
    """The task of the workflow function."""

    left = False
    """The function has been left: a cancel has nobody to go to."""
    owed: Callable[[], None] | None = None
    """Delivers a cancel that was held up, or lost, on its way here: code that runs now has not seen it."""
    _stops = 0
    """Requests in the count that are the run's cancel: 0 or 1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._asked: dict[object, None] = {}
        """Time-outs and groups that have asked for a cancellation and not ended."""
        self._outer: dict[object, None] = {}
        """Those that were entered before the run's cancel came."""
        super().__init__(*args, **options)

    def stop(self, armed: Callable[[], Iterable[asyncio.Timeout]]) -> None:
        """Cancel it in the name of the run; `armed` gives the time-outs that may expire later."""
        if self.left:
            return
        group = self._group_at_its_end()
        if group is not None and group._aborting:  # noqa: SLF001  nothing else says so
            # It would swallow the cancel: it waits for its tasks, and raises their errors and nothing else.
            self.owed = lambda: self.stop(armed)
            self._after(group, self.pay)
            return
        self._outer = {**self._asked, **dict.fromkeys(armed())}
        super().cancel()
        self._stops = 1
        self._watch(group)

    def _stop_again(self) -> None:
        """What it was stopped by was lost on its way."""
        if self.left or not self._stops:
            return
        group = self._group_at_its_end()
        if group is not None and group._aborting:  # noqa: SLF001  as above
            self.owed = self._stop_again
            self._after(group, self.pay)
            return
        super().cancel()
        super().uncancel()
        self._watch(group)

    def pay(self) -> None:
        """Deliver the cancel that is owed."""
        owed, self.owed = self.owed, None
        if owed is not None:
            owed()

    def _watch(self, group: Any) -> None:
        """Stop it again if this group, which the cancel reaches first, has errors to raise: those it raises instead."""
        if group is not None:
            self._after(group, self.pay, owing=self._stop_again)

    def _group_at_its_end(self) -> Any:
        """The group at whose end it waits, for its tasks: the innermost."""
        found: Any = None
        awaited: Any = self.get_coro()
        while awaited is not None:
            if getattr(awaited, "cr_code", None) in _GROUP_EXITS:
                found = awaited.cr_frame.f_locals["self"]
                if found is not None and found._aborting:  # noqa: SLF001  as above
                    return found
            awaited = _awaited_by(awaited)
        return found

    def _after(
        self,
        group: Any,
        act: Callable[[], None],
        *,
        owing: Callable[[], None] | None = None,
    ) -> None:
        """Act once the group has ended and its task awaits again; `owing` is owed if one of its tasks fails."""
        loop = self.get_loop()
        left = dict.fromkeys(group._tasks)  # noqa: SLF001  nothing else knows them

        def ended(task: asyncio.Task[Any]) -> None:
            left.pop(task, None)
            if owing is not None and not task.cancelled() and task.exception() is not None:
                self.owed = owing
            if not left:
                loop.call_soon(act)

        for task in [*left]:
            task.add_done_callback(ended)
        if not left:
            loop.call_soon(act)

    def forget(self) -> None:
        """Nothing is cancelled any more."""
        self._asked = {}
        self._outer = {}
        self.owed = None

    def cancel(self, msg: Any | None = None) -> bool:
        asker = _asker(sys._getframe(1))  # noqa: SLF001  who asks is what counts
        if asker is not None:
            self._asked[asker] = None
        return super().cancel(msg)

    def cancelling(self) -> int:
        return super().cancelling() - self._stops

    def uncancel(self) -> int:
        asker = _asker(sys._getframe(1))  # noqa: SLF001  who asks is what counts
        left = super().uncancel()
        if asker is None:
            # The code itself says that it has dealt with a cancel.
            self._stops = min(self._stops, left)
            return left - self._stops
        self._asked.pop(asker, None)
        outer = asker in self._outer
        self._outer.pop(asker, None)
        if not outer:
            return left - self._stops
        if isinstance(asker, asyncio.TaskGroup):
            # It raises the errors of its tasks, and nothing else.
            self.owed = self._stop_again
            self._after(asker, self.pay)
        return left


class ProtectedTask(WorkflowTask[T]):
    """A task that undoes something: nobody can cancel it."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002
        return False


def _awaited_by(awaiting: Any) -> Any:
    """What a coroutine, or a step of an async generator, awaits."""
    awaited = getattr(awaiting, "cr_await", None)
    if awaited is None and type(awaiting).__name__.startswith("async_generator_"):
        # Of `anext()` and its like nothing but the collector knows the generator.
        generators = filter(inspect.isasyncgen, gc.get_referents(awaiting))
        awaited = next((generator.ag_await for generator in generators), None)
    return awaited


def _asker(frame: FrameType) -> object | None:
    """The time-out or group in whose code the frame is."""
    return frame.f_locals["self"] if frame.f_code in _ASKERS else None


def _codes(*functions: Any) -> frozenset[CodeType]:
    return frozenset(function.__code__ for function in functions if function is not None)


_GROUP_EXITS = _codes(asyncio.TaskGroup.__aexit__, getattr(asyncio.TaskGroup, "_aexit", None))
_ASKERS = _GROUP_EXITS | _codes(
    getattr(asyncio.Timeout, "_on_timeout", None),
    stock_leave,
    getattr(asyncio.TaskGroup, "_on_task_done", None),
)
