"""What all verbs of a client stand on: one store, its clock, and the workers of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from durable.client.patience import Patience
from durable.clock import SECOND, Clock, SystemClock
from durable.errors import DurableError, NotAllowedInWorkflow, RunNotFound
from durable.model.lifecycle import RunStatus
from durable.model.scope import in_workflow

if TYPE_CHECKING:
    from durable.client.results import Results
    from durable.model.rows import Lane, NewRun, Started
    from durable.storage.base import Storage

T = TypeVar("T")

_SOON_SECONDS = 0.005
"""How long a worker of this process may take to take up a run that was told something."""
_READING_SECONDS = 60.0
"""How old a reading of the database's clock may be: that clock is set now and then."""
_STEP = SECOND
"""How far this machine's own clock may have been set, or may have slept, before it is read again at once."""


class LocalWorker(Protocol):
    """A worker in this process, as a client sees it."""

    def now(self) -> int:
        """The database's time."""
        ...

    def eager_owner(self, lane: Lane) -> int | None:
        """The worker id under which a new run of this lane may be started here at once."""
        ...

    def expect(self, run_id: str) -> None:
        """A run is about to be started that the worker is to own; `started` follows, or nothing."""
        ...

    def started(self, key: int, run: NewRun) -> None:
        """A run that was expected was started, and the worker owns it."""
        ...

    def expect_no_more(self, run_id: str) -> None:
        """Whatever became of that start: no `started` follows."""
        ...

    def holds(self, run_id: str) -> bool:
        """Whether it drives the run right now."""
        ...

    def poke(self) -> None:
        """There may be work."""
        ...


class ClientBase:
    """An open or closed door to one database."""

    clock: Clock = SystemClock()
    """What it waits by; tests put a virtual one here."""
    _patience: Patience
    _results: Results

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._open = False
        self._offset = 0
        self._read_at = 0.0
        self._machine_offset = 0
        self._reading: asyncio.Task[None] | None = None
        self._workers: list[LocalWorker] = []
        self._told: set[str] = set()
        self._cut_off: set[str] = set()
        """Runs that were ended from outside while a worker of this process drove them."""

    @property
    def is_open(self) -> bool:
        """Whether it may be used."""
        return self._open

    def _check_open(self) -> None:
        if in_workflow():
            message = "a client in workflow code cannot be replayed: use ctx.start, ctx.call or ctx.send_event, or a step"
            raise NotAllowedInWorkflow(message)
        if not self._open:
            message = "the client is not open: use `async with client:` or `await client.open()`"
            raise DurableError(message)

    async def _try(self, verb: Callable[[], Awaitable[T]]) -> T:
        """The answer of the store, asked again while it is unavailable."""
        self._check_open()
        return await self._patience(verb)

    async def _read_clock(self) -> None:
        before = self.clock.monotonic()
        self._read_at, self._machine_offset = before, self._offset_here(before)
        now = await self.storage.now()
        self._offset = now - round((before + self.clock.monotonic()) / 2 * SECOND)

    def _offset_here(self, monotonic: float) -> int:
        return self.clock.now() - round(monotonic * SECOND)

    def _new_reading(self) -> asyncio.Task[None] | None:
        """The reading of the database's clock that is under way; it begins when the last one is old."""
        if self._reading is None and not self._workers:
            monotonic = self.clock.monotonic()
            step = self._offset_here(monotonic) - self._machine_offset
            if monotonic - self._read_at > _READING_SECONDS or abs(step) > _STEP:
                self._reading = asyncio.create_task(self._read_again(), name="durable-clock")
        return self._reading

    async def _read_again(self) -> None:
        try:
            with contextlib.suppress(DurableError):  # whoever asks next will be told
                await self._read_clock()
        finally:
            self._reading = None

    async def _refresh_clock(self) -> None:
        """Before a time is reckoned that the database is to keep: no round trip but once a minute."""
        reading = self._new_reading()
        if reading is not None:
            await asyncio.shield(reading)

    def _now(self) -> int:
        """The database's time, as a worker of this process knows it, or as it was read within the last minute."""
        for worker in self._workers:
            return worker.now()
        self._new_reading()
        return round(self.clock.monotonic() * SECOND) + self._offset

    def stirred(self, run_id: str | None = None) -> None:
        """A run (or several) was told something: whoever drives it should look, here or elsewhere."""
        for worker in self._workers:
            worker.poke()
        self.storage.hint()
        if run_id is not None and self._workers:
            if not self._told:
                self.clock.call_later(_SOON_SECONDS, self._told.clear)
            self._told.add(run_id)

    def was_just_told(self, run_id: str) -> bool:
        """Whether a worker of this process may be about to take it up."""
        return run_id in self._told

    @contextmanager
    def expecting(self, runs: Sequence[NewRun]) -> Generator[None]:
        """A worker here that is to own one of them may find it before the answer is here, and drives it only once."""
        ids = [run.id for run in runs if run.eager_owner is not None]
        owners = tuple(self._workers) if ids else ()
        for worker in owners:
            for run_id in ids:
                worker.expect(run_id)
        try:
            yield
        finally:
            for worker in owners:
                for run_id in ids:
                    worker.expect_no_more(run_id)

    def hand_over(self, run: NewRun, answer: Started) -> None:
        """A run that was started goes to the worker that owns it; of any other, workers are told."""
        if not answer.created:
            return
        self._cut_off.discard(run.id)
        for worker in self._workers:
            if answer.owned:
                worker.started(answer.key, run)
            else:
                worker.poke()
        if not answer.owned:
            self.storage.hint()

    def drives(self, run_id: str) -> bool:
        """Whether a worker of this process drives the run right now."""
        for worker in self._workers:  # noqa: SIM110  `any` over a generator takes four times as long
            if worker.holds(run_id):
                return True
        return False

    def _ended_from_outside(self, run_id: str) -> None:
        """Whoever waits for the run need not wait until the worker here has noticed."""
        self._cut_off = {known for known in self._cut_off if self.drives(known)}
        if self.drives(run_id):
            self._cut_off.add(run_id)
        self._results.look()

    def _will_be_told(self, run_id: str) -> bool:
        """Whether the end of the run will be told by a worker of this process, as far as one can know."""
        if run_id in self._cut_off:
            return False
        return self.drives(run_id) or self.was_just_told(run_id)

    async def _status(self, run_id: str) -> RunStatus:
        row = await self._try(lambda: self.storage.run(run_id))
        if row is None:
            raise not_found(run_id)
        return row.status


def not_found(run_id: str) -> RunNotFound:
    """Nobody knows the run."""
    shown = run_id if run_id.isprintable() else repr(run_id)
    return RunNotFound(f"there is no run {shown}")
