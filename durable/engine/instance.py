"""One run in memory: `Instance.apply(event) -> [Command]`, live and on replay the same code path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from durable.clock import SECOND, after
from durable.engine.calls import Call
from durable.engine.child import ChildOperation
from durable.engine.children import Children
from durable.engine.context import Context
from durable.engine.function import Function
from durable.engine.loop import LoopTimer, WorkflowLoop
from durable.engine.mailbox import Mailbox
from durable.engine.operations import (
    Operation,
    OperationFuture,
    StateOperation,
    StepOperation,
    TimerOperation,
    operation_future,
)
from durable.engine.replay import check
from durable.engine.saga import Sagas, Scope
from durable.engine.sites import user_site
from durable.engine.waits import WaitOperation
from durable.errors import NondeterminismError
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.commands import (
    CancelTimer,
    Command,
    MarkPatched,
    RunStep,
    SetState,
    Site,
    StartTimer,
    WriteLog,
)

if TYPE_CHECKING:
    from durable.model.runnable import Workflow
    from durable.model.wire import EventRow

T = TypeVar("T")
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
        self.base = 0
        """The newest command number of the generations before this one."""
        self.issued = 0
        """Commands issued so far: the newest command number."""
        self.warnings: list[str] = []
        """What a replay met that does not stop the run but should be told."""
        self.live = True
        """False while events are replayed after which history goes on."""
        self.replaying = False
        """The code has been here before: what it tells the outside world has been told."""
        self.patches: frozenset[str] = frozenset()
        """Patches that the history to be replayed has taken."""
        self.calls: dict[Call, None] = {}
        """Calls that were created and not awaited yet."""
        self._open: dict[int, Operation] = {}
        self._commands: list[Command] = []
        self._loop = WorkflowLoop(self)  # type: ignore[abstract]  # the rest is filled in with refusals
        self.discarded = False
        self.function = Function(self, b"")
        self.followers: list[str] = []
        """Who waits for the end of this run besides its parent, as `<key>:<cmd>`."""
        self._parts: dict[str, Any] = {}
        self._over = False
        """A new generation is to begin: nothing that this one still asks for counts."""
        self._patched: dict[str, bool] = {}
        """Patches that the code has asked about."""

    # What most runs do not need is made when it is first used.

    @property
    def mailbox(self) -> Mailbox:
        """Events that have come, and the waits for them."""
        found: Mailbox | None = self._parts.get("mailbox")
        if found is None:
            found = self._parts["mailbox"] = Mailbox(self)
        return found

    @property
    def children(self) -> Children:
        """Child runs."""
        found: Children | None = self._parts.get("children")
        if found is None:
            found = self._parts["children"] = Children(self)
        return found

    @property
    def sagas(self) -> Sagas:
        """What has to be undone if the run fails."""
        found: Sagas | None = self._parts.get("sagas")
        if found is None:
            found = self._parts["sagas"] = Sagas(self)
        return found

    @property
    def loop(self) -> WorkflowLoop:
        """The loop on which the function runs."""
        return self._loop

    def has(self, part: str) -> bool:
        """Whether the run has used its mailbox, children or sagas."""
        return part in self._parts

    def new_context(self) -> Context:
        """What the function gets as its first argument."""
        return Context(self, self._loop)

    # -- the one way in

    def apply(self, event: history.Event) -> list[Command]:
        """Take the next event of the history and answer what the function asks for because of it."""
        commands: list[Command] = []
        self._commands = commands
        self.length += 1
        if event.at > self.now:
            self.now = event.at
            if self.started is not None:
                self._loop.set_time((event.at - self.started.at) / SECOND)
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)
            self._loop.run_until_idle()
        return commands

    def expect(self, rows: Sequence[EventRow]) -> None:
        """These events are about to be applied, of which all but a first one alone were applied before."""
        self.patches = frozenset(row.name or "" for row in rows if row.type == history.Patched.code)
        self.live = False
        self.replaying = rows[-1].seq > 1

    def replay(self, act: Callable[[], T]) -> T:
        """Call `act`, which applies many events: the loop is entered once for all of them.

        To enter it costs about as much as to apply an event.
        """
        return self._loop.inside(act)

    def discard(self) -> None:
        """Forget the run. User code that runs while it is closed reaches nothing."""
        self.discarded = True
        self._open.clear()
        self.calls.clear()
        self._loop.discard()
        # No circle is left: a worker that ends thousands of runs a second leaves no work to the collector.
        function = self.__dict__.pop("function", None)
        if function is not None:
            function.discard()
        if self.has("sagas"):
            self.sagas.discard()
        if self.has("mailbox"):
            self.mailbox.discard()
        self._parts.clear()

    # -- what events do

    def _on_started(self, event: history.RunStarted) -> None:
        self.started = event
        self.function.payload = event.input
        self.function.begin()

    def _on_generation(self, event: history.ContinuedAsNew | history.RunRetried) -> None:
        carried = unpack_carried(event.carried)
        self.started = carried.started
        self.base = self.issued = event.base
        self._loop.set_time((self.now - carried.started.at) / SECOND)
        self.followers = list(carried.followers)
        if carried.children:
            self.children.take_over(carried.children)
        if carried.unread:
            self.mailbox.take_over(carried.unread)
        self.function.payload = event.input
        if isinstance(event, history.ContinuedAsNew):
            self.function.attempt = carried.attempt
            self.function.begin()
            return
        self.function.attempt = event.attempt
        self.function.begin_at((event.due - carried.started.at) / SECOND)

    def _on_step_completed(
        self, event: history.StepCompleted | history.CompensationCompleted
    ) -> None:
        operation = self._open.get(event.cmd)
        if type(operation) is not StepOperation or not operation.fits(event):
            operation = self._match(event)  # which says what is wrong, or lets it pass
            assert isinstance(operation, StepOperation)
        del self._open[event.cmd]
        operation.complete(event)

    def _on_step_failed(self, event: history.StepFailed | history.CompensationFailed) -> None:
        operation = self._match(event)
        assert isinstance(operation, StepOperation)
        if event.retry_at is not None and not operation.given_up:
            self.emit(operation.retry(event))
            return
        del self._open[event.cmd]
        operation.fail(event)

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

    def _on_wait_started(self, event: history.WaitStarted | history.InputRequested) -> None:
        operation = self._match(event)
        assert isinstance(operation, WaitOperation)
        self.mailbox.on_started(operation, event)

    def _on_wait_timed_out(self, event: history.WaitTimedOut) -> None:
        if event.cmd <= self.base:
            return  # an earlier generation waited
        operation = self._match(event)
        if isinstance(operation, ChildOperation):
            operation.time_out()
            return
        assert isinstance(operation, WaitOperation)
        del self._open[event.cmd]
        self.mailbox.on_timed_out(operation)

    def _on_message_sent(self, event: history.MessageSent) -> None:
        if event.cmd > self.base:  # or else an earlier generation sent it
            self.mailbox.on_sent(self._end(event), event)

    def _on_child_started(self, event: history.ChildStarted) -> None:
        operation = self._match(event)
        assert isinstance(operation, ChildOperation)
        self.children.on_started(operation)

    def _on_child_ended(
        self, event: history.ChildCompleted | history.ChildFailed | history.ChildRefused
    ) -> None:
        operation = self._open.pop(event.cmd, None)
        if operation is not None and not isinstance(operation, ChildOperation):
            self._open[event.cmd] = operation
            self._match(event)  # says what is there instead
        assert operation is None or isinstance(operation, ChildOperation)
        self.children.on_end(event, operation)

    def _on_follower(self, event: history.FollowerAdded) -> None:
        self.followers.append(event.name)

    def _on_state_set(self, event: history.StateSet) -> None:
        self._end(event)

    def _on_end(
        self, event: history.RunCompleted | history.RunFailed | history.RunCancelled
    ) -> None:
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
        if not self.discarded and not self._over:
            self._commands.append(command)

    def next_command(self) -> int:
        """The number of a new command."""
        self.issued += 1
        return self.issued

    def open(self, operation: Operation) -> None:
        """An operation is under way: history may speak of it."""
        if not self.discarded and not self._over:
            self._open[operation.cmd] = operation

    def close(self, cmd: int) -> bool:
        """What comes for this number later never enters history; False when nothing was open."""
        return self._open.pop(cmd, None) is not None

    def start_step(self, command: RunStep, scope: Scope | None = None) -> OperationFuture:
        """Ask for a step; `command.cmd` is filled in here. `scope`: where it is undone."""
        self.issued += 1
        command.cmd = self.issued
        command.first_at = self.now
        future = operation_future(OperationFuture, self._loop)
        if not self.discarded and not self._over:
            operation = self._open[command.cmd] = StepOperation(self, command, future, scope)
            self._commands.append(command)
            if scope is not None:
                scope.begun(operation)
        return future

    def set_state(self, name: str, payload: bytes, site: Site) -> None:
        """Publish a value of the run."""
        command = SetState(self.next_command(), name, payload, site)
        self.open(StateOperation(command))
        self.emit(command)

    def patched(self, change: str) -> bool:
        """Whether the code takes the new way of a patch: not where history has taken the old one."""
        taken = self._patched.get(change)
        if taken is None:
            # Asked for the first time: what is answered now holds for the rest of the generation.
            taken = self._patched[change] = change in self.patches or self.live
            if taken and change not in self.patches:
                self.emit(MarkPatched(change))
        return taken

    def continue_as_new(self, payload: bytes) -> None:
        """The function starts again with another input; nothing of this generation goes on.

        A cancel that has come, and that this generation has not seen, is seen first: the next one would not be told.
        """
        if self.function.deliver_cancel():
            return
        self.emit(self.function.continue_as_new(payload))
        self._over = True  # whatever else runs until this event is done asks for nothing

    def start_timer(self, timer: LoopTimer) -> None:
        """Ask for a timer; `timer.cmd` is filled in here."""
        if self.discarded or self._over or self.started is None:
            return
        due = after(self.started.at, timer.when())
        self.issued += 1
        timer.cmd = self.issued
        site = user_site(2, _BORDER) or Site(self.workflow.fn.__code__, 0)
        command = StartTimer(timer.cmd, _timer_name(timer), due, site)
        self._open[timer.cmd] = TimerOperation(command, timer)
        self._commands.append(command)

    def timeouts(self) -> Iterable[asyncio.Timeout]:
        """Time-outs of asyncio that may expire."""
        for operation in self._open.values():
            if isinstance(operation, TimerOperation):
                owner = getattr(operation.timer.callback, "__self__", None)
                if isinstance(owner, asyncio.Timeout):
                    yield owner

    def cancel_timer(self, timer: LoopTimer) -> None:
        if self._open.pop(timer.cmd, None) is not None:
            self.emit(CancelTimer(timer.cmd))

    def report(self, context: dict[str, Any]) -> None:
        """Asyncio's complaints (an exception that nobody retrieved) go to the run's log."""
        error = context.get("exception")
        options = {"exc_info": error} if isinstance(error, BaseException) else {}
        self.emit(WriteLog(_WARNING, "%s", (context.get("message", "asyncio"),), options))


_HANDLERS: dict[type[history.Event], Callable[[Instance, Any], None]] = {
    history.RunStarted: Instance._on_started,  # noqa: SLF001
    history.ContinuedAsNew: Instance._on_generation,  # noqa: SLF001
    history.RunRetried: Instance._on_generation,  # noqa: SLF001
    history.StepCompleted: Instance._on_step_completed,  # noqa: SLF001
    history.StepFailed: Instance._on_step_failed,  # noqa: SLF001
    history.CompensationCompleted: Instance._on_step_completed,  # noqa: SLF001
    history.CompensationFailed: Instance._on_step_failed,  # noqa: SLF001
    history.TimerStarted: Instance._on_timer_started,  # noqa: SLF001
    history.TimerFired: Instance._on_timer_fired,  # noqa: SLF001
    history.WaitStarted: Instance._on_wait_started,  # noqa: SLF001
    history.InputRequested: Instance._on_wait_started,  # noqa: SLF001
    history.WaitTimedOut: Instance._on_wait_timed_out,  # noqa: SLF001
    history.WaitCancelled: lambda i, e: i.mailbox.on_cancelled(e),
    history.EventReceived: lambda i, e: i.mailbox.on_event(e),
    history.InputProvided: lambda i, e: i.mailbox.on_input(e),
    history.RequestReceived: lambda i, e: i.mailbox.on_event(e),
    history.MessageSent: Instance._on_message_sent,  # noqa: SLF001
    history.ChildStarted: Instance._on_child_started,  # noqa: SLF001
    history.ChildCompleted: Instance._on_child_ended,  # noqa: SLF001
    history.ChildFailed: Instance._on_child_ended,  # noqa: SLF001
    history.ChildRefused: Instance._on_child_ended,  # noqa: SLF001
    history.FollowerAdded: Instance._on_follower,  # noqa: SLF001
    history.StateSet: Instance._on_state_set,  # noqa: SLF001
    history.CancelRequested: lambda i, e: i.function.cancel(e.reason),
    history.DeadlinePassed: lambda i, _: i.function.expire(),
    history.RunCompleted: Instance._on_end,  # noqa: SLF001
    history.RunFailed: Instance._on_end,  # noqa: SLF001
    history.RunCancelled: Instance._on_end,  # noqa: SLF001
}


_BORDER = Instance.apply.__code__


_TIMER_NAMES = {
    "_set_result_unless_cancelled": "sleep",
    "_on_timeout": "timeout",
    "_handle_timeout": "timeout",
    "_release_waiter": "timeout",
    "begin": "retry of the run",
    "_remind": "reminder",
}
"""What asyncio wants a timer for, by its callback; the same for all versions of Python."""


def _timer_name(timer: LoopTimer) -> str:
    return _TIMER_NAMES.get(getattr(timer.callback, "__name__", ""), "timer")
