"""Sessions that a test plays against each other, each sending the store's own statements.

A player may stand still between any two statements, inside a transaction, as a slow process does; what
it sends in the background can be seen waiting for a lock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from durable.model.history import CODES
from durable.model.rows import (
    Act,
    Commit,
    Delivery,
    Lane,
    NewRun,
    NewWait,
    OutMessage,
    Publication,
    Subscription,
    WaitKind,
)
from durable.model.wire import EventRow
from durable.storage.postgres import PostgresStorage, arrays, batches
from durable.storage.postgres.database import WORK

LANE = Lane("default", "fulfil")
SECOND = 1_000_000
CANCEL = b"\x01cancel"
WAIT = 0.15
"""Seconds after which a statement that has not answered is taken to wait for a lock."""


def event(seq: int, kind: str = "StepCompleted", data: bytes = b"\x01\x90") -> EventRow:
    return EventRow(seq, CODES[kind], 1_700_000_000_000_000 + seq, 1, "charge", data)


def new_run(run_id: str, **options: Any) -> NewRun:
    return NewRun(
        run_id, LANE, EventRow(1, CODES["RunStarted"], 7, None, "fulfil", b"\x01in"), **options
    )


def step(key: int, seq: int = 1, epoch: int = 1, **options: Any) -> Commit:
    """One step's completion on a history of length `seq`."""
    options.setdefault("consumed", 0)
    return Commit(key, epoch, seq, [event(seq + 1)], **options)


def park(key: int, seq: int = 1, epoch: int = 1, **options: Any) -> Commit:
    return step(key, seq, epoch, act=Act.PARK, status="waiting", **options)


def finish(key: int, seq: int = 1, epoch: int = 1, **options: Any) -> Commit:
    return step(key, seq, epoch, act=Act.FINISH, status="completed", **options)


def report(to: int, name: str = "child:1") -> OutMessage:
    return OutMessage(to, name, b"\x01done")


def waits(*names: str, key: str | None = "k") -> list[NewWait]:
    """A wait for events under a key; without one, a question."""
    kind = WaitKind.EVENT if key else WaitKind.INPUT
    return [NewWait(1, kind, names or ("paid",), 2, key=key)]


class Player:
    """A session of its own, in autocommit until told otherwise."""

    def __init__(self, store: PostgresStorage, url: str) -> None:
        self.texts = store._sql
        self.lanes = store._lanes
        settings = store._settings.connect_arguments("work", **WORK)
        self.connection = psycopg.connect(**settings, autocommit=True)
        arrays.adapt(self.connection)
        self._thread: threading.Thread | None = None
        self._answer: Any = None
        self._error: Exception | None = None

    def __call__(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        query = query.replace("{s}", '"durable"')
        cursor = self.connection.cursor(binary=True)
        cursor.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self("begin")
        yield
        self("commit")

    # -- the store's statements

    def append(self, worker: int, *batch: Commit) -> list[int]:
        rows = self(self.texts.append, [worker, None, *batches.append_arrays(batch)])
        return [row[0] for row in rows]

    def append_or_end(self, worker: int, *batch: Commit) -> list[int]:
        assert batches.only_ends(batch)
        parameters = [worker, None, *batches.append_or_end_arrays(batch)]
        return [row[0] for row in self(self.texts.append_or_end, parameters)]

    def commit(self, worker: int, *batch: Commit, wait: bool = False) -> list[int]:
        parameters = [worker, None, wait, *batches.commit_arrays(batch, self.lanes)]
        if batches.brings_more(batch):
            parameters += batches.more_arrays(batch)
            return [row[0] for row in self(self.texts.commit_more, parameters)]
        return [row[0] for row in self(self.texts.commit, parameters)]

    def claim(self, worker: int, limit: int = 10) -> list[int]:
        lanes = arrays.int4s([self.lanes[LANE]])
        return [row[0] for row in self(self.texts.claim, [worker, None, lanes, limit])]

    def start(self, *runs: NewRun) -> list[tuple[Any, ...]]:
        return self(self.texts.start, [None, *batches.start_arrays(runs, self.lanes)])

    def deliver(
        self, run_id: str, name: str = "paid", key: str | None = None, *, control: bool = False
    ) -> int | None:
        """Waiting for locks, as in a transaction of somebody's own."""
        letter = Delivery(run_id, name, b"\x01", key, control)
        return self(self.texts.deliver, [None, *batches.delivery_arrays([letter]), 2000])[0][0]

    def deliver_at_once(self, *run_ids: str) -> list[tuple[int | None, bool]]:
        """Passing by what is locked: the number, and whether it is busy."""
        letters = [Delivery(run_id, "paid", b"\x01", f"to {run_id}") for run_id in run_ids]
        rows = self(self.texts.deliver, [None, *batches.delivery_arrays(letters), 0])
        return [(row[0], row[3]) for row in rows]

    def answer_question(self, run_id: str, by: str) -> tuple[bool, bool, str | None]:
        given = [f"~input:1:{by}", b"\x01", by, by, arrays.time(event(0).at)]
        accepted, pending, first, _ = self(self.texts.answer, [None, run_id, 1, *given])[0]
        return accepted, pending, first

    def publish(self, *names: str, key: str = "k") -> list[int]:
        far = 4_000_000_000 * SECOND
        events = [Publication(name, key, b"\x01", far) for name in names]
        rows = self(self.texts.publish, [None, *batches.publication_arrays(events)])
        return [row[0] for row in rows]

    def subscribe(self, run: int, *names: str, key: str = "k") -> None:
        wanted = batches.subscription_arrays([Subscription(run, names, key)])
        self(self.texts.subscribe, [None, *wanted])

    def mail(self, run: int) -> list[str]:
        rows = self("select name from {s}.inbox where run_key = %s order by n", [run])
        return [row[0] for row in rows]

    def terminate(self, run_id: str) -> str | None:
        end = event(0, "RunTerminated")
        parameters = [None, run_id, *batches.order_scalars(end), CANCEL]
        return self(self.texts.terminate, parameters)[0][0]

    def restart(self, run: NewRun) -> int:
        end = batches.order_scalars(event(0, "RunTerminated"))
        arrays_ = batches.start_arrays([run], self.lanes)
        return self(self.texts.restart, [None, *arrays_, *end, CANCEL])[0][0]  # type: ignore[no-any-return]

    def reap(self, *gone: int) -> tuple[list[int], int, int]:
        blocked = batches.event_scalars(event(0, "Blocked"))
        [row] = self(self.texts.reap, [None, True, arrays.int8s(gone), 3, *blocked])
        return row  # type: ignore[return-value]

    # -- waiting

    def background(self, verb: Any, *arguments: Any, **options: Any) -> Player:
        self._answer = self._error = None

        def run() -> None:
            try:
                self._answer = verb(*arguments, **options)
            except psycopg.Error as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._thread.join(WAIT)
        return self

    @property
    def waiting(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def answer(self) -> Any:
        assert self._thread is not None
        self._thread.join(10)
        assert not self._thread.is_alive(), "still waiting for a lock"
        if self._error is not None:
            raise self._error
        return self._answer

    def run(self, key: int, *columns: str) -> Any:
        """Columns of a run's row."""
        rows = self(f"select {', '.join(columns)} from {{s}}.runs where key = %s", [key])
        return rows[0][0] if len(columns) == 1 else rows[0]

    def expire(self, worker: int, seconds: float = 1) -> None:
        past = f"expires_at = clock_timestamp() - interval '{seconds} seconds'"
        self(f"update {{s}}.workers set {past} where id = {worker}")

    def close(self) -> None:
        if self.waiting:
            self.connection.cancel()
            time.sleep(0.05)
        self.connection.close()
