"""Running users' functions: slots, threads, processes, time-outs and retries."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from durable.clock import SECOND, TimeLimit, after
from durable.errors import DurableError, StepTimeout
from durable.model import history
from durable.model.failure import encode_failure, failure_of
from durable.model.scope import STEP
from durable.worker.executors import PROCESSES, THREADS, Seats, StepProcesses, StepThreads
from durable.worker.processes import run_in_process
from durable.worker.step_context import StepContext

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.commands import RunStep
    from durable.worker.execution import Execution

_log = logging.getLogger("durable.worker")


class Host(Protocol):
    """What the runner needs of its worker."""

    @property
    def worker_id(self) -> int: ...
    def now(self) -> int: ...
    def healthy(self) -> bool: ...


class StepRunner:
    """Runs at most `slots` attempts at once; the others wait in order. A waiting run holds no slot."""

    def __init__(self, host: Host, slots: int, random: Random, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._slots = slots
        self._random = random
        self._waiting: deque[tuple[Execution, RunStep]] = deque()
        self._running: dict[tuple[Execution, int], StepContext] = {}
        self._threads = StepThreads()
        self._processes = StepProcesses()
        self._seats = {
            "thread": Seats(THREADS, self.pump),
            "process": Seats(PROCESSES, self.pump),
        }
        self._in_line = 0
        """Commands that wait for a seat, not for a slot."""
        self._draining = False
        # Attempts start from the worker's context, never from that of the attempt that made room for them.
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def backlog(self) -> int:
        return len(self._waiting) + self._in_line

    def submit(self, execution: Execution, command: RunStep) -> None:
        """Run a step as soon as there is a slot for it."""
        self._waiting.append((execution, command))
        self.pump()

    def pump(self) -> None:
        """Start what there are slots for. A worker that cannot renew its lease starts nothing new."""
        while (self._waiting or self._in_line) and len(self._running) < self._slots:
            if self._draining or not self._host.healthy():
                return
            found = self._next()
            if found is None:
                return
            execution, command = found
            # The same command object: a later attempt of a dropped step is not this one.
            if execution.dead or execution.active.get(command.cmd) is not command:
                continue
            self._begin(execution, command)

    def _next(self) -> tuple[Execution, RunStep] | None:
        """Who has waited longest, of those for whom there is a seat."""
        if self._in_line:
            for seats in self._seats.values():
                if seats.waiting and seats.free:
                    self._in_line -= 1
                    return seats.waiting.popleft()
        while self._waiting:
            found = self._waiting.popleft()
            wanted = self._seats_for(found[1])
            if wanted is None or wanted.free:
                return found
            wanted.waiting.append(found)
            self._in_line += 1
        return None

    def _seats_for(self, command: RunStep) -> Seats | None:
        """None: it runs on the event loop."""
        step = command.step
        if step.executor == "process":
            return self._seats["process"]
        return None if step.is_async else self._seats["thread"]

    def _begin(self, execution: Execution, command: RunStep) -> None:
        attempt = StepContext(execution, command, self._host.now())
        attempt.seats = self._seats_for(command)
        if attempt.seats is not None:
            attempt.seats.take()
        self._running[execution, command.cmd] = attempt
        attempt.task = self._loop.create_task(self._attempt(attempt), context=self._context.copy())

    def cancel(self, execution: Execution, cmd: int) -> None:
        """Tell an attempt to stop; its slot is free when it has."""
        attempt = self._running.get((execution, cmd))
        if attempt is not None:
            attempt.cancelled = True
            if attempt.task is not None:
                attempt.task.cancel()
                attempt.task.add_done_callback(lambda _: self._give_back(attempt))

    def _give_back(self, attempt: StepContext) -> None:
        """Free the slot of an attempt that was cancelled before it began: it could not do so itself."""
        place = attempt.execution, attempt.command.cmd
        if self._running.get(place) is attempt:
            del self._running[place]
            if attempt.seats is not None:
                attempt.seats.give_back()
            self.pump()

    def refuse(self) -> None:
        """Start nothing more."""
        self._draining = True

    async def drain(self, grace: float) -> None:
        """Give running attempts `grace` seconds to end, then tell them to stop."""
        end = self._clock.monotonic() + grace
        while self._running and self._clock.monotonic() < end:
            await self._clock.sleep(0.01)
        for attempt in list(self._running.values()):
            self.cancel(attempt.execution, attempt.command.cmd)
        tasks = [attempt.task for attempt in self._running.values() if attempt.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def close(self) -> None:
        """Let threads and processes go without waiting for what cannot be stopped."""
        self._threads.close()
        self._processes.close()

    # -- one attempt

    async def _attempt(self, attempt: StepContext) -> None:
        STEP.set(attempt)
        event: history.Event | None = None
        try:
            timeout = attempt.command.step.timeout
            if timeout is None:
                payload = await self._call(attempt)
            else:
                payload = await self._timed(attempt, timeout)
            event = self._completed(attempt, payload)
        except BaseException as error:
            if not attempt.cancelled:  # what it raises on being told to stop is no outcome
                event = self._failed(attempt, error)
        finally:
            attempt.cancelled = True  # a thread that is still at it may see that it is over
            attempt.task = None  # the task holds the attempt: no circle for the garbage collector
            cmd = attempt.command.cmd
            del self._running[attempt.execution, cmd]
            if event is not None and attempt.execution.finished_step(cmd):
                attempt.execution.record(event)
            if attempt.seats is not None:
                attempt.seats.give_back()
            if self._waiting or self._in_line:
                self.pump()

    def _completed(self, attempt: StepContext, payload: bytes) -> history.Event:
        command = attempt.command
        at = attempt.execution.at()
        if command.undoes is not None:
            return history.CompensationCompleted(
                at,
                command.cmd,
                command.step.name,
                payload,
                command.fingerprint,
                max(0, at - attempt.started),
                self._host.worker_id,
                str(command.site),
                command.undoes,
                command.attempt,
            )
        return history.StepCompleted(
            at,
            command.cmd,
            command.step.name,
            payload,
            command.fingerprint,
            max(0, at - attempt.started),
            self._host.worker_id,
            str(command.site),
            command.attempt,
        )

    async def _timed(self, attempt: StepContext, timeout: float) -> bytes:
        limit = TimeLimit(self._clock, timeout)
        try:
            async with limit:
                return await self._call(attempt)
        except TimeoutError as error:
            if not limit.expired():
                raise
            message = (
                f"step {attempt.name} of run {attempt.run_id} took longer than {timeout:g} s "
                f"(attempt {attempt.command.attempt})"
            )
            raise StepTimeout(message) from error

    async def _call(self, attempt: StepContext) -> bytes:
        command, step = attempt.command, attempt.command.step
        if step.executor == "process":
            module, name = step.fn.__module__, step.fn.__qualname__
            free = _hand_over(attempt)
            return await self._processes.run(free, run_in_process, module, name, command.arguments)
        if command.args is not None and command.kwargs is not None:
            args, kwargs = command.args, command.kwargs
        else:
            args, kwargs = step.arguments.decode(command.arguments, f"step {step.name}")
        value = await self._invoke(attempt, args, kwargs)
        return step.result.encode(value, f"result of step {step.name}")

    async def _invoke(
        self, attempt: StepContext, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call the function itself, here or in a thread."""
        step = attempt.command.step
        if step.is_async:
            return await step.fn(*args, **kwargs)
        context = contextvars.copy_context()
        call_it = lambda: context.run(step.fn, *args, **kwargs)  # noqa: E731
        value, error = await self._threads.run(call_it, _hand_over(attempt))
        if error is not None:
            raise error
        return value

    def _failed(self, attempt: StepContext, error: BaseException) -> history.Event:
        command, step = attempt.command, attempt.command.step
        if isinstance(error, BrokenProcessPool):
            self._processes.forget()
            error = DurableError(f"the process that ran step {step.name} died")
        at = attempt.execution.at()
        elapsed = (at - (command.first_at or at)) / SECOND
        delay = None
        if step.retry is not None:
            delay = step.retry.decide(error, command.attempt, elapsed, self._random)
        facts = (
            at,
            command.cmd,
            step.name,
            encode_failure(failure_of(error)),
            command.fingerprint,
            max(0, at - attempt.started),
            self._host.worker_id,
            str(command.site),
        )
        retry_at = None if delay is None else after(at, delay)
        if command.undoes is not None:
            return history.CompensationFailed(*facts, command.undoes, command.attempt, retry_at)
        return history.StepFailed(*facts, command.attempt, retry_at)


def _hand_over(attempt: StepContext) -> Callable[[], None]:
    """Whoever runs the function gives the seat back when it has ended, not when nobody waits."""
    seats, attempt.seats = attempt.seats, None
    assert seats is not None
    return seats.give_back
