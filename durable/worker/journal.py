"""Group commit: whatever happened since the last commit, for all runs of this worker, in one transaction.

A batch goes out as soon as the one before is answered; no timer fills it. A run is in at most one batch at
a time. The answers follow one rule: while owner and epoch are mine, the row's `seq` is the length of the
durable prefix of my own event list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from durable.errors import StoreUnavailable
from durable.model.rows import Act, Code, Commit, Committed

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage
    from durable.worker.execution import Execution

MAX_RUNS_PER_COMMIT = 500
MAX_EVENTS_PER_BATCH = 4_000
MAX_BYTES_PER_BATCH = 16 * 1024 * 1024
"""A batch is closed when it has so many bytes: one statement can carry a gigabyte at most."""
MISSES_BEFORE_WAITING = 2
"""After so many commits that met a locked row, a run goes alone and waits for the lock."""
MISSES_BEFORE_POISON = 5
"""After so many commits that failed for it alone, for a reason unknown to the port, a run is blocked."""
_RETRY_SECONDS = (0.02, 0.05, 0.1, 0.25, 0.5)
_log = logging.getLogger("durable.worker")


class Host(Protocol):
    """Whom the journal tells what became of a run."""

    @property
    def worker_id(self) -> int: ...
    def parked(self, execution: Execution, commit: Commit) -> None: ...
    def ended(self, execution: Execution, commit: Commit) -> None: ...
    def lost(self, execution: Execution) -> None: ...
    def unseen(self, execution: Execution) -> None: ...
    def stirred(self) -> None: ...
    def fenced(self) -> None: ...


class Journal:
    """Makes the events of a worker's runs durable."""

    def __init__(self, store: Storage, host: Host, clock: Clock) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._dirty: dict[Execution, None] = {}
        self._wake = asyncio.Event()
        self._alone: set[asyncio.Task[None]] = set()
        self._committing = False
        self.commits = 0
        self.events = 0
        self.failing_since: float | None = None
        self._unanswered = 0

    def dirty(self, execution: Execution) -> None:
        """This run may have something to commit."""
        self._dirty[execution] = None
        self._wake.set()

    @property
    def idle(self) -> bool:
        return not self._dirty and not self._alone and not self._committing

    async def run(self) -> None:
        """Commit for ever. Survives every error; a batch whose outcome is unknown is looked up."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = self._take()
            while batch:
                self._committing = True
                try:
                    await self._commit(batch, wait=False)
                finally:
                    self._committing = False
                batch = self._take()

    def _take(self) -> list[Execution]:
        """The next batch: first come, first served; a run that is in flight comes back with its answer."""
        waiting, self._dirty = self._dirty, {}
        batch: list[Execution] = []
        events = size = 0
        for execution in waiting:
            if (
                len(batch) >= MAX_RUNS_PER_COMMIT
                or events >= MAX_EVENTS_PER_BATCH
                or size >= MAX_BYTES_PER_BATCH
            ):
                self._dirty[execution] = None
                continue
            if execution.dead or execution.in_flight is not None:
                continue
            commit = self._next_commit(execution)
            if commit is None:
                continue
            self.events += len(commit.events)
            if execution.misses >= MISSES_BEFORE_WAITING:
                self._commit_alone(execution)  # it takes no room from others
                continue
            batch.append(execution)
            events += len(commit.events)
            for row in commit.events:
                size += len(row.data)
        return batch

    def _next_commit(self, execution: Execution) -> Commit | None:
        try:
            return execution.next_commit()
        except Exception:
            _log.exception("run %s cannot say what to commit: it is taken up anew", execution.id)
            self._host.lost(execution)
            return None

    def forget(self) -> None:
        """Nothing that is waiting will be committed: the lease is gone."""
        self._dirty.clear()
        for task in self._alone:
            task.cancel()

    def _commit_alone(self, execution: Execution) -> None:
        task = asyncio.get_running_loop().create_task(self._commit([execution], wait=True))
        self._alone.add(task)
        task.add_done_callback(self._alone.discard)

    async def _commit(self, batch: Sequence[Execution], *, wait: bool) -> None:
        commits = [execution.in_flight for execution in batch if execution.in_flight is not None]
        worker = self._host.worker_id
        answers: Sequence[Committed]
        try:
            answers = await self._store.commit(worker, commits, wait=wait)
            self.failing_since = None
            self._unanswered = 0
        except StoreUnavailable as error:
            _log.warning("commit of %d runs without an answer: %s", len(commits), error)
            answers = await self._probe(worker, commits)
        except Exception:
            _log.exception("commit of %d runs failed", len(commits))
            if len(batch) > 1:  # the others are not to blame for what one of them holds
                middle = len(batch) // 2
                await self._commit(batch[:middle], wait=wait)
                await self._commit(batch[middle:], wait=wait)
                return
            (answer,) = await self._probe(worker, commits)
            answers = [_after_failure(batch[0], commits[0], answer)]
        self.commits += 1
        for execution, commit, answer in zip(batch, commits, answers, strict=True):
            try:
                self._settle(execution, commit, answer)
            except Exception:
                _log.exception("run %s: answer %s could not be handled", execution.id, answer)
                self._host.lost(execution)

    async def _probe(self, worker: int, commits: Sequence[Commit]) -> Sequence[Committed]:
        """The outcome is unknown: ask until the database says what it holds."""
        if self.failing_since is None:
            self.failing_since = self._clock.monotonic()
        keys = [commit.key for commit in commits]
        epochs = [commit.epoch for commit in commits]
        while True:
            # Counted over probes that succeed too: commits that fail for good must not make a hot loop.
            await self._clock.sleep(_RETRY_SECONDS[min(self._unanswered, len(_RETRY_SECONDS) - 1)])
            self._unanswered += 1
            try:
                return await self._store.probe(worker, keys, epochs)
            except StoreUnavailable:
                continue
            except Exception:
                _log.exception(
                    "what became of %d runs could not be read, trying again", len(commits)
                )

    def _settle(self, execution: Execution, commit: Commit, answer: Committed) -> None:
        execution.in_flight = None
        if execution.dead:
            return
        code = answer.code
        if code is Code.APPLIED:
            execution.misses = 0
            children = execution.advance(commit.seq + len(commit.events))
            if children:
                execution.children_started(children, answer.children)
            if children or commit.messages:
                self._host.stirred()
            if commit.act is Act.FINISH:
                self._host.ended(execution, commit)
            elif commit.act is Act.PARK:
                self._host.parked(execution, commit)
            else:
                execution.release()
                if execution.pending or not execution.busy:
                    self.dirty(execution)
        elif code is Code.OTHER_SEQ and not commit.seq <= answer.seq <= execution.length:
            # The history is shorter than it was, or longer than anybody could have made it: a database
            # that lost commits (a standby was promoted). What it holds now is the truth.
            self._host.lost(execution)
        elif code is Code.OTHER_SEQ:
            children = execution.advance(answer.seq)
            if children:
                execution.children_started(children, None)
            execution.release()
            execution.resume()  # what fell due while it was about to park
            self.dirty(execution)
        elif code is Code.BUSY:
            execution.misses += 1
            execution.resume()
            self.dirty(execution)
        elif code is Code.UNSEEN:
            self._host.unseen(execution)
        elif code is Code.POISONED:
            self._poisoned(execution)
        elif code is Code.FENCED:
            self._host.fenced()
        else:
            self._host.lost(execution)

    def _poisoned(self, execution: Execution) -> None:
        reason = f"the database refuses what run {execution.id} wants to append"
        if execution.blocked is not None and reason in execution.blocked:
            self._host.lost(execution)  # not even this: it is looked at again later
            return
        execution.poisoned(reason)
        self.dirty(execution)

    async def drained(self) -> None:
        """Wait until everything that can be committed has been."""
        while not self.idle:
            await self._clock.sleep(0.005)


def _after_failure(execution: Execution, commit: Commit, answer: Committed) -> Committed:
    """The store failed in a way that no store should: once more, and in the end the run is to blame."""
    if answer.code is not Code.OTHER_SEQ or answer.seq != commit.seq:
        return answer
    again = execution.misses < MISSES_BEFORE_POISON
    return replace(answer, code=Code.BUSY if again else Code.POISONED)
