"""Child runs: started in the transaction that says so, heard of through the parent's inbox."""

from __future__ import annotations

import contextvars
import hashlib
import sys
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, overload

from durable.clock import SECOND
from durable.engine.calls import Call
from durable.engine.operations import Operation, OperationFuture
from durable.engine.waits import NO_DEFAULT, checked_timeout
from durable.errors import (
    ChildCancelled,
    ChildFailed,
    Failure,
    InvalidInput,
    PayloadError,
    RunAlreadyExists,
    WaitTimeout,
)
from durable.model import history
from durable.model.commands import CancelChild, EndChildWait, OnConflict, Site, StartChild
from durable.model.duration import Duration
from durable.model.events import Event
from durable.model.failure import decode_failure, rebuild
from durable.model.history import Kind, RunStarted
from durable.model.ids import MAX_ID
from durable.model.payload import ANY, fingerprint
from durable.model.rows import Lane

if TYPE_CHECKING:
    import asyncio

    from durable.engine.loop import WorkflowLoop
    from durable.model.carried import CarriedChild
    from durable.model.commands import Command
    from durable.model.payload import Shape
    from durable.model.runnable import Runnable

R_co = TypeVar("R_co", covariant=True)
D = TypeVar("D")
T = TypeVar("T")
ChildEvent: TypeAlias = history.ChildCompleted | history.ChildFailed | history.ChildRefused
"""How a child is heard of."""


class Host(Protocol):
    """The instance, as its children see it."""

    run_id: str
    now: int
    started: RunStarted | None
    calls: dict[Call, None]

    @property
    def loop(self) -> WorkflowLoop: ...
    def next_command(self) -> int: ...
    def open(self, operation: Operation) -> None: ...
    def close(self, cmd: int) -> bool: ...
    def emit(self, command: Command) -> None: ...
    def new_context(self) -> Any: ...


class ChildOperation:
    """A child run, from its start until it reports."""

    __slots__ = (
        "_children",
        "_default",
        "_timed",
        "command",
        "ended",
        "result",
        "started",
        "waiting",
    )

    def __init__(
        self,
        children: Children,
        command: StartChild,
        result: Shape,
        default: Any,
    ) -> None:
        self._children = children
        self._default = default
        """What its caller gets when the wait for it times out."""
        self._timed = command.due is not None
        self.command = command
        self.result = result
        self.started: OperationFuture | None = None
        """Who waits for the start, until that is in the history."""
        self.waiting: dict[asyncio.Future[Any], None] = {}
        """Who waits for its end."""
        self.ended: ChildEvent | None = None

    @property
    def kind(self) -> Kind:
        return "child"

    @property
    def cmd(self) -> int:
        return self.command.cmd

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def site(self) -> Site:
        return self.command.site

    @property
    def child_id(self) -> str:
        return self.command.child_id

    def called(self) -> OperationFuture:
        """A future of its result; whoever gives it up has the child cancelled."""
        future = self.wait()
        future.operation = self
        return future

    def begun(self) -> OperationFuture:
        """A future of its handle, done once its start is in the history; as with `called`."""
        future = self.started = OperationFuture(loop=self._children.loop)
        future.operation = self
        return future

    def start(self, handle: ChildHandle[Any]) -> None:
        """Its start is in the history."""
        started, self.started = self.started, None
        if started is not None:
            started.operation = None
            if not started.done():
                started.set_result(handle)

    def wait(self) -> OperationFuture:
        """A future of its result."""
        future = OperationFuture(loop=self._children.loop)
        if self.ended is None:
            self.waiting[future] = None
        else:
            self._settle(future)
        return future

    def end(self, event: ChildEvent) -> None:
        """It reported: everybody who waits gets a value or an exception of his own."""
        self.ended = event
        self.end_wait()
        waiting, self.waiting = self.waiting, {}
        if self.started is not None:
            waiting[self.started] = None  # refused before it had begun
            self.started = None
        for future in waiting:
            if not future.done():
                self._settle(future)

    def _settle(self, future: asyncio.Future[Any]) -> None:
        event = self.ended
        if isinstance(future, OperationFuture):
            future.operation = None
        if isinstance(event, history.ChildCompleted):
            where = f"result of run {self.child_id}"
            future.set_result(self.result.decode(event.result, where))
        elif isinstance(event, history.ChildFailed):
            future.set_exception(_error(self, event))
        else:
            message = f"run {self.child_id} exists and is no child of this call: use another id"
            future.set_exception(RunAlreadyExists(message))

    def waits_no_more(self, future: asyncio.Future[Any]) -> None:
        """It has what it waited for, or was given up."""
        self.waiting.pop(future, None)

    def end_wait(self) -> None:
        """The time-out of `ctx.call` is void."""
        if self._timed:
            self._timed = False
            self._children.emit(EndChildWait(self.cmd))

    def abandon(self) -> None:
        """Whoever called it is gone: the child is cancelled. Its report is read and means nothing."""
        self.waiting = {}
        self.end_wait()
        self._children.cancel(self, None)

    def time_out(self) -> None:
        """The wait of `ctx.call(timeout=)` has passed."""
        self._timed = False
        waiting, self.waiting = self.waiting, {}
        self._children.cancel(self, f"its parent waited for it until its time-out ({self.site})")
        for future in waiting:
            assert isinstance(future, OperationFuture)
            future.operation = None
            self.give_up(future, self._default)

    def give_up(self, future: asyncio.Future[Any], default: Any) -> None:
        """Somebody has waited for as long as he would."""
        self.waiting.pop(future, None)
        if future.done():
            return
        if default is NO_DEFAULT:
            future.set_exception(WaitTimeout(f"child {self.child_id} has not ended in time"))
        else:
            future.set_result(default)


class ChildHandle(Generic[R_co]):
    """A child that was started with `ctx.start`. Only for its parent's code: it cannot be stored."""

    id: str
    """The child's run id."""

    def __init__(self, children: Children, operation: ChildOperation) -> None:
        self.id = operation.child_id
        self._children = children
        self._operation = operation

    @overload
    async def result(self, *, timeout: Duration | None = None) -> R_co: ...
    @overload
    async def result(self, *, timeout: Duration, default: D) -> R_co | D: ...
    def result(self, *, timeout: Duration | None = None, default: Any = NO_DEFAULT) -> Any:
        """Wait for the child's end: its result, or its exception, which is also a `ChildFailed`.

        After `timeout` (seconds or a timedelta) it gives `default`, or raises `WaitTimeout`; the child goes on,
        as it does when the wait is cancelled. `ChildCancelled` when it was cancelled or terminated,
        `RunAlreadyExists` when its id belongs to another run.
        """
        seconds = checked_timeout(timeout, default, "result")
        return Call(self._children.calls, self._begin_result, (seconds, default))

    def _begin_result(self, _call: Call, seconds: float | None, default: Any) -> OperationFuture:
        operation = self._operation
        future = operation.wait()
        if future.done():
            return future
        if seconds is not None:
            # An empty context: the timer outlives the code that set it.
            context = contextvars.Context()
            timer = self._children.loop.call_later(
                seconds, _wait_timed_out, operation, future, default, context=context
            )
            future.add_done_callback(lambda _: timer.cancel(), context=context)
        future.add_done_callback(operation.waits_no_more)
        return future

    async def _nothing(self) -> None:
        """What an act gives that is done at once."""

    if TYPE_CHECKING:

        async def cancel(self, *, reason: str | None = None) -> None: ...

    else:

        def cancel(self, *, reason: str | None = None) -> Call:
            """Tell the child to stop; nothing happens to one that has ended."""
            return Call(self._children.calls, self._begin_cancel, (reason,))

    def _begin_cancel(self, _call: Call, reason: str | None) -> Any:
        self._children.cancel(self._operation, reason)
        return self._nothing()

    @overload
    async def send_event(self, event: Event[T], payload: T, /) -> None: ...
    @overload
    async def send_event(self, event: str, payload: object = None, /) -> None: ...
    @overload
    async def send_event(self, event: object, /) -> None: ...
    def send_event(self, event: Any, /, *payload: Any) -> Any:
        """Send an event to the child, exactly once, as `ctx.send_event` does."""
        context: Any = self._children.context
        call: Call = context.send_event(self.id, event, *payload)
        frame = sys._getframe(1)  # noqa: SLF001  the user's line, not this one
        call.code, call.line = frame.f_code, frame.f_lineno
        return call

    def __repr__(self) -> str:
        return f"<ChildHandle {self.id}>"


def _wait_timed_out(operation: ChildOperation, future: OperationFuture, default: Any) -> None:
    operation.give_up(future, default)


class Children:
    """The children of a run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unreported: dict[int, tuple[str, bool]] = {}
        """Children that have not reported: id, and whether the parent's end leaves them alone."""
        self._cancelled: set[int] = set()
        """Those among them that have been told to stop."""

    @property
    def loop(self) -> WorkflowLoop:
        return self._host.loop

    @property
    def calls(self) -> dict[Call, None]:
        return self._host.calls

    @property
    def context(self) -> Any:
        return self._host.new_context()

    def emit(self, command: Command) -> None:
        self._host.emit(command)

    # -- what the code asks for

    def start(
        self,
        child: Runnable[Any, Any] | str,
        input: Any,
        *,
        id: str | None,
        queue: str | None,
        conflict: OnConflict,
        site: Site,
        abandoned: bool = False,
        seconds: float | None = None,
        default: Any = NO_DEFAULT,
    ) -> ChildOperation:
        """Ask for a child; its start enters the history at once."""
        host = self._host
        parent = host.started
        assert parent is not None
        lane, version, payload, result, tags, timeout = _described(child, input, queue)
        cmd = host.next_command()
        made = _child_id(host.run_id, parent.seed, cmd)
        child_id = made if id is None else id
        started = RunStarted(
            host.now,
            lane.workflow,
            payload,
            version,
            lane.queue,
            parent_id=host.run_id,
            root_id=parent.root_id or host.run_id,
            deadline=_after(host.now, timeout),
            tags=tags,
            parent_cmd=cmd,
            seed=made if conflict == "restart" else "",
        )
        mark = fingerprint(payload)
        due = _after(host.now, seconds)
        command = StartChild(cmd, child_id, lane, started, conflict, abandoned, mark, site, due)
        operation = ChildOperation(self, command, result, default)
        host.open(operation)
        self._unreported[cmd] = child_id, abandoned
        host.emit(command)
        return operation

    def cancel(self, operation: ChildOperation, reason: str | None) -> None:
        """Tell a child to stop, once; nothing happens to one that has reported."""
        if operation.ended is None and operation.cmd not in self._cancelled:
            self._cancelled.add(operation.cmd)
            self._host.emit(CancelChild(operation.child_id, reason))

    def close(self) -> None:
        """The run ends: what it called or started is cancelled, unless it was to be left alone."""
        for cmd, (child_id, abandoned) in self._unreported.items():
            if not abandoned and cmd not in self._cancelled:
                self._host.emit(CancelChild(child_id, "its parent has ended"))
        self._unreported = {}

    # -- what events do

    def on_started(self, operation: ChildOperation) -> None:
        operation.start(ChildHandle(self, operation))

    def on_end(self, event: ChildEvent, operation: ChildOperation | None) -> None:
        """A report. One of a child of an earlier generation is consumed, and means nothing."""
        self._unreported.pop(event.cmd, None)
        self._cancelled.discard(event.cmd)
        if operation is not None:
            operation.end(event)

    # -- from one generation to the next

    @property
    def unreported(self) -> dict[int, tuple[str, bool]]:
        return self._unreported

    def take_over(self, children: tuple[CarriedChild, ...]) -> None:
        """They were started by an earlier generation."""
        for child in children:
            self._unreported[child.cmd] = child.child_id, child.abandoned


_NEVER = 253_402_300_799_000_000
"""The end of the year 9999."""


def _after(now: int, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    return _NEVER if seconds > _NEVER / SECOND else min(now + round(seconds * SECOND), _NEVER)


def _described(
    child: Runnable[Any, Any] | str, input: Any, queue: str | None
) -> tuple[Lane, int, bytes, Shape, dict[str, str] | None, float | None]:
    """Lane, version, encoded input, shape of the result, tags and time-out of a child."""
    if isinstance(child, str):
        payload = _encoded(ANY, input, child)
        return Lane(queue or "default", child), 1, payload, ANY, None, None
    if child.unsupported:
        message = f"workflow {child.name}: {child.unsupported} cannot be used yet"
        raise NotImplementedError(message)
    payload = _encoded(child.input, input, child.name)
    tags = dict(child.tags) if child.tags else None
    return child.lane(queue), child.version, payload, child.result, tags, child.timeout


def _encoded(shape: Shape, input: Any, workflow: str) -> bytes:
    try:
        return shape.encode(input, f"input of workflow {workflow}")
    except PayloadError as error:
        raise InvalidInput(str(error)) from error


def _child_id(run_id: str, seed: str, cmd: int) -> str:
    """The same on every replay, and no other call's."""
    parts = [run_id, seed, str(cmd)] if seed else [run_id, str(cmd)]
    child_id = ".".join(parts)
    if len(child_id) <= MAX_ID:
        return child_id
    digest = hashlib.blake2b(child_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{child_id[:200]}.{digest}"


def _error(operation: ChildOperation, event: history.ChildFailed) -> ChildFailed:
    child_id = operation.child_id
    if event.failure is not None:
        error = rebuild(decode_failure(event.failure), ChildFailed, run_id=child_id)
        assert isinstance(error, ChildFailed)
        return error
    message = f"child {child_id} was {_ENDS.get(event.status, event.status)}"
    if event.reason:
        message += f": {event.reason}"
    cancelled = ChildCancelled(message)
    cancelled.run_id = child_id
    cancelled.failure = Failure(type="durable.errors:ChildCancelled", message=message)
    return cancelled


_ENDS = {"compensation_failed": "cancelled, and could not undo everything"}
