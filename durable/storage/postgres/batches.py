"""Commits, starts and deliveries as the arrays that the functions in `schema/` take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from durable.model.rows import (
    Act,
    Commit,
    Delivery,
    Lane,
    NewRun,
    NewWait,
    Publication,
    Subscription,
)
from durable.model.wire import EventRow
from durable.storage.postgres.arrays import (
    PG_EPOCH,
    Packed,
    byteas,
    int2s,
    int4s,
    int8s,
    long_texts,
    optional_int4s,
    optional_int8s,
    optional_times,
    texts,
    time,
    times,
)

Lanes = Mapping[Lane, int]

_PARK: Final = Act.PARK
_FINISH: Final = Act.FINISH
"""Looking up a member of an enumeration takes longer than packing it."""

_UNDER_HOLD: Final = frozenset({"paused", "blocked"})
"""Shown instead of the status while a run is held; the status under it stays."""


def is_plain(batch: Sequence[Commit]) -> bool:
    """Whether the short statement will do for the whole batch."""
    return all(commit.plain and commit.status == "running" for commit in batch)


def only_ends(batch: Sequence[Commit]) -> bool:
    """Whether all that the batch does besides appending is to end runs that have nothing to tell."""
    return all(
        (commit.plain and commit.status == "running") or _just_ends(commit) for commit in batch
    )


def _just_ends(commit: Commit) -> bool:
    """Waits that it brings or ends do not matter: the end of a run ends them all."""
    return commit.act is Act.FINISH and not (
        commit.messages or commit.children or commit.first_seq is not None
    )


def append_arrays(batch: Sequence[Commit]) -> list[Packed]:
    """Of the short statement."""
    return [*_guards(batch), *_events(batch)]


def append_or_end_arrays(batch: Sequence[Commit]) -> list[Packed]:
    """Of the statement for a batch that `only_ends` runs."""
    ended = texts([c.status if c.act is Act.FINISH else None for c in batch])
    return [*_guards(batch), ended, *_events(batch)]


def commit_arrays(batch: Sequence[Commit], lanes: Lanes) -> list[Packed]:
    """Of the full statement."""
    statuses = [None if c.status in _UNDER_HOLD else c.status for c in batch]
    return [
        *_guards(batch),
        int2s([c.act for c in batch]),
        int2s([c.hold if c.act is _PARK else 0 for c in batch]),
        optional_times([c.wake_at if c.act is _PARK else None for c in batch]),
        texts(statuses),
        texts([c.blocked_by for c in batch]),
        texts([c.waiting_for if c.act is _PARK else None for c in batch]),
        *_events(batch),
        *_messages(batch),
        *_children(batch, lanes),
    ]


def brings_more(batch: Sequence[Commit]) -> bool:
    """Whether a batch needs `commit_more`: waits, generations, messages to ids."""
    return any(
        c.waits
        or c.ended_waits
        or c.first_seq is not None
        or (c.messages and any(isinstance(m.to, str) for m in c.messages))
        for c in batch
    )


def more_arrays(batch: Sequence[Commit]) -> list[Packed | str | None]:
    """What `commit_more` takes after the parameters of the full statement."""
    ids = [m.to if isinstance(m.to, str) else None for c in batch for m in c.messages]
    return [
        optional_int8s([c.first_seq for c in batch]),
        long_texts(ids if any(ids) else ()),
        *_waits(batch),
    ]


def _guards(batch: Sequence[Commit]) -> list[Packed]:
    return [
        int8s([c.key for c in batch]),
        int8s([c.epoch for c in batch]),
        int8s([c.seq for c in batch]),
        int8s([c.seq + len(c.events) for c in batch]),
        int8s([c.consumed for c in batch]),
    ]


def _events(batch: Sequence[Commit]) -> list[Packed]:
    keys = list(chain.from_iterable([[c.key] * len(c.events) for c in batch]))
    events = list(chain.from_iterable([c.events for c in batch]))
    return [
        int8s(keys),
        int8s([e.seq for e in events]),
        times([e.at for e in events]),
        optional_int4s([e.cmd for e in events]),
        int2s([e.type for e in events]),
        texts([e.name for e in events]),
        byteas([e.data for e in events]),
    ]


def _messages(batch: Sequence[Commit]) -> list[Packed]:
    sent = [(c.key, m) for c in batch for m in c.messages]
    return [
        int8s([key for key, _ in sent]),
        optional_int8s([None if isinstance(m.to, str) else m.to for _, m in sent]),
        texts([m.name for _, m in sent]),
        byteas([m.data for _, m in sent]),
    ]


def _children(batch: Sequence[Commit], lanes: Lanes) -> list[Packed]:
    born = [(c.key, child) for c in batch for child in c.children]
    runs = [child for _, child in born]
    return [
        int8s([key for key, _ in born]),
        optional_int4s([run.parent_cmd for run in runs]),
        *_plans(runs, lanes),
        *_first_events(runs),
    ]


def _waits(batch: Sequence[Commit]) -> list[Packed | str | None]:
    """Waits are few: as JSON, since arrays of PostgreSQL cannot hold lists of different lengths."""
    begun = [(c.key, wait) for c in batch if c.waits for wait in _open_waits(c)]
    ended = [(c.key, cmd) for c in batch if c.ended_waits for cmd in c.ended_waits]
    return [
        int8s([key for key, _ in begun]),
        json.dumps([_wait(key, wait) for key, wait in begun]) if begun else None,
        int8s([key for key, _ in ended]),
        int4s([cmd for _, cmd in ended]),
    ]


def _open_waits(commit: Commit) -> Sequence[NewWait]:
    """Those that outlive the commit; of several under one command the last."""
    if commit.act is _FINISH:
        return ()
    waits = {wait.cmd: wait for wait in commit.waits if wait.cmd not in commit.ended_waits}
    return list(waits.values())


def _wait(key: int, wait: NewWait) -> dict[str, Any]:
    return {
        "run": key,
        "cmd": wait.cmd,
        "kind": wait.kind,
        "names": list(wait.names),
        "key": wait.key,
        "due": wait.due,
        "recipients": list(wait.to),
        "seq": wait.seq,
    }


def _plans(runs: Sequence[NewRun], lanes: Lanes) -> list[Packed]:
    return [
        long_texts([run.id for run in runs]),
        int4s([lanes[run.lane] for run in runs]),
        int2s([run.priority for run in runs]),
        optional_times([run.not_before for run in runs]),
        optional_times([run.deadline for run in runs]),
        long_texts([_json(run.tags) for run in runs]),
        int2s([run.abandoned for run in runs]),
    ]


def _json(tags: Mapping[str, str] | None) -> str | None:
    return json.dumps(dict(tags), ensure_ascii=False) if tags else None


def _first_events(runs: Sequence[NewRun]) -> list[Packed]:
    return [
        times([run.started.at for run in runs]),
        int2s([run.started.type for run in runs]),
        texts([run.started.name for run in runs]),
        byteas([run.started.data for run in runs]),
    ]


def start_arrays(runs: Sequence[NewRun], lanes: Lanes) -> list[Packed]:
    """Of `start`."""
    return [
        *_plans(runs, lanes),
        optional_int8s([run.parent_key for run in runs]),
        optional_int4s([run.parent_cmd for run in runs]),
        optional_int8s([run.eager_owner for run in runs]),
        *_first_events(runs),
    ]


def lanes_of(batch: Sequence[Commit]) -> set[Lane]:
    """The lanes that a batch's children need."""
    return {child.lane for commit in batch for child in commit.children}


def delivery_arrays(deliveries: Sequence[Delivery]) -> list[Packed]:
    """Of `deliver`."""
    return [
        long_texts([d.run_id for d in deliveries]),
        texts([d.name for d in deliveries]),
        byteas([d.data for d in deliveries]),
        long_texts([d.idempotency_key for d in deliveries]),
        int2s([d.control for d in deliveries]),
    ]


def publication_arrays(publications: Sequence[Publication]) -> list[Packed]:
    """Of `publish`."""
    return [
        texts([p.name for p in publications]),
        long_texts([p.key for p in publications]),
        byteas([p.data for p in publications]),
        times([p.until for p in publications]),
        long_texts([p.idempotency_key for p in publications]),
    ]


def subscription_arrays(subscriptions: Sequence[Subscription]) -> list[Packed]:
    """Of `subscribe`: one row for each name."""
    rows = [(s.run, s.key, name) for s in subscriptions for name in s.names]
    return [
        int8s([run for run, _, _ in rows]),
        long_texts([key for _, key, _ in rows]),
        texts([name for _, _, name in rows]),
    ]


def event_scalars(event: EventRow) -> list[Any]:
    """One event that the store numbers: at, cmd, type, name, data."""
    return [time(event.at), event.cmd, event.type, event.name, event.data]


def order_scalars(event: EventRow) -> list[Any]:
    """The same of an event that answers no command."""
    return [time(event.at), event.type, event.name, event.data]


def event_row(row: Sequence[Any]) -> EventRow:
    """An event from `seq, type, at, cmd, name, data` as they were read."""
    return EventRow(row[0], row[1], row[2] + PG_EPOCH, row[3], row[4], row[5])


def event_rows(rows: Sequence[Sequence[Any]]) -> list[EventRow]:
    """Many of them."""
    make: Callable[..., EventRow] = EventRow
    return [
        make(seq, kind, at + PG_EPOCH, cmd, name, data) for seq, kind, at, cmd, name, data in rows
    ]
