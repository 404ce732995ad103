"""The workflow function of one generation: how it begins, how a cancel reaches it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol

from durable.engine.numbered import WorkflowTask
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

if TYPE_CHECKING:
    from durable.engine.calls import Call
    from durable.engine.children import Children
    from durable.engine.loop import WorkflowLoop
    from durable.engine.mailbox import Mailbox
    from durable.engine.saga import Sagas
    from durable.model.commands import Command
    from durable.model.history import RunStarted
    from durable.model.runnable import Workflow

_MICROSECONDS = 1_000_000
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


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


class Function:
    """The function of a run, with what decides its end."""

    __slots__ = (
        "_cancelled",
        "_instance",
        "_late",
        "_leaving",
        "_protected",
        "_reason",
        "_shields",
        "attempt",
        "main",
        "payload",
    )

    def __init__(self, instance: Host, payload: bytes, attempt: int = 1) -> None:
        self._instance = instance
        self.payload = payload
        """The input of this generation, encoded."""
        self.attempt = attempt
        """Of the whole run (`@workflow(retry=)`)."""
        self.main: WorkflowTask[None] | None = None
        self._cancelled = False
        self._reason: str | None = None
        self._late = False
        """The deadline has passed."""
        self._leaving = False
        """It has been left: a cancel has nobody to go to."""
        self._shields = 0
        self._protected: dict[WorkflowTask[Any], None] = {}
        """Tasks that undo something: nothing cancels them."""

    # -- its beginning

    def begin(self) -> None:
        """Call it, unless that has happened."""
        if self.main is not None:
            return
        instance = self._instance
        input = self._decode_input()
        # An empty context: what the worker's own context holds is not the same on every replay.
        context = contextvars.Context()
        context.run(ACTIVATION.set, instance.new_context())
        self.main = instance.loop._make_task(self._run(input), context=context)  # noqa: SLF001  main task

    def _decode_input(self) -> tuple[Any, ...]:
        """What it gets after its context; `PayloadError` blocks the run, it does not fail it."""
        workflow = self._instance.workflow
        if not workflow.takes_input:
            return ()
        return (workflow.input.decode(self.payload, f"input of workflow {workflow.name}"),)

    # -- cancelling

    def cancel(self, reason: str | None) -> None:
        """Somebody wants it to stop. Once: a second time changes nothing."""
        if self._cancelled or self._leaving:
            return
        self._cancelled = True
        self._reason = reason
        self._deliver_cancel()

    def expire(self) -> None:
        """The time of the run is up: a cancel that ends as failed."""
        if self._late or self._leaving:
            return
        self._late = True
        if not self._cancelled:
            self._deliver_cancel()

    def _deliver_cancel(self) -> None:
        if self._shields:
            return
        self.begin()  # if it waits for its next attempt
        assert self.main is not None
        self.main.cancel()

    def enter_shield(self) -> None:
        """Hold back a cancel that comes from now on."""
        self._shields += 1

    def leave_shield(self) -> None:
        """Let through what the last shield has held back."""
        self._shields -= 1
        held_back = (self._cancelled or self._late) and not self._leaving
        if not self._shields and held_back and self.main is not None:
            self.main.cancel()

    # -- the whole of it

    async def _run(self, input: tuple[Any, ...]) -> None:
        instance = self._instance
        error: BaseException | None = None
        result = b""
        try:
            result = await self._call(input)
        except BaseException as raised:
            if instance.discarded:
                raise
            error = raised
        else:
            error = self._never_awaited()
        self._leaving = True
        if error is None and self._late:
            error = asyncio.CancelledError()  # it swallowed that its time was up
        await self._cancel_rest(warn=error is None)
        unwound = await self._unwind(error)
        if instance.has("children"):
            instance.children.close()
        await instance.loop.close_generators()
        for context in instance.loop.unretrieved():
            instance.report(context)
        instance.finished = True
        instance.emit(CompleteRun(result) if error is None else self._ending(error, unwound))

    async def _call(self, input: tuple[Any, ...]) -> bytes:
        workflow = self._instance.workflow
        result = await workflow.fn(ACTIVATION.get(), *input)
        return workflow.result.encode(result, f"result of workflow {workflow.name}")

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

    async def _cancel_rest(self, *, warn: bool) -> None:
        """What is still pending when the function ends is cancelled, as `asyncio.run` does."""
        instance = self._instance
        rest = [
            task
            for task in instance.loop.tasks
            if task is not self.main and not task.done() and task not in self._protected
        ]
        if not rest:
            return
        for task in rest:
            if warn:
                text = "run %s returned while %s was pending: it was cancelled"
                instance.emit(WriteLog(_WARNING, text, (instance.run_id, where(task)), {}))
            task.cancel()
        while rest := [task for task in rest if not task.done()]:
            # The run is over whatever becomes of its main task: somebody may have cancelled that too.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(rest)

    def protected_task(self, coroutine: Coroutine[Any, Any, Any]) -> WorkflowTask[Any]:
        """A task that goes on when the function has ended."""
        task = self._instance.loop._make_task(coroutine)  # noqa: SLF001  our own loop
        self._protected[task] = None
        return task

    async def _unwind(self, error: BaseException | None) -> Unwound:
        """Undo what the run did, if it failed, and what came too late in any case."""
        instance = self._instance
        if not instance.has("sagas"):
            return Unwound()
        sagas = instance.sagas
        if error is not None and not sagas.root.untouched:
            instance.emit(BeginCompensation())
        task = self.protected_task(sagas.undo_all(sagas.root, only_late=error is None))
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        unwound: Unwound = task.result()
        if error is not None:
            unwound.add(sagas.undone_because_of(error))
        return unwound

    # -- its end

    def _ending(self, error: BaseException, unwound: Unwound) -> Ending:
        """How a run ends that its function has left by an exception."""
        by_cancel = isinstance(error, asyncio.CancelledError)
        if by_cancel and self._late and not self._cancelled:
            message = f"run {self._instance.run_id} passed its deadline"
            failure = encode_failure(failure_of(RunTimeout(message)))
            return FailRun(failure, _failed_status(unwound))
        if by_cancel and self._cancelled:
            return CancelRun(self._reason, "compensation_failed" if unwound.failed else "cancelled")
        failure = encode_failure(failure_of(error))
        again = None if unwound.failed else self._retry(error, failure)
        return again or FailRun(failure, _failed_status(unwound))

    def _retry(self, error: BaseException, failure: bytes) -> ContinueRun | None:
        """The next attempt of the whole run, where it is to have one."""
        instance = self._instance
        policy = instance.workflow.retry
        if policy is None or self._cancelled or self._late:
            return None
        started = instance.started
        assert started is not None
        elapsed = (instance.now - started.at) / _MICROSECONDS
        seed = f"retry:{instance.run_id}:{started.seed}:{self.attempt}"
        delay = policy.decide_alike(error, self.attempt, elapsed, seed)
        if delay is None:
            return None
        due = instance.now + round(delay * _MICROSECONDS)
        return ContinueRun(
            self.payload, instance.issued, self._carried(), failure, self.attempt + 1, due
        )

    def continue_as_new(self, payload: bytes) -> ContinueRun:
        """What begins the next generation; `NotAllowedInWorkflow` with steps that may have to be undone."""
        instance = self._instance
        if instance.has("sagas") and not instance.sagas.untouched:
            message = (
                f"run {instance.run_id}: continue_as_new with steps that would have to be undone if the "
                "run failed: do that work in a child, or in a saga block that has ended"
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

    async def __aexit__(self, *exc: object) -> None:
        self._function.leave_shield()
