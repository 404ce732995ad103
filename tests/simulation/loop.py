"""One event loop for a whole cluster: virtual time, and a random source that decides which process goes next.

Every simulated process has a ready queue of its own, served in order, as asyncio does. Which process takes the
next turn is drawn; time moves only when nobody has anything left to do. Nothing here sleeps, and no thread runs.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio.events import Handle, TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

TURNS_AT_ONE_MOMENT = 20_000
"""More turns without time moving are a hot loop."""


class HotLoop(AssertionError):
    """Somebody is busy for ever at one moment of the virtual time."""


class Site:
    """What a process is to the loop: a ready queue that can be frozen, and dropped when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = 0
        """Of the code that it runs, where that matters."""
        self.ready: deque[Handle] = deque()
        self.dead = False
        self.frozen = False
        self.listed = False
        self.context: Context = copy_context()
        self.context.run(SITE.set, self)

    def __repr__(self) -> str:
        return self.name


SITE: ContextVar[Site] = ContextVar("site")


class SimulatedLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose time is `micros`; see the module."""

    def __init__(self, random: Random, start: int) -> None:
        super().__init__()
        self.micros = start
        self._start = start
        self._timers: list[tuple[int, int, TimerHandle]] = []
        self._order = 0
        self._draw = random.random
        self._runnable: list[Site] = []
        self._turns_now = 0
        self.turns = 0
        self.kernel = Site("world")
        self.current = self.kernel
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.micros / 1e6

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self._at(self.micros + round(delay * 1e6), callback, args, context)

    def after(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context
    ) -> Handle:
        """`call_later`, or at once where there is no delay."""
        if delay:
            return self._at(self.micros + round(delay * 1e6), callback, args, context)
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self._at(round(when * 1e6), callback, args, context)

    def _at(
        self, due: int, callback: Callable[..., object], args: Any, context: Context | None
    ) -> TimerHandle:
        timer = TimerHandle(due / 1e6, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, (due, self._order, timer))
        timer._scheduled = True
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """It is skipped when its time comes."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """There are no threads: it is done at once."""
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        """Generators of dead processes are not finished by anybody."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """The same."""

    # -- turns

    def _enqueue(self, handle: Handle) -> None:
        site = handle._context.get(SITE, self.kernel)
        if site.dead:
            return
        site.ready.append(handle)
        if not site.listed and not site.frozen:
            site.listed = True
            self._runnable.append(site)

    def _run_once(self) -> None:
        runnable = self._runnable
        if not runnable:
            self._advance()
            return
        count = len(runnable)
        index = int(self._draw() * count) if count > 1 else 0
        site = runnable[index]
        handle = site.ready.popleft()
        if not site.ready:
            self._unlist(index)
        if handle._cancelled:
            return
        self._turns_now += 1
        if self._turns_now > TURNS_AT_ONE_MOMENT:
            raise HotLoop(f"{site} is busy for ever: {handle}")
        self.current = site
        handle._run()

    def _unlist(self, index: int) -> None:
        site, last = self._runnable[index], self._runnable.pop()
        site.listed = False
        if last is not site:
            self._runnable[index] = last

    def _advance(self) -> None:
        """Nobody has anything to do: on to the next timer."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing will ever happen again in this simulation")
        self.turns += self._turns_now
        if timers[0][0] > self.micros:
            self.micros = timers[0][0]
            self._turns_now = 0
        while timers and timers[0][0] <= self.micros:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                self._enqueue(handle)

    # -- what happens to processes

    def kill(self, site: Site) -> None:
        """Nothing of it ever runs again."""
        site.dead = True
        site.ready.clear()
        self._stop_serving(site)

    def freeze(self, site: Site, seconds: float) -> None:
        """It gets no turn for so long; what becomes ready meanwhile waits."""
        site.frozen = True
        self._stop_serving(site)
        self.call_later(seconds, self.thaw, site, context=self.kernel.context)

    def thaw(self, site: Site) -> None:
        """It goes on with what has become ready meanwhile."""
        site.frozen = False
        if site.ready and not site.listed and not site.dead:
            site.listed = True
            self._runnable.append(site)

    def _stop_serving(self, site: Site) -> None:
        if site.listed:
            self._unlist(self._runnable.index(site))

    def elapsed(self) -> float:
        """Virtual seconds since it began."""
        return (self.micros - self._start) / 1e6
