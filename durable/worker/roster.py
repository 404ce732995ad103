"""The runs that a worker holds: how they come to it, and how they go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from durable.clock import SECOND
from durable.model import history
from durable.model.lifecycle import RunStatus
from durable.model.rows import Claim, Commit, Lane, Message, NewRun
from durable.model.wire import EventRow
from durable.worker.cache import StickyCache
from durable.worker.effects import Effect
from durable.worker.execution import Execution
from durable.worker.guard import Guard, GuardMode, Watch

if TYPE_CHECKING:
    from durable.clock import Clock, Timer
    from durable.model.commands import RunStep, WriteLog
    from durable.model.runnable import Workflow
    from durable.worker.alarm import Alarm
    from durable.worker.claims import Claimer
    from durable.worker.journal import Journal
    from durable.worker.lease import LeaseKeeper
    from durable.worker.messenger import Messenger
    from durable.worker.steps import StepRunner

MAX_HELD = 2_000
"""Runs of one queue that a worker drives at once; parked ones do not count."""
MIN_BACKLOG = 100
"""Steps that may wait for a slot of their queue before no more of its runs are taken."""
_log = logging.getLogger("durable.worker")
_workflow_log = logging.getLogger("durable.workflow")


class Host(Protocol):
    """What the roster needs of its worker."""

    @property
    def code(self) -> str: ...
    @property
    def running(self) -> bool: ...
    def fenced(self) -> None: ...
    def stirred(self) -> None: ...
    def resolve(self, run_id: str, status: RunStatus, last: EventRow) -> None: ...


class Parts:
    """The other rooms of a worker, as its runs reach them."""

    keeper: LeaseKeeper
    journal: Journal
    claimer: Claimer
    messenger: Messenger
    alarm: Alarm
    runners: dict[str, StepRunner]


class Roster:
    """Runs in the hands of this worker, by key and by id, and the parked ones that it remembers."""

    def __init__(
        self,
        host: Host,
        workflows: Mapping[tuple[str, int], Workflow[Any, Any]],
        slots: Mapping[str, int],
        cache: int,
        clock: Clock,
        guard: GuardMode,
    ) -> None:
        self._host = host
        self._workflows = workflows
        self._slots = slots
        self._clock = clock
        self._guard = Guard(guard, partial(self.warn, "%s"))
        self.cache = StickyCache(cache)
        self.lanes: dict[int, Lane] = {}
        """Lanes that it serves, by number."""
        self._offered: set[Lane] = set()
        self._held: dict[int, Execution] = {}
        self._ids: dict[str, Execution] = {}
        self._held_of = dict.fromkeys(slots, 0)
        self._starts: Counter[str] = Counter()
        """How many starts of each id are under way here."""
        self._found: dict[str, set[int]] = {}
        """Of these ids: the keys of runs that were found meanwhile. A restart meets the old run and the new one."""
        self._again: dict[int, tuple[int, list[history.Event]]] = {}
        """Of runs that start over: what they had in hand, and under which epoch."""
        self.parts = Parts()

    def offer(self, lanes: Mapping[Lane, int]) -> None:
        """These lanes are served."""
        self.lanes = {number: lane for lane, number in lanes.items()}
        self._offered = set(lanes)

    def __len__(self) -> int:
        return len(self._held)

    # -- what is there

    def open_lanes(self) -> Sequence[int]:
        """The lanes of which more runs can be taken: one slow queue does not keep the others waiting."""
        return [number for number, lane in self.lanes.items() if self._has_room(lane.queue)]

    def _has_room(self, queue: str) -> bool:
        backlog = self.parts.runners[queue].backlog
        return (
            self._host.running
            and backlog < max(self._slots[queue], MIN_BACKLOG)
            and self._held_of[queue] < MAX_HELD
        )

    def held(self, key: int) -> Execution | None:
        """The run of this key, if it is driven here."""
        return self._held.get(key)

    def executions(self) -> list[Execution]:
        """All runs that it drives."""
        return list(self._held.values())

    def holds(self, run_id: str) -> bool:
        """Whether this worker drives the run right now."""
        return run_id in self._ids

    def eager_owner(self, lane: Lane) -> int | None:
        """The worker id under which a new run of this lane may be started here at once."""
        keeper = self.parts.keeper
        if lane in self._offered and self._has_room(lane.queue) and keeper.healthy():
            return keeper.worker_id
        return None

    # -- runs come

    def expect(self, run_id: str) -> None:
        """A run is about to be started that this worker is to own from its first moment on."""
        self._starts[run_id] += 1
        self._found.setdefault(run_id, set())

    def expect_no_more(self, run_id: str) -> None:
        """Nothing more is heard of that start; there may be others of the same id."""
        self._starts[run_id] -= 1
        if self._starts[run_id] <= 0:
            del self._starts[run_id]
            del self._found[run_id]

    def started(self, key: int, run: NewRun) -> None:
        """A run that was expected was started, and it is ours.

        If it was found before the answer to its start had come, it has been driven already, perhaps to its end.
        """
        if key in self._found.get(run.id, (key,)):
            return
        if run.eager_owner != self.worker_id or not self._host.running:
            return
        execution = self._new(key, run.id, run.lane, epoch=1)
        execution.replay([run.started])
        execution.begin()

    def _new(self, key: int, run_id: str, lane: Lane, epoch: int) -> Execution:
        stale = self._held.get(key)
        if stale is not None:
            self._drop(stale)
            stale.discard()
        workflow = self._workflows[lane.workflow, lane.version]
        execution = Execution(self, workflow, key, run_id, epoch, lane.queue)
        self._hold(execution)
        return execution

    def _hold(self, execution: Execution) -> None:
        self._held[execution.key] = self._ids[execution.id] = execution
        self._held_of[execution.queue] += 1

    def resume(self, claim: Claim, messages: Sequence[Message]) -> bool:
        """Go on with a run that is in the cache; False when it must be replayed."""
        if claim.id in self._found:
            self._found[claim.id].add(claim.key)
        execution = self.cache.take(claim.key, claim.epoch, claim.seq)
        if execution is None:
            return False
        self.parts.keeper.at_least(claim.now)
        self._hold(execution)
        execution.inbox_head = claim.inbox_head
        execution.reclaim(claim.epoch, claim.lost_owner, messages)
        return True

    def replay(self, claim: Claim, rows: Sequence[EventRow], messages: Sequence[Message]) -> None:
        """Bring a claimed run to life from its history."""
        known = self._held.get(claim.key)
        if known is not None and known.epoch >= claim.epoch:
            return  # the answer to its start has overtaken us
        self.parts.keeper.at_least(claim.now)
        wanted = claim.seq - claim.first_seq + 1
        if len(rows) != wanted or not rows or rows[-1].seq != claim.seq:
            text = "run %s: %d of %d events could be read; it is looked at again"
            _log.error(text, claim.id, len(rows), wanted)
            self.parts.claimer.look_at(claim.key)
            return
        execution = self._new(claim.key, claim.id, self.lanes[claim.lane], claim.epoch)
        execution.consumed = claim.consumed
        execution.inbox_head = claim.inbox_head
        execution.replay(rows)
        epoch, again = self._again.pop(claim.key, (0, []))
        if epoch != claim.epoch:  # somebody else has driven it meanwhile
            again = []
        execution.begin(claim.lost_owner, messages, again)

    def receive(self, execution: Execution, messages: Sequence[Message]) -> None:
        """Messages of the inbox become history at once, awaited or not."""
        execution.receive(messages)

    # -- runs go

    def parked(self, execution: Execution, commit: Commit) -> None:
        """The run waits without an owner."""
        execution.release()
        self._drop(execution)
        if execution.blocked is not None:
            execution.discard()
            return
        execution.park()
        self.cache.put(execution)
        if commit.wake_at is not None:
            self.parts.alarm.at(commit.wake_at)

    def ended(self, execution: Execution, commit: Commit) -> None:
        """The run has ended, durably: whoever waits for it here may know."""
        self._drop(execution)
        execution.release()
        execution.discard()
        if execution.final is not None:
            self._host.resolve(execution.id, commit.status, execution.final)

    def unseen(self, execution: Execution) -> None:
        """It was about to end, but a cancel or the like has come: it starts over, and reads that first.

        What its steps have brought is not lost: the order of what is not durable is still free.
        """
        self._again[execution.key] = execution.epoch, execution.unwritten()
        self._drop(execution)
        execution.discard()
        self.parts.claimer.look_at(execution.key, soon=True)

    def lost(self, execution: Execution) -> None:
        """Somebody else drives the run now."""
        self._drop(execution)
        self._again.pop(execution.key, None)
        execution.discard()
        self.parts.claimer.look_at(execution.key)

    def _drop(self, execution: Execution) -> None:
        if self._held.get(execution.key) is execution:
            del self._held[execution.key]
            self._held_of[execution.queue] -= 1
        if self._ids.get(execution.id) is execution:
            del self._ids[execution.id]

    def forget_all(self) -> None:
        """Nothing that is held here is ours any more."""
        self.parts.journal.forget()
        for execution in list(self._held.values()):
            self._drop(execution)
            execution.discard()
        self._again.clear()
        self.cache.clear()

    # -- what runs ask of their worker

    @property
    def worker_id(self) -> int:
        """The id of the current lease."""
        return self.parts.keeper.worker_id

    @property
    def code(self) -> str:
        """The fingerprint of the code that runs here."""
        return self._host.code

    def now(self) -> int:
        """The database's time."""
        return self.parts.keeper.now()

    def healthy(self) -> bool:
        """The lease holds."""
        return self.parts.keeper.healthy()

    def fenced(self) -> None:
        """The lease is gone."""
        self._host.fenced()

    def stirred(self) -> None:
        """Something was sent to other runs: somebody, perhaps this worker, has work."""
        self.parts.claimer.poke()
        self._host.stirred()

    def watch(self, workflow: str) -> Watch:
        return self._guard.watch(workflow)

    def call_at(self, due: int, callback: Callable[[], object]) -> Timer:
        return self._clock.call_later(max(0.0, (due - self.now()) / SECOND), callback)

    def warn(self, message: str, *args: object) -> None:
        _log.warning(message, *args)

    def dirty(self, execution: Execution) -> None:
        self.parts.journal.dirty(execution)

    def run_step(self, execution: Execution, command: RunStep) -> None:
        self.parts.runners[execution.queue].submit(execution, command)

    def cancel_step(self, execution: Execution, cmd: int) -> None:
        self.parts.runners[execution.queue].cancel(execution, cmd)

    def carry_out(self, execution: Execution, effect: Effect) -> None:
        self.parts.messenger.submit(execution, effect)

    def write_log(self, execution: Execution, command: WriteLog) -> None:
        options = dict(command.options)
        given: dict[str, Any] = options.pop("extra", None) or {}
        extra = {"run_id": execution.id, "workflow": execution.workflow.name, **given}
        try:
            _workflow_log.log(command.level, command.message, *command.args, extra=extra, **options)
        except Exception:  # what the user gave it, or his handler: no reason to lose the run
            _log.exception("run %s: a line of its log could not be written", execution.id)
