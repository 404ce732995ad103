"""A scenario, run once undisturbed and then once for every store operation and every kind of fault.

The undisturbed run counts the operations. Where the process dies, its user starts it again: the same program,
the same ids. Afterwards everything that a history must be is checked, whatever the scenario was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable import Client, current_step
from durable.model import history
from durable.model.history import FROM_INBOX, NAMES
from durable.model.rows import RunRow, WaitFilter, WaitKind
from durable.model.wire import EventRow, decode_event
from durable_testing.faults import FAULTS, Crash, Fail, Fault, Operation
from tests.worker.world import World

_QUIET = frozenset({"claim", "owned", "renew", "reap", "leased", "unblock", "finished", "run"})
"""Verbs that mostly find nothing to do: a sample takes fewer of them."""
_KINDS = (WaitKind.EVENT, WaitKind.INPUT, WaitKind.REQUEST)
_COMPLETED = frozenset({"StepCompleted", "CompensationCompleted"})
_FAILED = frozenset({"StepFailed", "CompensationFailed"})
_SCHEMAS = itertools.count(1)
"""A fresh one for every run in a database that is kept."""


@dataclass
class Ledger:
    """What really happened, in order: attempts that began, completions and runs that became durable."""

    world: World | None = None
    entries: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    """What undos were given, in the order in which they began."""

    def began(self) -> None:
        self.entries.append(("began", current_step().idempotency_key))

    def undo(self, what: str) -> None:
        self.began()
        self.undone.append(what)

    async def takes(self, seconds: float) -> None:
        assert self.world is not None
        await self.world.clock.sleep(seconds)

    def note(self, key: int, events: Sequence[EventRow]) -> None:
        """Events have become durable."""
        for event in events:
            name = NAMES[event.type]
            if name in _COMPLETED or name in _FAILED:
                self.entries.append((name, f"{key}:{event.cmd}"))

    def clear(self, world: World) -> None:
        self.world = world
        self.entries.clear()
        self.lines.clear()
        self.undone.clear()


LEDGER = Ledger()


class OneOf:
    """Equal to each of some values: where either may come first, either is right."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __eq__(self, other: object) -> bool:
        return other in self.values

    def __hash__(self) -> int:
        return hash(self.values)

    def __repr__(self) -> str:
        return " or ".join(map(repr, self.values))


@dataclass
class Scenario:
    """What a user's program does, and what must come of it."""

    drive: Callable[[Client], Awaitable[Any]]
    """The program. After a crash it runs again from its start."""
    workflows: tuple[Any, ...]
    expected: Any
    runs: Mapping[str, Any] = field(default_factory=lambda: {"a": "completed"})
    """The runs that exist afterwards, and how they ended; None: it does not exist."""
    undone: Any = field(default_factory=list[str])
    """What undos were given, in their order."""
    elsewhere: bool = False
    """The program that starts runs is another process than the worker, and never dies."""
    ordered: bool = False
    """Every step begins because the one before it has completed."""
    many_attempts: bool = False
    """The same start repeated makes another run: attempts are not counted."""
    events: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Of some runs: the messages that came, as history events, in order."""


async def disturbed(
    url: str, scenario: Scenario, at: int | None = None, fault: Fault | None = None
) -> Sequence[Operation]:
    """Run a scenario with one fault, and check everything. Its operations; none: it was not disturbed."""
    schema = "durable" if url == "sqlite://" else f"points_{next(_SCHEMAS)}"
    async with World(url, schema) as world:
        LEDGER.clear(world)
        world.database.on_events = LEDGER.note
        first = await world.process(*scenario.workflows, at=at, fault=fault)
        outside = await world.process() if scenario.elsewhere else None
        value = await _drive(world, scenario, (outside or first).client)
        await _all_ended(world)
        await world.check()
        if not first.dead:
            with contextlib.suppress(Crash):
                await world.drain(first)
        met = bool(first.storage.fired)
        assert value == scenario.expected, value
        crashed = met and not isinstance(fault, Fail)
        await _check(world, scenario, crashed=crashed)
        return first.storage.log if at is None or met else ()


async def _drive(world: World, scenario: Scenario, client: Client) -> Any:
    first = world.processes[0]
    user = asyncio.ensure_future(scenario.drive(client))
    try:
        await world.until(lambda: user.done() or (first.dead and len(world.processes) < 9), 200)
        if not first.dead:
            return user.result()
        if not scenario.elsewhere:
            user.cancel()
            await asyncio.gather(user, return_exceptions=True)
            second = await world.process(*scenario.workflows)
            return await world.run(scenario.drive(second.client), 200)
        await world.process(*scenario.workflows)
        await world.until(user.done, 200)
        return user.result()
    finally:
        user.cancel()
        await asyncio.gather(user, return_exceptions=True)


async def _all_ended(world: World) -> None:
    """Children may have to be told yet that nobody waits for them."""
    end = world.clock.monotonic() + 60
    while any(row.finished_at is None for row in await world.rows()):
        if world.clock.monotonic() > end:
            rows = [(row.id, row.status, row.waiting_for) for row in await world.rows()]
            raise AssertionError(f"not all of these runs end: {rows}")
        if all(process.dead or process.worker is None for process in world.processes):
            first = world.processes[0]
            assert first.worker is not None
            await world.process(*first.worker._workflows.values())
        await world.pass_time(0.5)


# -- what must hold


async def _check(world: World, scenario: Scenario, *, crashed: bool) -> None:
    rows = await world.rows()
    histories = {
        row.key: [decode_event(event) for event in await world.history(row.id)] for row in rows
    }
    _check_runs(rows, scenario)
    for row in rows:
        check_messages(histories[row.key], row.id)
    for run_id, names in scenario.events.items():
        (row,) = [row for row in rows if row.id == run_id]
        found = [type(e).__name__ for e in histories[row.key] if type(e).code in FROM_INBOX]
        assert found == list(names), found
    check_children(rows, histories)
    assert not await world.database.inner.waits(WaitFilter(_KINDS)), "waits of runs that ended"
    if not scenario.many_attempts:
        ids = {str(row.key): row.id for row in rows}
        check_attempts(ids, crashed=crashed)
        if scenario.ordered:
            check_order(ids)
    undone = [tag for tag, _ in itertools.groupby(LEDGER.undone)] if crashed else LEDGER.undone
    assert scenario.undone == undone, (scenario.undone, LEDGER.undone)
    if not crashed:
        assert len(LEDGER.lines) == len(set(LEDGER.lines))


def _check_runs(rows: Sequence[RunRow], scenario: Scenario) -> None:
    """Each run exists exactly once and has ended, as it should."""
    if scenario.many_attempts:
        assert any("~" in row.id for row in rows)
    found = {row.id: row.status for row in rows if "~" not in row.id}
    assert found.keys() <= scenario.runs.keys(), found
    assert all(status == found.get(id) for id, status in scenario.runs.items()), found
    assert all(row.finished_at is not None for row in rows)


def check_messages(events: Sequence[history.Event], run_id: str) -> None:
    """Each message entered the history once, in the order of the inbox; each send was reported once."""
    numbers = [e.number for e in events if type(e).code in FROM_INBOX]  # type: ignore[union-attr]
    numbers = [number for number in numbers if number]  # 0: held or resumed while nobody owned it
    assert numbers == list(range(1, len(numbers) + 1)), (run_id, numbers)
    for kind in (history.MessageSent, history.ChildStarted, history.ChildRefused):
        cmds = [e.cmd for e in events if isinstance(e, kind)]  # type: ignore[attr-defined]
        assert len(cmds) == len(set(cmds)), (run_id, kind.__name__, cmds)
    ends = (history.ChildCompleted, history.ChildFailed)
    children = [e.cmd for e in events if isinstance(e, ends)]
    assert len(children) == len(set(children)), (run_id, children)


def check_children(rows: Sequence[RunRow], histories: Mapping[int, Sequence[Any]]) -> None:
    """A child exists if and only if its start is in its parent's history."""
    started: dict[tuple[int, int], str] = {}
    refused: set[tuple[int, int]] = set()
    for key, events in histories.items():
        for event in events:
            if isinstance(event, history.ChildStarted):
                started[key, event.cmd] = event.child_id
            elif isinstance(event, history.ChildRefused):
                refused.add((key, event.cmd))
    born: dict[tuple[int, int], str] = {}
    for row in rows:
        first = histories[row.key][0]
        if first.parent_key is not None:
            born[first.parent_key, first.parent_cmd] = row.id.partition("~")[0]
    assert all(started.get(place) == child for place, child in born.items()), (born, started)
    ids = {row.id for row in rows}
    for place, child in started.items():
        assert place in born or place in refused or child in ids, (place, child)
    assert not refused & born.keys(), (refused, born)


def check_attempts(ids: dict[str, str], *, crashed: bool) -> None:
    """No attempt began after the completion of its step was durable; without a crash each began once."""
    completed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    began: Counter[str] = Counter()
    for what, name in LEDGER.entries:
        if what == "began":
            began[name] += 1
            assert not completed[name], f"step {name} ran again: {LEDGER.entries}"
            continue
        key, _, cmd = name.partition(":")
        (completed if what in _COMPLETED else failed)[f"{ids[key]}:{cmd}"] += 1
    assert all(count == 1 for count in completed.values()), completed
    for name, count in began.items():
        attempts = completed[name] + failed[name]
        most = max(attempts, 1) + (1 if crashed else 0)
        assert attempts <= count <= most, (name, count, LEDGER.entries)


def check_order(ids: dict[str, str]) -> None:
    """A step begins only when the completion that caused it is durable."""
    begun: set[tuple[str, int]] = set()
    durable: set[tuple[str, int]] = set()
    for what, name in LEDGER.entries:
        run, _, cmd = name.partition(":")
        if what == "began":
            earlier = {(other, n) for other, n in begun if other == run and n < int(cmd)}
            assert earlier <= durable, (name, LEDGER.entries)
            begun.add((run, int(cmd)))
        elif what in _COMPLETED:
            durable.add((ids[run], int(cmd)))


# -- all points of a scenario

Points = Callable[[Sequence[Operation]], Collection[tuple[str, int]]]


def every(operations: Sequence[Operation]) -> Collection[tuple[str, int]]:
    """Every kind of fault at every operation."""
    return [(label, operation.number) for label in FAULTS for operation in operations]


def sample(most: int) -> Points:
    """Some: mostly where something is written, with the kinds of faults taking turns."""

    def choose(operations: Sequence[Operation]) -> Collection[tuple[str, int]]:
        loud = [o.number for o in operations if o.verb not in _QUIET]
        quiet = [o.number for o in operations if o.verb in _QUIET]
        points = [
            (label, number)
            for numbers in (loud, quiet[:: max(1, len(quiet) // 4)])
            for place, number in enumerate(numbers)
            for turn, label in enumerate(FAULTS)
            if (place + turn) % 2 == 0 or len(numbers) * 4 <= most
        ]
        # The same ones whenever it is asked, so that a failure can be seen again.
        return random.Random(len(points)).sample(points, min(most, len(points)))

    return choose


FULL = bool(os.environ.get("DURABLE_CRASH_POINTS"))
"""`make crash-points`: every scenario and every point on PostgreSQL, too."""


def on_postgres(
    scenarios: Collection[str], short: Collection[str]
) -> tuple[Collection[str], Points]:
    """Which scenarios are tried on PostgreSQL, and at which points."""
    return (scenarios, every) if FULL else (short, sample(40))


class Report:
    """Counts what was tried."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    async def try_points(self, url: str, name: str, scenario: Scenario, points: Points) -> None:
        """A scenario with faults at these points."""
        operations = await disturbed(url, scenario)
        place = f"{name} ({url.partition(':')[0]}, {len(operations)} operations)"
        counts = self._counts.setdefault(place, Counter())
        for label, at in points(operations):
            try:
                met = await disturbed(url, scenario, at, FAULTS[label])
            except BaseException as error:
                verb = operations[at - 1].verb
                error.add_note(f"{name}: {label} at operation {at} of {len(operations)}, {verb}")
                raise
            counts[label] += bool(met)

    def print(self) -> None:
        """Say what was tried."""
        print()
        for name, counts in self._counts.items():
            words = ", ".join(f"{fault}: {count}" for fault, count in counts.items())
            print(f"  {name}: {words}")
        faults = sum(map(Counter.total, self._counts.values()))
        print(f"  {len(self._counts)} scenarios, {faults} faults")


@contextlib.contextmanager
def lines_of_workflows() -> Iterator[None]:
    """Log lines of workflows go into the ledger; what the worker says about faults goes nowhere."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            LEDGER.lines.append(f"{record.__dict__['run_id']} {record.getMessage()}")

    logger, lines = logging.getLogger("durable.workflow"), Lines()
    loud = [logging.getLogger(name) for name in ("durable.worker", "durable.client")]
    logger.addHandler(lines)
    for other in loud:
        other.disabled = True
    try:
        yield
    finally:
        logger.removeHandler(lines)
        for other in loud:
            other.disabled = False
