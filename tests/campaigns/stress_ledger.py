"""What a campaign was promised by the database, and the reading that finds every broken promise.

A promise is an answer: a message that was accepted, a commit that was applied, a run that was started.
At the end the tables must hold each of them exactly once, whatever was killed in between.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

from durable.model.history import CODES

RECEIVED = CODES["EventReceived"]
STEP = CODES["StepCompleted"]
ENDS = frozenset({"completed", "terminated"})


@dataclass
class Ledger:
    """Everything that was answered, and how often each fault was played."""

    accepted: dict[str, dict[bytes, int]] = field(default_factory=dict)
    """By run id: payload -> number in the inbox."""
    durable: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """By run key: seq -> data of an event whose commit was answered as applied."""
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def accept(self, run_id: str, payload: bytes, number: int) -> None:
        known = self.accepted.setdefault(run_id, {})
        if known.setdefault(payload, number) != number:
            self.broken.append(
                f"{run_id}: one message got the numbers {known[payload]} and {number}"
            )
        self.counts["messages"] += 1

    def applied(self, key: int, events: list[Any]) -> None:
        kept = self.durable.setdefault(key, {})
        for one in events:
            if kept.setdefault(one.seq, one.data) != one.data:
                self.broken.append(f"run {key}: two commits were answered for event {one.seq}")
        self.counts["commits"] += 1


def check(ledger: Ledger, connection: psycopg.Connection[Any]) -> list[str]:
    """Every promise that the tables do not keep."""
    broken = list(ledger.broken)
    runs = connection.execute(
        "select key, id, status, owner, seq, consumed, inbox_head from durable.runs"
    ).fetchall()
    histories: dict[int, list[tuple[int, int, bytes]]] = {row[0]: [] for row in runs}
    for key, seq, kind, data in connection.execute(
        "select run_key, seq, type, data from durable.history order by run_key, seq"
    ):
        histories[key].append((seq, kind, bytes(data)))
    unread: dict[int, Counter[bytes]] = {row[0]: Counter() for row in runs}
    for key, data in connection.execute(
        "select run_key, i.data from durable.inbox i join durable.runs on key = run_key where n > consumed"
    ):
        unread[key][bytes(data)] += 1
    for key, run_id, status, owner, seq, consumed, head in runs:
        history = histories[key]
        broken += _check_run(run_id, status, owner, seq, consumed, head, history)
        broken += _check_promises(ledger, key, run_id, history, unread[key])
    return broken


def _check_run(
    run_id: str,
    status: str,
    owner: int | None,
    seq: int,
    consumed: int,
    head: int,
    history: list[tuple[int, int, bytes]],
) -> list[str]:
    found = []
    if status not in ENDS:
        found.append(f"stuck: {run_id} is {status}")
    if owner is not None:
        found.append(f"{run_id} ended and is owned by {owner}")
    if [place for place, _, _ in history] != list(range(1, seq + 1)):
        found.append(f"{run_id}: its history is not 1 to {seq}")
    numbers = [int(data.split(b" ")[0]) for _, kind, data in history if kind == RECEIVED]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"{run_id}: messages entered its history as {numbers}")
    if status == "completed" and len(numbers) != consumed:
        found.append(f"{run_id}: {len(numbers)} messages in its history, {consumed} consumed")
    if consumed > head:
        found.append(f"{run_id}: consumed {consumed} of {head} messages")
    steps = Counter(data for _, kind, data in history if kind == STEP)
    found += [f"doubled: {run_id} has {n} of step {data!r}" for data, n in steps.items() if n > 1]
    return found


def _check_promises(
    ledger: Ledger,
    key: int,
    run_id: str,
    history: list[tuple[int, int, bytes]],
    unread: Counter[bytes],
) -> list[str]:
    found = []
    by_seq = {seq: data for seq, _, data in history}
    for seq, data in ledger.durable.get(key, {}).items():
        if by_seq.get(seq) != data:
            found.append(f"lost: event {seq} of {run_id} was answered and is {by_seq.get(seq)!r}")
    got = Counter(data.split(b" ", 1)[1] for _, kind, data in history if kind == RECEIVED)
    # A run may end with messages that it did not want; then they lie in its inbox.
    got += unread
    for payload, number in ledger.accepted.get(run_id, {}).items():
        if got[payload] > 1:
            found.append(f"doubled: {run_id} received {payload!r} {got[payload]} times")
        elif not got[payload]:
            found.append(f"lost: {run_id} never received {payload!r} ({number})")
    return found
