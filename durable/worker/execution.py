"""One run that this worker owns: its instance, what is not durable yet, and what is under way.

Every event goes into `pending` (the journal) first and then to the instance; commands that have an effect
wait in `held` until the event that caused them is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from durable.clock import SECOND
from durable.engine.instance import Instance
from durable.errors import DurableError
from durable.model import history
from durable.model.commands import (
    CancelStep,
    CancelTimer,
    Command,
    CompleteRun,
    FailRun,
    RunStep,
    StartTimer,
    WriteLog,
)
from durable.model.failure import encode_failure, failure_of
from durable.model.lifecycle import HOLD_BLOCKED, RunStatus
from durable.model.rows import Act, Commit, Message
from durable.model.wire import EventRow, decode_event, encode_event

if TYPE_CHECKING:
    from durable.clock import Timer
    from durable.model.runnable import Workflow

KEEP_SECONDS = 1.0
"""A run that is due again sooner than this stays in memory instead of being parked."""
MAX_EVENTS_PER_COMMIT = 2_000
MAX_BYTES_PER_COMMIT = 16 * 1024 * 1024
MAX_HISTORY = 50_000
"""Events of one generation of a run; a longer one fails."""
WARN_HISTORY = 10_000


_STEP_EVENTS = frozenset({history.StepCompleted, history.StepFailed})
_FROM_INBOX = frozenset({history.EventReceived.code})


class Host(Protocol):
    """What an execution needs of its worker."""

    @property
    def worker_id(self) -> int: ...
    @property
    def code(self) -> str: ...
    def now(self) -> int: ...
    def dirty(self, execution: Execution) -> None: ...
    def lost(self, execution: Execution) -> None: ...
    def run_step(self, execution: Execution, command: RunStep) -> None: ...
    def cancel_step(self, execution: Execution, cmd: int) -> None: ...
    def write_log(self, execution: Execution, command: WriteLog) -> None: ...
    def call_at(self, due: int, callback: Callable[[], object]) -> Timer: ...
    def warn(self, message: str, *args: object) -> None: ...


class Execution:
    """A run in the hands of this worker, from its claim until it parks, ends or is lost."""

    __slots__ = (
        "_armed",
        "_dues",
        "_ending",
        "_recorded",
        "_recovered_from",
        "_retries",
        "_unreleased",
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
        self.pending: list[EventRow] = []
        self.held: deque[tuple[int, Command]] = deque()
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
        self._dues: dict[int, StartTimer] = {}
        self._recorded: set[int] = set()
        """Timers whose TimerStarted is in the history."""
        self._retries: dict[int, RunStep] = {}
        """Steps that wait for their next attempt (on replay: all that are open)."""
        self._unreleased: dict[int, RunStep] = {}
        """Steps in `held`."""
        self._ending: RunStatus | None = None
        self._recovered_from: int | None = None

    # -- taking it up

    @property
    def length(self) -> int:
        return self.durable + len(self.pending)

    def replay(self, rows: Sequence[EventRow]) -> None:
        """Bring the instance to the end of its durable history; `begin` starts what is still open then."""
        self.durable = rows[-1].seq
        try:
            ending = self.instance.replay(lambda: self._replay_events(rows))
        except Exception as error:
            self._block(error)
        else:
            for warning in self.instance.warnings:
                self.host.warn("%s", warning)
            if ending is not None:
                self._end(ending)

    def _replay_events(self, rows: Sequence[EventRow]) -> CompleteRun | FailRun | None:
        ending: CompleteRun | FailRun | None = None
        for row in rows:
            ending = self._replay_event(decode_event(row)) or ending
        return ending

    def _replay_event(self, event: history.Event) -> CompleteRun | FailRun | None:
        """Apply one event and note what is open; the end of the run, where the code reached it."""
        kind = type(event)
        if kind in _STEP_EVENTS:
            self._retries.pop(event.cmd, None)  # type: ignore[union-attr]
        elif kind is history.TimerStarted:
            self._recorded.add(event.cmd)  # type: ignore[union-attr]
        elif kind is history.TimerFired:
            self._dues.pop(event.cmd, None)  # type: ignore[union-attr]
        for command in self.instance.apply(event):
            taken = type(command)
            if taken is RunStep:
                self._retries[command.cmd] = command  # type: ignore[union-attr, assignment]
            elif taken is CancelStep:
                self._retries.pop(command.cmd, None)  # type: ignore[union-attr]
            elif taken is StartTimer:
                self._dues[command.cmd] = command  # type: ignore[union-attr, assignment]
            elif taken is CancelTimer:
                self._dues.pop(command.cmd, None)  # type: ignore[union-attr]
            elif taken is WriteLog:
                if self.durable == 1:  # nobody has driven it yet: this is no replay
                    self.held.append((1, command))
            else:
                return command  # type: ignore[return-value]
        return None

    def begin(self, lost_owner: int | None = None) -> None:
        """The run is ours: arm its timers and start what is due."""
        self._recovered_from = lost_owner
        self.release()
        self.resume()
        self.host.dirty(self)

    def reclaim(self, epoch: int, lost_owner: int | None = None) -> None:
        """The run that was parked here is ours again, under a new epoch."""
        self.epoch = epoch
        self.owned = True
        self.begin(lost_owner)

    # -- events

    @property
    def closed(self) -> bool:
        """Nothing more may be recorded."""
        return self.dead or not self.owned or self._ending is not None or self.blocked is not None

    def record(self, event: history.Event) -> None:
        """Put an event into the journal, then let the instance see it."""
        if self._recovered_from is not None and not self.closed:
            lost, self._recovered_from = self._recovered_from, None
            self.record(history.Recovered(event.at, lost, self.host.worker_id))
        if self.closed:
            return
        self.pending.append(encode_event(self.length + 1, event))
        try:
            commands = self.instance.apply(event)
        except Exception as error:
            self._block(error)
        else:
            seq = self.length
            for command in commands:
                self._take(command, seq)
        self.host.dirty(self)
        if self.length >= WARN_HISTORY:
            self._check_length()

    def at(self) -> int:
        """The time of an event that happens now; it never goes back within a run."""
        return max(self.host.now(), self.instance.now)

    def _check_length(self) -> None:
        if self.length == WARN_HISTORY:
            text = "run %s has %s events; at %s it fails. Long-lived runs should continue as new"
            self.host.warn(text, self.id, self.length, MAX_HISTORY)
        elif self.length >= MAX_HISTORY and self._ending is None and self.blocked is None:
            message = f"run {self.id} has {self.length} events, the limit: use ctx.continue_as_new"
            self.stop()
            self._end(FailRun(encode_failure(failure_of(DurableError(message)))))

    # -- commands

    def _take(self, command: Command, seq: int) -> None:
        kind = type(command)
        if kind is RunStep:
            assert isinstance(command, RunStep)
            self.held.append((seq, command))
            self._unreleased[command.cmd] = command
        elif kind is StartTimer:
            assert isinstance(command, StartTimer)
            self._dues[command.cmd] = command
            self._arm(command.due)
        elif kind is CancelTimer:
            assert isinstance(command, CancelTimer)
            self._dues.pop(command.cmd, None)
            self._recorded.discard(command.cmd)
        elif kind is CancelStep:
            assert isinstance(command, CancelStep)
            self._drop_step(command.cmd)
        elif kind is WriteLog:
            self.held.append((seq, command))
        else:
            assert isinstance(command, (CompleteRun, FailRun))
            self._end(command)

    def _drop_step(self, cmd: int) -> None:
        self._retries.pop(cmd, None)
        if self.active.pop(cmd, None) is not None:
            self.host.cancel_step(self, cmd)
        # One that is still held is skipped when its turn comes.
        self._unreleased.pop(cmd, None)

    def _end(self, command: CompleteRun | FailRun) -> None:
        at = self.at()
        event: history.Event
        if isinstance(command, CompleteRun):
            self._ending = "completed"
            event = history.RunCompleted(at, command.result)
        else:
            self._ending = "failed"
            event = history.RunFailed(at, command.failure)
        self.final = encode_event(self.length + 1, event)
        self.pending.append(self.final)

    def _block(self, error: BaseException) -> None:
        """The code cannot go on with this history: keep what happened, say why, stay open."""
        if self.blocked is not None:
            return
        self.blocked = f"{type(error).__name__}: {error}"
        self.host.warn("run %s is blocked: %s", self.id, self.blocked)
        self.stop()
        event = history.Blocked(self.at(), self.blocked, self.host.code)
        self.pending.append(encode_event(self.length + 1, event))
        self.host.dirty(self)

    def poisoned(self, reason: str) -> None:
        """The database refuses what this run wants to append: drop that, and block."""
        self.consumed -= _messages_in(self.pending)
        del self.pending[:]
        self._ending = None
        self.final = None
        self.blocked = None
        self._block(DurableError(reason))

    # -- effects

    def release(self) -> None:
        """Carry out what waited for events that are durable now."""
        held = self.held
        while held and held[0][0] <= self.durable:
            _, command = held.popleft()
            if isinstance(command, RunStep):
                if self._unreleased.pop(command.cmd, None) is not None:
                    self._start(command)
            elif isinstance(command, WriteLog):
                self.host.write_log(self, command)

    def _start(self, command: RunStep) -> None:
        due = command.not_before
        if due is not None and due > self.host.now():
            self._retries[command.cmd] = command
            self._arm(due)
            self.host.dirty(self)
        else:
            self.active[command.cmd] = command
            self.host.run_step(self, command)

    def resume(self) -> None:
        """Fire what is due, start retries that are due, and wait in memory for what is due soon."""
        if self.dead or self.in_flight_ends or self._ending or self.blocked:
            return
        if not self._retries and not self._dues:
            return
        now = self.host.now()
        retries = [c for c in self._retries.values() if c.not_before is None or c.not_before <= now]
        for command in retries:
            del self._retries[command.cmd]
            self.active[command.cmd] = command
            self.host.run_step(self, command)
        while fired := [timer for timer in self._dues.values() if timer.due <= now]:
            for timer in sorted(fired, key=lambda timer: (timer.due, timer.cmd)):
                if self._dues.pop(timer.cmd, None) is not None and self._ending is None:
                    self._recorded.discard(timer.cmd)
                    event = history.TimerFired(self.at(), timer.cmd, timer.name, timer.due)
                    self.record(event)
        due = self.next_due
        if due is not None:
            self._arm(due)

    @property
    def next_due(self) -> int | None:
        dues = [timer.due for timer in self._dues.values()]
        dues += [c.not_before for c in self._retries.values() if c.not_before is not None]
        return min(dues, default=None)

    def _arm(self, due: int) -> None:
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

    @property
    def in_flight_ends(self) -> bool:
        """A commit that parks or finishes the run is under way: nothing may happen to it until the answer."""
        return self.in_flight is not None and self.in_flight.act is not Act.KEEP

    def receive(self, messages: Sequence[Message]) -> None:
        """Messages of the inbox, in order; a hole in their numbers means that this owner is stale."""
        for message in messages:
            if self.closed or self.in_flight_ends:
                return  # they stay in the inbox
            if message.number <= self.consumed:
                continue
            if message.number != self.consumed + 1:
                self.host.lost(self)
                return
            self.consumed = message.number
            at = self.at()
            event = history.EventReceived(at, message.name, message.data, message.number)
            self.record(event)

    @property
    def busy(self) -> bool:
        """Steps are running, or wait to be released."""
        return bool(self.active or self._unreleased)

    def finished_step(self, cmd: int) -> bool:
        """The step runner reports an attempt; False when nobody waits for it any more."""
        return not self.dead and self.active.pop(cmd, None) is not None

    # -- the commit

    def next_commit(self) -> Commit | None:
        """What this run has to say to the database now, or None."""
        if not self.owned:
            return None
        act, status = self._act()
        if act is Act.PARK and self.blocked is None:
            self._record_timers()
            act, status = self._act()  # the history may have reached its limit
        if not self.pending and act is Act.KEEP:
            return None
        events = self._next_events()
        consumed = self.consumed
        if len(events) < len(self.pending):
            act, status = Act.KEEP, "running"
            consumed -= _messages_in(self.pending[MAX_EVENTS_PER_COMMIT:])
        parked = act is Act.PARK
        self.in_flight = Commit(
            self.key,
            self.epoch,
            self.durable,
            events,
            consumed,
            act,
            status,
            self.next_due if parked else None,
            HOLD_BLOCKED if parked and self.blocked is not None else 0,
            self.host.code if parked and self.blocked is not None else None,
            self._waiting_for() if parked else None,
        )
        return self.in_flight

    def _next_events(self) -> list[EventRow]:
        """What goes into one commit: at least one event, and no more than a statement should carry."""
        events = self.pending[:MAX_EVENTS_PER_COMMIT]
        if len(events) == 1:
            return events
        size = 0
        for count, row in enumerate(events):
            size += len(row.data)
            if size > MAX_BYTES_PER_COMMIT and count:
                return events[:count]
        return events

    def _act(self) -> tuple[Act, RunStatus]:
        if self._ending is not None:
            return Act.FINISH, self._ending
        if self.blocked is not None:
            return Act.PARK, "waiting"
        if self.busy or self.consumed < self.inbox_head:
            return Act.KEEP, "running"
        due = self.next_due
        if due is not None and due - self.host.now() <= KEEP_SECONDS * SECOND:
            return Act.KEEP, "running"
        return Act.PARK, "waiting"

    def _record_timers(self) -> None:
        """A sleeping run says in its history what it sleeps for."""
        for timer in sorted(self._dues.values(), key=lambda timer: timer.cmd):
            if timer.cmd not in self._recorded:
                self._recorded.add(timer.cmd)
                site = str(timer.site)
                self.record(history.TimerStarted(self.at(), timer.cmd, timer.name, timer.due, site))

    def _waiting_for(self) -> str | None:
        if self.blocked is not None:
            return self.blocked.splitlines()[0]
        words = [timer.name for timer in self._dues.values()]
        words += [f"retry of {command.step.name}" for command in self._retries.values()]
        return ", ".join(dict.fromkeys(words)) or None

    def advance(self, durable: int) -> None:
        """The database holds `durable` events of this run."""
        del self.pending[: durable - self.durable]
        self.durable = durable

    def park(self) -> None:
        """The run has no owner now: nothing may happen to it here until it is claimed again."""
        self.owned = False
        self._disarm()

    def _disarm(self) -> None:
        if self.wake is not None:
            self.wake.cancel()
            self.wake = None

    def stop(self) -> None:
        """Stop whatever is under way; nothing that it brings is recorded."""
        for cmd in list(self.active):
            self._drop_step(cmd)
        if self.held:
            self.held = deque(item for item in self.held if isinstance(item[1], WriteLog))
        self._unreleased.clear()
        self._dues.clear()
        self._retries.clear()
        self._disarm()

    def discard(self) -> None:
        """The run is not ours any more: forget it without a trace."""
        self.dead = True
        self.stop()
        self.instance.discard()


def _messages_in(rows: Sequence[EventRow]) -> int:
    """How many of these events are messages of the inbox: those go only with their events."""
    return sum(row.type in _FROM_INBOX for row in rows)
