"""Judges finished runs: their history, their result, and what the ledger of effects says of their steps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from durable.client.patience import patiently
from durable.model import history
from durable.model.payload import ANY
from durable.model.wire import EventRow, decode_event
from tests.campaigns import labour
from tests.campaigns.effects import Entry, Ledger, LedgerReader

if TYPE_CHECKING:
    from durable import Client
    from durable.model.rows import RunRow

PAGE = 1000


class Oracle:
    """Looks at every run once it has ended, and at the ledger as it grows.

    How it knows that no step ran again after its completion was committed, from two sides:

    - The completion in the history names worker and attempt. That execution must be the last one that
      the ledger has of this step: whatever began later, began although this one was to be committed.
    - A step of a later stage begins only when the completions of the stages before are durable, and a
      run is seen to have ended only when its end is. So nothing of an earlier stage may begin after a
      later one has, and nothing at all after the end was seen.
    """

    def __init__(self, client: Client, ledger: Ledger, reader: LedgerReader) -> None:
        self._client = client
        self._ledger = ledger
        self._reader = reader
        self._open: dict[str, list[Entry]] = defaultdict(list)
        self._stages: dict[str, int] = {}
        self._closed: set[str] = set()
        self.absent: set[int] = set()
        """Processes that were stopped in the middle of something: what they had decided on before they
        were, they may begin after; it is counted and not a violation, for it is never committed."""
        self.figures: Counter[str] = Counter()
        self.violations: list[str] = []

    def read_ledger(self) -> None:
        """Take in what steps have written since the last time."""
        for entry in self._reader.advance():
            self.take_in(entry)

    def take_in(self, entry: Entry) -> None:
        """One entry of the ledger."""
        if entry.kind == "start":
            self._began(entry)
        elif entry.kind == "seen":
            self._closed.add(entry.run)

    def _began(self, entry: Entry) -> None:
        self.figures["executions"] += 1
        if entry.run in self._closed:
            self._late(entry, "began after its run was seen to have ended")
            return
        reached = self._stages.get(entry.run, 0)
        if entry.stage < reached:
            self._late(entry, f"began after stage {reached} had")
        self._stages[entry.run] = max(reached, entry.stage)
        self._open[entry.run].append(entry)

    def _late(self, entry: Entry, what: str) -> None:
        if entry.pid in self.absent:
            self.figures["late begins of stopped processes"] += 1
        else:
            self.violations.append(f"run {entry.run}: step {entry.cmd} {what}: {entry}")

    async def judge(self, run_id: str, name: str, seed: int) -> None:
        """Look at a run that has ended."""
        ended = await self.close(run_id)
        if ended is None:
            return
        row, rows, starts = ended
        found = [*sequence_faults(rows, row.seq), *status_faults(rows, row.status)]
        found += _result(rows, name, seed)
        found += steps_faults(rows, starts, labour.right_steps(name), self.absent)
        found += owners_faults(rows)
        self.violations += [f"run {run_id} ({name}): {what}" for what in found]
        self.count(rows, starts)

    async def close(self, run_id: str) -> tuple[RunRow, Sequence[EventRow], Sequence[Entry]] | None:
        """A run has ended: its row, its history, and what the ledger has of its steps. Nothing may begin now."""
        self._ledger.write("seen", run_id)
        self.read_ledger()
        starts = self._open.pop(run_id, [])
        self._stages.pop(run_id, None)
        store, clock = self._client.storage, self._client.clock
        row = await patiently(clock, lambda: store.run(run_id))
        rows = await patiently(clock, lambda: store.history(run_id, 0, PAGE))
        if row is None or not rows:
            self.violations.append(f"run {run_id} was seen to have ended and is not there")
            return None
        return row, rows, starts

    def count(self, rows: Sequence[EventRow], starts: Sequence[Entry]) -> None:
        kinds = Counter(row.type for row in rows)
        self.figures["runs"] += 1
        self.figures["steps"] += kinds[history.StepCompleted.code]
        self.figures["recoveries"] += kinds[history.Recovered.code]
        recorded = kinds[history.StepCompleted.code] + kinds[history.StepFailed.code]
        self.figures["executions lost to faults"] += len(starts) - recorded


def sequence_faults(rows: Sequence[EventRow], length: int) -> list[str]:
    found = []
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        found.append(f"its history has gaps: {[row.seq for row in rows]}")
    if len(rows) != length:
        found.append(f"its row says {length} events, its history has {len(rows)}")
    times = [row.at for row in rows]
    if times != sorted(times):
        found.append(f"its time goes back: {times}")
    return found


def status_faults(rows: Sequence[EventRow], status: str) -> list[str]:
    """The row's status is what its history adds up to."""
    folded = "pending"
    for row in rows:
        event = decode_event(row)
        if folded in {"completed", "failed"}:
            return [f"{type(event).__name__} follows on its end"]
        if isinstance(event, history.RunStarted):
            folded = "running"
        elif isinstance(event, history.RunCompleted):
            folded = "completed"
        elif isinstance(event, history.RunFailed):
            folded = "failed"
        elif isinstance(event, history.Blocked):
            folded = "blocked"
    return [] if folded == status else [f"it is {status}, its history says {folded}"]


def _result(rows: Sequence[EventRow], name: str, seed: int) -> list[str]:
    last = decode_event(rows[-1])
    if not isinstance(last, history.RunCompleted):
        return [f"it ended with {last}"]
    got, right = ANY.decode(last.result, "result"), labour.right_result(name, seed)
    return [] if got == right else [f"its result is {got}, not {right}"]


def steps_faults(
    rows: Sequence[EventRow], starts: Sequence[Entry], expected: int, absent: set[int]
) -> list[str]:
    """Each step was completed once, by the last execution that was ever begun."""
    done: dict[int, history.StepCompleted] = {}
    found = []
    for row in rows:
        event = decode_event(row)
        if isinstance(event, history.StepCompleted):
            if event.cmd in done:
                found.append(f"step {event.cmd} was completed twice")
            done[event.cmd] = event
    if len(done) != expected:
        found.append(f"{len(done)} steps were completed, not {expected}")
    for cmd, event in done.items():
        tried = [one for one in starts if one.cmd == cmd]
        mine = [one for one in tried if one.worker == event.worker]
        last = [one for one in tried if one.pid not in absent or one in mine][-1:]
        if not mine or last != mine[-1:] or last[0].attempt != event.attempt:
            found.append(f"step {cmd} was completed by {event}, but the ledger says {tried}")
    return found


def owners_faults(rows: Sequence[EventRow]) -> list[str]:
    """An owner that was lost never writes again, and nobody takes over unsaid."""
    owner, gone, found = 0, set(), []
    for row in rows:
        event = decode_event(row)
        worker = getattr(event, "worker", None)
        if worker is None:
            continue
        if worker in gone:
            found.append(f"event {row.seq} is by worker {worker}, which was lost before: {event}")
        if isinstance(event, history.Recovered):
            gone.add(event.lost)
        elif owner and worker != owner:
            found.append(f"no Recovered between worker {owner} and {worker}: event {row.seq}")
        owner = worker
    return found
