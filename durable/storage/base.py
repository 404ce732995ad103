"""The port between durable and a database: what a store must do, in the words of the domain.

Contract of every verb: it is one transaction, all or nothing (a commit: all or nothing *per run*);
it raises `StoreUnavailable` when its outcome is unknown or the database does not answer, and only then;
a lost answer leaves a state that the verbs `probe`, `owned` and a repeated `start` resolve. A store never
runs user code and knows rows, not workflows. All verbs but `renew` belong to the event loop that opened
the store; `renew` may be called from any thread and blocks only that thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

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


class Storage(Protocol):
    """One open database. `time` replaces the database's clock when set (tests): microseconds."""

    time: Callable[[], int] | None

    # -- life

    async def open(self) -> None:
        """Connect. Migrates an empty schema; `MigrationNeeded` for an older or newer one."""
        ...

    async def close(self) -> None:
        """Release everything; idempotent. Operations under way are answered or fail with `StoreUnavailable`."""
        ...

    async def migrations(self) -> Sequence[MigrationStep]:
        """The steps that this version knows, and which of them the database has. Needs no `open`."""
        ...

    async def migrate(self, to: int | None = None) -> None:
        """Bring the schema to step `to` (None: the newest). Safe when many processes do it at once. Needs no `open`."""
        ...

    async def now(self) -> int:
        """The database's clock."""
        ...

    # -- workers

    async def register(self, worker: WorkerInfo, ttl: float) -> Lease:
        """A new worker id, never used before, leased for `ttl` seconds."""
        ...

    def renew(self, worker: int, ttl: float) -> Lease | None:
        """Extend a lease; None when it is gone (fenced). From the lease thread, over a connection of its own."""
        ...

    async def unregister(self, worker: int) -> None:
        """Give back whatever the worker still owns, ready at once, and end its lease."""
        ...

    async def reap(
        self,
        blocked: EventRow,
        max_recoveries: int,
        gone: Sequence[int] = (),
        *,
        expired: bool = True,
    ) -> Reaped:
        """Free the runs of workers whose lease has expired (unless `expired` is False), and of `gone` (known to be dead).

        Remembers the lost owner on each run. A run that was recovered more than `max_recoveries` times
        without progress is blocked; `blocked` is the history event that says so (the store numbers it).
        """
        ...

    async def leased(self) -> Sequence[tuple[int, WorkerInfo]]:
        """All registered workers."""
        ...

    async def worker_names(self) -> dict[int, str]:
        """Names of the workers that ever registered, by id; the newest thousand."""
        ...

    async def lanes(self, lanes: Sequence[Lane]) -> dict[Lane, int]:
        """The numbers of these lanes, made where they are new."""
        ...

    # -- runs

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Start runs, or find the ones that already have these ids. Answers in the order asked."""
        ...

    async def restart(self, run: NewRun, ended: EventRow, cancel: bytes) -> Started:
        """Start `run` in the place of an older one of that id.

        The older run is terminated (`ended`, numbered by the store, is its last event; `cancel` as for
        `terminate`), and it is renamed `<id>~<n>`, which the new run names as `retried_from`. One of another
        workflow stays as it is, and is answered as by `start`, unless `run` is a child: that takes any place.
        The event, the rename and the start are one transaction. Repeating it after a lost answer (the run
        of that id has exactly this `started` event) restarts nothing and answers `created`.
        """
        ...

    async def claim(self, worker: int, lanes: Sequence[int], limit: int) -> list[Claim]:
        """Take up to `limit` due runs, by priority, then age. Empty when nothing is due or the lease is gone.

        A claimed run looks due to its owner after 10 s (`owned`), until a commit says otherwise: so a claim
        whose answer was lost is found again.
        """
        ...

    async def owned(self, worker: int) -> list[Held]:
        """Runs of this worker that are due for a look."""
        ...

    async def acknowledge(self, worker: int, runs: Sequence[Held]) -> None:
        """Not due any more, unless a message has come since: `owned` need not name them again."""
        ...

    async def adopt(self, worker: int, keys: Sequence[int]) -> list[Claim]:
        """What a claim would have answered for runs that this worker owns already. Read only."""
        ...

    async def load(self, runs: Sequence[tuple[int, int]]) -> dict[int, list[EventRow]]:
        """Histories by run key: for each `(key, after)` the events with `seq > after`, in order."""
        ...

    async def inbox(self, runs: Sequence[tuple[int, int]]) -> list[Message]:
        """Messages of `(key, consumed)` with a number above `consumed`, ordered by key and number."""
        ...

    async def commit(
        self, worker: int, batch: Sequence[Commit], *, wait: bool = False
    ) -> list[Committed]:
        """Append for many runs at once, each all or nothing, and answer a code for each, in order.

        A commit that appends makes the run forget its lost owner; one without events leaves that to the next.
        Runs whose row (or a message's target) another transaction has locked answer `BUSY`, unless
        `wait` is set: then they are waited for, up to the lock timeout, on a second connection.
        """
        ...

    async def probe(
        self, worker: int, keys: Sequence[int], epochs: Sequence[int]
    ) -> list[Committed]:
        """After a lost answer: `OTHER_SEQ` with the durable length for runs still mine, `LOST`, or `FENCED`."""
        ...

    async def children(self, parent: int, commands: Sequence[int]) -> dict[int, str]:
        """Of these commands of a run (by key) those whose child exists, with the child's id."""
        ...

    # -- messages

    async def deliver(
        self, deliveries: Sequence[Delivery], *, wait: bool = False
    ) -> list[Delivered]:
        """Put messages into inboxes and make the runs ready. The same idempotency key gets the same number.

        Those to a run whose row another transaction has locked for longer than a commit takes answer `busy`,
        and nothing happens to them, unless `wait` is set: then it is waited for longer, on a second connection;
        if one of the runs stays locked, all answer `busy`. So messages that wait are best sent to one run at a time.
        """
        ...

    async def answer(self, answer: Answer) -> Answered:
        """Give a run the input that its open wait asks for: the first one is taken, in one transaction with its message."""
        ...

    async def publish(self, publications: Sequence[Publication]) -> list[int]:
        """Keep each publication, and put it into the inbox of every open run that waits under its name and key.

        Publications of one name and key are numbered in the order of their commits. A run gets each one at
        most once, as the message `~published:<number>:<length of key>:<key><name>`. Answers how many runs each has
        reached so far; the same idempotency key (per name and key) is kept once.
        """
        ...

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Put what is kept for these waits, and what their runs have not had yet, into their inboxes.

        To be called once the wait is durable: whatever is published later finds the wait by itself. Repeating it is harmless.
        """
        ...

    async def pause(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Hold a run: at once when nobody owns it (`event`, numbered by the store, is appended and it is shown as `paused`).

        A run that is owned gets the message `~pause` instead. Answers the status that it has now (one that has
        ended, or is held already, keeps it); None: unknown id.
        """
        ...

    async def resume(self, run_id: str, event: EventRow) -> RunStatus | None:
        """Lift the hold of a paused run (`event`, numbered by the store, is appended) and make it ready.

        A run that is owned gets the message `~resume`, which answers a `~pause` that it has not obeyed yet.
        """
        ...

    async def terminate(self, run_id: str, event: EventRow, cancel: bytes) -> RunStatus | None:
        """End a run at once; `event` (numbered by the store) is its last.

        In the same transaction its parent and everybody who follows it get the message `~child:<cmd>:<type of event>` with the
        event's data, its open children that are not abandoned get `~cancel` with the data `cancel`, and its waits end.
        Followers stand in its history (events `FollowerAdded`, whose name is `<key>:<cmd>`) and in its inbox
        (messages `~follow:<key>:<cmd>`).
        Answers the status that the run has now, which is another one when it had ended already; None: unknown id.
        """
        ...

    async def unblock(self, lanes: Sequence[int], codes: Sequence[str], event: EventRow) -> int:
        """Release the blocked runs of these lanes that none of `codes` has blocked, appending `event`; how many."""
        ...

    # -- reading

    async def run(self, run_id: str) -> RunRow | None:
        """One run with its first and last event."""
        ...

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """One page of runs, newest first, with first and last events."""
        ...

    async def count(self, where: RunFilter) -> dict[RunStatus, int]:
        """How many runs there are by status; paging is ignored."""
        ...

    async def history(self, run_id: str, after: int, limit: int) -> list[EventRow] | None:
        """A page of a run's history; None: unknown id."""
        ...

    async def waits(self, where: WaitFilter) -> list[WaitRow]:
        """One page of open waits, oldest first."""
        ...

    async def states(self, run_ids: Sequence[str]) -> dict[str, dict[str, EventRow]]:
        """Per run the newest `StateSet` event of each name; runs without any are left out."""
        ...

    async def newest(self, run_id: str, type: int, name: str) -> EventRow | None:
        """The newest event of this type and name in a run's history."""
        ...

    async def replies(self, asked: Sequence[tuple[str, int]]) -> dict[tuple[str, int], EventRow]:
        """Of these requests (run id, number in its inbox) those that were answered.

        With their `RequestAnswered` event, whose `cmd` is that number. One query for all who wait.
        """
        ...

    async def finished(self, run_ids: Sequence[str]) -> dict[str, tuple[RunStatus, EventRow]]:
        """Of these runs the ones that have ended, with their last event. One query for all waiters."""
        ...

    async def shapes(self, finished: int) -> list[ShapeRow]:
        """All open runs, and the newest `finished` ones that have ended, by the shapes of their histories. Read only."""
        ...

    async def next_due(self) -> int | None:
        """When the next run falls due that is not due yet, by the clock alone; None: only messages will wake one.

        For tests that move the clock by hand. It may read every open run.
        """
        ...

    # -- hints

    def hint(self) -> None:
        """Tell other processes that there is work. Coalesced, best effort, never awaited."""
        ...

    def hints(self) -> AsyncIterator[None]:
        """Yields when others have hinted at work. Ends when hints cannot be had; polling is the truth."""
        ...
