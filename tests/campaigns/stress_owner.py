"""A worker reduced to the protocol: it claims, reads, appends, parks and finishes, and has bad luck.

Its workflow: a root run receives `needs` messages, then starts a child, hears from it and ends; a child
takes one step, reports and ends. What a run has to do follows from its history alone. Bad luck: answers
of claims and commits get lost, before or after the server did its part; it stalls past its lease; it
crashes, which here means that it forgets everything and comes back under a new id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from durable.errors import StoreUnavailable
from durable.model.history import CODES
from durable.model.rows import (
    Act,
    Claim,
    Code,
    Commit,
    Committed,
    Held,
    Lane,
    NewRun,
    OutMessage,
    WorkerInfo,
)
from durable.model.wire import EventRow
from durable.storage.postgres import PostgresStorage
from tests.campaigns.stress_ledger import RECEIVED, STEP, Ledger

LANES = (Lane("default", "root"), Lane("default", "child"))
CHILD = CODES["ChildStarted"]
DONE = CODES["RunCompleted"]
BATCH = 60
IDLE = 0.005
AT = 1_700_000_000_000_000


@dataclass
class Luck:
    """How often what goes wrong, per opportunity."""

    random: random.Random
    lost_claim: float = 0.02
    lost_commit: float = 0.04
    stall: float = 0.005
    crash: float = 0.01

    def strikes(self, chance: float) -> bool:
        return self.random.random() < chance


@dataclass
class Instance:
    """One run in memory: its whole event list, of which the first `durable` ones are in the database."""

    key: int
    id: str
    lane: int
    epoch: int
    durable: int
    consumed: int
    head: int
    events: list[EventRow] = field(default_factory=list)
    misses: int = 0

    def count(self, kind: int) -> int:
        return sum(event.type == kind for event in self.events)

    def add(self, kind: int, data: bytes, cmd: int | None = None) -> None:
        seq = len(self.events) + 1
        self.events.append(EventRow(seq, kind, AT + seq, cmd, None, data))


class Owner:
    """One worker process, as far as the database can tell."""

    def __init__(
        self, store: PostgresStorage, ledger: Ledger, luck: Luck, *, needs: int, lease: float
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.luck = luck
        self.needs = needs
        self.lease = lease
        self.id = 0
        self.lanes: dict[int, Lane] = {}
        self.held: dict[int, Instance] = {}
        self.cache: dict[int, Instance] = {}
        self.stop = False

    async def run(self) -> None:
        while not self.stop:
            try:
                if not self.id:
                    await self._register()
                busy = await self._turn()
                if not busy:
                    await asyncio.sleep(IDLE)
            except StoreUnavailable:
                self.ledger.counts["unavailable"] += 1
                await asyncio.sleep(0.05)
        if self.id:
            await self.store.unregister(self.id)

    async def beat(self) -> None:
        """The lease thread: knows nothing of what the rest does."""
        while not self.stop:
            if self.id:
                try:
                    await asyncio.to_thread(self.store.renew, self.id, self.lease)
                except StoreUnavailable:
                    self.ledger.counts["unavailable"] += 1
            await asyncio.sleep(0.1)

    async def _register(self) -> None:
        self.lanes = {number: lane for lane, number in (await self.store.lanes(LANES)).items()}
        lease = await self.store.register(WorkerInfo("owner", "here", 1), self.lease)
        self.held.clear()
        self.id = lease.worker

    def _forget(self) -> None:
        self.held.clear()
        self.id = 0

    async def _turn(self) -> bool:
        busy = await self._look()
        busy |= await self._claim()
        for instance in list(self.held.values()):
            self._work(instance)
        if self.held and self.luck.strikes(self.luck.crash):
            self.ledger.counts["crashes"] += 1
            self.cache.clear()
            self._forget()
            return True
        return await self._commit() or busy

    # -- bringing runs in

    async def _look(self) -> bool:
        """Messages for what is held, and what is held without knowing it."""
        due = await self.store.owned(self.id)
        unknown = [held.key for held in due if not self._knows(held)]
        if unknown:
            self.ledger.counts["adopted"] += len(unknown)
            await self._take(await self.store.adopt(self.id, unknown))
        known = [held for held in due if self._knows(held)]
        await self._read(
            [held.key for held in known if held.inbox_head > self.held[held.key].consumed]
        )
        quiet = [held for held in known if held.inbox_head <= held.consumed]
        if quiet:
            await self.store.acknowledge(self.id, quiet)
        return bool(due)

    def _knows(self, held: Held) -> bool:
        mine = self.held.get(held.key)
        return mine is not None and mine.epoch == held.epoch

    async def _claim(self) -> bool:
        room = BATCH - len(self.held)
        if room <= 0:
            return False
        claims = await self.store.claim(self.id, list(self.lanes), room)
        if claims and self.luck.strikes(self.luck.lost_claim):
            self.ledger.counts["lost claims"] += len(claims)
            return True
        await self._take(claims)
        return bool(claims)

    async def _take(self, claims: Sequence[Claim]) -> None:
        """Hold what was claimed, once its history is here; what fails before that is adopted later."""
        cached = {claim.key: self._cached(claim) for claim in claims}
        missing = [(key, 0) for key, events in cached.items() if events is None]
        loaded = await self.store.load(missing) if missing else {}
        for claim in claims:
            events = cached[claim.key] or loaded[claim.key][: claim.seq]
            self.held[claim.key] = Instance(
                claim.key, claim.id, claim.lane, claim.epoch, claim.seq, claim.consumed,
                claim.inbox_head, list(events),
            )  # fmt: skip
        await self._read([c.key for c in claims if c.inbox_head > c.consumed])

    def _cached(self, claim: Claim) -> list[EventRow] | None:
        kept = self.cache.pop(claim.key, None)
        fits = kept and kept.epoch + 1 == claim.epoch and kept.durable == claim.seq
        return kept.events if kept and fits else None

    async def _read(self, keys: Sequence[int]) -> None:
        wanted = [(key, self.held[key].consumed) for key in keys if key in self.held]
        if not wanted:
            return
        for message in await self.store.inbox(wanted):
            instance = self.held.get(message.key)
            if instance is None:
                continue
            if message.number != instance.consumed + 1:
                # Somebody else consumed for it: this instance is a stale one.
                self.ledger.counts["stale"] += 1
                del self.held[message.key]
                continue
            instance.consumed = message.number
            instance.add(RECEIVED, b"%d %s" % (message.number, message.data))

    # -- what a run does

    def _work(self, instance: Instance) -> None:
        """One step further, so that a run of several steps takes several commits."""
        if (todo := self._next(instance)) is not None:
            instance.add(*todo)

    def _next(self, instance: Instance) -> tuple[int, bytes, int] | None:
        steps = instance.count(STEP)
        if self._is_child(instance):
            return None if steps else (STEP, b"child's step", 1)
        heard = instance.count(RECEIVED)
        if heard > steps and steps < self.needs:
            return STEP, b"step %d" % (steps + 1), steps + 1
        if heard >= self.needs and not instance.count(CHILD):
            return CHILD, b"", self.needs + 1
        return None

    def _is_child(self, instance: Instance) -> bool:
        return self.lanes[instance.lane] == LANES[1]

    def _finished(self, instance: Instance) -> bool:
        if self._is_child(instance):
            return bool(instance.count(STEP))
        reports = [e for e in instance.events if e.type == RECEIVED and e.data.endswith(b" report")]
        return bool(reports) and instance.count(STEP) >= self.needs

    def _plan(self, instance: Instance) -> Commit | None:
        new = instance.events[instance.durable :]
        ends = self._finished(instance)
        if ends:
            seq = len(instance.events) + 1
            new = [*new, EventRow(seq, DONE, AT, None, None, b"")]
        idle = not ends and self._next(instance) is None
        if not new and not idle:
            return None
        act = Act.FINISH if ends else Act.PARK if idle else Act.KEEP
        return Commit(
            instance.key,
            instance.epoch,
            instance.durable,
            new,
            instance.consumed,
            act,
            "completed" if ends else "waiting" if idle else "running",
            messages=self._messages(instance) if ends else (),
            children=[self._child(instance) for event in new if event.type == CHILD],
        )

    def _messages(self, instance: Instance) -> list[OutMessage]:
        parent = instance.id.partition("/")[0]
        key = int(parent.rpartition("-")[2]) if self._is_child(instance) else 0
        return [OutMessage(key, "child:1", b"report")] if key else []

    def _child(self, instance: Instance) -> NewRun:
        started = EventRow(1, CODES["RunStarted"], AT, None, "child", b"")
        run_id = f"of-{instance.key}/child"
        return NewRun(run_id, LANES[1], started, parent_key=instance.key, parent_cmd=self.needs + 1)

    # -- the commit

    async def _commit(self) -> bool:
        batch = [plan for instance in self.held.values() if (plan := self._plan(instance))]
        if not batch:
            return False
        if self.luck.strikes(self.luck.stall):
            self.ledger.counts["stalls"] += 1
            await asyncio.sleep(self.lease / 5 * 1.3)
        stubborn = [plan for plan in batch if self.held[plan.key].misses >= 2]
        for plan in stubborn[:3]:
            await self._send([plan], wait=True)
        rest = [plan for plan in batch if plan not in stubborn]
        if rest and self.id:
            await self._send(rest, wait=False)
        return True

    async def _send(self, batch: list[Commit], *, wait: bool) -> None:
        luck, lost = self.luck, self.ledger.counts
        try:
            if luck.strikes(luck.lost_commit / 2):
                lost["commits never sent"] += 1
                raise StoreUnavailable
            answers = await self.store.commit(self.id, batch, wait=wait)
            if luck.strikes(luck.lost_commit):
                lost["lost commit answers"] += 1
                raise StoreUnavailable
        except StoreUnavailable:
            await self._probe(batch)
            return
        for plan, answer in zip(batch, answers, strict=True):
            self._learn(plan, answer)

    async def _probe(self, batch: list[Commit]) -> None:
        """What became of a commit without an answer: my row's seq is the length of what is durable."""
        while True:
            try:
                answers = await self.store.probe(
                    self.id, [p.key for p in batch], [p.epoch for p in batch]
                )
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
        for plan, answer in zip(batch, answers, strict=True):
            self._learn(plan, answer)

    def _learn(self, plan: Commit, answer: Committed) -> None:
        self.ledger.counts[f"code {answer.code.name.lower()}"] += 1
        instance = self.held.get(plan.key)
        if answer.code is Code.FENCED:
            self._forget()
        elif instance is None:
            return
        elif answer.code is Code.APPLIED:
            self._applied(instance, plan)
        elif answer.code is Code.OTHER_SEQ:
            instance.durable = answer.seq
            instance.misses = 0
        elif answer.code is Code.BUSY:
            instance.misses += 1
        else:
            del self.held[plan.key]

    def _applied(self, instance: Instance, plan: Commit) -> None:
        self.ledger.applied(plan.key, list(plan.events))
        instance.durable = plan.seq + len(plan.events)
        instance.misses = 0
        if plan.act is not Act.KEEP:
            del self.held[plan.key]
        if plan.act is Act.PARK:
            self.cache[plan.key] = instance
