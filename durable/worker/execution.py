"""One run that this worker owns, from its claim until it parks, ends or is lost: what is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from durable.errors import NondeterminismError
from durable.model import history
from durable.model.commands import (
    ENDINGS,
    CancelStep,
    RunStep,
    WriteLog,
)
from durable.model.rows import Message, NewRun
from durable.model.wire import EventRow, decode_event
from durable.worker.chronicle import GENERATIONS
from durable.worker.drafts import Drafting
from durable.worker.effects import Effect, LookForChildren, Subscribe
from durable.worker.explaining import explained
from durable.worker.timetable import due_event
from durable.worker.under_way import REPLAYED

_STEP_EVENTS = frozenset(
    {
        history.StepCompleted,
        history.StepFailed,
        history.CompensationCompleted,
        history.CompensationFailed,
    }
)
_OUTCOMES = (*_STEP_EVENTS, history.MessageSent)


class Execution(Drafting):
    """A run in the hands of this worker, from its claim until it parks, ends or is lost."""

    __slots__ = ()

    # -- taking it up

    def replay(self, rows: Sequence[EventRow]) -> None:
        """Bring the instance to the end of its durable history; `begin` starts what is still open then."""
        self.durable = rows[-1].seq
        self._cold = True
        self.instance.expect(rows)
        try:
            self.watch.run(self._replay_events, rows)
        except NondeterminismError as error:
            self._block(explained(error, self.workflow, self.id, rows))
        except Exception as error:
            self._block(error)
        else:
            for warning in self.instance.warnings:
                self.host.warn("%s", warning)
        self.instance.replaying = False

    def _replay_events(self, rows: Sequence[EventRow]) -> None:
        self.instance.replay(lambda: self._replay_each(rows))

    def _replay_each(self, rows: Sequence[EventRow]) -> None:
        for row in rows:
            if row.seq == self.durable:
                self.instance.live = True
            self._replay_event(decode_event(row), row.seq)

    def _replay_event(self, event: history.Event, seq: int) -> None:
        """Apply one event and note what is open."""
        kind = type(event)
        if kind in _STEP_EVENTS:
            self._retries.pop(event.cmd, None)  # type: ignore[union-attr]
        elif isinstance(event, GENERATIONS):
            self._new_generation(self.instance.patches)
        elif isinstance(event, history.RunStarted) and event.deadline is not None:
            self.under_way.times.deadline = event.deadline
        note = REPLAYED.get(kind)
        if note is not None:
            note(self.under_way, event, seq)
        for command in self.instance.apply(event):
            if isinstance(command, RunStep):
                self._retries[command.cmd] = command
            elif isinstance(command, CancelStep):
                self._retries.pop(command.cmd, None)
            elif isinstance(command, WriteLog):
                if not self.instance.replaying:
                    self.held.append((1, command))
            elif isinstance(command, ENDINGS):
                self._undone = command
            else:
                self.under_way.replay(command, seq)

    def begin(
        self,
        lost_owner: int | None = None,
        messages: Sequence[Message] = (),
        again: Sequence[history.Event] = (),
    ) -> None:
        """The run is ours: take in what came for it, arm its timers and start what is due.

        `again` are outcomes that an earlier execution of this run had in hand when it had to start over.
        """
        self._recovered_from = lost_owner
        if self.epoch > 1:
            self._inherited = frozenset(self._retries)
        self._unread.extend(messages)
        taken = self.durable
        if self._cold:
            self._cold = False
            if self._under_way is not None:
                self._under_way.catch_up()
                taken = self.length
            ending, self._undone = self._undone, None
            if ending is not None:
                self._end(ending, self.length)
        self.receive()
        for event in again:
            self._take_again(event)
        if taken > self.durable:
            self._hold_steps(taken)
        self.release()
        self.resume()
        self.host.dirty(self)

    def _hold_steps(self, seq: int) -> None:
        """What history led to beside these steps is written down first: a patch, say, may have decided on them."""
        steps, self._retries = self._retries, {}
        for command in steps.values():
            self._take_held(command, seq)

    def _take_again(self, event: history.Event) -> None:
        cmd: int = getattr(event, "cmd", 0)
        if isinstance(event, history.MessageSent):
            wanted = self.under_way.effects.pop(cmd, None) is not None
        else:
            wanted = self._retries.pop(cmd, None) is not None
        if wanted:  # behind what was read in the meantime, and not earlier
            self.record(replace(event, at=max(event.at, self.instance.now)))

    def reclaim(
        self, epoch: int, lost_owner: int | None = None, messages: Sequence[Message] = ()
    ) -> None:
        """The run that was parked here is ours again, under a new epoch."""
        self.epoch = epoch
        self.owned = True
        self.begin(lost_owner, messages)

    # -- letting it go

    def park(self) -> None:
        """The run has no owner now: nothing may happen to it here until it is claimed again."""
        self.owned = False
        self._disarm()

    def unwritten(self) -> list[history.Event]:
        """What steps and effects have brought that is not durable: it need not happen again."""
        events = [decode_event(row) for row in self.pending]
        return [event for event in events if isinstance(event, _OUTCOMES)]

    def discard(self) -> None:
        """The run is not ours any more: forget it without a trace."""
        self.dead = True
        self.stop()
        self._unread.clear()
        self.instance.discard()
        if self._under_way is not None:
            self._under_way.release()

    # -- what falls due

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
            elif self.under_way.asks_for(command):
                self.host.carry_out(self, command)

    def _start(self, command: RunStep) -> None:
        due = command.not_before
        if self.paused or (due is not None and due > self.host.now()):
            self._retries[command.cmd] = command
            if due is not None:
                self.arm(due)
            self.host.dirty(self)
        else:
            self.active[command.cmd] = command
            self.host.run_step(self, command)

    def resume(self) -> None:
        """Fire what is due, start retries that are due, and wait in memory for what is due soon."""
        if self.closed or self.paused or self.in_flight_ends:
            return
        if not self._retries and self._under_way is None:
            return
        now = self.host.now()
        for command in self._take_retries(now):
            self.active[command.cmd] = command
            self.host.run_step(self, command)
        if self._under_way is not None:
            deadline = self._under_way.times.deadline
            if deadline is not None and deadline <= now:
                self.record(history.DeadlinePassed(self.at()))
            while self._fire(now):
                pass
        due = self.next_due
        if due is not None:
            self.arm(due)

    def _fire(self, now: int) -> bool:
        """Report what has fallen due; True where something new may have become due by that."""
        timed = self.under_way.times.timed
        fallen = self.under_way.times.fallen_due(now)
        for one in fallen:
            if one.cmd in timed and not self.closed:
                del timed[one.cmd]
                self.record(due_event(one, self.at()))
        return bool(fallen) and not self.closed

    def _take_retries(self, now: int) -> list[RunStep]:
        """The steps whose next attempt is due: they do not wait any more."""
        if not self._retries:
            return []
        retries = self._retries.values()
        due = [c for c in retries if c.not_before is None or c.not_before <= now]
        for command in due:
            del self._retries[command.cmd]
        return due

    # -- what comes

    def receive(self, messages: Sequence[Message] = ()) -> None:
        """Messages of the inbox, in order; a hole in their numbers means that this owner is stale."""
        self._unread.extend(messages)
        paused = self.paused
        while self._unread:
            if self.closed or self.in_flight_ends:
                self._unread.clear()  # they stay in the inbox
                return
            event = self._read()
            if event is not None:
                self.record(event)
        if paused and not self.paused:
            self.resume()  # what was not begun because of the pause

    def finished_step(self, cmd: int) -> bool:
        """The step runner reports an attempt; False when nobody waits for it any more."""
        return not self.dead and self.active.pop(cmd, None) is not None

    def asks_for(self, effect: Effect) -> bool:
        """Whether the worker is still to do this: it may have been done in a batch that failed later."""
        return not self.dead and self.under_way.asks_for(effect)

    def carried_out(self, effect: Effect, *events: history.Event) -> None:
        """The worker has done what it was asked for, and what came of it is written down."""
        if self.dead or not self.owned or not self.under_way.done(effect):
            return
        for event in events:
            self.record(event)
        if not isinstance(effect, LookForChildren):  # what is missing is told next
            self.go_on()
        self.release()  # what was to come after it
        self.resume()  # what was not due before it
        self.host.dirty(self)

    def may_run_out(self, effect: Subscribe) -> bool:
        """Whether the wait has a time-out, which waits for what was kept for it."""
        return self.asks_for(effect) and effect.cmd in self.under_way.times.unsure

    def children_started(self, children: Sequence[NewRun], born: Sequence[str] | None) -> None:
        """The transaction that starts them is over; `born` are those that it started, None: unknown."""
        if not self.closed or self._next:
            self.under_way.children_started(children, born)
            self.release()

    def children_missing(self, cmds: Sequence[int]) -> None:
        """These children do not exist: their ids belong to other runs."""
        if self.dead:  # it was lost while the database was asked
            return
        if not self.closed or self._over:
            self.under_way.children_missing(cmds)
            self.go_on()
            self.release()
