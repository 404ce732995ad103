"""The workflow function of one generation: how it begins, how a cancel reaches it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from durable.clock import SECOND, after
from durable.engine.main_task import MainTask, ProtectedTask
from durable.engine.saga import Unwound
from durable.engine.sites import where
from durable.errors import NotAllowedInWorkflow, NotAwaited, RunTimeout
from durable.model.carried import Carried, CarriedChild, pack_carried
from durable.model.commands import (
    BeginCompensation,
    CancelRun,
    CompleteRun,
    ContinueRun,
    Ending,
    FailRun,
    WriteLog,
)
from durable.model.failure import encode_failure, failure_of
from durable.model.scope import ACTIVATION
from durable.model.strictness import STRICTNESS

if TYPE_CHECKING:
    from durable.engine.calls import Call
    from durable.engine.children import Children
    from durable.engine.loop import LoopTimer, WorkflowLoop
    from durable.engine.mailbox import Mailbox
    from durable.engine.saga import Sagas
    from durable.model.commands import Command
    from durable.model.history import RunStarted
    from durable.model.runnable import Workflow

_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


_PROTECTED: type[ProtectedTask[Any]] = ProtectedTask


class Host(Protocol):
    """The instance, as its function sees it."""

    workflow: Workflow[Any, Any]
    run_id: str
    now: int
    issued: int
    finished: bool
    discarded: bool
    started: RunStarted | None
    calls: dict[Call, None]
    followers: list[str]

    @property
    def loop(self) -> WorkflowLoop: ...
    @property
    def mailbox(self) -> Mailbox: ...
    @property
    def children(self) -> Children: ...
    @property
    def sagas(self) -> Sagas: ...
    def has(self, part: str) -> bool: ...
    def new_context(self) -> object: ...
    def emit(self, command: Command) -> None: ...
    def report(self, context: dict[str, Any]) -> None: ...
    def timeouts(self) -> Iterable[asyncio.Timeout]: ...


class Function:
    """The function of a run, with what decides its end."""

    __slots__ = (
        "_cancelled",
        "_held_back",
        "_instance",
        "_late",
        "_reason",
        "_shields",
        "_start",
        "attempt",
        "leaving",
        "main",
        "payload",
        "returned",
    )

    def __init__(self, instance: Host, payload: bytes, attempt: int = 1) -> None:
        self._instance = instance
        self.payload = payload
        """The input of this generation, encoded."""
        self.attempt = attempt
        """Of the whole run (`@workflow(retry=)`)."""
        self.main: MainTask[None] | None = None
        self._start: LoopTimer | None = None
        """It begins later: a retry of the whole run."""
        self._cancelled = False
        self._reason: str | None = None
        self._late = False
        """The deadline has passed."""
        self.leaving = False
        """It has been left: a cancel has nobody to go to."""
        self.returned = False
        """It has been left, and not by an exception."""
        self._shields = 0
        self._held_back = False
        """A cancel waits for the end of the shields."""

    # -- its beginning

    def begin(self) -> None:
        """Call it, unless that has happened."""
        if self.main is not None:
            return
        start, self._start = self._start, None
        if start is not None:
            start.cancel()
        instance = self._instance
        input = () if self.stopped else self._decode_input()
        # An empty context: what the worker's own context holds is not the same on every replay.
        context = contextvars.Context()
        context.run(ACTIVATION.set, instance.new_context())
        self.main = instance.loop.make_task(MainTask, self._run(input), context=context)

    def begin_at(self, when: float) -> None:
        """Call it later, at this time of the loop."""
        self._start = self._instance.loop.call_at(when, self.begin, context=contextvars.Context())

    def _decode_input(self) -> tuple[Any, ...]:
        """What it gets after its context; `PayloadError` blocks the run, it does not fail it."""
        workflow = self._instance.workflow
        if not workflow.takes_input:
            return ()
        return (workflow.input.decode(self.payload, f"input of workflow {workflow.name}"),)

    # -- cancelling

    @property
    def stopped(self) -> bool:
        """The run was cancelled, or its time is up."""
        return self._cancelled or self._late

    def cancel(self, reason: str | None) -> None:
        """Somebody wants it to stop. Once: a second time changes nothing."""
        if self.stopped:
            return
        self._cancelled = True
        self._reason = reason
        self._stop()

    def expire(self) -> None:
        """The time of the run is up: a cancel that ends as failed."""
        if self._late:
            return
        before, self._late = self._cancelled, True
        if not before:
            self._stop()

    def _stop(self) -> None:
        if self.leaving:
            return  # it counts if there was to be another attempt
        if self._shields:
            self._held_back = True
        elif self.main is None:
            self.begin()  # it waits for its next attempt: there will be none
        else:
            self.main.stop(self._instance.timeouts)

    def deliver_cancel(self) -> bool:
        """Let through a cancel that is held back or on its way, at the next await of the function; whether there is one."""
        main = self.main
        if main is None:
            return False
        if self._held_back:
            self._held_back = False
            main.stop(self._instance.timeouts)
            return True
        owed = main.owed is not None
        main.pay()
        return owed

    def enter_shield(self) -> None:
        """Hold back a cancel that comes from now on."""
        self._shields += 1

    def leave_shield(self) -> bool:
        """Let through what has been held back; whether it goes to the task that is running."""
        self._shields -= 1
        if self._shields or not self._held_back or self.leaving or self._instance.discarded:
            return False
        assert self.main is not None
        self._held_back = False
        self.main.stop(self._instance.timeouts)
        return asyncio.current_task() is self.main

    # -- the whole of it

    async def _run(self, input: tuple[Any, ...]) -> None:
        error: BaseException | None = None
        result = b""
        try:
            result = await self._call(input)
        except BaseException as raised:
            if self._instance.discarded:
                raise
            error = raised
        else:
            error = self._never_awaited() or self._left_pending()
        try:
            await self._leave(result, error)
        finally:
            error = None  # its traceback knows this frame: no circle is left

    async def _call(self, input: tuple[Any, ...]) -> bytes:
        if self.stopped:
            raise asyncio.CancelledError  # before it began
        workflow = self._instance.workflow
        result = await workflow.fn(ACTIVATION.get(), *input)
        return workflow.result.encode(result, f"result of workflow {workflow.name}")

    async def _leave(self, result: bytes, error: BaseException | None) -> None:
        """Everything that is to happen once the function is left, and the end of the run."""
        instance = self._instance
        self.leaving = True
        stopped, late = self.stopped, self._late
        returned = self.returned = error is None
        if late and error is None:
            error = asyncio.CancelledError()  # it swallowed that its time was up
        assert self.main is not None
        self.main.left = True
        if self.stopped or self.main.cancelling():
            # A cancel that found nothing to be raised at is raised here, where nobody minds.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        await self._cancel_rest(warn=error is None)
        await instance.loop.close_generators()
        if instance.has("children"):
            instance.children.close()
        unwound = await self._unwind(error)
        for context in instance.loop.unretrieved():
            instance.report(context)
        instance.finished = True
        if error is None:
            instance.emit(CompleteRun(result))
        elif late and (returned or not self._was_cancelled(error)):
            instance.emit(self._timed_out(error, unwound))
        else:
            instance.emit(self._ending(error, unwound, stopped=stopped))

    def _never_awaited(self) -> NotAwaited | None:
        calls = self._instance.calls
        if not calls:
            return None
        sites = ", ".join(str(call.site) for call in calls)
        calls.clear()
        return NotAwaited(
            f"run {self._instance.run_id} returned with calls that it never awaited: {sites}; "
            "write `await`"
        )

    def _left_pending(self) -> NotAwaited | None:
        """Under a strict test environment a task that nobody has awaited is an error, not a warning."""
        if not STRICTNESS.pending_tasks:
            return None
        left = [where(task) for task in self._rest() if not task.cancelling()]
        if not left:
            return None
        return NotAwaited(
            f"run {self._instance.run_id} returned while {', '.join(left)} was pending: "
            "await it, or cancel it"
        )

    def _rest(self) -> list[asyncio.Task[Any]]:
        return [
            task
            for task in self._instance.loop.tasks
            if task is not self.main and not task.done() and not isinstance(task, ProtectedTask)
        ]

    async def _cancel_rest(self, *, warn: bool) -> None:
        """What is still pending when the function ends is cancelled, as `asyncio.run` does."""
        instance = self._instance
        rest = self._rest()
        for task in rest:
            if warn:
                text = "run %s returned while %s was pending: it was cancelled"
                instance.emit(WriteLog(_WARNING, text, (instance.run_id, where(task)), {}))
            task.cancel()
        while rest := [task for task in rest if not task.done()]:
            # The run is over whatever becomes of its main task: somebody may have cancelled that too.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(rest)

    def protected_task(self, coroutine: Coroutine[Any, Any, Any]) -> ProtectedTask[Any]:
        """A task that nothing cancels."""
        return self._instance.loop.make_task(_PROTECTED, coroutine)

    async def _unwind(self, error: BaseException | None) -> Unwound:
        """Undo what the run did, if it failed, and what came too late in any case."""
        instance = self._instance
        if not instance.has("sagas"):
            return Unwound()
        sagas = instance.sagas
        sagas.root.gather()  # of blocks that nobody has left
        unwound = Unwound()
        if not sagas.root.untouched:
            if error is not None:
                instance.emit(BeginCompensation())
            task = self.protected_task(sagas.undo_all(sagas.root, only_late=error is None))
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            unwound = task.result()
        if error is not None:
            unwound.add(sagas.undone_because_of(error))
        return unwound

    # -- its end

    def _was_cancelled(self, error: BaseException) -> bool:
        return self._cancelled and isinstance(error, asyncio.CancelledError)

    def _ending(self, error: BaseException, unwound: Unwound, *, stopped: bool) -> Ending:
        """How a run ends that its function has left by an exception; `stopped`: it was to stop before."""
        if self._was_cancelled(error):
            return self._cancel_run(unwound)
        failure = encode_failure(failure_of(error))
        again = None if unwound.failed or stopped else self._retry(error, failure)
        if again is not None and self.stopped:
            # It was to stop while it undid this attempt: there is no other one.
            return self._cancel_run(unwound) if self._cancelled else self._timed_out(error, unwound)
        return again or FailRun(failure, _failed_status(unwound))

    def _cancel_run(self, unwound: Unwound) -> CancelRun:
        return CancelRun(self._reason, "compensation_failed" if unwound.failed else "cancelled")

    def _timed_out(self, error: BaseException, unwound: Unwound) -> FailRun:
        timeout = RunTimeout(f"run {self._instance.run_id} passed its deadline")
        if not isinstance(error, asyncio.CancelledError):
            timeout.__cause__ = error
        return FailRun(encode_failure(failure_of(timeout)), _failed_status(unwound))

    def _retry(self, error: BaseException, failure: bytes) -> ContinueRun | None:
        """The next attempt of the whole run, where it is to have one."""
        instance = self._instance
        policy = instance.workflow.retry
        if policy is None:
            return None
        started = instance.started
        assert started is not None
        elapsed = (instance.now - started.at) / SECOND
        seed = f"retry:{instance.run_id}:{started.seed}:{self.attempt}"
        delay = policy.decide_alike(error, self.attempt, elapsed, seed)
        if delay is None:
            return None
        due = after(instance.now, delay)
        return ContinueRun(
            self.payload, instance.issued, self._carried(), failure, self.attempt + 1, due
        )

    def continue_as_new(self, payload: bytes) -> ContinueRun:
        """What begins the next generation; `NotAllowedInWorkflow` with steps that may have to be undone."""
        instance = self._instance
        if self._late:
            raise asyncio.CancelledError  # its time is up, whatever it would begin
        if instance.has("sagas") and not instance.sagas.untouched:
            message = (
                f"run {instance.run_id}: continue_as_new with steps that would have to be undone if the "
                "run failed: run steps with compensate= in a child (ctx.call)"
            )
            raise NotAllowedInWorkflow(message)
        return ContinueRun(payload, instance.issued, self._carried())

    def _carried(self) -> bytes:
        instance = self._instance
        assert instance.started is not None
        children = instance.children.unreported if instance.has("children") else {}
        unread = instance.mailbox.unread if instance.has("mailbox") else ()
        return pack_carried(
            Carried(
                instance.started,
                self.attempt,
                tuple(unread),
                tuple(CarriedChild(cmd, child, left) for cmd, (child, left) in children.items()),
                tuple(instance.followers),
            )
        )

    def discard(self) -> None:
        """No circle is left."""
        if self.main is not None:
            self.main.forget()


def _failed_status(unwound: Unwound) -> Literal["failed", "compensated", "compensation_failed"]:
    if unwound.failed:
        return "compensation_failed"
    return "compensated" if unwound.undone else "failed"


class Shield:
    """`async with ctx.shield()`: a cancel of the run that comes inside is held back until the block ends."""

    __slots__ = ("_function",)

    def __init__(self, function: Function) -> None:
        self._function = function

    async def __aenter__(self) -> None:
        self._function.enter_shield()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._function.leave_shield() and kind is None:
            await asyncio.sleep(0)  # raises it here, not somewhere behind the block
