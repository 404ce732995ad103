"""Child runs: started in the transaction that says so, heard of through the parent's inbox."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from durable.engine.calls import Call
from durable.engine.child import ChildEvent, ChildHandle, ChildOperation
from durable.engine.operations import Operation
from durable.engine.waits import NO_DEFAULT, due_at
from durable.errors import InvalidInput, PayloadError
from durable.model import checks
from durable.model.commands import CancelChild, OnConflict, Site, StartChild
from durable.model.history import RunStarted
from durable.model.ids import MAX_ID
from durable.model.payload import ANY, fingerprint
from durable.model.rows import Lane

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.carried import CarriedChild
    from durable.model.commands import Command
    from durable.model.payload import Shape
    from durable.model.runnable import Runnable


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
    def new_context(self) -> object: ...


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
    def context(self) -> object:
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
            deadline=due_at(host.now, timeout),
            tags=tags,
            parent_cmd=cmd,
            seed=made if conflict == "restart" else "",
        )
        mark = fingerprint(payload)
        due = due_at(host.now, seconds)
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


def _described(
    child: Runnable[Any, Any] | str, input: Any, queue: str | None
) -> tuple[Lane, int, bytes, Shape, dict[str, str] | None, float | None]:
    """Lane, version, encoded input, shape of the result, tags and time-out of a child."""
    if isinstance(child, str):
        payload = _encoded(ANY, input, child)
        return Lane(queue or "default", child), 1, payload, ANY, None, None
    checks.usable("workflow", child)
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
