"""What the tests of a store speak: a clock moved by hand, workers, runs and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from durable.clock import SECOND
from durable.model.history import CODES
from durable.model.rows import (
    Act,
    Claim,
    Code,
    Commit,
    Committed,
    Delivered,
    Delivery,
    Lane,
    NewRun,
    OutMessage,
    Reaped,
    RunRow,
    Started,
    WorkerInfo,
)
from durable.model.wire import EventRow
from durable.storage.base import Storage

LANE = Lane("default", "work")
TTL = 10.0
START = 1_767_225_600 * SECOND


class Now:
    """The database's clock in a test."""

    def __init__(self) -> None:
        self.micros = START

    def __call__(self) -> int:
        return self.micros

    def passes(self, seconds: float) -> None:
        self.micros += round(seconds * SECOND)

    def after(self, seconds: float) -> int:
        """A point in time from now."""
        return self.micros + round(seconds * SECOND)


def event(seq: int, type: str = "StepCompleted", data: bytes = b"\x01data") -> EventRow:
    cmd = None if type.startswith("Run") else seq
    return EventRow(seq, CODES[type], START + seq, cmd, "name", data)


def events(claim_seq: int, count: int) -> list[EventRow]:
    return [event(claim_seq + n) for n in range(1, count + 1)]


def new(id: str, lane: Lane = LANE, data: bytes = b"\x01input", **more: Any) -> NewRun:
    return NewRun(id, lane, event(1, "RunStarted", data), **more)


BLOCKED = event(0, "Blocked")
UNBLOCKED = event(0, "Unblocked")
TERMINATED = event(0, "RunTerminated", b"\x01stop")
CANCEL = b"\x01cancel"


def ended(cmd: int) -> str:
    """How a terminated child is told to its parent."""
    return f"~child:{cmd}:{CODES['RunTerminated']}"


@dataclass
class World:
    """A store under a clock."""

    store: Storage
    now: Now

    async def worker(self, name: str = "w", ttl: float = TTL, code: str = "code-1") -> int:
        info = WorkerInfo(name, "host", 1, boot="boot", code=code)
        return (await self.store.register(info, ttl)).worker

    async def lanes(self, *lanes: Lane) -> list[int]:
        numbers = await self.store.lanes(lanes or (LANE,))
        return [numbers[lane] for lane in lanes or (LANE,)]

    async def start(self, id: str, **more: Any) -> Started:
        (started,) = await self.store.start([new(id, **more)])
        return started

    async def claim(self, worker: int, limit: int = 100, *lanes: Lane) -> list[Claim]:
        return await self.store.claim(worker, await self.lanes(*lanes), limit)

    async def claimed(self, worker: int, id: str, **more: Any) -> Claim:
        """A new run, owned by the worker."""
        await self.start(id, **more)
        claims = await self.claim(worker)
        assert [claim.id for claim in claims] == [id]
        return claims[0]

    async def owned(self, worker: int, id: str, **more: Any) -> Claim:
        """A new run, owned by the worker from its first moment, whatever else is due."""
        started = await self.start(id, eager_owner=worker, **more)
        (claim,) = await self.store.adopt(worker, [started.key])
        return claim

    async def commit(self, worker: int, claim: Claim, count: int = 1, **more: Any) -> Committed:
        """Append `count` events to what the claim says."""
        (answer,) = await self.store.commit(worker, [appending(claim, count, **more)])
        return answer

    async def finish(self, worker: int, claim: Claim, **more: Any) -> Committed:
        (answer,) = await self.store.commit(worker, [finishing(claim, **more)])
        assert answer.code is Code.APPLIED
        return answer

    async def park(self, worker: int, claim: Claim, **more: Any) -> Committed:
        return await self.commit(worker, claim, act=Act.PARK, status="waiting", **more)

    async def deliver(self, id: str, name: str = "ping", key: str | None = None) -> Delivered:
        message = Delivery(id, name, b"\x01" + name.encode(), key)
        (answer,) = await self.store.deliver([message])
        while answer.busy:
            (answer,) = await self.store.deliver([message], wait=True)
        return answer

    async def reap(self, **more: Any) -> Reaped:
        return await self.store.reap(BLOCKED, more.pop("most", 3), **more)

    async def run(self, id: str) -> RunRow:
        run = await self.store.run(id)
        assert run is not None
        return run

    async def types(self, id: str) -> list[int]:
        """The run's history as type codes; it must be gapless from 1."""
        history = await self.store.history(id, 0, 10_000)
        assert history is not None
        assert [row.seq for row in history] == list(range(1, len(history) + 1))
        assert (await self.run(id)).seq == len(history)
        return [row.type for row in history]

    async def mail(self, key: int, consumed: int = 0) -> list[tuple[int, str]]:
        return [(m.number, m.name) for m in await self.store.inbox([(key, consumed)])]


def appending(claim: Claim, count: int = 1, **more: Any) -> Commit:
    consumed = more.pop("consumed", claim.consumed)
    return Commit(claim.key, claim.epoch, claim.seq, events(claim.seq, count), consumed, **more)


def finishing(claim: Claim, **more: Any) -> Commit:
    last = event(claim.seq + 1, "RunCompleted", b"\x01result")
    consumed = more.pop("consumed", claim.consumed)
    return Commit(
        claim.key, claim.epoch, claim.seq, [last], consumed, Act.FINISH, "completed", **more
    )


def to(key: int, name: str = "hello") -> Sequence[OutMessage]:
    return (OutMessage(key, name, b"\x01x"),)
