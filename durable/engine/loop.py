"""A deterministic asyncio event loop: its clock is the history, its timers are durable.

Stock asyncio runs on it unchanged. After each event the ready queue is drained; nothing else ever runs.
Tasks and futures hash by their number, so that the sets in which asyncio keeps them are ordered alike in
every process. What cannot be replayed (threads, sockets, subprocesses) raises `NotAllowedInWorkflow`.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import contextvars
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import count
from types import FrameType
from typing import Any, Protocol, TypeVar

from durable.engine.calls import Call
from durable.engine.forbidden import refusals
from durable.engine.numbered import (
    MAKES_GATHERING,
    WorkflowFuture,
    WorkflowTask,
    as_completed_of,
    in_their_order,
    number_gathering,
)
from durable.engine.replaced import on_loops
from durable.errors import NotAllowedInWorkflow

T = TypeVar("T")
AnyTask = TypeVar("AnyTask", bound=WorkflowTask[Any])
_TASK: type[WorkflowTask[Any]] = WorkflowTask


class Host(Protocol):
    """Who carries out what a loop cannot do by itself."""

    def start_timer(self, timer: LoopTimer) -> None: ...
    def cancel_timer(self, timer: LoopTimer) -> None: ...
    def report(self, context: dict[str, Any]) -> None: ...


class _Nobody:
    """The host of a loop that was discarded: whatever is asked comes to nothing."""

    def start_timer(self, timer: LoopTimer) -> None: ...
    def cancel_timer(self, timer: LoopTimer) -> None: ...
    def report(self, context: dict[str, Any]) -> None: ...


_NOBODY = _Nobody()


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


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The event loop of one run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ready: deque[Ready] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._time = 0.0
        self.next_number: Callable[[], int] = count(1).__next__
        self.next_task: Callable[[], int] = count(1).__next__
        """Numbers apart: how many futures a release, or a version of Python, makes on its way must not show in sets of tasks."""
        self._closed = False
        self._entered = False
        self._in_order: tuple[FrameType, dict[int, asyncio.Task[Any]]] | None = None
        self.tasks: dict[WorkflowTask[Any], None] = {}
        """Tasks that are not done, in the order in which they were made."""
        self._failed: list[asyncio.Future[Any]] = []
        self._generators: dict[AsyncGenerator[Any, Any], None] = {}

    # -- driving it

    def set_time(self, seconds: float) -> None:
        self._time = seconds

    def run_until_idle(self) -> None:
        """Run everything that is ready, as the running loop of this thread."""
        if self._entered:
            self._drain()
        else:
            self.inside(self._drain)

    def inside(self, act: Callable[[], T]) -> T:
        """Do something as the running loop of this thread, which may be running another one."""
        outer = asyncio.events._get_running_loop()  # noqa: SLF001  the nested loop needs it
        task = _suspend_current_task(outer)
        hooks = sys.get_asyncgen_hooks()
        asyncio.events._set_running_loop(self)  # noqa: SLF001
        sys.set_asyncgen_hooks(
            self._keep_generator, _ignore_generator
        )  # by name it takes three times as long
        self._entered = True
        try:
            return act()
        finally:
            self._entered = False
            sys.set_asyncgen_hooks(*hooks)
            asyncio.events._set_running_loop(outer)  # noqa: SLF001
            _resume_current_task(outer, task)

    def when_idle(self, future: asyncio.Future[None]) -> None:
        """Settle `future` once nothing is left to do for the event that is being handled."""
        self._idle.append(future)

    def _drain(self) -> None:
        self._run_ready()
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                self._run_ready()

    def _run_ready(self) -> None:
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
        if self.tasks:
            self.inside(self._close_tasks)
        for failed in self._failed:
            failed._log_traceback = False  # noqa: SLF001
        self._failed.clear()
        self._generators.clear()
        self._ready.clear()
        self._idle.clear()
        self._host = _NOBODY

    def _close_tasks(self) -> None:
        while self.tasks:  # what is closed may make new ones
            task = next(iter(self.tasks))
            del self.tasks[task]
            _close_task(task)

    # -- what asyncio leaves to chance

    def _keep_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator has begun.

        It is kept until it, or the run, has ended: the garbage collector would finish it at a time that
        cannot be replayed.
        """
        kept = self._generators
        kept[generator] = None
        if len(kept) % 64 == 0:
            for ended in [one for one in kept if getattr(one, "ag_frame", None) is None]:
                del kept[ended]

    async def close_generators(self) -> None:
        """Finish the async generators that were left before their end, as `asyncio.run` does."""
        while self._generators and not self._closed:
            generator = next(iter(self._generators))
            del self._generators[generator]
            try:
                await generator.aclose()
            except BaseException as error:
                if self._closed:
                    raise
                message = "an async generator raised while it was closed"
                self.call_exception_handler({"message": message, "exception": error})

    def unretrieved(self) -> Iterator[dict[str, Any]]:
        """Exceptions that nobody has asked for; asyncio tells of them whenever their task is collected."""
        for future in self._failed:
            if future._log_traceback:  # noqa: SLF001
                name = future.get_name() if isinstance(future, asyncio.Task) else "gather"
                yield {
                    "message": f"nobody retrieved the exception of {name}",
                    "exception": future.exception(),
                }
        self._failed.clear()

    def _note_failure(self, future: asyncio.Future[Any]) -> None:
        if future._log_traceback:  # noqa: SLF001
            self._failed.append(future)
            if len(self._failed) % 64 == 0:
                self._failed = [one for one in self._failed if one._log_traceback]  # noqa: SLF001

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
        future = WorkflowFuture[Any](loop=self)
        future.number = self.next_number()
        return future

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> Any:
        ordered = self._tasks_in_order(coro)
        if ordered is not None:
            return ordered
        return self.make_task(_TASK, coro, name, context)

    def make_task(
        self,
        kind: type[AnyTask],
        coro: Any,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> AnyTask:
        """A task of this kind."""
        if isinstance(coro, Call):
            coro.take()
        task = kind(coro, loop=self, name=name, context=context)
        self.tasks[task] = None
        task.add_done_callback(self._forget, context=task.context)  # else it copies one
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)  # type: ignore[call-overload]
        self._note_failure(task)

    def _tasks_in_order(self, coro: object) -> asyncio.Task[Any] | None:
        """The task of `coro` when `asyncio.as_completed` makes it.

        `as_completed` walks over a *set* of bare coroutines, which is ordered by address. So when it makes
        the first task, those of all coroutines in the list that it was given are made, in that order.
        """
        asker = as_completed_of(3)
        if asker is None:
            return None
        if self._in_order is None or self._in_order[0] is not asker:
            coroutines = in_their_order(asker)
            tasks: dict[int, asyncio.Task[Any]] = {
                id(item): self.make_task(_TASK, item) for item in coroutines
            }
            self._in_order = asker, tasks
        task = self._in_order[1].pop(id(coro), None)
        if task is None:
            message = (
                "asyncio.as_completed over what makes new coroutines each time that it is walked over "
                "cannot be replayed: give it a list"
            )
            raise NotAllowedInWorkflow(message)
        if not self._in_order[1]:
            self._in_order = None
        return task

    def get_debug(self) -> bool:
        # Every future asks for this while it is made; who asks is all there is to know a gathering by.
        frame = sys._getframe(1)  # noqa: SLF001
        if frame.f_code is MAKES_GATHERING:
            number_gathering(self, frame).add_done_callback(self._note_failure)
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
        # What finalizers tell of comes whenever the garbage collector likes: see `unretrieved`.
        if (
            not self._closed
            and "future" not in context
            and "was destroyed" not in context["message"]
        ):
            self._host.report(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)


def _ignore_generator(_generator: AsyncGenerator[Any, Any]) -> None:
    """Async generators of a run are finished by the run, never by the worker's own loop."""


class Discarded(BaseException):
    """Raised in workflow code whose instance is being discarded; only its cleanup ever sees it."""


def _close_task(task: WorkflowTask[Any]) -> None:
    """End the coroutine of a task that will never run again; what it raises on the way out is nobody's.

    `close` would not do: where an inner coroutine awaits in its cleanup, it ends the outer ones and leaves
    that one to the garbage collector, which runs the rest of it at any time, inside of any other run.
    """
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
    coroutine: Any = task.get_coro()
    for _ in range(_MOST_AWAITS):
        try:
            task.context.run(coroutine.throw, Discarded())
        except BaseException:  # a discarded instance has no voice
            return
        # It awaits again, in its cleanup: that is where the next one goes.
    _STUBBORN.append(coroutine)


_MOST_AWAITS = 100
_STUBBORN: list[object] = []
"""Coroutines that go on whatever is raised in them: kept, as collecting them would run them once more."""


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


for _name, _refuse in refusals(known=vars(WorkflowLoop)).items():
    setattr(WorkflowLoop, _name, _refuse)

on_loops(WorkflowLoop)
