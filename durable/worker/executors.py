"""Where functions run that would block the event loop: threads and processes that nobody has to wait for.

The pools of the standard library are joined when the process ends, so one step that hangs would keep a
worker from ever stopping. They also queue what they have no room for, out of sight: here a call is only
handed over when there is a seat for it, so that a worker whose lease is gone starts nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.model.commands import RunStep
    from durable.worker.execution import Execution

Outcome = tuple[Any, BaseException | None]
"""What a call gave, or raised."""

THREADS = min(32, (os.cpu_count() or 1) + 4)
PROCESSES = os.cpu_count() or 1


class Seats:
    """So many calls may be under way at once; others wait here, in order."""

    def __init__(self, number: int, on_free: Callable[[], None]) -> None:
        self._free = number
        self._on_free = on_free
        self.waiting: deque[tuple[Execution, RunStep]] = deque()

    @property
    def free(self) -> bool:
        return self._free > 0

    def take(self) -> None:
        self._free -= 1

    def give_back(self) -> None:
        """The call has really ended: one that was given up keeps its seat until then."""
        self._free += 1
        self._on_free()


class StepThreads:
    """Daemon threads: the end of the process does not wait for a function that cannot be stopped."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = 0
        self._started = 0

    def run(self, call: Callable[[], Any], done: Callable[[], None]) -> asyncio.Future[Outcome]:
        """Call it in a thread; `done` is called on the event loop when it has ended, whoever waits."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            self._idle += 1
            if not answer.done():
                answer.set_result(outcome)
            done()

        def work() -> None:
            outcome = _outcome_of(call)
            # A closed loop: nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, outcome)

        if self._idle:
            self._idle -= 1
        else:
            self._started += 1
            name = f"durable-step-{self._started}"
            try:
                threading.Thread(target=self._serve, name=name, daemon=True).start()
            except BaseException:  # the machine has no more threads: the seat is not taken
                self._started -= 1
                done()
                raise
        self._calls.put(work)
        return answer

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            work()

    def close(self) -> None:
        """Let the threads end, each after what it is doing."""
        for _ in range(self._started):
            self._calls.put(None)


def _outcome_of(call: Callable[[], Any]) -> Outcome:
    try:
        return call(), None
    except BaseException as error:
        return None, error


class StepProcesses:
    """Child processes, started when they are first needed and again after one died."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, done: Callable[[], None], call: Callable[..., bytes], /, *arguments: Any
    ) -> asyncio.Future[bytes]:
        """Call a module's function in a child; `done` as for threads."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(call, *arguments)
        except BaseException:
            done()
            raise

        def settle(_: Future[bytes]) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done)

        future.add_done_callback(settle)
        return asyncio.wrap_future(future)

    def forget(self) -> None:
        """A child died, and the pool with it: the next call makes a new one."""
        pool = self._pool
        if pool is not None and getattr(pool, "_broken", True):
            self._pool = None

    def close(self) -> None:
        """End the children, whatever they are doing: the pool would be waited for when we end."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        children = list((pool._processes or {}).values())  # noqa: SLF001  public only from 3.14 on
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.kill()
