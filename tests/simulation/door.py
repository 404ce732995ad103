"""A process's way to the database: every operation travels there and back, and meets what is on the menu.

The operation is carried out in one turn, whenever it arrives, whatever has become of its sender: so a process
that dies after it has sent leaves behind what a real one does, and an error may come before or after the fact.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from durable.errors import StoreUnavailable
from durable.model.rows import Code, Commit, Committed, Lease, WorkerInfo
from tests.simulation.database import at_once
from tests.simulation.faults import HINT_FAULTS, OPERATION_FAULTS, ROW_FAULTS
from tests.simulation.trace import short

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process

_NO_PROCESS: Final = 2**22 + 1
"""A number that no process of a real system has."""
_LOOKS: Final = frozenset({"claim", "owned", "unblock", "finished", "reap"})
"""Verbs that mostly find nothing."""
_RENEW_FAULTS: Final = ("error before", "lost answer")


class Door:
    """`Storage` of one process."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._cluster = cluster
        self._process = process
        self._loop = cluster.loop
        self.inner = cluster.database.store(cluster.now)
        self.cut_until = 0
        """Nothing gets through before this time: a partition."""
        self._listener: Hints | None = None

    time = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(found):
            raise AttributeError(f"the simulation has no {name}")

        async def passed_on(*arguments: Any, **options: Any) -> Any:
            return await self._send(name, found, arguments, options)

        self.__dict__[name] = passed_on
        return passed_on

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()
        if self._listener is not None:
            self._listener.end()

    # -- one operation

    def _send(self, verb: str, call: Any, arguments: Any, options: Any) -> asyncio.Future[Any]:
        cluster, loop = self._cluster, self._loop
        answer = loop.create_future()
        fault = self._fault(verb)
        there, back = cluster.travel_time(), cluster.travel_time()

        def arrive() -> None:
            try:
                value, error = (
                    cluster.carry_out(self._process, verb, call, arguments, options),
                    None,
                )
            except StoreUnavailable as failure:
                value, error = None, failure
            if fault == "crash after":
                cluster.crash(self._process)
            elif fault == "stall after":
                cluster.stall(self._process)
            if fault not in {"lost answer", "late execution"}:
                loop.after(back, self._answer, answer, value, error, context=here)

        here, database = self._process.context, cluster.database_site.context
        if fault is None or fault in {"lost answer", "crash after", "stall after"}:
            loop.after(there, arrive, context=database)
            if fault == "lost answer":
                self._fail(answer, verb, there + back)
        elif fault == "error before":
            self._fail(answer, verb, there)
        elif fault == "late execution":
            self._fail(answer, verb, there)
            there += cluster.random.uniform(0, 3)
            cluster.under_way(there)
            loop.call_later(there, arrive, context=database)
        elif fault in {"slow", "very slow"}:
            most = 2.0 if fault == "slow" else 2 * cluster.lease
            there += cluster.random.uniform(0, most) * cluster.random.choice((0, 1))
            back += cluster.random.uniform(0, most)
            cluster.under_way(there + back)
            loop.after(there, arrive, context=database)
        elif fault == "stall before":
            cluster.stall(self._process)
            loop.after(there, arrive, context=database)
        else:
            cluster.crash(self._process)
        return answer

    def _fault(self, verb: str) -> str | None:
        cluster = self._cluster
        if cluster.loop.micros < max(self.cut_until, cluster.down_until):
            return "error before"
        if self._process.trusted:
            return None
        fault = cluster.menu.draw(cluster.random, OPERATION_FAULTS)
        if fault is not None:
            cluster.note(self._process, f"[{fault}]", verb)
        return fault

    def _fail(self, answer: asyncio.Future[Any], verb: str, after: float) -> None:
        error = StoreUnavailable(f"simulated: {verb} got no answer")
        self._loop.call_later(
            after, self._answer, answer, None, error, context=self._process.context
        )

    @staticmethod
    def _answer(answer: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    # -- what is different for the lease

    async def register(self, worker: WorkerInfo, ttl: float) -> Lease:
        """Every process has a number of its own; of some hosts one can tell that it is dead."""
        boot = worker.boot if self._cluster.knows_the_dead else ""
        info = replace(worker, pid=self._process.number, boot=boot)
        return await self._send("register", self.inner.register, (info, ttl), {})

    async def leased(self) -> Any:
        found = await self._send("leased", self.inner.leased, (), {})
        if not self._cluster.knows_the_dead:
            return found
        return [(worker, replace(info, pid=self._pid(info.pid))) for worker, info in found]

    def _pid(self, number: int) -> int:
        return self._cluster.real_pid if self._cluster.lives(number) else _NO_PROCESS

    def renew(self, worker: int, ttl: float) -> Lease | None:
        """From another thread in real life: it cannot wait here."""
        cluster = self._cluster
        cut = max(self.cut_until, cluster.down_until, self._process.heartless_until)
        fault = None
        if cluster.loop.micros < cut:
            fault = "error before"
        elif not self._process.trusted:
            fault = cluster.menu.draw(cluster.random, _RENEW_FAULTS)
        if fault == "error before":
            raise StoreUnavailable("simulated: renew")

        async def renew(worker: int, ttl: float) -> Lease | None:
            return self.inner.renew(worker, ttl)

        lease = cluster.carry_out(self._process, "renew", renew, (worker, ttl), {})
        if fault == "lost answer":
            raise StoreUnavailable("simulated: renew")
        return lease

    # -- commits

    async def commit(
        self, worker: int, batch: Sequence[Commit], *, wait: bool = False
    ) -> list[Committed]:
        """On some databases rows of single runs may be locked."""
        cluster = self._cluster
        locked = not wait and cluster.menu.draw(cluster.random, ROW_FAULTS) is not None
        call = self._commit_what_is_free if locked else self.inner.commit
        return await self._send("commit", call, (worker, batch), {})

    async def _commit_what_is_free(self, worker: int, batch: Sequence[Commit]) -> list[Committed]:
        free = [item for item in batch if self._cluster.random.random() < 0.5]
        answers = iter(await self.inner.commit(worker, free) if free else ())
        busy = [Committed(item.key, Code.BUSY, item.seq, 0) for item in batch]
        return [
            next(answers) if item in free else held for item, held in zip(batch, busy, strict=True)
        ]

    # -- hints

    def hint(self) -> None:
        """Told to all other processes, or lost, doubled, late."""
        self._cluster.hint(self._process)

    def hints(self) -> AsyncIterator[None]:
        self._listener = Hints(self._loop)
        return self._listener

    def hinted(self) -> None:
        """A hint has arrived here."""
        if self._listener is not None:
            fault = self._cluster.menu.draw(self._cluster.random, HINT_FAULTS)
            if fault == "hint lost":
                return
            late = self._cluster.random.uniform(0, 1) if fault == "hint late" else 0.0
            late += self._cluster.travel_time()
            for _ in range(2 if fault == "hint doubled" else 1):
                self._loop.call_later(late, self._listener.tell, context=self._process.context)


class Hints:
    """What `hints` yields from: not a generator, which would be finished by the garbage collector."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._told = False
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    def tell(self) -> None:
        self._told = True
        self._wake()

    def end(self) -> None:
        self._over = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        while not self._told:
            if self._over:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        self._told = False


def answer_of(call: Any, arguments: Any, options: Any) -> Any:
    """What the store answers."""
    return at_once(call(*arguments, **options))


def line_of(verb: str, arguments: Any, answer: Any) -> tuple[Any, ...]:
    """An operation, for the trace."""
    if not answer and verb in _LOOKS:
        return verb, answer
    return verb, short(arguments), "->", short(answer)
