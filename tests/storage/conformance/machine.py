"""A store against a model of it: any sequence of verbs, the same answers and the same rows.

The model is a dictionary of runs and knows nothing of SQL. Every worker has *beliefs*: what the
answers that reached it told it about the runs it holds; answers can be lost, leases can end, and so
beliefs can be wrong. The rules act on beliefs, right and wrong ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from durable.model.history import CODES
from durable.model.lifecycle import FINAL, HOLD_BLOCKED, HOLD_PAUSED
from durable.model.messages import CANCEL
from durable.model.rows import Act, Claim, Code, Commit, Committed, NewWait, OutMessage, RunFilter
from durable.model.wire import EventRow
from durable.storage.base import Storage
from tests.storage.conformance.world import (
    TTL,
    UNBLOCKED,
    Now,
    World,
    event,
    events,
)

MOST = 1
IDS = st.sampled_from(["a", "a", "b", "b", "c", "d"])
SLEEPS = st.sampled_from([None, 0, 7])
RARELY = st.sampled_from([False, False, False, True])
DURATIONS = st.sampled_from([0.5, 3.0, 6.0, 11.0])


@dataclass
class Run:
    """What the model says of a run."""

    id: str
    key: int
    priority: int
    ready_at: int | None
    not_before: int = 0
    status: str = "pending"
    hold: int = 0
    owner: int | None = None
    epoch: int = 0
    history: list[int] = field(default_factory=lambda: [CODES["RunStarted"]])
    inbox: list[str] = field(default_factory=list)
    consumed: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    recoveries: int = 0
    recovered_seq: int = 0
    lost_owner: int | None = None
    parent: Run | None = None
    parent_cmd: int = 0
    abandoned: bool = False
    first_seq: int = 1
    control: int = 0
    followers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    waits: dict[int, NewWait] = field(default_factory=dict[int, NewWait])
    answered: dict[int, str] = field(default_factory=dict[int, str])
    tokens: set[str] = field(default_factory=set[str])
    had: set[int] = field(default_factory=set[int])
    subscribed: set[int] = field(default_factory=set[int])
    """Waits that have had what was kept for them."""

    @property
    def seq(self) -> int:
        return len(self.history)

    @property
    def open(self) -> bool:
        return self.status not in FINAL

    @property
    def shown(self) -> str:
        return {HOLD_PAUSED: "paused", HOLD_BLOCKED: "blocked"}.get(self.hold, self.status)

    def append(self, count: int, type: str = "StepCompleted") -> None:
        self.history += [CODES[type]] * count

    def receive(self, name: str, now: int, *, control: bool = False) -> int:
        self.inbox.append(name)
        self.wake(now)
        if control:
            self.control = len(self.inbox)
        return len(self.inbox)

    def wake(self, now: int) -> None:
        due = now if self.ready_at is None else min(self.ready_at, now)
        self.ready_at = max(due, self.not_before)

    @property
    def unread(self) -> list[str]:
        return self.inbox[self.consumed :]

    def end(self, status: str) -> None:
        self.status, self.owner, self.ready_at, self.hold = status, None, None, 0
        self.waits.clear()


def _followers(mail: Sequence[tuple[int, str]]) -> list[str]:
    return [name.removeprefix("~follow:") for _, name in mail if name.startswith("~follow:")]


def followed(row: EventRow | None, follower: str | None) -> EventRow:
    """The event as which a run reads of a follower; a plain one where there is none."""
    plain = row or event(0)
    if follower is None:
        return plain
    return replace(plain, type=CODES["FollowerAdded"], name=follower)


@dataclass
class Belief:
    """What a worker thinks that it holds."""

    worker: int
    claim: Claim
    in_flight: Commit | None = None


class StoreMachine(RuleBasedStateMachine):
    """`make` opens a store on an empty database."""

    make: Callable[[], Storage]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = Now()
        self.store = self.make()
        self.world = World(self.store, self.now)
        self.model: dict[str, Run] = {}
        self.leases: dict[int, int] = {}
        self.fenced: list[int] = []
        self.beliefs: list[Belief] = []
        self.acknowledged: dict[str, list[str]] = {}

    def do(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.runner.close()

    @initialize()
    def open(self) -> None:
        self.do(self.store.open())
        self.store.time = self.now
        self.lane = self.do(self.world.lanes())[0]
        self.do_register()
        self.do_register()
        for id in "ab":  # something is going on from the beginning
            started = self.do(self.world.start(id))
            self.model[id] = Run(id, started.key, 0, self.now())
        self._claim(next(iter(self.leases)), 2, lost=False)

    # -- workers

    @precondition(lambda self: len(self.leases) < 3)
    @rule()
    def register(self) -> None:
        self.do_register()

    def do_register(self) -> None:
        worker = self.do(self.world.worker())
        assert worker not in self.leases
        assert worker not in self.fenced
        self.leases[worker] = self.now.after(TTL)

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """I17: a lease that is gone stays gone."""
        worker = data.draw(self._workers())
        lease = self.store.renew(worker, TTL)
        assert (lease is None) == (worker in self.fenced)
        if lease is not None:
            self.leases[worker] = lease.expires_at

    @precondition(lambda self: len(self.leases) > 2)
    @rule(data=st.data())
    def unregister(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(list(self.leases)))
        self.do(self.store.unregister(worker))
        self._fence(worker)
        for run in self._owned(worker):
            run.owner, run.ready_at = None, self.now()

    @rule(seconds=DURATIONS)
    def time_passes(self, seconds: float) -> None:
        self.now.passes(seconds)

    @rule(data=st.data(), kill=st.booleans())
    def reap(self, data: st.DataObject, kill: bool) -> None:
        self._reap([data.draw(st.sampled_from(list(self.leases)))] if kill and self.leases else [])

    def _reap(self, gone: list[int]) -> None:
        dead = [w for w, until in self.leases.items() if until < self.now() or w in gone]
        freed = blocked = 0
        for worker in dead:
            for run in self._owned(worker):
                if self._recover(run, worker):
                    blocked += 1
                else:
                    freed += 1
        reaped = self.do(self.world.reap(most=MOST, gone=gone))
        assert (sorted(reaped.workers), reaped.freed, reaped.blocked) == (dead, freed, blocked)
        for worker in dead:
            self._fence(worker)

    def _recover(self, run: Run, worker: int) -> bool:
        """Free it; whether it is blocked now."""
        stuck = run.seq <= run.recovered_seq
        blocked = stuck and run.recoveries >= MOST
        run.recoveries = run.recoveries + 1 if stuck else 1
        run.recovered_seq = run.seq
        run.owner, run.lost_owner, run.ready_at = None, worker, self.now()
        if blocked:
            run.hold = HOLD_BLOCKED
            run.append(1, "Blocked")
        return blocked

    def _fence(self, worker: int) -> None:
        del self.leases[worker]
        self.fenced.append(worker)

    def _owned(self, worker: int) -> list[Run]:
        return [run for run in self.model.values() if run.owner == worker]

    # -- runs

    @rule(id=IDS, priority=st.integers(0, 1), later=st.sampled_from([None, None, 5]))
    def start(self, id: str, priority: int, later: int | None) -> None:
        """I6: at most one run per id."""
        not_before = None if later is None else self.now.after(later)
        started = self.do(self.world.start(id, priority=priority, not_before=not_before))
        assert started.created == (id not in self.model)
        if started.created:
            due = not_before or self.now()
            self.model[id] = Run(id, started.key, priority, due, not_before or 0)
        assert started.key == self.model[id].key
        assert started.status == self.model[id].shown

    @rule(id=IDS, data=st.data())
    def start_eagerly(self, id: str, data: st.DataObject) -> None:
        worker = data.draw(self._workers())
        lost = data.draw(st.booleans())
        started = self.do(self.world.start(id, eager_owner=worker))
        assert started.created == (id not in self.model)
        assert started.owned == (started.created and worker in self.leases)
        if not started.created:
            return
        run = self.model[id] = Run(id, started.key, 0, self.now())
        if started.owned:
            run.owner, run.epoch, run.status, run.ready_at = (
                worker,
                1,
                "running",
                self.now.after(10),
            )
            if not lost:
                self._believe(worker, self._as_claim(run))

    @rule(data=st.data())
    def claim_everything(self, data: st.DataObject) -> None:
        self._claim(data.draw(self._workers()), 10, lost=False)

    @precondition(lambda self: bool(self.leases))
    @rule(data=st.data())
    def be_lost_and_replaced(self, data: st.DataObject) -> None:
        """A worker dies, another one goes on with its runs."""
        worker = data.draw(st.sampled_from(list(self.leases)))
        self._reap([worker])
        self.do_register()
        self._claim(max(self.leases), 10, lost=False)

    @rule(data=st.data(), limit=st.integers(1, 3), lost=st.booleans())
    def claim(self, data: st.DataObject, limit: int, lost: bool) -> None:
        """What is due, by priority, then age; a worker without a lease gets nothing."""
        self._claim(data.draw(self._workers()), limit, lost=lost)

    def _workers(self) -> st.SearchStrategy[int]:
        """Mostly the living, and now and then the last one that died."""
        return st.sampled_from([*self.leases, *self.leases, *self.fenced[-1:]])

    def _claim(self, worker: int, limit: int, *, lost: bool) -> None:
        claims = self.do(self.world.claim(worker, limit))
        due = {run.key: run for run in self.model.values() if self._due(run)}
        if worker in self.fenced:
            assert claims == []
            return
        best = sorted((-run.priority, run.ready_at) for run in due.values())[:limit]
        taken = [due[claim.key] for claim in claims]
        assert [(-run.priority, run.ready_at) for run in taken] == best
        for claim, run in zip(claims, taken, strict=True):
            run.owner, run.epoch, run.not_before = worker, run.epoch + 1, 0
            run.status = "running"
            run.ready_at = self.now.after(10)
            self._check_claim(claim, run)
            if not lost:
                self._believe(worker, claim)

    def _check_claim(self, claim: Claim, run: Run) -> None:
        assert replace(claim, messages=()) == self._as_claim(run)
        if claim.messages:  # a store may bring along what has come, all of it
            unread = list(enumerate(run.inbox, 1))[run.consumed :]
            assert [(m.number, m.name) for m in claim.messages] == unread

    def _due(self, run: Run) -> bool:
        return run.owner is None and not run.hold and self._past(run)

    def _past(self, run: Run) -> bool:
        return run.ready_at is not None and run.ready_at <= self.now()

    def _as_claim(self, run: Run) -> Claim:
        return Claim(
            run.key,
            run.id,
            self.lane,
            run.epoch,
            run.seq,
            run.first_seq,
            run.consumed,
            len(run.inbox),
            "running",
            self.now(),
            run.lost_owner,
            0 if run.seq > run.recovered_seq else run.recoveries,
        )

    def _believe(self, worker: int, claim: Claim) -> None:
        """Older beliefs of the same worker stay: it may hold a run a second time without knowing."""
        self.beliefs.append(Belief(worker, claim))

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """An owner's poll: messages, and claims whose answers were lost, are found."""
        if not self.leases:
            return
        worker = data.draw(st.sampled_from(list(self.leases)))
        held = self.do(self.store.owned(worker))
        due = [
            r for r in self._owned(worker) if r.ready_at is not None and r.ready_at <= self.now()
        ]
        assert sorted(h.key for h in held) == sorted(run.key for run in due)
        known = {b.claim.key: b.claim for b in self.beliefs if b.worker == worker}  # the newest
        unknown = [h.key for h in held if h.key not in known or known[h.key].epoch != h.epoch]
        for claim in self.do(self.store.adopt(worker, unknown)):
            self._believe(worker, claim)
        quiet = [h for h in held if h.key not in unknown and h.inbox_head == h.consumed]
        late = quiet[:1] if data.draw(RARELY) else []
        for h in late:  # a message comes between the look and its acknowledgement
            self.deliver(self._by_key(h.key).id, "late", None)
        self.do(self.store.acknowledge(worker, quiet))
        for h in quiet[len(late) :]:
            self._by_key(h.key).ready_at = None

    @precondition(lambda self: bool(self.beliefs))
    @rule(data=st.data(), count=st.integers(1, 3), read=st.booleans(), report=st.booleans())
    def append(self, data: st.DataObject, count: int, read: bool, report: bool) -> None:
        self._commit(data, Act.KEEP, count, read=read, report=report)

    @precondition(lambda self: bool(self.beliefs))
    @rule(data=st.data(), count=st.integers(0, 1), read=st.booleans(), sleep=SLEEPS)
    def park(self, data: st.DataObject, count: int, read: bool, sleep: int | None) -> None:
        self._commit(data, Act.PARK, count, read=read, sleep=sleep)

    @precondition(lambda self: bool(self.beliefs))
    @rule(data=st.data(), read=st.booleans(), sleep=SLEEPS)
    def park_while_a_message_comes(
        self, data: st.DataObject, read: bool, sleep: int | None
    ) -> None:
        """The message is not among those that the owner has read."""
        belief = data.draw(st.sampled_from(self.beliefs))
        commit = self._commit_of(belief, 1, Act.PARK, sleep=sleep, read=read)
        self.deliver(self._by_key(belief.claim.key).id, "late", None)
        self._send(belief, commit, lost=data.draw(RARELY))

    @precondition(lambda self: bool(self.beliefs))
    @rule(data=st.data(), report=st.booleans())
    def finish(self, data: st.DataObject, report: bool) -> None:
        self._commit(data, Act.FINISH, 0, report=report)

    def _commit(
        self,
        data: st.DataObject,
        act: Act,
        count: int,
        *,
        read: bool = False,
        sleep: int | None = None,
        report: bool = False,
    ) -> None:
        """I3: what is written under an old claim, or an old lease, is not written."""
        belief = data.draw(st.sampled_from(self.beliefs))
        commit = self._commit_of(belief, count, act, sleep=sleep, read=read, report=report)
        self._send(belief, self._enrich(commit, data), lost=data.draw(RARELY))

    def _enrich(self, commit: Commit, data: st.DataObject) -> Commit:
        """What else it brings."""
        del data
        return commit

    def _send(self, belief: Belief, commit: Commit, *, lost: bool) -> None:
        (answer,) = self.do(self.store.commit(belief.worker, [commit]))
        self._judge(belief, self._by_key(commit.key), commit, answer)
        if lost:
            belief.in_flight = commit
        else:
            self._learn(belief, commit, answer)

    def _commit_of(
        self,
        belief: Belief,
        count: int,
        act: Act,
        *,
        sleep: int | None = None,
        read: bool = False,
        report: bool = False,
    ) -> Commit:
        claim = belief.claim
        rows: list[EventRow] = events(claim.seq, count)
        consumed = claim.consumed
        if read:
            mail = self.do(self.world.mail(claim.key, consumed))
            consumed += len(mail)
            rows = [followed(row, name) for row, name in zip_longest(rows, _followers(mail))]
            rows = [replace(row, seq=claim.seq + n) for n, row in enumerate(rows, 1)]
        if act is Act.FINISH:
            rows.append(event(claim.seq + len(rows) + 1, "RunCompleted"))
        target = next((run.key for run in self.model.values() if run.key != claim.key), None)
        return Commit(
            claim.key,
            claim.epoch,
            claim.seq,
            rows,
            consumed,
            act,
            {Act.KEEP: "running", Act.PARK: "waiting", Act.FINISH: "completed"}[act],  # type: ignore[arg-type]
            wake_at=None if sleep is None or act is not Act.PARK else self.now.after(sleep),
            messages=[OutMessage(target, "report", b"\x01")] if report and target else (),
        )

    def _judge(self, belief: Belief, run: Run, commit: Commit, answer: Committed) -> None:
        if belief.worker in self.fenced:
            assert answer.code is Code.FENCED
        elif run.owner != belief.worker or run.epoch != commit.epoch:
            assert answer.code is Code.LOST
        elif run.seq != commit.seq:
            assert (answer.code, answer.seq) == (Code.OTHER_SEQ, run.seq)
        elif commit.act is Act.FINISH and run.control > commit.consumed:
            assert (answer.code, answer.seq) == (Code.UNSEEN, run.seq)
            assert answer.inbox_head == len(run.inbox)
        else:
            assert (answer.code, answer.seq) == (Code.APPLIED, run.seq + len(commit.events))
            self._apply(run, commit)
            assert answer.inbox_head == len(run.inbox)

    def _apply(self, run: Run, commit: Commit) -> None:
        run.history += [row.type for row in commit.events]
        for row in commit.events:
            if row.type == CODES["FollowerAdded"]:
                key, _, cmd = str(row.name).partition(":")
                run.followers.append((int(key), int(cmd)))
        run.consumed = commit.consumed
        run.first_seq = commit.first_seq or run.first_seq
        self._change_waits(run, commit)
        if commit.events:
            run.lost_owner = None
        if len(run.inbox) > run.consumed:
            run.ready_at = self.now() if run.ready_at is None else min(run.ready_at, self.now())
        else:
            run.ready_at = commit.wake_at
        if commit.act is Act.PARK:
            run.owner, run.status = None, "waiting"
        if commit.act is Act.FINISH:
            run.end("completed")
        for message in commit.messages:
            to = (
                self.model.get(message.to)
                if isinstance(message.to, str)
                else self._by_key(message.to)
            )
            if isinstance(message.to, str) and message.name == CANCEL:
                to = to if to is not None and to.parent == run.key else None
            if to is not None and to.open:
                to.receive(message.name, self.now())

    def _change_waits(self, run: Run, commit: Commit) -> None:
        for cmd in commit.ended_waits:
            run.waits.pop(cmd, None)
            run.subscribed.discard(cmd)
        for wait in commit.waits:
            if wait.cmd not in commit.ended_waits:
                run.waits[wait.cmd] = wait
                run.subscribed.discard(wait.cmd)
                run.answered.pop(wait.cmd, None)

    def _learn(self, belief: Belief, commit: Commit, answer: Committed) -> None:
        belief.in_flight = None
        if answer.code is Code.APPLIED and commit.act is Act.KEEP:
            belief.claim = replace(belief.claim, seq=answer.seq, consumed=commit.consumed)
        elif answer.code is Code.OTHER_SEQ:
            run = self._by_key(belief.claim.key)
            belief.claim = replace(belief.claim, seq=answer.seq, consumed=run.consumed)
        elif answer.code is Code.UNSEEN:
            pass  # it reads on, and tries again
        else:
            self.beliefs.remove(belief)

    @precondition(lambda self: any(b.in_flight for b in self.beliefs))
    @rule(data=st.data())
    def probe(self, data: st.DataObject) -> None:
        """A lost answer: while it is mine, the row's length is that of my durable events."""
        belief = data.draw(st.sampled_from([b for b in self.beliefs if b.in_flight]))
        run, claim = self._by_key(belief.claim.key), belief.claim
        (answer,) = self.do(self.store.probe(belief.worker, [claim.key], [claim.epoch]))
        mine = run.owner == belief.worker and run.epoch == claim.epoch
        if belief.worker in self.fenced:
            assert answer.code is Code.FENCED
        else:
            assert answer.code is (Code.OTHER_SEQ if mine else Code.LOST)
        if answer.code is Code.OTHER_SEQ:
            assert answer.seq == run.seq
        assert belief.in_flight is not None
        self._learn(belief, belief.in_flight, answer)

    def _by_key(self, key: int) -> Run:
        return next(run for run in self.model.values() if run.key == key)

    # -- messages and orders

    @rule(id=IDS, name=st.sampled_from("xyz"), key=st.sampled_from([None, "k1", "k2"]))
    def send(self, id: str, name: str, key: str | None) -> None:
        self.deliver(id, name, key)

    def deliver(self, id: str, name: str, key: str | None) -> None:
        """I15: accepted once and in order, or refused to the sender."""
        answer = self.do(self.world.deliver(id, name, key))
        run = self.model.get(id)
        if run is None:
            assert (answer.number, answer.known) == (None, False)
        elif key in run.keys:
            assert answer.number == run.keys[key]
        elif not run.open:
            assert (answer.number, answer.known) == (None, True)
        else:
            assert answer.number == run.receive(name, self.now())
            if key is not None:
                run.keys[key] = answer.number

    @precondition(lambda self: any(run.hold == HOLD_BLOCKED for run in self.model.values()))
    @rule(code=st.sampled_from(["code-1", "code-2"]))
    def unblock(self, code: str) -> None:
        held = [r for r in self.model.values() if r.hold == HOLD_BLOCKED and code != "code-1"]
        assert self.do(self.store.unblock([self.lane], [code], UNBLOCKED)) == len(held)
        for run in held:
            run.append(1, "Unblocked")
            run.hold, run.recoveries, run.recovered_seq = 0, 0, run.seq
            run.ready_at = max(min(run.ready_at or self.now(), self.now()), run.not_before)

    # -- what must hold after every step

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        """I1: histories are gapless and only grow. I30: the status is what the history makes it."""
        self.do(self._compare())

    async def _compare(self) -> None:
        rows = {row.id: row for row in await self.store.runs(RunFilter())}
        assert set(rows) == set(self.model)
        histories = await self.store.load([(run.key, 0) for run in self.model.values()])
        wanted = [(run.key, run.consumed) for run in self.model.values()]
        mail = [(m.key, m.number, m.name) for m in await self.store.inbox(sorted(wanted))]
        unread: list[tuple[int, int, str]] = []
        for run in sorted(self.model.values(), key=lambda run: run.key):
            row = rows[run.id]
            assert (row.key, row.status, row.seq) == (run.key, run.shown, run.seq)
            assert (row.finished_at is None) == run.open
            assert row.wake_at == (run.ready_at if run.owner is None else None)
            history = histories[run.key]
            assert [(e.seq, e.type) for e in history] == list(enumerate(run.history, 1))
            assert row.last == history[-1]
            unread += [
                (run.key, n, name) for n, name in enumerate(run.inbox, 1) if n > run.consumed
            ]
        assert mail == unread

    @invariant()
    def every_open_run_has_somebody_or_something_to_wait_for(self) -> None:
        """I13: it is owned by a worker with a row, ready, timed, held, or has no unread message."""
        for run in self.model.values():
            if not run.open or run.hold:
                continue
            if run.owner is not None:
                assert run.owner in self.leases
            elif run.ready_at is None:
                assert len(run.inbox) == run.consumed

    @invariant()
    def owners_are_the_same(self) -> None:
        """I17: a worker that lives keeps what it has, and nobody else has it."""
        keys = [run.key for run in self.model.values()]
        for worker in self.leases:
            mine = {claim.key: claim for claim in self.do(self.store.adopt(worker, keys))}
            assert set(mine) == {run.key for run in self._owned(worker)}
            for run in self._owned(worker):
                self._check_claim(mine[run.key], run)
            due = {run.key for run in self._owned(worker) if self._past(run)}
            assert {held.key for held in self.do(self.store.owned(worker))} == due
