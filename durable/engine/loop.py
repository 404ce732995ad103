"""A deterministic asyncio event loop: its clock is the history, its timers are durable.

Stock asyncio runs on it unchanged. After each event the ready queue is drained; nothing else ever runs.
Tasks and futures hash by their number, so that the sets in which asyncio keeps them are ordered alike in
every process. What cannot be replayed (threads, sockets, subprocesses) raises `NotAllowedInWorkflow`.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.tasks
import contextlib
import contextvars
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import FrameType
from typing import Any, Protocol, TypeVar

from durable.errors import NotAllowedInWorkflow

T = TypeVar("T")


class Host(Protocol):
    """Who carries out what a loop cannot do by itself."""

    def start_timer(self, timer: LoopTimer) -> None: ...
    def cancel_timer(self, timer: LoopTimer) -> None: ...
    def report(self, context: dict[str, Any]) -> None: ...


class Ready:
    """A callback in the ready queue."""

    __slots__ = ("args", "callback", "context")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context

    def cancel(self) -> None:
        self.callback = None

    def cancelled(self) -> bool:
        return self.callback is None


class LoopTimer(Ready):
    """A durable timer; `when` is in the loop's time, `cmd` the number that it has as a command."""

    __slots__ = ("_host", "_when", "cmd")

    def __init__(
        self,
        host: Host,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(callback, args, context)
        self._host = host
        self._when = when
        self.cmd = 0

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._host.cancel_timer(self)


class WorkflowFuture(asyncio.Future[T]):
    """A future that hashes by its number."""

    def __init__(self, *, loop: WorkflowLoop) -> None:
        self.number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class WorkflowTask(asyncio.Task[T]):
    """A task that hashes by its number."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: WorkflowLoop,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        self.number = loop.next_number()
        super().__init__(coro, loop=loop, name=name or f"Task-{self.number}", context=context)

    def __hash__(self) -> int:
        return self.number


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The event loop of one run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ready: deque[Ready] = deque()
        self._time = 0.0
        self._numbers = 0
        self._closed = False
        self._in_order: tuple[object, dict[int, asyncio.Task[Any]]] | None = None
        self.tasks: dict[WorkflowTask[Any], None] = {}
        """Tasks that are not done, in the order in which they were made."""

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    # -- driving it

    def set_time(self, seconds: float) -> None:
        self._time = seconds

    def run_until_idle(self) -> None:
        """Run everything that is ready, as the running loop of this thread."""
        outer = asyncio.events._get_running_loop()  # noqa: SLF001  the nested loop needs it
        task = _suspend_current_task(outer)
        hooks = sys.get_asyncgen_hooks()
        asyncio.events._set_running_loop(self)  # noqa: SLF001
        sys.set_asyncgen_hooks(firstiter=_ignore_generator, finalizer=_ignore_generator)
        try:
            self._drain()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio.events._set_running_loop(outer)  # noqa: SLF001
            _resume_current_task(outer, task)

    def _drain(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            callback = handle.callback
            if callback is None:
                continue
            try:
                handle.context.run(callback, *handle.args)
            except (SystemExit, KeyboardInterrupt):
                # The task that raised it has it as its exception; the worker must live on.
                continue
            except BaseException as error:
                self.call_exception_handler(
                    {"message": "exception in a callback", "exception": error}
                )

    def discard(self) -> None:
        """Drop everything. From here on nothing of this loop has any effect."""
        self._closed = True
        self._ready.clear()
        outer = asyncio.events._get_running_loop()  # noqa: SLF001
        task = _suspend_current_task(outer)
        asyncio.events._set_running_loop(self)  # noqa: SLF001
        try:
            for pending in self.tasks:
                _close_task(pending)
        finally:
            asyncio.events._set_running_loop(outer)  # noqa: SLF001
            _resume_current_task(outer, task)
        self.tasks.clear()
        self._ready.clear()

    # -- asyncio's own vocabulary

    def time(self) -> float:
        return self._time

    def call_soon(  # type: ignore[override]  # any callable, any arguments
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        handle = Ready(callback, args, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # any callable, any arguments
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # any callable, any arguments
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        timer = LoopTimer(self._host, when, callback, args, context)
        self._host.start_timer(timer)
        return timer

    def create_future(self) -> WorkflowFuture[Any]:
        return WorkflowFuture(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> Any:
        ordered = self._tasks_in_order(coro)
        return ordered if ordered is not None else self._make_task(coro, name, context)

    def _make_task(
        self, coro: Any, name: str | None = None, context: contextvars.Context | None = None
    ) -> WorkflowTask[Any]:
        task = WorkflowTask(coro, loop=self, name=name, context=context)
        self.tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)  # type: ignore[call-overload]

    def _tasks_in_order(self, coro: object) -> asyncio.Task[Any] | None:
        """The task of `coro` when `asyncio.as_completed` makes it.

        `as_completed` walks over a *set* of bare coroutines, which is ordered by address. Its caller's
        list is still there, in its frame: the tasks of all of them are made at once, in that order.
        """
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  create_task's caller
        assert frame is not None
        if frame.f_code not in _ENSURE_FUTURE:
            return None
        awaited: object = None
        for _ in range(4):
            if frame is None:
                return None
            if frame.f_code in _AS_COMPLETED:
                awaited = frame.f_locals.get("fs", frame.f_locals.get("aws"))
                break
            frame = frame.f_back
        else:
            return None
        if not isinstance(awaited, (list, tuple, dict, set, frozenset, deque)) or isinstance(
            awaited, (set, frozenset)
        ):
            message = (
                "asyncio.as_completed over a set or an iterator of coroutines has no order that could be "
                "replayed: give it a list"
            )
            raise NotAllowedInWorkflow(message)
        if self._in_order is None or self._in_order[0] is not frame:
            made: dict[int, asyncio.Task[Any]] = {}
            for item in awaited:
                if asyncio.iscoroutine(item) and id(item) not in made:
                    made[id(item)] = self._make_task(item)
            self._in_order = (frame, made)
        task = self._in_order[1].pop(id(coro))
        if not self._in_order[1]:
            self._in_order = None
        return task

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Debug mode would add timing, which does not replay: ignored."""

    def is_running(self) -> bool:
        return asyncio.events._get_running_loop() is self  # noqa: SLF001

    def is_closed(self) -> bool:
        return self._closed

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self._host.report(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)


def _ignore_generator(_generator: AsyncGenerator[Any, Any]) -> None:
    """Async generators of a run are finished by the run, never by the worker's own loop."""


def _close_task(task: WorkflowTask[Any]) -> None:
    """Close the coroutine of a task that will never run again; what it raises on the way out is nobody's."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
    coroutine: Any = task.get_coro()
    with contextlib.suppress(BaseException):  # a discarded instance has no voice
        coroutine.close()


if sys.version_info >= (3, 12):
    from asyncio.tasks import _swap_current_task  # type: ignore[attr-defined]

    def _suspend_current_task(loop: asyncio.AbstractEventLoop | None) -> Any:
        return None if loop is None else _swap_current_task(loop, None)

    def _resume_current_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> None:
        if loop is not None:
            _swap_current_task(loop, task)

else:

    def _suspend_current_task(loop: asyncio.AbstractEventLoop | None) -> Any:  # noqa: ARG001
        return None

    def _resume_current_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> None:
        pass


def _codes(*functions: object) -> frozenset[Any]:
    return frozenset(code for fn in functions if (code := getattr(fn, "__code__", None)))


_ENSURE_FUTURE = _codes(asyncio.ensure_future, getattr(asyncio.tasks, "_ensure_future", None))
_AS_COMPLETED = _codes(
    asyncio.as_completed,
    getattr(getattr(asyncio.tasks, "_AsCompletedIterator", None), "__init__", None),
)

_ADVICE = {
    "run_in_executor": "threads cannot be replayed: make it a step, a sync step runs in a thread",
    "call_soon_threadsafe": "other threads cannot reach into a workflow: send it an event",
    "subprocess_exec": "a subprocess belongs into a step",
    "subprocess_shell": "a subprocess belongs into a step",
    "add_signal_handler": "signals belong to the worker's process",
    "run_forever": "the worker drives the workflow",
    "run_until_complete": "await it",
    "stop": "return from the workflow function",
    "close": "return from the workflow function",
}


def _forbid(name: str) -> Callable[..., Any]:
    advice = _ADVICE.get(name, "input and output belong into a step")

    def refuse(_self: WorkflowLoop, *_args: object, **_kwargs: object) -> Any:
        message = f"{name}() in a workflow: {advice}"
        raise NotAllowedInWorkflow(message)

    refuse.__name__ = name
    return refuse


for _name, _member in vars(asyncio.AbstractEventLoop).items():
    if callable(_member) and not _name.startswith("__") and _name not in vars(WorkflowLoop):
        setattr(WorkflowLoop, _name, _forbid(_name))
