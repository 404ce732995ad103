"""A model of the protocol between workers and the database, and a checker that plays all of it.

The model knows database transactions at the grain at which PostgreSQL lets them interleave (a lock, a
snapshot, the commit), sessions whose client is gone and which work on, workers that speculate and cache,
lost answers, crashes, lost leases. `check` walks every interleaving of a small configuration, breadth
first, and answers the shortest way to a broken promise:

- a committed step is not started again under a live owner, and no effect rests on what is not durable;
- an instance is what its durable history says, whenever it appends;
- messages are received once and in order, and none is left unread;
- while a run is open there is a next step: no lost wake-up, no orphan, no deadlock.

`MUTANTS` are plausible ways to build it wrong. Each must be found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MUTANTS: Final = {
    "claim_unfenced": "lease",
    "no_epoch": "pause",
    "no_adopt": "lost2",
    "cache_seq_only": "takeover",
    "park_snapshot": "send2",
    "n_sequence": "send2",
    "claim_no_recheck": "lease",
    "row_twice": "child1",
    "lock_unordered": "childx",
    "release_early": "lost2",
    "unknown_is_failure": "lost2",
    "unknown_is_success": "lost2",
    "resend_lost": "lost2",
    "resend_grown": "child1",
    "reap_one_statement": "lease",
}
"""Each wrong way, and the smallest configuration that shows it."""

_NEEDS_NO_SWEEP = frozenset({"claim_unfenced", "reap_one_statement"})
_SPLIT = frozenset({"park_snapshot", "lock_unordered"})
"""Mutants that take the commit apart into more than one grain."""

NEVER, DUE, LATER = 0, 1, 2
ABSENT, OPEN, DONE, ENDED = 0, 1, 2, 3
DEAD_COMMIT, DEAD_CLAIM, DEAD_OLD = 50, 60, 70
"""Slots of sessions whose client is gone: of a commit, of a claim, of a commit already probed."""


@dataclass(frozen=True)
class Config:
    """A small world: which workflow, how many processes, and how much may go wrong."""

    workflow: str
    procs: int = 1
    crash: int = 0
    lost: int = 0
    reap: int = 0
    send: int = 0
    term: int = 0
    pause: int = 0


CONFIGS: Final = {
    "lease": Config("event", procs=2, reap=2, send=1),
    "lost2": Config("event", lost=2, reap=1, send=1),
    "pause": Config("event", lost=1, send=1, pause=1),
    "cache": Config("two events", procs=2, reap=1, send=2),
    "takeover": Config("event", procs=2, reap=1, send=1),
    "send2": Config("two events", reap=1, send=2),
    "term": Config("event", lost=1, reap=1, send=1, term=1),
    "child1": Config("child", lost=1, reap=1),
    "childx": Config("crossed", procs=2),
    "core": Config("event", procs=2, crash=1, lost=1, reap=1, send=1),
}


class Run(NamedTuple):
    """A row of `runs`, with its history and its inbox."""

    owner: int = 0
    epoch: int = 0
    ready: int = DUE
    head: int = 0
    consumed: int = 0
    status: int = OPEN
    hold: int = 0
    history: tuple[Any, ...] = ()
    inbox: tuple[int, ...] = ()


class Tx(NamedTuple):
    """A transaction under way; `at` 9 means that it has ended and `result` is on its way."""

    slot: int
    kind: str
    payload: Any
    at: int = 0
    share: int = 0
    """The worker row that it holds FOR KEY SHARE."""
    lock: int = 0
    """The worker row that it is deleting."""
    rows: frozenset[int] = frozenset()
    note: Any = None
    result: Any = None


class Instance(NamedTuple):
    """A run in a worker's memory."""

    epoch: int
    durable: int
    events: tuple[Any, ...]
    consumed: int
    running: frozenset[str]
    head: int


class Cached(NamedTuple):
    """A parked instance."""

    epoch: int
    events: tuple[Any, ...]
    consumed: int


class Proc(NamedTuple):
    """A process: the worker that it is (0: none), what its commit does, what it remembers."""

    worker: int
    phase: str
    memory: tuple[Instance | None, ...]
    cache: tuple[Cached | None, ...]


class Item(NamedTuple):
    """One run's part of a commit."""

    run: int
    epoch: int
    durable: int
    events: tuple[Any, ...]
    consumed: int
    act: int
    messages: tuple[int, ...]
    child: bool


class Budget(NamedTuple):
    """What may still go wrong, and the next numbers."""

    crash: int
    lost: int
    reap: int
    send: int
    term: int
    pause: int
    worker: int = 1
    number: int = 0


class State(NamedTuple):
    """Everything."""

    runs: tuple[Run, ...]
    workers: frozenset[int]
    txs: tuple[Tx, ...]
    procs: tuple[Proc, ...]
    budget: Budget


Step = tuple[str, State]


class Broken(Exception):
    """A promise is broken."""


def put(items: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*items[:index], value, *items[index + 1 :])


class Model:
    """All next states of a state, for one configuration and at most one mutant."""

    def __init__(self, config: str, mutant: str = "") -> None:
        self.config = CONFIGS[config]
        self.mutant = mutant
        self.workflow = self.config.workflow
        self.width = 2 if self.workflow in {"child", "crossed"} else 1
        self.split = mutant in _SPLIT
        self.sweeps = mutant not in _NEEDS_NO_SWEEP

    def first(self) -> State:
        c = self.config
        runs = [Run()]
        if self.width == 2:
            runs.append(Run() if self.workflow == "crossed" else Run(status=ABSENT, ready=NEVER))
        nothing = (None,) * self.width
        procs = (Proc(0, "idle", nothing, nothing),) * c.procs
        budget = Budget(c.crash, c.lost, c.reap, c.send, c.term, c.pause)
        return State(tuple(runs), frozenset(), (), procs, budget)

    # -- the workflow: what a list of events leaves to do

    def todo(self, run: int, events: tuple[Any, ...]) -> tuple[dict[str, int], bool]:
        """Commands outstanding, with the number of events that issued each; and whether it has ended."""
        kinds = [event[0] for event in events]
        if self.workflow in {"event", "two events"}:
            return self._todo_event(kinds)
        if run == 1:
            return ({}, True) if "x" in kinds or "m" in kinds else ({"x": 0}, False)
        if self.workflow == "child":
            if "S" not in kinds:
                return {"S": 0}, False
            if "a" not in kinds:
                return {"a": kinds.index("S") + 1}, False
            return {}, "m" in kinds
        if "a" not in kinds:
            return {"a": 0}, False
        if "X" not in kinds:
            return {"X": len(events)}, False
        return {}, "m" in kinds

    def _todo_event(self, kinds: list[str]) -> tuple[dict[str, int], bool]:
        needs = 2 if self.workflow == "two events" else 1
        if "a" not in kinds:
            return {"a": 0}, False
        got = [place for place, kind in enumerate(kinds) if kind == "m"]
        if len(got) < needs:
            return {}, False
        if needs == 1 and "b" not in kinds:
            return {"b": got[0] + 1}, False
        return {}, True

    # -- next states

    def next(self, s: State) -> Iterator[Step]:
        for run, row in enumerate(s.runs):
            if row.status == OPEN and row.ready == LATER and run not in locked(s):
                yield f"clock r{run}", s._replace(runs=put(s.runs, run, row._replace(ready=DUE)))
        for number, proc in enumerate(s.procs):
            if proc.worker == 0:
                yield from self._register(s, number, proc)
            else:
                yield from self._crash(s, number, proc)
                yield from self._claiming(s, number, proc)
                yield from self._working(s, number, proc)
                yield from self._committing(s, number, proc)
        for tx in s.txs:
            yield from self._session(s, tx)
        yield from self._others(s)

    def _proc(self, s: State, number: int, **changes: Any) -> State:
        return s._replace(procs=put(s.procs, number, s.procs[number]._replace(**changes)))

    def _register(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        c = self.config
        if s.budget.worker > 2 * c.procs + c.reap + c.crash - 1:
            return
        worker = s.budget.worker
        after = self._proc(s, number, worker=worker, phase="idle", memory=(None,) * self.width)
        after = after._replace(
            workers=s.workers | {worker}, budget=s.budget._replace(worker=worker + 1)
        )
        yield f"p{number} registers w{worker}", after

    def _crash(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        slots = {tx.slot for tx in s.txs}
        dead = {number + base for base in (DEAD_COMMIT, DEAD_CLAIM, DEAD_OLD)}
        if not s.budget.crash or slots & dead:
            return
        moved = {number: number + DEAD_COMMIT, number + 10: number + DEAD_CLAIM}
        txs = tuple(tx._replace(slot=moved.get(tx.slot, tx.slot)) for tx in s.txs)
        nothing = (None,) * self.width
        after = self._proc(s, number, worker=0, phase="idle", memory=nothing, cache=nothing)
        budget = s.budget._replace(crash=s.budget.crash - 1)
        yield f"p{number} CRASHES", after._replace(txs=txs, budget=budget)

    # -- claims and adoption

    def _claiming(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        slot = number + 10
        tx = by_slot(s, slot)
        if tx is None:
            yield from self._adopt(s, number, proc)
            if any(claimable(row) for row in s.runs):
                yield f"p{number} sends a claim", add(s, Tx(slot, "claim", proc.worker))
            return
        if tx.at == 9:
            yield self._claim_answer(s, number, proc, tx)
        if tx.payload == proc.worker and s.budget.lost and not by_slot(s, number + DEAD_CLAIM):
            after = drop(s, tx)
            if tx.at != 9:
                after = add(after, tx._replace(slot=number + DEAD_CLAIM))
            budget = s.budget._replace(lost=s.budget.lost - 1)
            yield f"p{number} LOSES the claim's answer", after._replace(budget=budget)

    def _adopt(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        if self.mutant == "no_adopt" or proc.phase != "idle":
            return
        for run, row in enumerate(s.runs):
            known = proc.memory[run]
            mine = row.owner == proc.worker and row.ready == DUE and row.status == OPEN
            if mine and (known is None or known.epoch != row.epoch):
                memory = put(proc.memory, run, self._load(row, proc.cache[run]))
                yield f"p{number} adopts r{run}", self._proc(s, number, memory=memory)

    def _claim_answer(self, s: State, number: int, proc: Proc, tx: Tx) -> Step:
        memory, cache = proc.memory, proc.cache
        for run, epoch, row in tx.result if tx.payload == proc.worker else ():
            held = memory[run]
            if held is None or (self.mutant != "no_epoch" and held.epoch < epoch):
                memory = put(memory, run, self._load(row, cache[run]))
            cache = put(cache, run, None)
        after = self._proc(drop(s, tx), number, memory=memory, cache=cache)
        return f"p{number} has claimed {[r for r, _, _ in tx.result]}", after

    def _load(self, row: Run, kept: Cached | None) -> Instance:
        length = len(row.history)
        blind = self.mutant == "cache_seq_only"
        if kept and len(kept.events) == length and (blind or kept.epoch + 1 == row.epoch):
            return Instance(row.epoch, length, kept.events, kept.consumed, frozenset(), row.head)
        return Instance(row.epoch, length, row.history, row.consumed, frozenset(), row.head)

    # -- an instance lives

    def _working(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        for run in range(self.width):
            mine = proc.memory[run]
            if mine is None:
                continue
            for label, after in self._instance(s, proc, run, mine):
                memory = put(proc.memory, run, after)
                yield f"p{number} r{run} {label}", self._proc(s, number, memory=memory)

    def _instance(
        self, s: State, proc: Proc, run: int, mine: Instance
    ) -> Iterator[tuple[str, Instance]]:
        commands, ended = self.todo(run, mine.events)
        row = s.runs[run]
        for name, issued in commands.items():
            released = mine.durable >= issued or self.mutant == "release_early"
            if name not in {"S", "X"} and name not in mine.running and released:
                self._check_effect(s, proc, row, mine, name, issued)
                yield f"starts {name}", mine._replace(running=mine.running | {name})
        for name in mine.running & commands.keys():
            event = (name, proc.worker, mine.epoch)
            yield (
                f"ends {name}",
                mine._replace(events=(*mine.events, event), running=mine.running - {name}),
            )
        unread = [n for n in row.inbox if n > mine.consumed]
        if unread and not ended and row.status == OPEN and ("a" not in commands or self.width == 2):
            events = mine.events + tuple(("m", n) for n in unread)
            yield f"reads {unread}", mine._replace(events=events, consumed=max(unread))

    def _check_effect(
        self, s: State, proc: Proc, row: Run, mine: Instance, name: str, issued: int
    ) -> None:
        if proc.worker not in s.workers or (row.owner, row.epoch) != (proc.worker, mine.epoch):
            return
        if any(event[0] == name for event in row.history):
            raise Broken(f"step {name} was committed and is started again")
        if mine.events[:issued] != row.history[:issued]:
            raise Broken(f"step {name} is started on events that are not durable")

    # -- commits, as their worker sees them

    def _committing(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        tx = by_slot(s, number)
        if proc.phase == "idle" and tx is None:
            if items := self._batch(proc):
                sent = add(s, Tx(number, "commit", (proc.worker, items)))
                yield (
                    f"p{number} commits {[(i.run, len(i.events), i.act) for i in items]}",
                    self._proc(sent, number, phase="sent"),
                )
        elif proc.phase == "sent" and tx is not None:
            if tx.at == 9:
                after = drop(s, tx)
                learnt = self._learn(s, proc, tx, tx.result)
                yield f"p{number} is answered {tx.result}", put_proc(after, number, learnt)
            if s.budget.lost and not by_slot(s, number + DEAD_COMMIT):
                after = add(drop(s, tx), tx._replace(slot=number + DEAD_COMMIT))
                after = self._proc(after, number, phase="unknown")
                budget = s.budget._replace(lost=s.budget.lost - 1)
                yield f"p{number} LOSES the commit's answer", after._replace(budget=budget)
        elif proc.phase == "unknown":
            yield from self._probe(s, number, proc)

    def _batch(self, proc: Proc) -> tuple[Item, ...]:
        items = []
        for run, mine in enumerate(proc.memory):
            if mine is None:
                continue
            events, messages, child = mine.events, (), False
            commands, ended = self.todo(run, events)
            if "S" in commands:
                events, child = (*events, ("S",)), True
            if "X" in commands:
                events, messages = (*events, ("X",)), (1,)
            commands, ended = self.todo(run, events)
            idle = not commands and not mine.running and mine.consumed >= mine.head
            act = 2 if ended else 1 if idle else 0
            if ended and run == 1:
                messages = (0,)
            if len(events) > mine.durable or act:
                item = Item(
                    run, mine.epoch, mine.durable, events, mine.consumed, act, messages, child
                )
                items.append(item)
        return tuple(items)

    def _probe(self, s: State, number: int, proc: Proc) -> Iterator[Step]:
        tx = by_slot(s, number + DEAD_COMMIT)
        if tx is None:
            return
        found = self._reading(s, proc, tx)
        after = drop(s, tx)
        if by_slot(s, number + DEAD_OLD):
            after = s
        elif tx.at != 9:
            after = add(after, tx._replace(slot=number + DEAD_OLD))
        yield f"p{number} probes {found}", put_proc(after, number, self._learn(s, proc, tx, found))

    def _reading(self, s: State, proc: Proc, tx: Tx) -> tuple[Any, ...]:
        worker, items = tx.payload
        if worker not in s.workers:
            return tuple((item.run, 9) for item in items)
        if self.mutant == "unknown_is_failure":
            return tuple((item.run, 2) for item in items)
        if self.mutant == "unknown_is_success":
            return tuple((item.run, 0) for item in items)
        return tuple((item.run, self._still_mine(s, worker, item)) for item in items)

    def _still_mine(self, s: State, worker: int, item: Item) -> Any:
        row = s.runs[item.run]
        if row.owner != worker or (row.epoch != item.epoch and self.mutant != "no_epoch"):
            return 2
        if len(row.history) == len(item.events) > item.durable:
            return 0
        return 1 if len(row.history) == item.durable else ("mine", row.history)

    def _learn(self, s: State, proc: Proc, tx: Tx, answers: tuple[Any, ...]) -> Proc:
        """What a worker makes of the answer to a commit, or of a probe after it."""
        items = tx.payload[1]
        if answers and answers[0][1] == 9:
            return Proc(0, "idle", (None,) * self.width, self._kept(proc))
        memory, cache = proc.memory, proc.cache
        for item, (run, code) in zip(items, answers, strict=True):
            mine = memory[run]
            if mine is None or (mine.epoch != item.epoch and self.mutant != "no_epoch"):
                continue
            if isinstance(code, tuple):
                history = code[1]
                rest = tuple(event for event in mine.events if event not in history)
                grown = mine._replace(durable=len(history), events=history + rest, epoch=item.epoch)
                memory = put(memory, run, grown)
            elif code == 0:
                if item.act == 2 and self.mutant != "unknown_is_success":
                    self._check_result(s, run)
                rest = tuple(event for event in mine.events if event not in item.events)
                grown = mine._replace(
                    epoch=item.epoch,
                    durable=len(item.events),
                    events=item.events + rest,
                    consumed=max(item.consumed, mine.consumed),
                )
                memory = put(memory, run, None if item.act else grown)
                if item.act == 1:
                    cache = put(cache, run, Cached(item.epoch, item.events, item.consumed))
            elif code == 2:
                if self.mutant == "cache_seq_only":
                    kept = Cached(item.epoch, mine.events, mine.consumed)
                    cache = put(cache, run, kept)
                memory = put(memory, run, None)
        return Proc(proc.worker, "idle", memory, cache)

    def _check_result(self, s: State, run: int) -> None:
        if s.runs[run].status != DONE:
            raise Broken("a result is visible and not durable")

    def _kept(self, proc: Proc) -> tuple[Cached | None, ...]:
        if self.mutant != "cache_seq_only":
            return (None,) * self.width
        return tuple(
            proc.cache[run] if mine is None else Cached(mine.epoch, mine.events, mine.consumed)
            for run, mine in enumerate(proc.memory)
        )

    # -- what sessions do in the database

    def _session(self, s: State, tx: Tx) -> Iterator[Step]:
        dead = DEAD_COMMIT <= tx.slot < 100
        probed_later = (
            dead and tx.slot < DEAD_CLAIM and s.procs[tx.slot - DEAD_COMMIT].phase == "unknown"
        )
        if dead and tx.at < 9:
            ended = end(tx, "aborted")
            yield (
                f"session {tx.slot} {tx.kind} aborted",
                swap(s, tx, ended) if probed_later else drop(s, tx),
            )
        if dead and tx.at == 9 and not probed_later:
            yield f"session {tx.slot} forgotten", drop(s, tx)
            return
        play = {
            "claim": self._claim,
            "commit": self._commit,
            "reap": self._reap,
            "send": self._send,
        }.get(tx.kind, self._control)
        yield from play(s, tx)

    def _claim(self, s: State, tx: Tx) -> Iterator[Step]:
        name = f"session {tx.slot} claim"
        if tx.at == 0:
            candidates = tuple(run for run, row in enumerate(s.runs) if claimable(row))
            if self.mutant == "claim_unfenced":
                yield f"{name} snapshot", swap(s, tx, tx._replace(at=1, note=candidates))
            elif tx.payload in being_deleted(s):
                return
            elif tx.payload not in s.workers:
                yield f"{name} fenced", swap(s, tx, end(tx, ()))
            else:
                ready = tx._replace(at=1, share=tx.payload, note=candidates)
                yield f"{name} fence and snapshot {candidates}", swap(s, tx, ready)
        elif tx.at == 1:
            careless = self.mutant == "claim_no_recheck"
            got = frozenset(
                run
                for run in tx.note
                if run not in locked(s) and (careless or claimable(s.runs[run]))
            )
            if careless:
                yield f"{name} locks {set(got)}", swap(s, tx, tx._replace(at=2, rows=got))
                return
            single = [frozenset({run}) for run in got] if self.width > 1 else []
            for part in [*single, got] if len(got) != 1 else [got]:
                yield self._claimed(s, tx, part)
        elif tx.at == 2:
            yield self._claimed(s, tx, tx.rows)

    def _claimed(self, s: State, tx: Tx, rows: frozenset[int]) -> Step:
        runs, got = s.runs, []
        for run in sorted(rows):
            row = runs[run]
            if row.status != OPEN:
                continue
            if row.owner not in {0, tx.payload} and row.owner in s.workers:
                raise Broken("a run is stolen from a live owner")
            ready = NEVER if self.mutant == "no_adopt" else LATER
            row = row._replace(owner=tx.payload, epoch=row.epoch + 1, ready=ready)
            runs = put(runs, run, row)
            got.append((run, row.epoch, row))
        after = swap(s, tx, end(tx, tuple(got)))._replace(runs=runs)
        return f"session {tx.slot} claim COMMITS {[run for run, _, _ in got]}", after

    def _commit(self, s: State, tx: Tx) -> Iterator[Step]:
        worker, items = tx.payload
        name = f"session {tx.slot} commit"
        targets = sorted({i.run for i in items} | {to for i in items for to in i.messages})
        if tx.at == 0:
            if worker in being_deleted(s):
                return
            if worker not in s.workers:
                yield f"{name} FENCED", swap(s, tx, end(tx, tuple((i.run, 9) for i in items)))
                return
            begun = tx._replace(share=worker, note=tuple(row.head for row in s.runs))
            if self.split:
                yield f"{name} fence", swap(s, tx, begun._replace(at=1))
            else:
                free = frozenset(run for run in targets if run not in locked(s))
                yield f"{name} fence and locks", swap(s, tx, begun._replace(at=2, rows=free))
        elif tx.at == 1:
            yield from self._lock(s, tx, items, targets)
        elif tx.at == 2:
            yield self._apply(s, tx)

    def _lock(
        self, s: State, tx: Tx, items: tuple[Item, ...], targets: list[int]
    ) -> Iterator[Step]:
        name = f"session {tx.slot} commit"
        if self.mutant != "lock_unordered":
            free = frozenset(run for run in targets if run not in locked(s))
            yield f"{name} locks", swap(s, tx, tx._replace(at=2, rows=free))
            return
        own = [item.run for item in items]
        order = own + [to for item in items for to in item.messages if to not in own]
        todo = [run for run in order if run not in tx.rows]
        if not todo:
            yield f"{name} has all locks", swap(s, tx, tx._replace(at=2))
        elif todo[0] not in locked(s):
            yield f"{name} locks r{todo[0]}", swap(s, tx, tx._replace(rows=tx.rows | {todo[0]}))

    def _apply(self, s: State, tx: Tx) -> Step:
        worker, items = tx.payload
        answers = tuple((item.run, self._code(s, tx, worker, item)) for item in items)
        applied = [item for item, (_, code) in zip(items, answers, strict=True) if code == 0]
        runs = s.runs
        for item in applied:
            row = runs[item.run]
            self._check_append(row, item)
            head = tx.note[item.run] if self.mutant == "park_snapshot" else row.head
            ready = DUE if item.act != 2 and head > item.consumed else NEVER
            row = row._replace(
                owner=0 if item.act else worker,
                ready=ready,
                consumed=item.consumed,
                status=DONE if item.act == 2 else OPEN,
                history=item.events,
            )
            runs = put(runs, item.run, row)
            if item.child and runs[1].status == ABSENT:
                runs = put(runs, 1, Run())
        touched = {item.run for item in applied} if self.mutant == "row_twice" else set()
        for item in applied:
            for to in item.messages:
                if runs[to].status == OPEN and to not in touched:
                    runs = put(runs, to, delivered(runs[to], runs[to].head + 1))
        after = swap(s, tx, end(tx, answers))._replace(runs=runs)
        return f"session {tx.slot} commit COMMITS {answers}", after

    def _code(self, s: State, tx: Tx, worker: int, item: Item) -> Any:
        row = s.runs[item.run]
        if item.run not in tx.rows or any(to not in tx.rows for to in item.messages):
            return 1
        mine = row.owner == worker and row.status == OPEN
        same_epoch = row.epoch == item.epoch
        if mine and len(row.history) == item.durable and (same_epoch or self.mutant == "no_epoch"):
            return 0
        if not (mine and same_epoch) or self.mutant == "resend_lost":
            return 2
        if self.mutant == "resend_grown" and len(row.history) != len(item.events):
            return 2
        return ("mine", row.history)

    def _check_append(self, row: Run, item: Item) -> None:
        if row.history != item.events[: item.durable]:
            raise Broken("an instance differs from its durable history")
        numbers = [event[1] for event in item.events if event[0] == "m"]
        if numbers != sorted(set(numbers)):
            raise Broken("a message is consumed twice")

    def _reap(self, s: State, tx: Tx) -> Iterator[Step]:
        worker = tx.payload
        owned = tuple(run for run, row in enumerate(s.runs) if row.owner == worker)
        if tx.at == 0 and worker not in s.workers:
            yield f"reap w{worker}: nothing", drop(s, tx)
        elif tx.at == 0 and tx.note is None and self.mutant == "reap_one_statement":
            yield f"reap w{worker} snapshot {owned}", swap(s, tx, tx._replace(note=owned))
        elif tx.at == 0 and worker not in {t.share for t in s.txs} | being_deleted(s):
            yield f"reap w{worker} locks", swap(s, tx, tx._replace(at=1, lock=worker))
        elif tx.at == 1:
            seen = tx.note if self.mutant == "reap_one_statement" else owned
            free = [run for run in seen if run not in locked(s) and s.runs[run].owner == worker]
            if any(run in locked(s) for run in seen) and not self.sweeps:
                return
            runs = s.runs
            for run in free:
                runs = put(runs, run, runs[run]._replace(owner=0, ready=DUE))
            after = drop(s, tx)._replace(runs=runs, workers=s.workers - {worker})
            yield f"reap w{worker} COMMITS, frees {free}", after

    def _send(self, s: State, tx: Tx) -> Iterator[Step]:
        row = s.runs[0]
        numbered = self.mutant == "n_sequence"
        if tx.at == 0 and numbered and tx.note is None:
            number = s.budget.number + 1
            after = swap(s, tx, tx._replace(note=number, at=1))
            yield f"send takes {number}", after._replace(budget=s.budget._replace(number=number))
        elif tx.at == 1 and row.status != OPEN:
            yield "send refused", drop(s, tx)
        elif tx.at == 1 and not (numbered and 0 in locked(s)):
            number = tx.note if numbered else row.head + 1
            runs = put(s.runs, 0, delivered(row, number))
            yield f"send COMMITS n={number}", drop(s, tx)._replace(runs=runs)

    def _control(self, s: State, tx: Tx) -> Iterator[Step]:
        """Terminate, pause and resume."""
        row = s.runs[0]
        if tx.at == 0:
            if 0 not in locked(s):
                yield f"{tx.kind} locks", swap(s, tx, tx._replace(at=1, rows=frozenset({0})))
            return
        after = drop(s, tx)
        if row.status != OPEN:
            yield f"{tx.kind} comes too late", after
            return
        if tx.kind == "terminate":
            history = (*row.history, ("T",))
            row = row._replace(
                owner=0, epoch=row.epoch + 1, ready=NEVER, status=ENDED, history=history
            )
        elif tx.kind == "pause":
            row = row._replace(owner=0, hold=1)
            after = add(after, Tx(42, "resume", 0))
        else:
            row = row._replace(hold=0, ready=DUE)
        yield f"{tx.kind} COMMITS", after._replace(runs=put(s.runs, 0, row))

    # -- who else acts

    def _others(self, s: State) -> Iterator[Step]:
        yield from self._reaper(s)
        for number, proc in enumerate(s.procs):
            fenced = proc.worker and proc.worker not in s.workers and proc.phase == "idle"
            if fenced and not by_slot(s, number) and not by_slot(s, number + 10):
                nobody = Proc(0, "idle", (None,) * self.width, self._kept(proc))
                yield f"p{number} learns that its lease is gone", put_proc(s, number, nobody)
        if self.sweeps:
            yield from self._sweep(s)
        if s.budget.send:
            yield from self._sender(s)
        for kind, slot, left in (("terminate", 40, s.budget.term), ("pause", 41, s.budget.pause)):
            if left and not by_slot(s, slot):
                field = "term" if kind == "terminate" else "pause"
                budget = s.budget._replace(**{field: left - 1})
                yield f"{kind} begins", add(s, Tx(slot, kind, 0))._replace(budget=budget)

    def _reaper(self, s: State) -> Iterator[Step]:
        if any(tx.kind == "reap" for tx in s.txs):
            return
        alive = {proc.worker for proc in s.procs}
        for worker in sorted(s.workers):
            begun = add(s, Tx(30 + worker, "reap", worker))
            if worker not in alive:
                yield f"the reaper sees that w{worker} is dead", begun
            elif s.budget.reap:
                budget = s.budget._replace(reap=s.budget.reap - 1)
                yield f"the lease of w{worker} expires", begun._replace(budget=budget)

    def _sweep(self, s: State) -> Iterator[Step]:
        claiming = {tx.payload for tx in s.txs if tx.kind == "claim" and tx.at in {1, 2}}
        for run, row in enumerate(s.runs):
            orphan = row.owner and row.owner not in s.workers and row.owner not in claiming
            if orphan and row.status == OPEN and run not in locked(s):
                runs = put(s.runs, run, row._replace(owner=0, ready=DUE))
                yield f"the sweep frees r{run}", s._replace(runs=runs)

    def _sender(self, s: State) -> Iterator[Step]:
        slot = next((slot for slot in (20, 21) if not by_slot(s, slot)), None)
        if slot is None:
            return
        budget = s.budget._replace(send=s.budget.send - 1)
        if self.mutant == "n_sequence":
            yield "send begins", add(s, Tx(slot, "send", 0))._replace(budget=budget)
        elif 0 not in locked(s):
            tx = Tx(slot, "send", 0, at=1, rows=frozenset({0}))
            yield "send locks r0", add(s, tx)._replace(budget=budget)


def claimable(row: Run) -> bool:
    return row.owner == 0 and row.ready == DUE and row.status == OPEN and not row.hold


def delivered(row: Run, number: int) -> Run:
    inbox = tuple(sorted((*row.inbox, number)))
    return row._replace(ready=DUE, head=max(row.head, number), inbox=inbox)


def locked(s: State) -> set[int]:
    return {run for tx in s.txs for run in tx.rows}


def being_deleted(s: State) -> set[int]:
    return {tx.lock for tx in s.txs if tx.lock}


def by_slot(s: State, slot: int) -> Tx | None:
    return next((tx for tx in s.txs if tx.slot == slot), None)


def add(s: State, tx: Tx) -> State:
    return s._replace(txs=tuple(sorted((*s.txs, tx), key=lambda one: one.slot)))


def drop(s: State, tx: Tx) -> State:
    return s._replace(txs=tuple(one for one in s.txs if one.slot != tx.slot))


def swap(s: State, old: Tx, new: Tx) -> State:
    return add(drop(s, old), new)


def end(tx: Tx, result: Any) -> Tx:
    """The transaction has ended: its locks are gone, its answer is on the way."""
    return tx._replace(at=9, share=0, lock=0, rows=frozenset(), result=result)


def put_proc(s: State, number: int, proc: Proc) -> State:
    return s._replace(procs=put(s.procs, number, proc))


class Verdict(NamedTuple):
    """What a walk found: nothing, or a broken promise and the shortest way there."""

    states: int
    broken: str | None
    trace: tuple[str, ...] = ()
    closed: bool = True
    """Every state was visited."""


_FAULTS = ("CRASH", "LOSES", "lease of", "pause begins", "terminate begins", "aborted")
"""Steps that nobody may rely on: a world that only these can move is stuck."""


def check(config: str, mutant: str = "", limit: int = 1_000_000) -> Verdict:
    """Walk every state of a configuration, at most `limit` of them, breadth first."""
    model = Model(config, mutant)
    start = model.first()
    came: dict[int, tuple[int | None, str]] = {hash(start): (None, "start")}
    queue = deque([start])
    seen = 0
    while queue:
        if seen >= limit:
            return Verdict(seen, None, closed=False)
        state = queue.popleft()
        seen += 1
        try:
            steps = list(model.next(state))
            _check_end(model, state, steps)
        except Broken as broken:
            return Verdict(seen, str(broken), _way(came, hash(state)))
        for label, after in steps:
            key = hash(after)
            if key not in came:
                came[key] = (hash(state), label)
                queue.append(after)
    return Verdict(seen, None)


def _check_end(model: Model, state: State, steps: list[Step]) -> None:
    if any(not any(fault in label for fault in _FAULTS) for label, _ in steps):
        return
    if any(row.status == OPEN for row in state.runs):
        kind = "a deadlock" if any(tx.at < 9 for tx in state.txs) else "nothing moves"
        raise Broken(f"{kind}, and a run is open")
    for row in state.runs:
        read = sum(event[0] == "m" for event in row.history)
        plain = model.workflow != "crossed" and not model.config.term
        if row.status == DONE and plain and row.consumed != read:
            raise Broken("a message is lost")


def _way(came: dict[int, tuple[int | None, str]], key: int | None) -> tuple[str, ...]:
    labels = []
    while key is not None:
        key, label = came[key]
        labels.append(label)
    return tuple(reversed(labels))
