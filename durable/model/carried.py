"""What lives on when a run begins a new generation: the first thing that the new instance is told.

It is a field of `ContinuedAsNew` and `RunRetried`, so that a replay need not read what came before them.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from durable.model.history import EventReceived, RequestReceived, RunStarted
from durable.model.value import value
from durable.model.wire import EventRow, decode_event, encode_event

_msgpack: Any = msgpack
"""msgpack, which ships no types."""


@value
class CarriedChild:
    """A child that has not reported."""

    cmd: int
    child_id: str
    abandoned: bool


@value
class Carried:
    """From one generation to the next."""

    started: RunStarted
    """How the run began."""
    attempt: int
    """Of the whole run (`@workflow(retry=)`)."""
    unread: tuple[EventReceived | RequestReceived, ...]
    """Events and requests that no wait has taken."""
    children: tuple[CarriedChild, ...]
    followers: tuple[str, ...]
    """Who waits for the end of the run, as `<key>:<cmd>`."""


_EVENT_FIELDS: Final = 4


def pack_carried(carried: Carried) -> bytes:
    """As bytes, for the event that begins the generation."""
    fields = [
        _flat(encode_event(1, carried.started)),
        carried.attempt,
        [_flat(encode_event(0, event)) for event in carried.unread],
        [[child.cmd, child.child_id, child.abandoned] for child in carried.children],
        list(carried.followers),
    ]
    return _msgpack.packb(fields, use_bin_type=True, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


def unpack_carried(data: bytes) -> Carried:
    """The reverse of `pack_carried`; fields that a newer version added are ignored."""
    fields: list[Any] = _msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    started, attempt, unread, children, followers = fields[:5]
    first = _event(started)
    assert isinstance(first, RunStarted)
    return Carried(
        first,
        attempt,
        tuple(_event(flat) for flat in unread),
        tuple(CarriedChild(*child[:3]) for child in children),
        tuple(followers),
    )


def _flat(row: EventRow) -> list[Any]:
    return [row.type, row.at, row.name, row.data]


def _event(flat: list[Any]) -> Any:
    kind, at, name, data = flat[:_EVENT_FIELDS]
    return decode_event(EventRow(0, kind, at, None, name, data))
