"""One run in memory: `Instance.apply(event) -> [Command]`, live and on replay the same code path."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from durable.engine.calls import Call
from durable.engine.context import Context
from durable.engine.loop import LoopTimer, WorkflowLoop
from durable.engine.operations import Operation, OperationFuture, StepOperation, TimerOperation
from durable.engine.replay import check
from durable.engine.sites import user_site, where
from durable.errors import NondeterminismError, NotAwaited
from durable.model import history
from durable.model.commands import (
    CancelStep,
    CancelTimer,
    Command,
    CompleteRun,
    FailRun,
    RunStep,
    Site,
    StartTimer,
    WriteLog,
)
from durable.model.failure import encode_failure, failure_of
from durable.model.scope import ACTIVATION

if TYPE_CHECKING:
    from durable.model.runnable import Workflow

T = TypeVar("T")
_MICROSECONDS = 1_000_000
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


class Instance:
    """The workflow function of one run, driven by its history.

    Events come in one at a time, in the order of their history; each runs the function until it is idle.
    An instance that raised from `apply`, or was discarded, is dead and must not be used again.
    """

    def __init__(self, workflow: Workflow[Any, Any], run_id: str) -> None:
        self.workflow = workflow
        self.run_id = run_id
        self.now = 0
        """`at` of the newest event, in microseconds; it never goes back."""
        self.started: history.RunStarted | None = None
        self.length = 0
        """Events applied so far."""
        self.finished = False
        self.issued = 0
        """Commands issued so far: the newest command number."""
        self.warnings: list[str] = []
        """What a replay met that does not stop the run but should be told."""
        self.calls: dict[Call, None] = {}
        """Calls that were created and not awaited yet."""
        self._open: dict[int, Operation] = {}
        self._commands: list[Command] = []
        self._loop = WorkflowLoop(self)  # type: ignore[abstract]  # the rest is filled in with refusals
        self._discarded = False
        self._main: asyncio.Task[None] | None = None

    # -- the one way in

    def apply(self, event: history.Event) -> list[Command]:
        """Take the next event of the history and answer what the function asks for because of it."""
        commands: list[Command] = []
        self._commands = commands
        self.length += 1
        self.now = max(self.now, event.at)
        if self.started is not None:
            self._loop.set_time((self.now - self.started.at) / _MICROSECONDS)
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)
            self._loop.run_until_idle()
        return commands

    def replay(self, act: Callable[[], T]) -> T:
        """Call `act`, which applies many events: the loop is entered once for all of them.

        To enter it costs about as much as to apply an event.
        """
        return self._loop.inside(act)

    def discard(self) -> None:
        """Forget the run. User code that runs while it is closed reaches nothing."""
        self._discarded = True
        self._open.clear()
        self.calls.clear()
        self._loop.discard()
        # No circle is left: a worker that ends thousands of runs a second leaves no work to the collector.
        self._main = None

    # -- what events do

    def _on_started(self, event: history.RunStarted) -> None:
        self.started = event
        input = self._decode_input(event)
        # An empty context: what the worker's own context holds is not the same on every replay.
        context = contextvars.Context()
        context.run(ACTIVATION.set, Context(self, self._loop))
        self._main = self._loop._make_task(self._run(input), context=context)  # noqa: SLF001  main task

    def _decode_input(self, event: history.RunStarted) -> tuple[Any, ...]:
        """What the function gets after its context; `PayloadError` blocks the run, it does not fail it."""
        workflow = self.workflow
        if not workflow.takes_input:
            return ()
        return (workflow.input.decode(event.input, f"input of workflow {workflow.name}"),)

    def _on_step_completed(self, event: history.StepCompleted) -> None:
        operation = self._end(event)
        assert isinstance(operation, StepOperation)
        operation.complete(event)

    def _on_step_failed(self, event: history.StepFailed) -> None:
        if event.retry_at is None:
            operation = self._end(event)
            assert isinstance(operation, StepOperation)
            operation.fail(event)
            return
        operation = self._match(event)
        assert isinstance(operation, StepOperation)
        self.emit(operation.retry(event))

    def _on_timer_started(self, event: history.TimerStarted) -> None:
        operation = self._match(event)
        assert isinstance(operation, TimerOperation)
        if operation.command.due != event.due:
            # What was promised when the run went to sleep holds, whatever the code says now.
            operation.command = StartTimer(event.cmd, event.name, event.due, operation.site)
            self.emit(operation.command)

    def _on_timer_fired(self, event: history.TimerFired) -> None:
        operation = self._end(event)
        assert isinstance(operation, TimerOperation)
        timer = operation.timer
        callback, timer.callback = timer.callback, None
        if callback is not None:
            self._loop.call_soon(callback, *timer.args, context=timer.context)

    def _on_end(self, event: history.RunCompleted | history.RunFailed) -> None:
        if not self.finished:
            message = (
                f"run {self.run_id} cannot go on: history says that it ended, the code goes on "
                f"({type(event).__name__})"
            )
            raise NondeterminismError(message)

    def _match(self, event: history.CommandEvent) -> Operation:
        found = self._open.get(event.cmd)
        return check(self.run_id, event, found, self.issued, self.warnings)

    def _end(self, event: history.CommandEvent) -> Operation:
        operation = self._match(event)
        del self._open[event.cmd]
        return operation

    # -- what the function asks for

    def emit(self, command: Command) -> None:
        if not self._discarded:
            self._commands.append(command)

    def start_step(self, command: RunStep) -> OperationFuture:
        """Ask for a step; `command.cmd` is filled in here."""
        self.issued += 1
        command.cmd = self.issued
        command.first_at = self.now
        future = OperationFuture(loop=self._loop, host=self)
        if not self._discarded:
            self._open[command.cmd] = StepOperation(command, future)
            self._commands.append(command)
        return future

    def abandon(self, operation: Operation) -> None:
        """The awaiter of a step is gone: a result that comes later never enters history."""
        if self._open.pop(operation.cmd, None) is not None:
            self.emit(CancelStep(operation.cmd))

    def start_timer(self, timer: LoopTimer) -> None:
        """Ask for a timer; `timer.cmd` is filled in here."""
        if self._discarded or self.started is None:
            return
        due = min(self.started.at + _micros(timer.when()), _NEVER)
        self.issued += 1
        timer.cmd = self.issued
        site = user_site(2, _BORDER) or Site(self.workflow.fn.__code__, 0)
        command = StartTimer(timer.cmd, _timer_name(timer), due, site)
        self._open[timer.cmd] = TimerOperation(command, timer)
        self._commands.append(command)

    def cancel_timer(self, timer: LoopTimer) -> None:
        if self._open.pop(timer.cmd, None) is not None:
            self.emit(CancelTimer(timer.cmd))

    def report(self, context: dict[str, Any]) -> None:
        """Asyncio's complaints (an exception that nobody retrieved) go to the run's log."""
        error = context.get("exception")
        options = {"exc_info": error} if isinstance(error, BaseException) else {}
        self.emit(WriteLog(_WARNING, "%s", (context.get("message", "asyncio"),), options))

    # -- the function itself

    async def _run(self, input: tuple[Any, ...]) -> None:
        ending: Command
        try:
            ending = CompleteRun(await self._call(input))
        except BaseException as error:
            if self._discarded:
                raise
            ending = FailRun(encode_failure(failure_of(error)))
        else:
            unawaited = self._never_awaited()
            if unawaited is not None:
                ending = FailRun(encode_failure(failure_of(unawaited)))
        await self._cancel_rest(warn=isinstance(ending, CompleteRun))
        await self._loop.close_generators()
        for context in self._loop.unretrieved():
            self.report(context)
        self.finished = True
        self.emit(ending)

    async def _call(self, input: tuple[Any, ...]) -> bytes:
        workflow = self.workflow
        result = await workflow.fn(ACTIVATION.get(), *input)
        return workflow.result.encode(result, f"result of workflow {workflow.name}")

    def _never_awaited(self) -> NotAwaited | None:
        if not self.calls:
            return None
        sites = ", ".join(str(call.site) for call in self.calls)
        self.calls.clear()
        return NotAwaited(
            f"run {self.run_id} returned with calls that it never awaited: {sites}; write `await`"
        )

    async def _cancel_rest(self, *, warn: bool) -> None:
        """What is still pending when the function ends is cancelled, as `asyncio.run` does."""
        rest = [task for task in self._loop.tasks if task is not self._main and not task.done()]
        if not rest:
            return
        for task in rest:
            if warn:
                text = "run %s returned while %s was pending: it was cancelled"
                self.emit(WriteLog(_WARNING, text, (self.run_id, where(task)), {}))
            task.cancel()
        while rest := [task for task in rest if not task.done()]:
            # The run is over whatever becomes of its main task: somebody may have cancelled that too.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(rest)


_HANDLERS: dict[type[history.Event], Callable[[Instance, Any], None]] = {
    history.RunStarted: Instance._on_started,  # noqa: SLF001
    history.StepCompleted: Instance._on_step_completed,  # noqa: SLF001
    history.StepFailed: Instance._on_step_failed,  # noqa: SLF001
    history.TimerStarted: Instance._on_timer_started,  # noqa: SLF001
    history.TimerFired: Instance._on_timer_fired,  # noqa: SLF001
    history.RunCompleted: Instance._on_end,  # noqa: SLF001
    history.RunFailed: Instance._on_end,  # noqa: SLF001
}


_BORDER = Instance.apply.__code__
_NEVER = 253_402_300_799_000_000
"""The end of the year 9999: the latest that any timer is due."""


def _micros(seconds: float) -> int:
    return _NEVER if seconds > _NEVER / _MICROSECONDS else round(seconds * _MICROSECONDS)


_TIMER_NAMES = {
    "_set_result_unless_cancelled": "sleep",
    "_on_timeout": "timeout",
    "_handle_timeout": "timeout",
    "_release_waiter": "timeout",
}
"""What asyncio wants a timer for, by its callback; the same for all versions of Python."""


def _timer_name(timer: LoopTimer) -> str:
    return _TIMER_NAMES.get(getattr(timer.callback, "__name__", ""), "timer")
