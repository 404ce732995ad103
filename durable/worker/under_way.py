"""What a run has under way besides its steps: timers, waits, children, effects of its worker.

Two kinds of events pass through here: those that are replayed were written by somebody else, and only say
what is still open; one that happens now takes with it what goes into the database in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from durable.model import history
from durable.model.commands import (
    AnswerRequest,
    BeginCompensation,
    CancelChild,
    CancelTimer,
    Command,
    EndChildWait,
    EndWait,
    MarkPatched,
    Send,
    SetState,
    StartChild,
    StartTimer,
    StartWait,
)
from durable.model.messages import CANCEL, pack_cancel
from durable.model.rows import NewRun, NewWait, OutMessage, WaitKind
from durable.model.wire import encode_event
from durable.worker.effects import (
    CancelLate,
    Effect,
    Follow,
    LookForChildren,
    RestartChild,
    Subscribe,
)
from durable.worker.outbox import EndedWait, NewGeneration, Outbox
from durable.worker.recorded import Recorded, is_recorded_at_once, key_of, key_of_event
from durable.worker.recorded import event_of as recorded_event
from durable.worker.timetable import Timetable, listing
from durable.worker.waiting import in_words

_WAIT_KINDS: Mapping[str, WaitKind] = {
    "event": WaitKind.EVENT,
    "input": WaitKind.INPUT,
    "request": WaitKind.REQUEST,
}


class Host(Protocol):
    """The execution, as what it has under way sees it."""

    key: int

    @property
    def length(self) -> int: ...
    @property
    def causes(self) -> int: ...
    def at(self) -> int: ...
    def arm(self, due: int) -> None: ...
    def record(self, event: history.Event) -> None: ...
    def record_all(self, events: Iterable[history.Event]) -> None: ...
    def withdraw(self, cmd: int) -> None: ...
    def hold(self, effect: Effect, seq: int) -> None: ...


class UnderWay:
    """Kept in step with the history of one run."""

    __slots__ = (
        "_host",
        "children",
        "compensating",
        "effects",
        "outbox",
        "paused",
        "replayed",
        "replayed_at",
        "times",
        "to_cancel",
        "unrecorded",
        "untold",
    )

    def __init__(self, host: Host) -> None:
        self._host = host
        self.times = Timetable()
        self.outbox = Outbox()
        self.children: dict[int, StartChild] = {}
        """Children that have not reported."""
        self.effects: dict[int, Effect] = {}
        """What the worker was asked for and has not reported."""
        self.to_cancel: dict[int, bytes] = {}
        """Children that are to be cancelled and are not there yet: what they are told, by command."""
        self.replayed: list[CancelChild | EndWait] = []
        """On replay: what others were told with event `replayed_at`, the newest that told them anything."""
        self.replayed_at = 0
        self.untold: list[CancelChild | EndWait] = []
        """On replay: what they were not told, because the code of that time was blocked at that event."""
        self.unrecorded: dict[object, Recorded] = {}
        """Commands whose event has not come yet: on replay all of them, later only starts of children."""
        self.compensating = False
        self.paused = False

    @property
    def busy(self) -> bool:
        """The worker is at something, or children are on their way into the world."""
        return bool(self.effects or self.outbox.children)

    @property
    def holds_end(self) -> bool:
        """The run must not end yet: a child that its history says was started is not there."""
        return any(
            isinstance(effect, RestartChild | CancelLate)
            or (isinstance(effect, LookForChildren) and any(map(self._restarts, effect.cmds)))
            for effect in self.effects.values()
        )

    def _restarts(self, cmd: int) -> bool:
        child = self.children.get(cmd)
        return child is not None and child.conflict == "restart"

    # -- history

    def catch_up(self) -> None:
        """After a replay: see to what the worker before may not have come to."""
        durable = self._host.length
        children = tuple(cmd for cmd in self.children if cmd not in self.unrecorded)
        if children:
            self.ask(LookForChildren(children), durable)
        for wait in list(self.times.waits.values()):
            if wait.key is not None and wait.cmd in self.times.listed:
                self.ask(Subscribe(wait.cmd, wait.names, wait.key), durable)
        self._tell(durable)
        unrecorded, self.unrecorded = self.unrecorded, {}
        at = self._host.at()
        self._host.record_all([recorded_event(command, at) for command in unrecorded.values()])

    def _tell(self, durable: int) -> None:
        untold, self.untold, self.replayed = self.untold, [], []
        for command in untold:
            if isinstance(command, EndWait):
                self.outbox.add(durable, EndedWait(command.cmd))
                continue
            for cmd, child in self.children.items():
                if child.child_id == command.child_id:
                    data = pack_cancel(command.reason)
                    self.ask(CancelLate(cmd, child.child_id, data), durable)

    def list_all(self) -> None:
        """A sleeping run says in its history what it sleeps for."""
        for command in self.times.unlisted():
            self._host.record(listing(command, self._host.at()))

    def words(self) -> list[str]:
        """What is waited for, for people."""
        times = self.times
        return in_words(times.timed.values(), times.waits.values(), self.children.values())

    def clear(self) -> None:
        """Nothing goes on."""
        self.times.clear()
        self.unrecorded.clear()
        self.children.clear()
        self.to_cancel.clear()
        self.untold.clear()
        self.effects.clear()

    def release(self) -> None:
        """The run is not ours any more: leave no circle behind."""
        del self._host

    # -- commands

    def replay(self, command: Command, seq: int) -> None:
        """A command of event `seq` that was written before: it is open until another event says otherwise."""
        if isinstance(command, StartTimer | StartWait | StartChild):
            self.times.add(command)
        if isinstance(command, CancelTimer | EndWait | EndChildWait):
            listed = self.times.drop(command.cmd)
            if isinstance(command, EndWait):
                self.unrecorded.pop(command.cmd, None)
                if listed:
                    self._was_told(command, seq)
        elif isinstance(command, StartChild):
            self.children[command.cmd] = command
            self.unrecorded[command.cmd] = command
        elif isinstance(command, StartWait):
            if is_recorded_at_once(command) and command.cmd not in self.times.listed:
                self.unrecorded[command.cmd] = command
        elif isinstance(command, SetState | MarkPatched | AnswerRequest | BeginCompensation):
            self.unrecorded[key_of(command)] = command
        elif isinstance(command, Send):
            self.ask(command, self._host.length)
        elif isinstance(command, CancelChild) and not self._cancel_later(command):
            self._was_told(command, seq)

    def _was_told(self, command: CancelChild | EndWait, seq: int) -> None:
        """Others were told in the transaction of event `seq`, unless the code was blocked at it."""
        if self.replayed_at != seq:
            self.replayed, self.replayed_at = [], seq
        self.replayed.append(command)

    def timer(self, command: StartTimer, _seq: int) -> None:
        self.times.add(command)
        self._host.arm(command.due)

    def wait(self, command: StartWait, seq: int) -> None:
        listed = self.times.listed.get(command.cmd)
        self.times.add(command)
        if command.due is not None:
            self._host.arm(command.due)
        if listed is not None:  # it is asked for again
            self._list(command, listed, seq)
        elif is_recorded_at_once(command):
            self._record(command)

    def child(self, command: StartChild, _seq: int) -> None:
        self.times.add(command)
        self.children[command.cmd] = command
        if command.due is not None:
            self._host.arm(command.due)
        self.unrecorded[command.cmd] = command
        self._record(command)

    def ended(self, command: CancelTimer | EndWait | EndChildWait, seq: int) -> None:
        listed = self.times.drop(command.cmd)
        if not isinstance(command, EndWait):
            return
        if listed:
            self.outbox.add(seq, EndedWait(command.cmd))
        else:
            self._host.withdraw(command.cmd)

    def cancel_child(self, command: CancelChild, seq: int) -> None:
        if self._cancel_later(command):
            self._cancel_restarted()
            return
        message = OutMessage(command.child_id, CANCEL, pack_cancel(command.reason))
        self.outbox.add(seq, message)

    def _cancel_later(self, command: CancelChild) -> bool:
        """A child is told when it is there; one that takes another run's place comes after that has ended."""
        for cmd, child in self.children.items():
            is_there = cmd not in self.unrecorded and child.conflict != "restart"
            if child.child_id == command.child_id and not is_there:
                self.to_cancel[cmd] = pack_cancel(command.reason)
                return True
        return False

    def _cancel_restarted(self) -> None:
        """Tell those that are there."""
        unsure = {cmd for cmd in self.to_cancel if cmd in self.unrecorded}
        for effect in self.effects.values():
            if isinstance(effect, RestartChild):
                unsure.add(effect.cmd)
            elif isinstance(effect, LookForChildren):
                unsure.update(effect.cmds)
        for cmd in [cmd for cmd in self.to_cancel if cmd not in unsure]:
            data, child = self.to_cancel.pop(cmd), self.children.get(cmd)
            if child is not None:
                self.ask(CancelLate(cmd, child.child_id, data), self._host.causes)

    def recorded(self, command: Recorded, _seq: int) -> None:
        self._record(command)

    def _record(self, command: Recorded) -> None:
        self._host.record(recorded_event(command, self._host.at()))

    def _list(self, command: StartWait, listed: int, seq: int) -> None:
        """Others can find it, from event `seq` on; event `listed` says all of it."""
        kind, key = _WAIT_KINDS[command.kind], command.key
        wait = NewWait(command.cmd, kind, command.names, listed, key, command.due, command.to)
        self.outbox.add(seq, wait)
        if key is not None:
            self.ask(Subscribe(command.cmd, command.names, key), seq)

    # -- effects

    def ask(self, effect: Effect, seq: int) -> None:
        """The worker is to do this once event `seq` is durable."""
        self.effects[_key(effect)] = effect
        if isinstance(effect, Subscribe) and effect.cmd in self.times.timed:
            self.times.unsure.add(effect.cmd)
        self._host.hold(effect, seq)

    def asks_for(self, effect: Effect) -> bool:
        """Whether it is still wanted."""
        return _key(effect) in self.effects

    def done(self, effect: Effect) -> bool:
        """The worker has done it; False when nobody wants to know any more."""
        if self.effects.pop(_key(effect), None) is None:
            return False
        if isinstance(effect, RestartChild):
            self._cancel_restarted()
        elif isinstance(effect, Subscribe):
            self.times.unsure.discard(effect.cmd)
        return True

    # -- children

    def children_started(self, children: Sequence[NewRun], born: Sequence[str] | None) -> None:
        """The transaction that starts them is over; `born` are those that it started, None: unknown."""
        if born is None:
            cmds = tuple(child.parent_cmd or 0 for child in children)
            self.ask(LookForChildren(cmds), self._host.length)
            return
        made = set(born)
        self.children_missing([c.parent_cmd or 0 for c in children if c.id not in made])

    def children_missing(self, cmds: Sequence[int]) -> None:
        """These do not exist: their ids belong to other runs."""
        for cmd in cmds:
            command = self.children.get(cmd)
            if (
                command is None
            ):  # of an earlier generation: nobody waits, but it is no child of ours
                self._host.record(history.ChildRefused(self._host.at(), cmd, ""))
            elif command.conflict == "return_existing":
                self.ask(Follow(cmd, command.child_id), self._host.causes)
            elif command.conflict == "restart":
                self.ask(RestartChild(cmd, self._new_run(command)), self._host.causes)
            else:
                event = history.ChildRefused(self._host.at(), cmd, command.child_id)
                self._host.record(event)
        self._cancel_restarted()

    def _new_run(self, command: StartChild) -> NewRun:
        begun = command.started
        started = history.RunStarted(
            begun.at,
            begun.name,
            begun.input,
            begun.version,
            begun.queue,
            begun.parent_id,
            begun.root_id,
            begun.deadline,
            begun.tags,
            self._host.key,
            command.cmd,
            begun.seed,
        )
        return NewRun(
            command.child_id,
            command.lane,
            encode_event(1, started),
            deadline=begun.deadline,
            tags=begun.tags,
            parent_key=self._host.key,
            parent_cmd=command.cmd,
            abandoned=command.abandoned,
        )

    # -- what events say

    def _fell_due(self, event: Any, _seq: int) -> None:
        self.times.timed.pop(event.cmd, None)

    def _was_listed(self, event: Any, seq: int) -> None:
        self.times.listed[event.cmd] = seq
        self.unrecorded.pop(event.cmd, None)

    def _is_listed(self, event: Any, seq: int) -> None:
        self.times.listed[event.cmd] = seq
        wait = self.times.waits.get(event.cmd)
        if wait is not None:
            self._list(wait, seq, seq)

    def _was_recorded(self, event: history.Event, _seq: int) -> None:
        self.unrecorded.pop(key_of_event(event), None)

    def _child_is_started(self, event: history.ChildStarted, seq: int) -> None:
        self.unrecorded.pop(event.cmd, None)
        command = self.children[event.cmd]
        child = self._new_run(command)
        if command.conflict == "restart":
            self.ask(RestartChild(event.cmd, child), seq)
        else:
            self.outbox.add(seq, child)
            data = self.to_cancel.pop(event.cmd, None)
            if data is not None:
                self.outbox.add(seq, OutMessage(child.id, CANCEL, data))

    def _child_was_started(self, event: history.ChildStarted, _seq: int) -> None:
        command = self.unrecorded.pop(event.cmd, None)
        if isinstance(command, StartChild) and command.conflict != "restart":
            self.to_cancel.pop(event.cmd, None)  # it was told together with its start

    def _was_blocked(self, event: history.Blocked, seq: int) -> None:
        # Without a code it had cost too many workers: what it had to tell was told.
        if event.code and self.replayed_at == seq - 1:
            self.untold += self.replayed

    def _child_ended(self, event: Any, _seq: int) -> None:
        self.children.pop(event.cmd, None)

    def _was_sent(self, event: history.MessageSent, _seq: int) -> None:
        self.effects.pop(event.cmd, None)

    def _is_new_generation(self, _event: history.Event, seq: int) -> None:
        for cmd in self.times.waits.keys() & self.times.listed.keys():
            self.outbox.add(seq, EndedWait(cmd))
        self.outbox.add(seq, NewGeneration())

    def _deadline_passed(self, _event: history.Event, _seq: int) -> None:
        self.times.deadline = None

    def _compensates(self, _event: history.Event, _seq: int) -> None:
        self.unrecorded.pop("compensation", None)
        self.compensating = True

    def _pauses(self, _event: history.Event, _seq: int) -> None:
        self.paused = True

    def _resumes(self, _event: history.Event, _seq: int) -> None:
        self.paused = False


def _key(effect: Effect) -> int:
    """A command has one report; other effects are told apart by identity."""
    return effect.cmd if isinstance(effect, Send) else id(effect)


# ruff: noqa: SLF001 - the tables name parts of the class
Note: TypeAlias = Callable[[UnderWay, Any, int], None]
_ALWAYS: Mapping[type[history.Event], Note] = {
    history.ChildCompleted: UnderWay._child_ended,
    history.ChildFailed: UnderWay._child_ended,
    history.ChildRefused: UnderWay._child_ended,
    history.DeadlinePassed: UnderWay._deadline_passed,
    history.CompensationStarted: UnderWay._compensates,
    history.Paused: UnderWay._pauses,
    history.Resumed: UnderWay._resumes,
}
REPLAYED: Mapping[type[history.Event], Note] = {
    **_ALWAYS,
    history.TimerStarted: UnderWay._was_listed,
    history.WaitStarted: UnderWay._was_listed,
    history.InputRequested: UnderWay._was_listed,
    history.TimerFired: UnderWay._fell_due,
    history.WaitTimedOut: UnderWay._fell_due,
    history.MessageSent: UnderWay._was_sent,
    history.ChildStarted: UnderWay._child_was_started,
    history.Blocked: UnderWay._was_blocked,
    history.StateSet: UnderWay._was_recorded,
    history.Patched: UnderWay._was_recorded,
    history.RequestAnswered: UnderWay._was_recorded,
}
"""What an event says that was written before."""
HAPPENED: Mapping[type[history.Event], Note] = {
    **_ALWAYS,
    history.ContinuedAsNew: UnderWay._is_new_generation,
    history.RunRetried: UnderWay._is_new_generation,
    history.TimerStarted: UnderWay._is_listed,
    history.WaitStarted: UnderWay._is_listed,
    history.InputRequested: UnderWay._is_listed,
    history.ChildStarted: UnderWay._child_is_started,
}
"""What an event says that is being written."""
