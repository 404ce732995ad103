"""The journal: natural group commit, and what every answer of the store means."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest

from durable.clock import VirtualClock
from durable.errors import StoreUnavailable
from durable.model.rows import Act, Code, Commit, Committed
from durable.model.wire import EventRow
from durable.worker import journal as room
from durable.worker.journal import Journal


def event(seq: int) -> EventRow:
    return EventRow(seq, 11, seq, seq, "step", b"")


class Run:
    """What the journal sees of an execution."""

    def __init__(self, key: int, events: int = 1) -> None:
        self.key = key
        self.id = f"run-{key}"
        self.durable = 1
        self.pending = [event(2 + n) for n in range(events)]
        self.act = Act.KEEP
        self.in_flight: Commit | None = None
        self.misses = 0
        self.dead = False
        self.blocked: str | None = None
        self.busy = True
        self.told: list[str] = []
        self.broken = False

    @property
    def length(self) -> int:
        return self.durable + len(self.pending)

    def grow(self) -> None:
        self.pending.append(event(self.durable + len(self.pending) + 1))

    def next_commit(self) -> Commit | None:
        if self.broken:
            raise ValueError("cannot say")
        if not self.pending and self.act is Act.KEEP:
            return None
        self.in_flight = Commit(self.key, 1, self.durable, tuple(self.pending), 0, self.act)
        return self.in_flight

    def advance(self, durable: int) -> None:
        del self.pending[: durable - self.durable]
        self.durable = durable

    def release(self) -> None:
        self.told.append(f"release {self.durable}")

    def resume(self) -> None:
        self.told.append("resume")

    def poisoned(self, reason: str) -> None:
        self.blocked = f"DurableError: {reason}"
        self.pending = [event(self.durable + 1)]


Answer = Callable[[Sequence[Commit]], list[Committed]]


def answer(code: Code, seq: int = 0) -> Answer:
    return lambda batch: [Committed(item.key, code, seq or item.seq, 0) for item in batch]


def fails(error: Exception) -> Answer:
    def fail(_: Sequence[Commit]) -> list[Committed]:
        raise error

    return fail


class Store:
    """Answers what it was told to, and applies everything else."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[tuple[int, int, int]], bool]] = []
        self.probes: list[list[int]] = []
        self.answers: deque[Answer] = deque()
        self.found: deque[Answer] = deque()
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, worker: int, batch: Any, *, wait: bool = False) -> list[Committed]:
        self.commits.append(([(item.key, item.seq, len(item.events)) for item in batch], wait))
        await self.gate.wait()
        return (self.answers.popleft() if self.answers else answer(Code.APPLIED))(batch)

    async def probe(self, worker: int, keys: Any, epochs: Any) -> list[Committed]:
        self.probes.append(list(keys))
        batch = [Commit(key, 1, 1, (), 0) for key in keys]
        return (self.found.popleft() if self.found else answer(Code.OTHER_SEQ, 1))(batch)


class Host:
    worker_id = 7

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def parked(self, run: Any, commit: Commit) -> None:
        self.told.append(("parked", run.key))

    def ended(self, run: Any, commit: Commit) -> None:
        self.told.append(("ended", run.key))

    def lost(self, run: Any) -> None:
        run.dead = True
        self.told.append(("lost", run.key))

    def fenced(self) -> None:
        self.told.append(("fenced", 0))


class Bench:
    """A journal at work."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Store()
        self.host = Host()
        self.journal: Any = Journal(self.store, self.host, self.clock)  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.journal.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def settle(self, seconds: float = 0.0) -> None:
        for _ in range(30):
            await asyncio.sleep(0)
        if seconds:
            self.clock.advance(seconds)
            await self.settle()

    async def do(self, *runs: Run) -> None:
        for run in runs:
            self.journal.dirty(run)
        await self.settle()


async def test_what_happens_during_a_commit_goes_out_with_the_next_one() -> None:
    """A batch goes out as soon as the one before is answered; no timer fills it."""
    async with Bench() as bench:
        bench.store.gate.clear()
        first, second, third = Run(1), Run(2), Run(3)
        await bench.do(first)
        await bench.do(second)
        await bench.do(third)
        assert bench.store.commits == [([(1, 1, 1)], False)]
        bench.store.gate.set()
        await bench.settle()
        assert bench.store.commits[1:] == [([(2, 1, 1), (3, 1, 1)], False)]
        assert bench.journal.idle


async def test_a_run_is_in_at_most_one_batch_in_flight() -> None:
    """One batch in flight per run; what grew meanwhile goes with the next one, and only that."""
    async with Bench() as bench:
        bench.store.gate.clear()
        run = Run(1)
        await bench.do(run)
        run.grow()
        await bench.do(run)
        assert len(bench.store.commits) == 1
        bench.store.gate.set()
        await bench.settle()
        assert bench.store.commits[1] == ([(1, 2, 1)], False)
        assert run.durable == 3


async def test_nothing_is_released_before_the_answer() -> None:
    """Commands of event i are released when durable >= i."""
    async with Bench() as bench:
        bench.store.gate.clear()
        run = Run(1)
        await bench.do(run)
        assert run.told == []
        bench.store.gate.set()
        await bench.settle()
        assert run.told == ["release 2"]


@pytest.mark.parametrize("act, told", [(Act.PARK, "parked"), (Act.FINISH, "ended")])
async def test_parked_and_ended_runs_are_told_of(act: Act, told: str) -> None:
    """0 applied: durable := new; if parked: cache with epoch and seq."""
    async with Bench() as bench:
        run = Run(1)
        run.act = act
        await bench.do(run)
        assert bench.host.told == [(told, 1)]


async def test_a_busy_run_goes_alone_and_waiting_after_two_misses() -> None:
    """A run that was locked gets code 1; after 2 misses it goes alone, waiting."""
    async with Bench() as bench:

        def first_is_busy(batch: Sequence[Commit]) -> list[Committed]:
            return [
                Committed(item.key, Code.BUSY if item.key == 1 else Code.APPLIED, item.seq, 0)
                for item in batch
            ]

        bench.store.answers.extend([first_is_busy] * 2)
        run, other = Run(1), Run(2)
        await bench.do(run, other)
        assert [wait for _, wait in bench.store.commits] == [False, False, True]
        assert bench.store.commits[2][0] == [(1, 1, 1)]
        assert (run.durable, other.durable, run.misses) == (2, 2, 0)
        assert "resume" in run.told


async def test_while_one_run_waits_for_its_lock_the_others_go_on() -> None:
    """A user's open transaction stalls nobody else."""
    async with Bench() as bench:
        stuck, free = Run(1), Run(2)
        stuck.misses = room.MISSES_BEFORE_WAITING
        bench.store.gate.clear()
        await bench.do(stuck, free)
        assert bench.store.commits == [([(2, 1, 1)], False), ([(1, 1, 1)], True)] or (
            sorted(bench.store.commits) == [([(1, 1, 1)], True), ([(2, 1, 1)], False)]
        )
        assert not bench.journal.idle
        bench.store.gate.set()
        await bench.settle()
        assert bench.journal.idle


async def test_a_run_that_goes_alone_takes_no_room_from_others() -> None:
    """However much it brings: else what had no room would wait until somebody else has something."""
    async with Bench() as bench:
        stuck, free = Run(1, events=room.MAX_EVENTS_PER_BATCH), Run(2)
        stuck.misses = room.MISSES_BEFORE_WAITING
        bench.store.gate.clear()
        await bench.do(stuck, free)
        assert ([(2, 1, 1)], False) in bench.store.commits
        bench.store.gate.set()
        await bench.settle()
        assert bench.journal.idle


async def test_a_lost_run_is_dropped() -> None:
    """2 lost: discard."""
    async with Bench() as bench:
        bench.store.answers.append(answer(Code.LOST))
        await bench.do(Run(1))
        assert bench.host.told == [("lost", 1)]


async def test_a_longer_durable_prefix_moves_the_mark_and_the_rest_is_sent() -> None:
    """3 still mine, other seq: durable := seq, send the rest."""
    async with Bench() as bench:
        run = Run(1, events=3)
        bench.store.answers.append(answer(Code.OTHER_SEQ, 3))
        await bench.do(run)
        assert run.told[:2] == ["release 3", "resume"]
        assert bench.store.commits[1] == ([(1, 3, 1)], False)


@pytest.mark.parametrize("seq", [1, 9])
async def test_a_history_that_nobody_can_have_made_drops_the_run(seq: int) -> None:
    """The database has lost commits, as a promoted standby may: what it holds is read anew."""
    async with Bench() as bench:
        run = Run(1, events=3)
        await bench.do(run)
        run.pending = [event(5)]
        bench.store.answers.append(answer(Code.OTHER_SEQ, seq))
        await bench.do(run)
        assert bench.host.told == [("lost", 1)]


async def test_fenced_is_told_once() -> None:
    """9 fenced: discard all, new worker id."""
    async with Bench() as bench:
        runs = [Run(n) for n in range(3)]
        bench.host.fenced = lambda: (  # type: ignore[method-assign]
            bench.host.told.append(("fenced", 0)),
            [setattr(run, "dead", True) for run in runs],
        )
        bench.store.answers.append(answer(Code.FENCED))
        await bench.do(*runs)
        assert bench.host.told == [("fenced", 0)]


async def test_a_lost_answer_is_looked_up_and_what_is_there_is_not_sent_again() -> None:
    """Mine and seq bigger than I thought: move the durable mark, send the rest of a grown batch."""
    async with Bench() as bench:
        run = Run(1, events=2)
        bench.store.answers.append(fails(StoreUnavailable("gone")))
        bench.store.found.append(answer(Code.OTHER_SEQ, 3))
        await bench.do(run)
        run.grow()
        await bench.do(run)
        assert len(bench.store.commits) == 1
        await bench.settle(0.05)
        assert bench.store.probes == [[1]]
        assert bench.store.commits[1] == ([(1, 3, 1)], False)
        assert run.durable == 4


async def test_what_is_not_there_is_sent_again() -> None:
    """Mine and seq as before: send again."""
    async with Bench() as bench:
        run = Run(1)
        bench.store.answers.append(fails(StoreUnavailable("gone")))
        await bench.do(run)
        await bench.settle(0.05)
        assert bench.store.commits == [([(1, 1, 1)], False)] * 2
        assert run.durable == 2


async def test_it_asks_until_the_database_is_back() -> None:
    """An unknown outcome is neither success nor failure; it shows for how long."""
    async with Bench() as bench:
        bench.store.answers.append(fails(StoreUnavailable("gone")))
        bench.store.found.extend([fails(StoreUnavailable("gone"))] * 20)
        await bench.do(Run(1))
        for _ in range(8):
            await bench.settle(0.5)
        assert bench.journal.failing_since is not None
        for _ in range(20):
            await bench.settle(0.5)
        assert bench.journal.failing_since is None
        assert bench.journal.idle


async def test_one_bad_run_does_not_poison_the_others() -> None:
    """Halve until the culprit is alone; the run that fails alone is blocked, the others commit."""
    async with Bench() as bench:

        def refuse_the_third(batch: Sequence[Commit]) -> list[Committed]:
            if any(item.key == 3 for item in batch):
                raise TypeError("a bug of the store")
            return answer(Code.APPLIED)(batch)

        bench.store.answers.extend([refuse_the_third] * 60)
        runs = [Run(n) for n in range(1, 9)]
        await bench.do(*runs)
        for _ in range(40):
            await bench.settle(0.5)
        assert [run.durable for run in runs if run.key != 3] == [2] * 7
        assert runs[2].blocked is not None
        assert bench.host.told == [("lost", 3)]  # not even that could be stored


async def test_a_run_that_cannot_say_what_to_commit_is_taken_up_anew() -> None:
    """The batch of the others goes out."""
    async with Bench() as bench:
        bad, good = Run(1), Run(2)
        bad.broken = True
        await bench.do(bad, good)
        assert good.durable == 2
        assert bench.host.told == [("lost", 1)]


async def test_a_poisoned_run_is_blocked_and_that_is_committed() -> None:
    """The database refuses this run's rows: the worker blocks it."""
    async with Bench() as bench:
        run = Run(1, events=3)
        bench.store.answers.append(answer(Code.POISONED))
        await bench.do(run)
        assert run.blocked is not None
        assert bench.store.commits[1] == ([(1, 1, 1)], False)


async def test_batches_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on everything: runs per statement and events per batch."""
    monkeypatch.setattr(room, "MAX_RUNS_PER_COMMIT", 2)
    async with Bench() as bench:
        await bench.do(*(Run(n) for n in range(5)))
        assert [len(batch) for batch, _ in bench.store.commits] == [2, 2, 1]
    monkeypatch.setattr(room, "MAX_EVENTS_PER_BATCH", 4)
    monkeypatch.setattr(room, "MAX_RUNS_PER_COMMIT", 500)
    async with Bench() as bench:
        await bench.do(*(Run(n, events=3) for n in range(3)))
        assert [len(batch) for batch, _ in bench.store.commits] == [2, 1]


async def test_an_answer_that_cannot_be_handled_drops_only_its_run() -> None:
    """One bad run never poisons others."""
    async with Bench() as bench:
        bad, good = Run(1), Run(2)
        bad.release = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        await bench.do(bad, good)
        assert bench.host.told == [("lost", 1)]
        assert good.told == ["release 2"]
