"""A store that fails when a test says so: before, after, late, or together with its process.

`FaultyStorage` stands in front of a real store and passes everything on. A plan decides which
operation meets which fault:

- a list of `(verb, n, fault)`: the n-th call of that verb, counted from 1;
- any function from an `Operation` to a fault or None;
- `at=k, fault=...`: the k-th operation overall, for running a scenario once per crash point. Run it
  first without a fault: `len(store.log)` is the number of points.

Look at `fired` afterwards: a test whose faults never happened proves nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from durable.clock import Clock, SystemClock
from durable.errors import StoreUnavailable
from durable.model.lifecycle import RunStatus
from durable.model.rows import (
    Answer,
    Answered,
    Claim,
    Commit,
    Committed,
    Delivered,
    Delivery,
    Held,
    Lane,
    Lease,
    Message,
    MigrationStep,
    NewRun,
    Publication,
    Reaped,
    RunFilter,
    RunRow,
    ShapeRow,
    Started,
    Subscription,
    WaitFilter,
    WaitRow,
    WorkerInfo,
)
from durable.model.wire import EventRow
from durable.storage.base import Storage

__all__ = [
    "COMMIT_THEN_ERROR",
    "CRASH_AFTER",
    "CRASH_BEFORE",
    "ERROR_BEFORE",
    "FAULTS",
    "Crash",
    "Delay",
    "Die",
    "Fail",
    "Fault",
    "FaultyStorage",
    "Fired",
    "Gate",
    "Hold",
    "Operation",
]

T = TypeVar("T")
When: TypeAlias = Literal["before", "after"]
"""Before: the database never hears of it. After: it is done, and the caller does not know."""


class Crash(BaseException):
    """The process that called is dead. No `except Exception` may survive it."""


class Gate:
    """Holds operations back until a test lets them go."""

    def __init__(self) -> None:
        self._passed = asyncio.Event()
        self._passed_by_threads = threading.Event()
        self.reached = asyncio.Event()
        """Set when the first operation of the event loop waits here."""

    def release(self) -> None:
        """Let everything go, now and later. From the event loop."""
        self._passed.set()
        self._passed_by_threads.set()

    async def wait(self) -> None:
        """Wait for `release`."""
        self.reached.set()
        await self._passed.wait()

    def wait_blocking(self) -> None:
        """The same from another thread."""
        self._passed_by_threads.wait()


@dataclass(frozen=True, slots=True)
class Fail:
    """`StoreUnavailable`."""

    when: When


@dataclass(frozen=True, slots=True)
class Die:
    """`Crash`, and all later operations of this store crash too."""

    when: When


@dataclass(frozen=True, slots=True)
class Delay:
    """The operation, or its answer, takes `seconds` on the clock. Not for `renew`, which cannot await."""

    seconds: float
    when: When = "before"


@dataclass(frozen=True, slots=True)
class Hold:
    """The operation, or its answer, waits at the gate."""

    gate: Gate
    when: When = "before"


Fault: TypeAlias = Fail | Die | Delay | Hold

ERROR_BEFORE: Final = Fail("before")
COMMIT_THEN_ERROR: Final = Fail("after")
CRASH_BEFORE: Final = Die("before")
CRASH_AFTER: Final = Die("after")

FAULTS: Final[Mapping[str, Fault]] = {
    "error before": ERROR_BEFORE,
    "lost answer": COMMIT_THEN_ERROR,
    "crash before": CRASH_BEFORE,
    "crash after": CRASH_AFTER,
}
"""What can go wrong at one operation, by what it is called in reports."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a verb."""

    number: int
    """Its place among all operations, from 1."""
    verb: str
    nth: int
    """Its place among the calls of this verb, from 1."""
    arguments: tuple[object, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that really happened."""

    operation: Operation
    fault: Fault


Plan: TypeAlias = Callable[[Operation], Fault | None] | Iterable[tuple[str, int, Fault]]


def _planner(
    plan: Plan, at: int | None, fault: Fault | None
) -> Callable[[Operation], Fault | None]:
    if at is not None:
        return lambda operation: fault if operation.number == at else None
    if callable(plan):
        return plan
    table = {(verb, nth): planned for verb, nth, planned in plan}
    return lambda operation: table.get((operation.verb, operation.nth))


class FaultyStorage:
    """`Storage` in front of another one. Stands for one process: after a `Crash` it answers nothing.

    With `verbs` only these are numbered and can meet a fault. `open`, `close`, `migrations` and hints
    are always passed on.
    """

    def __init__(
        self,
        inner: Storage,
        plan: Plan = (),
        *,
        at: int | None = None,
        fault: Fault | None = None,
        verbs: Collection[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.inner = inner
        self.log: list[Operation] = []
        self.fired: list[Fired] = []
        self.calls: Counter[str] = Counter()
        self.crashed = False
        self._fault_of = _planner(plan, at, fault)
        self._verbs = verbs
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()

    @property
    def time(self) -> Callable[[], int] | None:
        """The inner store's."""
        return self.inner.time

    @time.setter
    def time(self, time: Callable[[], int] | None) -> None:
        self.inner.time = time

    # -- faults

    def _note(self, verb: str, arguments: tuple[object, ...]) -> Fault | None:
        """Write the operation down; the fault that it meets."""
        if self._verbs is not None and verb not in self._verbs:
            return None
        with self._lock:  # `renew` comes from another thread
            self.calls[verb] += 1
            operation = Operation(len(self.log) + 1, verb, self.calls[verb], arguments)
            self.log.append(operation)
            fault = self._fault_of(operation)
            if fault is not None:
                self.fired.append(Fired(operation, fault))
            return fault

    def _strike(self, verb: str, fault: Fault | None, when: When) -> None:
        """Raise what the fault raises now."""
        if fault is None or fault.when != when:
            return
        if isinstance(fault, Fail):
            raise StoreUnavailable(f"injected: {verb} fails {when} the database has done it")
        if isinstance(fault, Die):
            self.crashed = True
            raise Crash(f"injected: the process dies {when} {verb}")

    async def _wait(self, fault: Fault | None, when: When) -> None:
        if fault is None or fault.when != when:
            return
        if isinstance(fault, Delay):
            await self._clock.sleep(fault.seconds)
        elif isinstance(fault, Hold):
            await fault.gate.wait()

    async def _pass(self, verb: str, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Have an operation done, with whatever is planned for it."""
        if self.crashed:
            raise Crash(f"injected: {verb} in a dead process")
        fault = self._note(verb, arguments)
        self._strike(verb, fault, "before")
        await self._wait(fault, "before")
        answer = await call(*arguments)
        await self._wait(fault, "after")
        self._strike(verb, fault, "after")
        return answer

    # -- life

    async def open(self) -> None:
        """Pass on."""
        await self.inner.open()

    async def close(self) -> None:
        """Pass on, also after a crash: tests clean up."""
        await self.inner.close()

    async def migrations(self) -> Sequence[MigrationStep]:
        """Pass on."""
        return await self.inner.migrations()

    async def migrate(self, to: int | None = None) -> None:
        """Pass on, with faults."""
        await self._pass("migrate", self.inner.migrate, to)

    async def now(self) -> int:
        """Pass on, with faults."""
        return await self._pass("now", self.inner.now)

    # -- workers

    async def register(self, worker: WorkerInfo, ttl: float) -> Lease:
        """Pass on, with faults."""
        return await self._pass("register", self.inner.register, worker, ttl)

    def renew(self, worker: int, ttl: float) -> Lease | None:
        """Pass on, with faults. A dead process's heartbeat gets no answer."""
        if self.crashed:
            raise StoreUnavailable("injected: renew in a dead process")
        fault = self._note("renew", (worker, ttl))
        if isinstance(fault, Delay):
            raise TypeError("renew is synchronous: hold it at a Gate instead of a Delay")
        self._strike("renew", fault, "before")
        if isinstance(fault, Hold) and fault.when == "before":
            fault.gate.wait_blocking()
        lease = self.inner.renew(worker, ttl)
        if isinstance(fault, Hold) and fault.when == "after":
            fault.gate.wait_blocking()
        self._strike("renew", fault, "after")
        return lease

    async def unregister(self, worker: int) -> None:
        """Pass on, with faults."""
        await self._pass("unregister", self.inner.unregister, worker)

    async def reap(
        self,
        blocked: EventRow,
        max_recoveries: int,
        gone: Sequence[int] = (),
        *,
        expired: bool = True,
    ) -> Reaped:
        """Pass on, with faults."""

        async def reap() -> Reaped:
            return await self.inner.reap(blocked, max_recoveries, gone, expired=expired)

        return await self._pass("reap", reap)

    async def leased(self) -> Sequence[tuple[int, WorkerInfo]]:
        """Pass on, with faults."""
        return await self._pass("leased", self.inner.leased)

    async def worker_names(self) -> dict[int, str]:
        """Pass on, with faults."""
        return await self._pass("worker_names", self.inner.worker_names)

    async def lanes(self, lanes: Sequence[Lane]) -> dict[Lane, int]:
        """Pass on, with faults."""
        return await self._pass("lanes", self.inner.lanes, lanes)

    # -- runs

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Pass on, with faults."""
        return await self._pass("start", self.inner.start, runs)

    async def restart(self, run: NewRun, ended: EventRow, cancel: bytes) -> Started:
        """Pass on, with faults."""
        return await self._pass("restart", self.inner.restart, run, ended, cancel)

    async def claim(self, worker: int, lanes: Sequence[int], limit: int) -> list[Claim]:
        """Pass on, with faults."""
        return await self._pass("claim", self.inner.claim, worker, lanes, limit)

    async def owned(self, worker: int) -> list[Held]:
        """Pass on, with faults."""
        return await self._pass("owned", self.inner.owned, worker)

    async def acknowledge(self, worker: int, runs: Sequence[Held]) -> None:
        """Pass on, with faults."""
        await self._pass("acknowledge", self.inner.acknowledge, worker, runs)

    async def adopt(self, worker: int, keys: Sequence[int]) -> list[Claim]:
        """Pass on, with faults."""
        return await self._pass("adopt", self.inner.adopt, worker, keys)

    async def load(self, runs: Sequence[tuple[int, int]]) -> dict[int, list[EventRow]]:
        """Pass on, with faults."""
        return await self._pass("load", self.inner.load, runs)

    async def inbox(self, runs: Sequence[tuple[int, int]]) -> list[Message]:
        """Pass on, with faults."""
        return await self._pass("inbox", self.inner.inbox, runs)

    async def commit(
        self, worker: int, batch: Sequence[Commit], *, wait: bool = False
    ) -> list[Committed]:
        """Pass on, with faults."""

        async def commit(worker: int, batch: Sequence[Commit]) -> list[Committed]:
            return await self.inner.commit(worker, batch, wait=wait)

        return await self._pass("commit", commit, worker, batch)

    async def probe(
        self, worker: int, keys: Sequence[int], epochs: Sequence[int]
    ) -> list[Committed]:
        """Pass on, with faults."""
        return await self._pass("probe", self.inner.probe, worker, keys, epochs)

    async def children(self, parent: int, commands: Sequence[int]) -> dict[int, str]:
        """Pass on, with faults."""
        return await self._pass("children", self.inner.children, parent, commands)

    # -- messages

    async def deliver(
        self, deliveries: Sequence[Delivery], *, wait: bool = False
    ) -> list[Delivered]:
        """Pass on, with faults."""

        async def deliver(deliveries: Sequence[Delivery]) -> list[Delivered]:
            return await self.inner.deliver(deliveries, wait=wait)

        return await self._pass("deliver", deliver, deliveries)

    async def answer(self, answer: Answer) -> Answered:
        """Pass on, with faults."""
        return await self._pass("answer", self.inner.answer, answer)

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Pass on, with faults."""
        return await self._pass("publish", self.inner.publish, publications)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Pass on, with faults."""
        await self._pass("subscribe", self.inner.subscribe, subscriptions)

    async def pause(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Pass on, with faults."""
        return await self._pass("pause", self.inner.pause, run_id, event)

    async def resume(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Pass on, with faults."""
        return await self._pass("resume", self.inner.resume, run_id, event)

    async def terminate(self, run_id: str, event: EventRow, cancel: bytes) -> RunStatus | None:
        """Pass on, with faults."""
        return await self._pass("terminate", self.inner.terminate, run_id, event, cancel)

    async def unblock(self, lanes: Sequence[int], codes: Sequence[str], event: EventRow) -> int:
        """Pass on, with faults."""
        return await self._pass("unblock", self.inner.unblock, lanes, codes, event)

    # -- reading

    async def run(self, run_id: str) -> RunRow | None:
        """Pass on, with faults."""
        return await self._pass("run", self.inner.run, run_id)

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """Pass on, with faults."""
        return await self._pass("runs", self.inner.runs, where)

    async def count(self, where: RunFilter) -> dict[RunStatus, int]:
        """Pass on, with faults."""
        return await self._pass("count", self.inner.count, where)

    async def history(self, run_id: str, after: int, limit: int) -> list[EventRow] | None:
        """Pass on, with faults."""
        return await self._pass("history", self.inner.history, run_id, after, limit)

    async def waits(self, where: WaitFilter) -> list[WaitRow]:
        """Pass on, with faults."""
        return await self._pass("waits", self.inner.waits, where)

    async def states(self, run_ids: Sequence[str]) -> dict[str, dict[str, EventRow]]:
        """Pass on, with faults."""
        return await self._pass("states", self.inner.states, run_ids)

    async def newest(self, run_id: str, type: int, name: str) -> EventRow | None:
        """Pass on, with faults."""
        return await self._pass("newest", self.inner.newest, run_id, type, name)

    async def replies(self, asked: Sequence[tuple[str, int]]) -> dict[tuple[str, int], EventRow]:
        """Pass on, with faults."""
        return await self._pass("replies", self.inner.replies, asked)

    async def finished(self, run_ids: Sequence[str]) -> dict[str, tuple[RunStatus, EventRow]]:
        """Pass on, with faults."""
        return await self._pass("finished", self.inner.finished, run_ids)

    async def shapes(self, finished: int) -> list[ShapeRow]:
        """Pass on, with faults."""
        return await self._pass("shapes", self.inner.shapes, finished)

    async def next_due(self) -> int | None:
        """Pass on, with no faults: only who moves the clock asks this."""
        return await self.inner.next_due()

    # -- hints

    def hint(self) -> None:
        """Pass on."""
        self.inner.hint()

    def hints(self) -> AsyncIterator[None]:
        """Pass on."""
        return self.inner.hints()
