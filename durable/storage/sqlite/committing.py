# ruff: noqa: S608 - every statement is made of constants
"""The commit: what many runs of one worker append, each all or nothing.

The transaction holds the only write lock there is, so what was read of a run stays true until it is
over: one look at all rows of the batch decides, and few statements write whatever passed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from durable.model.lifecycle import HOLD_PAUSED
from durable.model.messages import CANCEL, is_control
from durable.model.rows import Act, Code, Commit, Committed
from durable.storage.sqlite.claiming import alive
from durable.storage.sqlite.connection import REFUSALS, Database, Row, refuse_nul
from durable.storage.sqlite.messaging import Post, keys_of, post
from durable.storage.sqlite.starting import Lanes, insert
from durable.storage.sqlite.texts import insert_history
from durable.storage.sqlite.waiting import end_waits, end_waits_of, write_waits

_GUARDS: Final = """
SELECT key, owner, epoch, seq, inbox_head, consumed FROM [runs]
WHERE key IN (SELECT value FROM json_each(?))"""
_GUARDS_OF_ENDS: Final = """
SELECT key, owner, epoch, seq, inbox_head, consumed, control_head, has_waits FROM [runs]
WHERE key IN (SELECT value FROM json_each(?))"""
_READY: Final = "WHEN inbox_head > new.consumed THEN min(coalesce(ready_at, :now), :now)"
_KEEP: Final = f"""
UPDATE [runs]
SET seq = new.seq, consumed = new.consumed,
    lost_owner = CASE WHEN new.seq > [runs].seq THEN NULL ELSE lost_owner END,
    status = CASE new_status WHEN 'running' THEN status ELSE new_status END,
    ready_at = CASE {_READY} END
FROM (SELECT value ->> 0 AS key, value ->> 1 AS seq, value ->> 2 AS consumed, value ->> 3 AS new_status
      FROM json_each(:rows)) AS new
WHERE [runs].key = new.key"""
_LEAVE: Final = f"""
UPDATE [runs]
SET seq = new.seq, consumed = new.consumed,
    lost_owner = CASE WHEN new.seq > [runs].seq THEN NULL ELSE lost_owner END, owner = NULL,
    status = CASE WHEN new_status NOT IN ('paused', 'blocked') THEN new_status
                  WHEN status = 'running' THEN 'waiting' ELSE status END,
    ready_at = CASE WHEN new.act = {Act.FINISH} THEN NULL {_READY} ELSE new.wake_at END,
    hold = CASE WHEN new.hold = {HOLD_PAUSED} AND inbox_head > new.consumed THEN 0 ELSE new.hold END,
    blocked_by = new.blocked_by, waiting_for = new.waiting_for,
    finished_at = CASE WHEN new.act = {Act.FINISH} THEN :now END
FROM (SELECT value ->> 0 AS key, value ->> 1 AS seq, value ->> 2 AS consumed, value ->> 3 AS new_status,
             value ->> 4 AS act, value ->> 5 AS wake_at, value ->> 6 AS hold,
             value ->> 7 AS blocked_by, value ->> 8 AS waiting_for
      FROM json_each(:rows)) AS new
WHERE [runs].key = new.key"""
"""A pause does not hold a run that has something to read: it may be the end of that pause."""
_CONSUME: Final = """
DELETE FROM [inbox] WHERE (run_key, n) IN (
    SELECT i.run_key, i.n FROM json_each(?) AS read
    JOIN [inbox] i ON i.run_key = read.value ->> 0
                      AND i.n > read.value ->> 1 AND i.n <= read.value ->> 2)"""
_KEEPS: Final = Act.KEEP
_FINISH: Final = Act.FINISH
"""Looking up a member of an enumeration takes longer than all else that is done with it here."""

_BEGIN_GENERATION: Final = """
UPDATE [runs] SET first_seq = :first, status = CASE WHEN owner IS NULL THEN status ELSE :status END
WHERE key = :key"""
"""One that undid what it had done runs again."""


@dataclass(slots=True)
class _Guard:
    """What the row of a run says, kept up to date while the batch is judged."""

    owner: int | None
    epoch: int
    seq: int
    inbox_head: int
    consumed: int
    control_head: int = 0
    has_waits: int = 0
    """These two are read where a run ends."""

    def judge(self, worker: int, item: Commit) -> Code:
        if self.owner != worker or self.epoch != item.epoch:
            return Code.LOST
        if self.seq != item.seq:
            return Code.OTHER_SEQ
        # A run must not end before it has seen what was said to be seen (a cancel).
        if self.control_head > item.consumed and item.act is _FINISH:
            return Code.UNSEEN
        return Code.APPLIED


@dataclass(slots=True)
class _Accepted:
    """The parts of a batch that passed, sorted by how they are written."""

    kept: list[Row] = field(default_factory=list[Row])
    left: list[Row] = field(default_factory=list[Row])
    consumed: list[Row] = field(default_factory=list[Row])
    items: list[Commit] = field(default_factory=list[Commit])
    over: list[int] = field(default_factory=list[int])
    """Runs that end, and had waits."""

    def add(self, item: Commit, guard: _Guard, seq: int) -> None:
        self.items.append(item)
        if item.consumed > guard.consumed:
            self.consumed.append((item.key, guard.consumed, item.consumed))
        if item.act is _KEEPS:
            self.kept.append((item.key, seq, item.consumed, item.status))
            return
        ends = item.act is _FINISH
        if ends and guard.has_waits:
            self.over.append(item.key)
        hold = 0 if ends else item.hold
        waiting_for = None if ends else item.waiting_for
        state = (item.act, item.wake_at, hold, item.blocked_by if hold else None, waiting_for)
        self.left.append((item.key, seq, item.consumed, item.status, *state))


def commit(
    database: Database, now: int, worker: int, batch: Sequence[Commit], numbers: Lanes
) -> list[Committed]:
    """Append for many runs at once and answer a code for each, in order."""
    if not alive(database, worker):
        return [Committed(item.key, Code.FENCED, 0, 0) for item in batch]
    return _apply_or_halve(database, now, worker, batch, numbers)


def _apply_or_halve(
    database: Database, now: int, worker: int, batch: Sequence[Commit], numbers: Lanes
) -> list[Committed]:
    """Apply a batch; if the database refuses something in it, halve until the culprit is alone."""
    try:
        with database.savepoint("batch"):
            return _apply(database, now, worker, batch, numbers)
    except REFUSALS:
        if len(batch) == 1:
            return [replace(answer, code=Code.POISONED) for answer in _reading(database, batch)]
    middle = len(batch) // 2
    return [
        answer
        for half in (batch[:middle], batch[middle:])
        for answer in _apply_or_halve(database, now, worker, half, numbers)
    ]


def _reading(database: Database, batch: Sequence[Commit]) -> list[Committed]:
    """The runs as they stand."""
    guards = _guards(database, [item.key for item in batch])
    return [
        Committed(item.key, Code.LOST, guards[item.key].seq, guards[item.key].inbox_head)
        for item in batch
    ]


def _apply(
    database: Database, now: int, worker: int, batch: Sequence[Commit], numbers: Lanes
) -> list[Committed]:
    text = _GUARDS_OF_ENDS if any(item.act is _FINISH for item in batch) else _GUARDS
    guards = _guards(database, [item.key for item in batch], text)
    accepted = _Accepted()
    codes = [_judge(guards.get(item.key), worker, item, accepted) for item in batch]
    _write(database, now, accepted)
    children = _start_children(database, now, accepted.items, numbers)
    heads = post(database, now, _messages(database, accepted.items))
    answers: list[Committed] = []
    for item, code in zip(batch, codes, strict=True):
        guard = guards.get(item.key)
        born = children.get((item.key, item.epoch, item.seq), ()) if code is Code.APPLIED else ()
        seq, head = (guard.seq, guard.inbox_head) if guard else (0, 0)
        answers.append(Committed(item.key, code, seq, heads.get(item.key, head), born))
    return answers


def probe(
    database: Database, worker: int, keys: Sequence[int], epochs: Sequence[int]
) -> list[Committed]:
    """After a lost answer: what is still mine, and how long its durable history is."""
    if not alive(database, worker):
        return [Committed(key, Code.FENCED, 0, 0) for key in keys]
    guards = _guards(database, keys)
    answers: list[Committed] = []
    for key, epoch in zip(keys, epochs, strict=True):
        guard = guards.get(key)
        if guard is None:
            answers.append(Committed(key, Code.LOST, 0, 0))
            continue
        mine = guard.owner == worker and guard.epoch == epoch
        code = Code.OTHER_SEQ if mine else Code.LOST
        answers.append(Committed(key, code, guard.seq, guard.inbox_head))
    return answers


def _guards(database: Database, keys: Iterable[int], text: str = _GUARDS) -> dict[int, _Guard]:
    rows = database.fetch(text, (json.dumps(list(keys)),))
    return {key: _Guard(*row) for key, *row in rows}


def _judge(guard: _Guard | None, worker: int, item: Commit, accepted: _Accepted) -> Code:
    if guard is None:
        return Code.LOST
    code = guard.judge(worker, item)
    if code is not Code.APPLIED:
        return code
    seq = item.seq + len(item.events)
    accepted.add(item, guard, seq)
    guard.seq, guard.consumed = seq, item.consumed
    if item.act is not _KEEPS:
        guard.owner = None
    return code


def _write(database: Database, now: int, accepted: _Accepted) -> None:
    """The runs' own rows, their histories, and what they have taken out of their inboxes."""
    refuse_nul("wait", (item.waiting_for for item in accepted.items))
    for text, rows in ((_KEEP, accepted.kept), (_LEAVE, accepted.left)):
        if rows:
            database.execute(text, {"now": now, "rows": json.dumps(rows)})
    insert_history(
        database,
        (
            (item.key, seq, event)
            for item in accepted.items
            for seq, event in enumerate(item.events, item.seq + 1)
        ),
    )
    if accepted.consumed:
        database.execute(_CONSUME, (json.dumps(accepted.consumed),))
    for item in accepted.items:
        if item.first_seq is not None:
            begun = {"first": item.first_seq, "status": item.status, "key": item.key}
            database.execute(_BEGIN_GENERATION, begun)
        if item.ended_waits:
            end_waits(database, item.key, item.ended_waits)
        if item.waits and item.act is not _FINISH:
            write_waits(database, item.key, item.waits, item.ended_waits)
    end_waits_of(database, accepted.over)


def _start_children(
    database: Database, now: int, items: Sequence[Commit], numbers: Lanes
) -> dict[tuple[int, int, int], list[str]]:
    """Start the children of the batch; by commit, the ids of those whose id was free."""
    born: dict[tuple[int, int, int], list[str]] = {}
    for item in items:
        if item.children:
            keys, _ = insert(database, now, item.children, numbers)
            born[item.key, item.epoch, item.seq] = list(keys)
    return born


def _messages(database: Database, items: Sequence[Commit]) -> list[Post]:
    sent = [(item.key, m) for item in items for m in item.messages]
    if not sent:
        return []
    known = keys_of(database, {m.to for _, m in sent if isinstance(m.to, str)})
    posts: list[Post] = []
    for source, message in sent:
        key: int | None
        if isinstance(message.to, str):
            key, parent = known.get(message.to, (None, None))
            if message.name == CANCEL and parent != source:
                continue  # an id may belong to a stranger: a child of its own is meant
        else:
            key = message.to
        if key is not None:
            posts.append(Post(key, message.name, message.data, is_control(message.name)))
    return posts
