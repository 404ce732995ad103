"""Tasks that a cancel reaches in a way of their own: that of the workflow function, and those that undo.

The cancel of a run is delivered once; in cleanup every verb of asyncio works as if there had been none. So it
must not stay in the task's count of cancel requests, from which `asyncio.timeout` and `TaskGroup` tell their
own cancellation from others: on Python 3.11 every later time-out would take its own for a stranger's, and on
3.13 every later group that fails would cancel its task once more. It must be in the count for those that were
entered before it, lest a time-out that expires later takes the cancel of the run for its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, TypeVar

from durable.engine.numbered import WorkflowTask

T = TypeVar("T")


class MainTask(WorkflowTask[T]):
    """The task of the workflow function."""

    left = False
    """The function has been left: a cancel has nobody to go to."""
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
        group = self._aborting()
        if group is not None:
            # It would swallow the cancel: it waits for its tasks, and raises their errors and nothing else.
            self._after(group, lambda: self.stop(armed))
            return
        self._outer = {**self._asked, **dict.fromkeys(armed())}
        super().cancel()
        self._stops = 1

    def _stop_again(self) -> None:
        """What it was stopped by was lost on its way."""
        if not self.left and self._stops:
            super().cancel()
            super().uncancel()

    def _aborting(self) -> asyncio.TaskGroup | None:
        """The group at whose end it waits for tasks that are being cancelled."""
        awaited: Any = self.get_coro()
        while awaited is not None:
            if getattr(awaited, "cr_code", None) in _GROUP_EXITS:
                group: Any = awaited.cr_frame.f_locals["self"]
                if group._aborting:  # noqa: SLF001  nothing else says so
                    return group  # type: ignore[no-any-return]
            awaited = getattr(awaited, "cr_await", None)
        return None

    def _after(self, group: Any, act: Callable[[], None]) -> None:
        """Act once the group has ended and its task awaits again."""
        loop = self.get_loop()
        left = dict.fromkeys(group._tasks)  # noqa: SLF001  nothing else knows them

        def ended(task: asyncio.Task[Any]) -> None:
            left.pop(task, None)
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
            self._after(
                asker, self._stop_again
            )  # it raises the errors of its tasks, and nothing else
        return left


class ProtectedTask(WorkflowTask[T]):
    """A task that undoes something: nobody can cancel it."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002
        return False


def _asker(frame: FrameType) -> object | None:
    """The time-out or group in whose code the frame is."""
    return frame.f_locals["self"] if frame.f_code in _ASKERS else None


def _codes(*functions: Any) -> frozenset[CodeType]:
    return frozenset(function.__code__ for function in functions if function is not None)


_GROUP_EXITS = _codes(asyncio.TaskGroup.__aexit__, getattr(asyncio.TaskGroup, "_aexit", None))
_ASKERS = _GROUP_EXITS | _codes(
    getattr(asyncio.Timeout, "_on_timeout", None),
    asyncio.Timeout.__aexit__,
    getattr(asyncio.TaskGroup, "_on_task_done", None),
)
