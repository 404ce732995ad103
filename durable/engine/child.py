"""One child run, from its start until it reports, and the handle that its parent's code has of it."""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, overload

from durable.engine.calls import Call
from durable.engine.operations import OperationFuture, operation_future
from durable.engine.waits import NO_DEFAULT, checked_timeout
from durable.errors import ChildCancelled, ChildFailed, Failure, RunAlreadyExists, WaitTimeout
from durable.model import history
from durable.model.commands import EndChildWait, Site, StartChild
from durable.model.duration import Duration
from durable.model.events import Event
from durable.model.failure import decode_failure, rebuild
from durable.model.history import Kind

if TYPE_CHECKING:
    import asyncio

    from durable.engine.loop import WorkflowLoop
    from durable.model.commands import Command
    from durable.model.payload import Shape

R_co = TypeVar("R_co", covariant=True)
D = TypeVar("D")
T = TypeVar("T")
ChildEvent: TypeAlias = history.ChildCompleted | history.ChildFailed | history.ChildRefused
"""How a child is heard of."""


class Home(Protocol):
    """All children of the run, as one of them sees them."""

    @property
    def loop(self) -> WorkflowLoop: ...
    @property
    def calls(self) -> dict[Call, None]: ...
    @property
    def context(self) -> object:
        """A context of the parent, for its other verbs."""
        ...

    def emit(self, command: Command) -> None: ...
    def cancel(self, operation: ChildOperation, reason: str | None) -> None: ...


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
        children: Home,
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
        future = self.started = operation_future(OperationFuture, self._children.loop)
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
        future = operation_future(OperationFuture, self._children.loop)
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

    def __init__(self, children: Home, operation: ChildOperation) -> None:
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
