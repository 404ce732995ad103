"""Getting hold of runs: claims, adoption of claims whose answer was lost, and messages for runs held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from durable.clock import SECOND
from durable.errors import StoreUnavailable
from durable.model.rows import Act, Claim, Commit, Held, Message

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.wire import EventRow
    from durable.storage.base import Storage
    from durable.worker.execution import Execution

MAX_CLAIM = 200
"""Runs per claim."""
MAX_LOAD_EVENTS = 50_000
"""History events that are read at once."""
SUSPECT_RECOVERIES = 2
"""A run that has lost its worker so often without progress is driven with no other of its kind."""
_HAND_BACK_SECONDS = 0.03
"""How far apart suspects come back."""
_LOOK_SECONDS = 1.0
"""A run that was dropped is looked at again after this long: whatever is wrong with it is no hot loop."""
_IDLE_SECONDS = (0.02, 1.0)
"""Shortest and longest pause between polls that find nothing."""
_log = logging.getLogger("durable.worker")


class Host(Protocol):
    """What claiming needs of its worker."""

    @property
    def worker_id(self) -> int: ...
    def __len__(self) -> int: ...
    def healthy(self) -> bool: ...
    def open_lanes(self) -> Sequence[int]: ...
    def held(self, key: int) -> Execution | None: ...
    def resume(self, claim: Claim, messages: Sequence[Message]) -> bool: ...
    def replay(
        self, claim: Claim, rows: Sequence[EventRow], messages: Sequence[Message]
    ) -> None: ...
    def receive(self, execution: Execution, messages: Sequence[Message]) -> None: ...
    def lost(self, execution: Execution) -> None: ...


class Claimer:
    """Polls for due runs. Hints make it faster; the poll is the truth."""

    def __init__(self, store: Storage, host: Host, clock: Clock) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._poke = asyncio.Event()
        self._pause = _IDLE_SECONDS[0]
        self._suspect: Claim | None = None
        self._dropped: set[int] = set()
        self._look_due = 0.0
        """When to ask for runs that are ours without our knowing, while we hold none."""
        self.trouble: str | None = None
        """Why the last round failed."""
        self.claimed = 0
        self.adopted = 0

    def poke(self) -> None:
        """There may be work: look now."""
        self._pause = _IDLE_SECONDS[0]
        self._poke.set()

    def look_at(self, key: int, *, soon: bool = False) -> None:
        """A run was dropped here that may still be ours: then it is to be taken up anew."""
        if soon:
            self._dropped.add(key)
        else:
            self._clock.call_later(_LOOK_SECONDS, lambda: self._dropped.add(key))
        self.poke()

    async def run(self) -> None:
        """Claim for ever; survives every error."""
        while True:
            self._poke.clear()
            found = 0
            try:
                found = await self._round()
                self.trouble = None
            except StoreUnavailable as error:
                self._failed(str(error))
                _log.warning("claiming runs failed, trying again: %s", error)
            except Exception as error:
                self._failed(repr(error))
                _log.exception("claiming runs failed, trying again")
            if found >= MAX_CLAIM:
                continue  # there may be more
            if found:
                self._pause = _IDLE_SECONDS[0]
            await self._wait(self._pause)
            self._pause = min(
                self._pause * 2, _IDLE_SECONDS[1]
            )  # a poke has made it short meanwhile

    def _failed(self, why: str) -> None:
        if self.trouble is None:  # what it had come for must not wait for the next poll, too
            self._pause = _IDLE_SECONDS[0]
        self.trouble = why

    async def _wait(self, seconds: float) -> None:
        timer = self._clock.look_later(seconds, self._poke.set)
        try:
            await self._poke.wait()
        finally:
            timer.cancel()

    async def _round(self) -> int:
        worker = self._host.worker_id
        if not self._host.healthy():
            return 0
        if self._dropped or len(self._host) or self._clock.monotonic() >= self._look_due:
            await self._look_after(worker)
            self._look_due = self._clock.monotonic() + _LOOK_SECONDS
        lanes = self._host.open_lanes()
        if not lanes:
            return 0
        claims = await self._store.claim(worker, lanes, MAX_CLAIM)
        self.claimed += len(claims)
        return await self._drive(worker, claims)

    async def _drive(self, worker: int, claims: Sequence[Claim]) -> int:
        """Take up what is ours now; how many. What cannot be read remains ours, and is tried again with the next round.

        What is handed back does not count: it may be due again at once, and must not be asked for again and again.
        """
        try:
            kept = await self._one_suspect(worker, claims)
            await self.take_up(worker, kept)
            return len(kept)
        except Exception:
            self._dropped.update(claim.key for claim in claims)
            raise

    async def _one_suspect(self, worker: int, claims: Sequence[Claim]) -> Sequence[Claim]:
        """At most one run at a time that may be what kills workers; the others are handed back.

        So a run that is not to blame loses its worker only a few times for the sake of one that is.
        """
        suspects = [claim for claim in claims if claim.recoveries >= SUSPECT_RECOVERIES]
        if not suspects:
            return claims
        watched = None if self._suspect is None else self._host.held(self._suspect.key)
        busy = watched is not None and watched.durable <= (self._suspect or suspects[0]).seq
        kept = None if busy else suspects[0]
        self._suspect = kept or self._suspect
        back = [claim for claim in suspects if claim is not kept]
        if back:
            # One after the other, so that the next one is there when this one has shown what it is.
            apart = round(_HAND_BACK_SECONDS * SECOND)
            commits = [
                _handed_back(claim, claim.now + number * apart)
                for number, claim in enumerate(back, 1)
            ]
            await self._store.commit(worker, commits)
        return [claim for claim in claims if claim not in back]

    async def take_up(self, worker: int, claims: Sequence[Claim]) -> None:
        """Bring claimed runs to life: from the cache, or by replaying their history."""
        if not claims or worker != self._host.worker_id:
            return
        # What has come for a run is read first: one that was cancelled meanwhile starts nothing.
        inboxes = await self._inboxes(
            [
                (claim.key, claim.consumed)
                for claim in claims
                if claim.inbox_head > claim.consumed and not claim.messages
            ]
        )
        inboxes.update((claim.key, claim.messages) for claim in claims if claim.messages)
        if worker != self._host.worker_id:
            return
        missing = [c for c in claims if not self._host.resume(c, inboxes.get(c.key, ()))]
        for some in _chunks(missing):
            histories = await self._store.load([(c.key, c.first_seq - 1) for c in some])
            for claim in some:
                if worker != self._host.worker_id:
                    return
                # Our own commits cannot have moved it: nobody drives it yet.
                rows = [row for row in histories.get(claim.key, ()) if row.seq <= claim.seq]
                self._host.replay(claim, rows, inboxes.get(claim.key, ()))
                await asyncio.sleep(0)

    async def _look_after(self, worker: int) -> None:
        """Messages for runs that are held, and runs that are ours without our knowing."""
        due = await self._store.owned(worker)
        if not (due or self._dropped) or worker != self._host.worker_id:
            return
        unknown = [key for key in self._dropped if self._host.held(key) is None]
        self._dropped.clear()
        quiet: list[Held] = []
        behind: list[tuple[int, int]] = []
        for held in due:
            execution = self._host.held(held.key)
            if execution is None or execution.epoch < held.epoch:
                if held.key not in unknown:
                    unknown.append(held.key)
            elif held.inbox_head > execution.consumed:
                execution.inbox_head = held.inbox_head
                behind.append((held.key, execution.consumed))
            else:
                quiet.append(held)
        if unknown:
            self._dropped.update(unknown)
            claims = await self._store.adopt(worker, unknown)
            self._dropped.difference_update(unknown)
            self.adopted += len(claims)
            await self._drive(worker, claims)
        if quiet:
            await self._store.acknowledge(worker, quiet)
        await self._read(behind)

    async def _read(self, behind: Sequence[tuple[int, int]]) -> None:
        by_run = await self._inboxes(behind)
        for key, consumed in behind:
            execution = self._host.held(key)
            if execution is None:
                continue
            if key in by_run:
                self._host.receive(execution, by_run[key])
            elif execution.consumed == consumed:  # nobody here has: this owner is stale
                self._host.lost(execution)
            await asyncio.sleep(0)  # much may have come for many

    async def _inboxes(self, behind: Sequence[tuple[int, int]]) -> dict[int, Sequence[Message]]:
        by_run: dict[int, list[Message]] = {}
        if behind:
            for message in await self._store.inbox(behind):
                by_run.setdefault(message.key, []).append(message)
        return dict(by_run)


def _chunks(claims: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
    """Parts whose histories fit into memory together; a single one may be larger."""
    part: list[Claim] = []
    events = 0
    for claim in claims:
        length = claim.seq - claim.first_seq + 1
        if part and events + length > MAX_LOAD_EVENTS:
            yield part
            part, events = [], 0
        part.append(claim)
        events += length
    if part:
        yield part


def _handed_back(claim: Claim, due: int) -> Commit:
    return Commit(
        claim.key,
        claim.epoch,
        claim.seq,
        (),
        claim.consumed,
        Act.PARK,
        "waiting",
        wake_at=due,
    )
