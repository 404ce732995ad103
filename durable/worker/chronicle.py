"""What happens to one run, in its order: events go into the journal first and then to the instance.

Commands that have an effect wait in `held` until the event that caused them is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from durable.engine.instance import Instance
from durable.errors import DurableError
from durable.model import history
from durable.model.commands import (
    AnswerRequest,
    BeginCompensation,
    CancelChild,
    CancelRun,
    CancelStep,
    CancelTimer,
    Command,
    CompleteRun,
    ContinueRun,
    EndChildWait,
    Ending,
    EndWait,
    FailRun,
    MarkPatched,
    RunStep,
    Send,
    SetState,
    SettleStep,
    StartChild,
    StartTimer,
    StartWait,
    WriteLog,
)
from durable.model.failure import encode_failure, failure_of
from durable.model.lifecycle import RunStatus
from durable.model.messages import child_message, event_of, is_control
from durable.model.rows import Act, Commit, Message, OutMessage
from durable.model.wire import EventRow, decode_event, encode_event
from durable.worker.effects import Effect
from durable.worker.under_way import HAPPENED, UnderWay

if TYPE_CHECKING:
    from durable.clock import Timer
    from durable.model.runnable import Workflow
    from durable.worker.guard import Watch

MAX_HISTORY = 50_000
"""Events of one generation of a run; a longer one fails."""
WARN_HISTORY = 10_000
GENERATIONS = (history.ContinuedAsNew, history.RunRetried)
_WAITS = (history.WaitStarted, history.InputRequested)


class Host(Protocol):
    """What a run needs of its worker, which knows it as an `Execution`: that one stands on this room."""

    @property
    def worker_id(self) -> int: ...
    @property
    def code(self) -> str: ...
    def now(self) -> int: ...
    def watch(self, workflow: str) -> Watch: ...
    def dirty(self, execution: Any) -> None: ...
    def lost(self, execution: Any) -> None: ...
    def run_step(self, execution: Any, command: RunStep) -> None: ...
    def cancel_step(self, execution: Any, cmd: int) -> None: ...
    def carry_out(self, execution: Any, effect: Effect) -> None: ...
    def write_log(self, execution: Any, command: WriteLog) -> None: ...
    def call_at(self, due: int, callback: Callable[[], object]) -> Timer: ...
    def warn(self, message: str, *args: object) -> None: ...


class Chronicle:
    """The events of a run in the hands of this worker, and what they lead to."""

    __slots__ = (
        "_armed",
        "_cold",
        "_ending",
        "_ends",
        "_events",
        "_inherited",
        "_next",
        "_recording",
        "_recovered_from",
        "_retries",
        "_under_way",
        "_undone",
        "_unread",
        "_unreleased",
        "_withdrawn",
        "active",
        "blocked",
        "consumed",
        "dead",
        "durable",
        "epoch",
        "final",
        "held",
        "host",
        "id",
        "in_flight",
        "inbox_head",
        "instance",
        "key",
        "misses",
        "owned",
        "pending",
        "queue",
        "wake",
        "watch",
        "workflow",
    )

    def __init__(
        self,
        host: Host,
        workflow: Workflow[Any, Any],
        key: int,
        run_id: str,
        epoch: int,
        queue: str,
    ) -> None:
        self.host = host
        self.workflow = workflow
        self.key = key
        self.id = run_id
        self.epoch = epoch
        self.queue = queue
        self.durable = 0
        """Length of the history that is known to be in the database."""
        self.consumed = 0
        self.inbox_head = 0
        """Messages that there are, as far as is known: with unread ones it does not park."""
        self.instance = Instance(workflow, run_id)
        self.watch = host.watch(workflow.name)
        self.pending: list[EventRow] = []
        self.held: deque[tuple[int, RunStep | WriteLog | Effect]] = deque()
        self.active: dict[int, RunStep] = {}
        """Steps released to the step runner and not reported back."""
        self.in_flight: Commit | None = None
        self.misses = 0
        """Commits in a row that met a lock on the run's row."""
        self.blocked: str | None = None
        self.final: EventRow | None = None
        self.dead = False
        self.owned = True
        """False while it is parked: nothing may happen to it here."""
        self.wake: Timer | None = None
        self._armed = 0
        self._under_way: UnderWay | None = None
        self._retries: dict[int, RunStep] = {}
        self._inherited: frozenset[int] = frozenset()
        """Steps that an owner before this one may have begun."""
        """Steps that wait for their next attempt (on replay: all that are open)."""
        self._cold = False
        """It was replayed, and has not begun yet."""
        self._undone: Ending | None = None
        """On replay: the end that the code reached and the history did not."""
        self._unreleased: dict[int, RunStep] = {}
        """Steps in `held`."""
        self._events: deque[history.Event] = deque()
        """Events that are being recorded."""
        self._recording = False
        self._unread: deque[Message] = deque()
        """Messages that are being read."""
        self._ends = False
        """Its code has ended; what else has come is read first."""
        self._ending: RunStatus | None = None
        self._next: list[history.Event] = []
        """Begins the next generation, once what this one owes to others has been done; and what follows then."""
        self._recovered_from: int | None = None
        self._withdrawn = False
        """An event went from `_events` without being recorded."""

    @property
    def under_way(self) -> UnderWay:
        """What it has under way besides steps; made when there is something: most runs only have steps."""
        found = self._under_way
        if found is None:
            found = self._under_way = UnderWay(self)
        return found

    @property
    def paused(self) -> bool:
        """Nothing new may begin."""
        return self._under_way is not None and self._under_way.paused

    @property
    def length(self) -> int:
        return self.durable + len(self.pending)

    @property
    def causes(self) -> int:
        """Number of the newest event that may cause anything: all but the last one of its life."""
        return self.length if self.final is None else self.length - 1

    @property
    def closed(self) -> bool:
        """Nothing more may be recorded."""
        return self.dead or not self.owned or self._over or self.blocked is not None

    @property
    def _over(self) -> bool:
        """Its code has come to the end of this generation, or to its own end."""
        return self._ending is not None or bool(self._next)

    @property
    def in_flight_ends(self) -> bool:
        """A commit that parks or finishes the run is under way: nothing may happen to it until the answer."""
        return self.in_flight is not None and self.in_flight.act is not Act.KEEP

    @property
    def busy(self) -> bool:
        """Steps are running, or wait to be released; effects are under way; children are being started."""
        if self.active or self._unreleased:
            return True
        return self._under_way is not None and self._under_way.busy

    @property
    def next_due(self) -> int | None:
        """When something is due next, in microseconds."""
        timed = None if self._under_way is None else self._under_way.times.next_due
        if not self._retries:
            return timed
        dues = [c.not_before for c in self._retries.values() if c.not_before is not None]
        return min(dues if timed is None else [*dues, timed], default=None)

    def arm(self, due: int) -> None:
        """Wake up at `due`, unless something is due sooner."""
        if self.wake is not None:
            if self._armed <= due:
                return
            self.wake.cancel()
        self._armed = due
        self.wake = self.host.call_at(due, self._woken)

    def _woken(self) -> None:
        self.wake = None
        self.resume()

    def resume(self) -> None:
        """Go on with what is due: how, says who stands on this."""
        raise NotImplementedError

    def at(self) -> int:
        """The time of an event that happens now; it never goes back within a run."""
        return max(self.host.now(), self.instance.now)

    # -- events

    def record(self, event: history.Event) -> None:
        """Put an event into the journal, then let the instance see it."""
        self.record_all((event,))

    def record_all(self, events: Iterable[history.Event]) -> None:
        """The same for several, in order; what an earlier one brings to its end before its turn is `withdraw`n."""
        self._events.extend(events)
        if self._recording:  # what follows from an event comes right after it
            return
        self._recording = True
        try:
            while self._events:
                self._record_next(self._events.popleft())
        finally:
            self._recording = False
        if self._withdrawn:
            self._wait_for_no_more()
        self.host.dirty(self)

    def _record_next(self, event: history.Event) -> None:
        if self._recovered_from is not None and not self.closed:
            lost, self._recovered_from = self._recovered_from, None
            self._apply(history.Recovered(event.at, lost, self.host.worker_id))
        self._apply(event)

    def _apply(self, event: history.Event) -> None:
        if self.closed:
            if self._next and isinstance(event, history.ChildRefused):
                self._next.append(event)
            return
        if isinstance(event, GENERATIONS) and self._holds_end:
            self._next.append(event)
            return
        self.pending.append(encode_event(self.length + 1, event))
        note = HAPPENED.get(type(event))
        if note is not None:
            note(self.under_way, event, self.length)
            if isinstance(event, GENERATIONS):
                self._new_generation(frozenset())
                if self.paused:  # whoever takes over reads this generation only
                    self._events.appendleft(history.Paused(event.at))
        try:
            commands = self.watch.run(self.instance.apply, event)
        except Exception as error:
            self._block(error)
        else:
            seq, held = self.length, len(self.held)
            for command in commands:
                self._take(command, seq)
            if self._events:
                self._hold_for_all_of_it(held)
        if self.instance.length >= WARN_HISTORY:
            self._check_length()

    def withdraw(self, cmd: int) -> None:
        """A wait has ended before its event was recorded: it was never there."""
        self._events = deque(
            event for event in self._events if not (isinstance(event, _WAITS) and event.cmd == cmd)
        )
        self._withdrawn = True

    def _wait_for_no_more(self) -> None:
        """What was to wait for an event that was withdrawn waits for the last one there is."""
        self._withdrawn = False
        last = self.length
        self.held = deque((min(seq, last), item) for seq, item in self.held)

    def _hold_for_all_of_it(self, first: int) -> None:
        """What an event led to waits for the events that follow from it too: a patch, say, that was taken.

        A commit may end between them; had a step begun by then, a replay might take another way than it. A new
        generation is not waited for: it may itself wait for what is held here.
        """
        seq = self.length + sum(not isinstance(event, GENERATIONS) for event in self._events)
        for place in range(first, len(self.held)):
            self.held[place] = seq, self.held[place][1]

    def _check_length(self) -> None:
        length = self.instance.length
        if length == WARN_HISTORY:
            text = "run %s has %s events; at %s it fails. Long-lived runs should continue as new"
            self.host.warn(text, self.id, length, MAX_HISTORY)
        elif length >= MAX_HISTORY and not self.closed:
            message = f"run {self.id} has {length} events, the limit: use ctx.continue_as_new"
            self.stop()
            self._end(FailRun(encode_failure(failure_of(DurableError(message)))), self.length)

    # -- commands

    def _take(self, command: Command, seq: int) -> None:
        kind = type(command)
        take = _TAKERS.get(kind)
        if take is not None:
            take(self, command, seq)
        else:
            _UNDER_WAY[kind](self.under_way, command, seq)

    def _take_held(self, command: RunStep | WriteLog, seq: int) -> None:
        self.held.append((seq, command))
        if isinstance(command, RunStep):
            self._unreleased[command.cmd] = command

    def hold(self, effect: Effect, seq: int) -> None:
        """The worker is to do this once event `seq` is durable."""
        self.held.append((seq, effect))

    def _drop_step(self, command: CancelStep, _seq: int = 0) -> None:
        cmd = command.cmd
        self._retries.pop(cmd, None)
        if self.active.pop(cmd, None) is not None:
            self.host.cancel_step(self, cmd)
        # One that is still held is skipped when its turn comes.
        self._unreleased.pop(cmd, None)

    def _settle_step(self, command: SettleStep, _seq: int) -> None:
        """Nobody waits for it: if no attempt is under way, none is begun."""
        cmd = command.cmd
        step = self._unreleased.get(cmd) or self._retries.get(cmd)
        if step is None or self._may_have_begun(step):
            return
        self._unreleased.pop(cmd, None)
        self._retries.pop(cmd, None)
        at = self.at()
        reason = "nobody waited for it any more, and it had not begun"
        failure = encode_failure(failure_of(DurableError(reason)))
        site = str(step.site)
        self.record(
            history.StepFailed(
                at,
                step.cmd,
                step.step.name,
                failure,
                step.fingerprint,
                0,
                self.host.worker_id,
                site,
                step.attempt,
            )
        )

    def _may_have_begun(self, step: RunStep) -> bool:
        """An owner before this one may have begun it and died: what it did then must be known, to undo it."""
        return step.cmd in self._inherited and (step.not_before or 0) <= self.at()

    # -- its end

    def _end(self, command: Ending, _seq: int) -> None:
        """It comes after what is being recorded, and after what it must have read: a second cancel, say."""
        if isinstance(command, ContinueRun):
            self._stop_steps()
            self.record(_generation_event(command, self.workflow.name, self.at()))
            return
        if self._ends:
            return
        self._ends = True
        self._read_before_the_end()
        self._ends = False
        if not self.closed:
            self._finish(command)

    def _read_before_the_end(self) -> None:
        while not self.closed and (self._events or self._must_read):
            event = self._events.popleft() if self._events else self._read()
            if event is not None:
                self._record_next(event)

    def _read(self) -> history.Event | None:
        """The next message, as the event that it becomes; None: nothing new."""
        message = self._unread.popleft()
        if message.number <= self.consumed:
            return None
        if message.number != self.consumed + 1:
            self._unread.clear()
            self.host.lost(self)
            return None
        self.consumed = message.number
        return event_of(message, self.at())

    @property
    def _must_read(self) -> bool:
        """There is something unread that the database wants read before the end."""
        return any(is_control(message.name) for message in self._unread)

    def _finish(self, command: CompleteRun | FailRun | CancelRun) -> None:
        status, event = _final_event(command, self.at())
        self._ending = status
        self.final = encode_event(self.length + 1, event)
        self.pending.append(self.final)
        self._report(self.final)

    def _report(self, final: EventRow) -> None:
        """Tell the parent, and whoever else waits, with the transaction that ends the run."""
        started = self.instance.started
        assert started is not None
        to = [name.split(":") for name in self.instance.followers]
        if started.parent_key is not None:
            to.append([str(started.parent_key), str(started.parent_cmd)])
        for key, cmd in to:
            name = child_message(int(cmd), final.type)
            self.under_way.outbox.add(final.seq, OutMessage(int(key), name, final.data))

    @property
    def _holds_end(self) -> bool:
        return self._under_way is not None and self._under_way.holds_end

    def go_on(self) -> None:
        """Begin the generation that had to wait, if it need not wait any more."""
        if self._next and not self.dead and not self._holds_end:
            events, self._next = self._next, []
            self.record_all(events)

    def _new_generation(self, patches: frozenset[str]) -> None:
        """Nothing of the generation before goes on; `patches` are those that its own history has taken."""
        self.under_way.clear()
        self.under_way.compensating = False
        self._retries.clear()
        self._inherited = frozenset()
        self.held = deque(item for item in self.held if isinstance(item[1], WriteLog))
        live, replaying = self.instance.live, self.instance.replaying
        self.instance.discard()
        self.instance = Instance(self.workflow, self.id)
        self.instance.patches = patches
        self.instance.live, self.instance.replaying = live, replaying

    def _block(self, error: BaseException) -> None:
        """The code cannot go on with this history: keep what happened, say why, stay open."""
        if self.blocked is not None:
            return
        self.blocked = f"{type(error).__name__}: {error}"
        self.host.warn("run %s is blocked: %s", self.id, self.blocked)
        self.stop()
        self._unread.clear()  # they stay in the inbox
        event = history.Blocked(self.at(), self.blocked, self.host.code)
        self.pending.append(encode_event(self.length + 1, event))
        self.host.dirty(self)

    def poisoned(self, reason: str) -> None:
        """The database refuses what this run wants to append: drop that, and block."""
        self.consumed -= messages_in(self.pending)
        del self.pending[:]
        if self._under_way is not None:
            self._under_way.outbox.clear()
        self._ending = None
        self._next.clear()
        self.final = None
        self.blocked = None
        self._block(DurableError(reason))

    def stop(self) -> None:
        """Stop whatever is under way; nothing that it brings is recorded."""
        self._stop_steps()
        if self._under_way is not None:
            self._under_way.clear()
            self._under_way.times.deadline = None
        self._retries.clear()
        self._events.clear()
        self._disarm()

    def _stop_steps(self) -> None:
        for cmd in list(self.active):
            self._drop_step(CancelStep(cmd))
        if self.held:
            self.held = deque(item for item in self.held if not isinstance(item[1], RunStep))
        self._unreleased.clear()

    def _disarm(self) -> None:
        if self.wake is not None:
            self.wake.cancel()
            self.wake = None


def _generation_event(command: ContinueRun, name: str, at: int) -> history.Event:
    if command.failure is None:
        return history.ContinuedAsNew(at, name, command.input, command.base, command.carried)
    return history.RunRetried(
        at,
        name,
        command.input,
        command.base,
        command.carried,
        command.failure,
        command.attempt,
        max(command.due, at),
    )


def _final_event(
    command: CompleteRun | FailRun | CancelRun, at: int
) -> tuple[RunStatus, history.Event]:
    if isinstance(command, CompleteRun):
        return "completed", history.RunCompleted(at, command.result)
    if isinstance(command, FailRun):
        return command.status, history.RunFailed(at, command.failure, command.status)
    return command.status, history.RunCancelled(at, command.reason, command.status)


def messages_in(rows: Sequence[EventRow]) -> int:
    """How many of these events are messages of the inbox: those go only with their events."""
    return sum(row.type in history.FROM_INBOX and not _is_carried_over(row) for row in rows)


def _is_carried_over(row: EventRow) -> bool:
    """A pause that a new generation takes over from the one before was never in the inbox."""
    event = decode_event(row) if row.type == history.Paused.code else None
    return isinstance(event, history.Paused) and not event.number


# ruff: noqa: SLF001 - the table names parts of the class
_TAKERS: Mapping[type[Command], Callable[[Chronicle, Any, int], None]] = {
    RunStep: Chronicle._take_held,
    WriteLog: Chronicle._take_held,
    CancelStep: Chronicle._drop_step,
    SettleStep: Chronicle._settle_step,
    CompleteRun: Chronicle._end,
    FailRun: Chronicle._end,
    CancelRun: Chronicle._end,
    ContinueRun: Chronicle._end,
}
_UNDER_WAY: Mapping[type[Command], Callable[[UnderWay, Any, int], None]] = {
    StartTimer: UnderWay.timer,
    CancelTimer: UnderWay.ended,
    StartWait: UnderWay.wait,
    EndWait: UnderWay.ended,
    Send: UnderWay.ask,
    StartChild: UnderWay.child,
    EndChildWait: UnderWay.ended,
    CancelChild: UnderWay.cancel_child,
    SetState: UnderWay.recorded,
    MarkPatched: UnderWay.recorded,
    AnswerRequest: UnderWay.recorded,
    BeginCompensation: UnderWay.recorded,
}
