"""Looks over the database's shoulder: after every operation that changed something, what the rows may have become.

It keeps what the rows were. Each rule that is checked here is a function of its own, named after its invariant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable.model.history import CODES, FINAL_CODES
from durable.model.lifecycle import FINAL, HOLD_BLOCKED, HOLD_PAUSED, TRANSITIONS
from durable.model.retry import Retry
from durable.model.rows import Code, Delivery
from durable.model.wire import EventRow
from durable.worker.execution import Execution
from tests.worker.one_run import Host

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")


class Row(NamedTuple):
    """A run, as its row says."""

    key: int
    id: str
    status: str
    hold: int
    owner: int | None
    epoch: int
    seq: int
    first_seq: int
    inbox_head: int
    control_head: int
    consumed: int
    ready_at: int | None
    not_before: int | None
    parent_key: int | None
    parent_cmd: int | None
    abandoned: int
    finished_at: int | None

    @property
    def shown(self) -> str:
        """The status that a reader sees."""
        if self.hold == HOLD_PAUSED:
            return "paused"
        return "blocked" if self.hold == HOLD_BLOCKED else self.status

    @property
    def final(self) -> bool:
        return self.status in FINAL


_ROWS: Final = f"SELECT {', '.join(Row._fields)} FROM durable_runs"
_EVENTS: Final = "SELECT seq, type, at, cmd, name, data FROM durable_history WHERE run_key = ? AND seq > ? ORDER BY seq"
GENERATIONS: Final = frozenset({CODES["ContinuedAsNew"], CODES["RunRetried"]})
"""Events at which a replay begins."""
_REPLAYED: Final = 0.1
"""Share of the steps at whose beginning the history so far is replayed."""
_WORKERS: Final = "SELECT id, expires_at FROM durable_workers"


@dataclass(slots=True)
class Begun:
    """An attempt of a step that a worker began."""

    run: int
    epoch: int
    cmd: int
    attempt: int
    at: int
    worker: int
    name: str
    fingerprint: int
    pause: float
    """Microseconds that the next attempt has to wait at least if this one fails."""


class Watch:
    """What the database held after the last operation, and what has begun outside of it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.rows: dict[int, Row] = {}
        self.events: dict[int, list[EventRow]] = defaultdict(list)
        self.completed: set[tuple[int, int]] = set()
        self.begun: list[Begun] = []
        self.due: dict[tuple[int, int, int], int] = {}
        """When a worker first took an attempt (run, command, number) for due, by the database's time as it knew it."""
        self.figures: Counter[str] = Counter()
        self.workers: dict[int, int] = {}
        self.workers_ever: set[int] = set()
        self._random = Random(f"watch {cluster.plan.seed}")
        self.ended: dict[int, int] = {}
        """When runs ended: the operation, by its number, that ended them."""
        self._operations = 0
        self.losses: Counter[int] = Counter()
        """How often a run changed hands or lost its owner."""
        self.sent: dict[tuple[int, int], Delivery] = {}
        """Messages that were accepted, by run and number."""
        self.keys: dict[tuple[int, str], int] = {}
        """Numbers of messages by their idempotency keys."""
        self.stops: list[tuple[Process, float]] = []
        """Processes that were stopped in the orderly way, and how long that took."""
        self.found: list[Broken] = []
        """What was broken, the first thing first."""
        self.over = False
        """The simulation has ended: what still happens is its cleaning up."""

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """What is found inside of the block is not forgotten, whoever catches it."""
        try:
            yield
        except Broken as error:
            self.found.append(error)
            raise

    def check(self) -> None:
        """Raise what was found."""
        if self.found:
            raise self.found[0]

    # -- operations

    def before(self, verb: str, arguments: Any) -> None:
        """An operation is about to be carried out."""
        if verb in {"reap", "claim"}:
            self.workers = dict(self._cluster.database.rows(_WORKERS))

    def after(self, process: Process, verb: str, arguments: Any, answer: Any) -> None:
        """It has been; the rows here are still those from before."""
        check = _ANSWERS.get(verb)
        if check is not None:
            check(self, process, arguments, answer)

    def changed(self, process: Process, verb: str, arguments: Any) -> None:
        """Compare the rows with what they were."""
        database = self._cluster.database
        self._operations += 1
        found = {row[0]: Row._make(row) for row in database.rows(_ROWS)}
        for key in self.rows.keys() - found.keys():
            raise Broken("I1", f"run {self.rows[key].id} is not there any more")
        for key, row in found.items():
            old = self.rows.get(key)
            if old == row:
                continue
            if old is None or row.seq != old.seq:
                self._take_in_events(row, 0 if old is None else old.seq)
            if old is not None:
                for check in CHANGES:
                    check(self, old, row, verb)
            for check_row in STATES:
                check_row(self, row)
            if row.final:
                self.ended.setdefault(key, self._operations)
            if old is not None and old.owner is not None and row.owner != old.owner:
                self.losses[key] += 1
        self.rows = found

    def _take_in_events(self, row: Row, known: int) -> None:
        events = [
            EventRow(*each) for each in self._cluster.database.rows(_EVENTS, (row.key, known))
        ]
        if [event.seq for event in events] != list(range(known + 1, row.seq + 1)):
            raise Broken(
                "I1", f"history of {row.id} after {known}: {events}, its row says {row.seq}"
            )
        self.figures["events"] += len(events)
        for event in events:
            if event.type in _COMPLETIONS and event.cmd is not None:
                if (row.key, event.cmd) in self.completed:
                    raise Broken("I7", f"command {event.cmd} of {row.id} was completed twice")
                self.completed.add((row.key, event.cmd))
        self.events[row.key] += events

    # -- processes

    def is_due(self, execution: Any, command: Any) -> None:
        """A worker has decided that it is time for an attempt, which may have to wait for a slot."""
        self.due.setdefault((execution.key, command.cmd, command.attempt), execution.host.now())

    def begins(self, process: Process, execution: Any, command: Any) -> None:
        """A worker has decided to begin an attempt."""
        if not self.over:
            with self.remembering():
                self._begins(process, execution, command)

    def _begins(self, process: Process, execution: Any, command: Any) -> None:
        cluster = self._cluster
        self.figures["attempts"] += 1
        worker = process.worker.worker_id if process.worker is not None else 0
        begun = Begun(
            execution.key,
            execution.epoch,
            command.cmd,
            command.attempt,
            cluster.loop.micros,
            worker,
            command.step.name,
            command.fingerprint,
            _shortest_pause(command.step.retry, command.attempt),
        )
        self.begun.append(begun)
        cluster.note(
            process, "begins step", execution.id, command.step.name, command.cmd, command.attempt
        )
        if cluster.database.connection.in_transaction:
            raise Broken("I26", "a step begins while a transaction is open")
        row = self.rows.get(execution.key)
        if row is None:
            raise Broken("I4", f"a step of run {execution.id} begins, which does not exist")
        if (execution.key, command.cmd) in self.completed and not self._excused():
            raise Broken(
                "I7", f"step {command.cmd} of {execution.id} begins again: it is completed"
            )
        if execution.durable > row.seq:
            raise Broken("I4", f"a step of {execution.id} begins on events that are not there")
        if row.owner == worker and row.epoch == execution.epoch and not row.final:
            if self._random.random() < _REPLAYED:
                self._check_cause(execution, command)
            return
        if worker in self.leases() and not self._excused() and not self._gave_up(row):
            raise Broken(
                "I17", f"{process} begins a step of {execution.id}, which is not its own: {row}"
            )

    def _check_cause(self, execution: Any, command: Any) -> None:
        """I4, I8: the durable history alone leads to this very step."""
        self.figures["replays of a prefix"] += 1
        events = self.events[execution.key]
        first = max((n for n, event in enumerate(events) if event.type in GENERATIONS), default=0)
        again = Execution(Host(), execution.workflow, execution.key, execution.id, 1, "default")  # type: ignore[arg-type]
        again.replay(events[first:])
        found, blocked = again._retries.get(command.cmd), again.blocked
        again.discard()
        if blocked is not None:
            raise Broken("I8", f"the history of {execution.id} cannot be replayed: {blocked}")
        if found is None or found.fingerprint != command.fingerprint:
            raise Broken(
                "I4",
                f"step {command.cmd} of {execution.id} begins; nothing durable leads to it: {found}",
            )

    def _gave_up(self, row: Row) -> bool:
        """It was taken from its owner by an order, not by the loss of a lease: nobody tells the worker."""
        return row.final

    def leases(self) -> dict[int, int]:
        """Workers whose lease holds, and until when."""
        now = self._cluster.now()
        found = dict(self._cluster.database.rows(_WORKERS))
        return {worker: end for worker, end in found.items() if end > now}

    def _excused(self) -> bool:
        """The database's clock has jumped within a lease: nobody could know that the lease was over."""
        cluster = self._cluster
        return cluster.loop.micros - cluster.clock_jumped_at < 2 * cluster.lease * 1e6

    def died(self, process: Process) -> None:
        self.figures["deaths"] += 1

    def stopped(self, process: Process, seconds: float) -> None:
        """I28: an orderly stop ends within its grace."""
        self.figures["orderly stops"] += 1
        self.stops.append((process, seconds))

    def left_behind(self, process: Process) -> None:
        """I28: nothing of a process is left after its orderly end."""


def _shortest_pause(retry: Retry | None, attempt: int) -> float:
    if retry is None:
        return 0.0
    return replace(retry, jitter=0).delay(attempt, Random(0)) * (1 - retry.jitter) * 1e6


_COMPLETIONS: Final = frozenset({11, 81})


# -- how a row may change: (watch, old, new, verb)


def i1_histories_only_grow(watch: Watch, old: Row, row: Row, verb: str) -> None:
    if row.seq < old.seq or row.consumed < old.consumed or row.inbox_head < old.inbox_head:
        raise Broken("I1", f"{verb}: {old} went back to {row}")
    if row.key != old.key or (row.id != old.id and not row.id.startswith(f"{old.id}~")):
        raise Broken("I6", f"{verb}: {old} became {row}")


def i3_epochs_fence(watch: Watch, old: Row, row: Row, verb: str) -> None:
    if row.epoch < old.epoch:
        raise Broken("I3", f"{verb}: epoch went back: {old}, {row}")
    if row.owner is not None and row.owner != old.owner:
        if row.epoch != old.epoch + 1:
            raise Broken("I3", f"{verb}: a new owner without a new epoch: {old}, {row}")
        if old.owner is not None:
            raise Broken("I17", f"{verb}: {row.id} was taken from worker {old.owner}")


def i17_runs_leave_their_owner_by_its_will_or_its_death(
    watch: Watch, old: Row, row: Row, verb: str
) -> None:
    if old.owner is not None and row.owner is None and verb not in _FREEING:
        raise Broken("I17", f"{verb}: {row.id} lost its owner {old.owner}")


_FREEING: Final = {"commit", "reap", "unregister", "terminate", "restart"}


def i18_an_end_is_final(watch: Watch, old: Row, row: Row, verb: str) -> None:
    if old.final and row._replace(id=old.id) != old:
        raise Broken("I18", f"{verb}: {old} had ended, and became {row}")
    if row.shown != old.shown and row.shown not in TRANSITIONS[old.shown]:
        raise Broken("I18", f"{verb}: {old.shown} became {row.shown}: {row}")


CHANGES: Final = (
    i1_histories_only_grow,
    i3_epochs_fence,
    i17_runs_leave_their_owner_by_its_will_or_its_death,
    i18_an_end_is_final,
)


# -- what a row may say: (watch, row)


def i13_every_open_run_is_owned_or_will_wake(watch: Watch, row: Row) -> None:
    if row.final or row.hold or row.owner is not None:
        return
    if row.ready_at is None and row.inbox_head > row.consumed:
        raise Broken("I13", f"{row.id} has unread messages and nobody will look: {row}")


def i30_the_status_is_what_the_history_says(watch: Watch, row: Row) -> None:
    events = watch.events[row.key]
    last = events[-1].type
    if row.final != (last in FINAL_CODES) or row.final != (row.finished_at is not None):
        raise Broken("I30", f"{row} ends with {events[-1]}")
    if row.hold == HOLD_BLOCKED and last != 93:
        raise Broken("I30", f"{row} is blocked; its last event is {events[-1]}")


def i15_nothing_is_read_that_was_not_sent(watch: Watch, row: Row) -> None:
    if row.consumed > row.inbox_head:
        raise Broken("I15", f"{row} has read more than was sent")


STATES: Final = (
    i13_every_open_run_is_owned_or_will_wake,
    i30_the_status_is_what_the_history_says,
    i15_nothing_is_read_that_was_not_sent,
)


# -- what may be answered: (watch, process, arguments, answer)


def i2_i3_commits_are_fenced(watch: Watch, process: Process, arguments: Any, answer: Any) -> None:
    worker, batch = arguments
    for item, told in zip(batch, answer, strict=True):
        row = watch.rows[item.key]
        mine = row.owner == worker and row.epoch == item.epoch
        if told.code is Code.APPLIED and not (mine and row.seq == item.seq):
            raise Broken("I3", f"{process} as worker {worker} appended {item} to {row}")
        if told.code is Code.OTHER_SEQ and not (mine and told.seq == row.seq != item.seq):
            raise Broken("I2", f"{process} was told {told} for {item}: {row}")
        if told.code is Code.LOST and mine:
            raise Broken("I2", f"{process} was told that {row} is lost, and owns it")


def i17_claims_take_what_is_free_and_due(
    watch: Watch, process: Process, arguments: Any, answer: Any
) -> None:
    worker, _lanes, limit = arguments
    if len(answer) > limit:
        raise Broken("I26", f"{len(answer)} runs were claimed, not {limit}")
    now = watch._cluster.now()
    for claim in answer:
        row = watch.rows[claim.key]
        free = row.owner is None and not row.hold and not row.final
        due = row.ready_at is not None and max(row.ready_at, row.not_before or 0) <= now
        if not (free and due and claim.epoch == row.epoch + 1 and claim.seq == row.seq):
            raise Broken("I17", f"{process} claimed {claim}: {row}, now {now}")
        if worker not in watch.workers:
            raise Broken("I3", f"worker {worker} claimed {claim} and has no lease")


def i17_only_the_dead_are_reaped(
    watch: Watch, process: Process, arguments: Any, answer: Any
) -> None:
    now = watch._cluster.now()
    for worker in answer.workers:
        watch.figures["reaped"] += 1
        expired = watch.workers[worker] < now
        if not expired and not watch._cluster.knows_the_dead:
            raise Broken("I17", f"{process} reaped worker {worker}, whose lease holds")


def i17_worker_ids_never_come_back(
    watch: Watch, process: Process, arguments: Any, answer: Any
) -> None:
    if answer.worker in watch.workers_ever:
        raise Broken("I17", f"worker id {answer.worker} was given out before")
    watch.workers_ever.add(answer.worker)


def i5_messages_are_taken_once(watch: Watch, process: Process, arguments: Any, answer: Any) -> None:
    ids = {row.id: row.key for row in watch.rows.values()}
    (deliveries,) = arguments
    for sent, told in zip(deliveries, answer, strict=True):
        key = ids.get(sent.run_id)
        if told.number is None:
            if told.known and told.is_open:
                raise Broken("I15", f"{sent} was refused: {told}")
            if (key is None) == told.known or (told.known and not watch.rows[key].final):
                raise Broken("I15", f"{sent} was refused: {told}, {key}")
            continue
        if key is None:
            raise Broken("I15", f"{sent} was accepted by nobody: {told}")
        watch.sent.setdefault((key, told.number), sent)
        if sent.idempotency_key is not None:
            known = watch.keys.setdefault((key, sent.idempotency_key), told.number)
            if known != told.number:
                raise Broken("I5", f"{sent} has the numbers {known} and {told.number}")


_ANSWERS: Final = {
    "deliver": i5_messages_are_taken_once,
    "commit": i2_i3_commits_are_fenced,
    "claim": i17_claims_take_what_is_free_and_due,
    "reap": i17_only_the_dead_are_reaped,
    "register": i17_worker_ids_never_come_back,
}
