"""Child runs: started in the transaction that says so, heard of through the parent's inbox."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from durable.engine.operations import Operation, OperationFuture
from durable.errors import (
    ChildCancelled,
    ChildFailed,
    Failure,
    RunAlreadyExists,
    WaitTimeout,
)
from durable.model import history
from durable.model.commands import CancelChild, EndChildWait, OnConflict, Site, StartChild
from durable.model.failure import decode_failure, rebuild
from durable.model.history import Kind, RunStarted
from durable.model.payload import ANY, fingerprint
from durable.model.rows import Lane

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.carried import CarriedChild
    from durable.model.commands import Command
    from durable.model.payload import Shape
    from durable.model.runnable import Runnable

R_co = TypeVar("R_co", covariant=True)
ChildEvent: TypeAlias = history.ChildCompleted | history.ChildFailed | history.ChildRefused
"""How a child is heard of."""
MAX_ID = 255
"""Characters of a run's id."""


class Host(Protocol):
    """The instance, as its children see it."""

    run_id: str
    now: int
    started: RunStarted | None

    @property
    def loop(self) -> WorkflowLoop: ...
    def next_command(self) -> int: ...
    def open(self, operation: Operation) -> None: ...
    def close(self, cmd: int) -> bool: ...
    def emit(self, command: Command) -> None: ...


class ChildOperation:
    """A child run, from its start until it reports."""

    __slots__ = ("_children", "command", "ended", "result", "started", "waiting")

    def __init__(
        self, children: Children, command: StartChild, result: Shape, started: OperationFuture
    ) -> None:
        self._children = children
        self.command = command
        self.result = result
        self.started = started
        """Done once the start is in the history."""
        self.waiting: list[OperationFuture] = []
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

    def wait(self, *, cancels: bool) -> OperationFuture:
        """A future of its result; with `cancels`, whoever gives it up has the child cancelled."""
        future = OperationFuture(loop=self._children.loop)
        if self.ended is not None:
            self._settle(future)
            return future
        self.waiting.append(future)
        if cancels:
            future.operation = self
        return future

    def end(self, event: ChildEvent) -> None:
        """It reported: everybody who waits gets a value or an exception of his own."""
        self.ended = event
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.operation = None
            if not future.done():
                self._settle(future)

    def _settle(self, future: OperationFuture) -> None:
        event = self.ended
        if isinstance(event, history.ChildCompleted):
            where = f"result of run {self.child_id}"
            future.set_result(self.result.decode(event.result, where))
        elif isinstance(event, history.ChildFailed):
            future.set_exception(_error(self, event))
        else:
            message = f"run {self.child_id} exists and is no child of this call: use another id"
            future.set_exception(RunAlreadyExists(message))

    def abandon(self) -> None:
        """Whoever called it is gone: the child is cancelled. Its report is read and means nothing."""
        self._children.cancel(self, None)

    def time_out(self) -> None:
        """The wait of `ctx.call(timeout=)` has passed."""
        waiting, self.waiting = self.waiting, []
        self._children.cancel(self, f"its parent waited for it until its time-out ({self.site})")
        for future in waiting:
            future.operation = None
            if not future.done():
                message = f"child {self.child_id} has not ended in time: it is being cancelled"
                future.set_exception(WaitTimeout(message))


class ChildHandle(Generic[R_co]):
    """A child that was started with `ctx.start`. Only for its parent's code."""

    def __init__(self, children: Children, operation: ChildOperation) -> None:
        self.id = operation.child_id
        self._children = children
        self._operation = operation


class Children:
    """The children of a run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handles: dict[int, ChildOperation] = {}
        self._unreported: dict[int, tuple[str, bool]] = {}
        """Children that have not reported: id, and whether the parent's end leaves them alone."""

    @property
    def loop(self) -> WorkflowLoop:
        return self._host.loop

    # -- what the code asks for

    def start(
        self,
        child: Runnable[Any, Any] | str,
        input: Any,
        *,
        id: str | None,
        queue: str | None,
        due: int | None,
        abandoned: bool,
        conflict: OnConflict,
        site: Site,
    ) -> ChildOperation:
        """Ask for a child; its start enters the history at once."""
        host = self._host
        parent = host.started
        assert parent is not None
        cmd = host.next_command()
        child_id = id or _child_id(host.run_id, parent.seed, cmd)
        lane, version, payload, result, tags, timeout = _described(child, input, queue)
        started = RunStarted(
            host.now,
            lane.workflow,
            payload,
            version,
            lane.queue,
            parent_id=host.run_id,
            root_id=parent.root_id or host.run_id,
            deadline=None if timeout is None else host.now + round(timeout * 1_000_000),
            tags=tags,
            parent_cmd=cmd,
            seed="" if conflict != "restart" else f"{host.run_id}.{cmd}",
        )
        mark = fingerprint(payload)
        command = StartChild(cmd, child_id, lane, started, conflict, abandoned, mark, site, due)
        operation = ChildOperation(self, command, result, OperationFuture(loop=host.loop))
        host.open(operation)
        self._unreported[cmd] = child_id, abandoned
        host.emit(command)
        return operation

    def cancel(self, operation: ChildOperation, reason: str | None) -> None:
        """Tell a child to stop; nothing happens to one that has reported."""
        if operation.ended is None:
            self._host.emit(EndChildWait(operation.cmd))
            self._host.emit(CancelChild(operation.child_id, reason))

    def close(self) -> None:
        """The run ends: what it called or started is cancelled, unless it was to be left alone."""
        for child_id, abandoned in self._unreported.values():
            if not abandoned:
                self._host.emit(CancelChild(child_id, "its parent has ended"))
        self._unreported.clear()

    # -- what events do

    def on_started(self, operation: ChildOperation) -> None:
        if not operation.started.done():
            operation.started.set_result(None)

    def on_end(
        self,
        event: ChildEvent,
        operation: ChildOperation | None,
    ) -> None:
        """A report. One of a child of an earlier generation is consumed, and means nothing."""
        self._unreported.pop(event.cmd, None)
        if operation is not None:
            self._host.emit(EndChildWait(event.cmd))
            operation.end(event)

    # -- from one generation to the next

    @property
    def unreported(self) -> dict[int, tuple[str, bool]]:
        return self._unreported

    def take_over(self, children: tuple[CarriedChild, ...]) -> None:
        """They were started by an earlier generation."""
        for child in children:
            self._unreported[child.cmd] = child.child_id, child.abandoned


def _described(
    child: Runnable[Any, Any] | str, input: Any, queue: str | None
) -> tuple[Lane, int, bytes, Shape, dict[str, str] | None, float | None]:
    """Lane, version, encoded input, shape of the result, tags and time-out of a child."""
    if isinstance(child, str):
        payload = ANY.encode(input, f"input of workflow {child}")
        return Lane(queue or "default", child), 1, payload, ANY, None, None
    if child.unsupported:
        message = f"workflow {child.name}: {child.unsupported} cannot be used yet"
        raise NotImplementedError(message)
    payload = child.input.encode(input, f"input of workflow {child.name}")
    tags = dict(child.tags) if child.tags else None
    return child.lane(queue), child.version, payload, child.result, tags, child.timeout


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
    message = f"child {child_id} was {event.status}"
    if event.reason:
        message += f": {event.reason}"
    cancelled = ChildCancelled(message)
    cancelled.run_id = child_id
    cancelled.failure = Failure(type="durable.errors:ChildCancelled", message=message)
    return cancelled
