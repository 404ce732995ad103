"""Plain values as msgpack, and nothing else: the table of types that keep type and content by themselves.

`None bool int float str bytes list dict` are msgpack's own; the rest of the plain types travels as
extensions (`docs/payloads.md` has the table). A value is packed by C where msgpack knows all of it;
otherwise it is first lowered, node by node, to what msgpack knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgpack

from durable.model.refusals import Refused, class_of, refusal, shown

msgpack_module: Any = msgpack
"""msgpack, which ships no types: what is used of it is typed in this room."""
_Extension: Final[Callable[[int, bytes], Any]] = msgpack_module.ExtType

MAX_DEPTH: Final = 200
"""Levels of nesting that every payload may have; deeper ones are refused where they cannot be kept."""

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
DATETIME: Final = 4
DATE: Final = 5
TIME: Final = 6
TIMEDELTA: Final = 7
DECIMAL: Final = 8
UUID_: Final = 9
BIG_INT: Final = 10
COMPLEX: Final = 11
"""Only written under an annotation, like all that is not in the table of plain types."""

Other: TypeAlias = Callable[[Any, int], Any]
"""Lowers a value of a type that is not in the table, given the levels left, or raises `Refused`."""

_ATOMS: Final = frozenset({type(None), bool, float, str, bytes})
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock arithmetic, with and without offset
EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)


def refuse(value: Any, _depth: int) -> Any:
    """The `Other` for values without an annotation: there is nothing else that comes back as it was."""
    raise refusal(value)


native: Final[Callable[[Any], bytes]] = msgpack_module.Packer(
    autoreset=True, use_bin_type=True, strict_types=True
).pack
"""Packs what msgpack knows by itself, exact types only. Runs no Python code, so threads may share it."""


def pack(value: Any, other: Other = refuse) -> bytes:
    """`value` as msgpack; `Refused` when something in it cannot be kept."""
    try:
        return native(value)
    except (TypeError, ValueError, OverflowError):
        return pack_lowered(lower(value, other))


def pack_lowered(value: Any) -> bytes:
    """What `lower` gave, as msgpack. Lone surrogates are kept as their three bytes."""
    try:
        return native(value)
    except UnicodeEncodeError:
        packed: bytes = msgpack_module.packb(
            value, use_bin_type=True, strict_types=True, unicode_errors="surrogatepass"
        )
        return packed


def lower(value: Any, other: Other = refuse, depth: int = MAX_DEPTH) -> Any:
    """`value` made of msgpack's own types and extensions only; never the same list or dict again."""
    kind = class_of(value)
    if kind in _ATOMS:
        return value
    how = _LOWER.get(kind)
    if how is not None:
        return how(value)
    if depth <= 0:
        message = f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"
        raise Refused(message)
    if kind is list:
        return lower_items(value, other, depth)
    if kind is dict:
        return lower_dict(value, other, depth)
    if kind is tuple:
        return lower_tuple(value, other, depth)
    if kind is set or kind is frozenset:
        return lower_set(value, other, depth)
    return other(value, depth)


def lower_items(items: Iterable[Any], other: Other, depth: int) -> list[Any]:
    """The members of a sequence, lowered."""
    lowered: list[Any] = []
    for number, item in enumerate(items):
        if type(item) in _ATOMS:
            lowered.append(item)
            continue
        try:
            lowered.append(lower(item, other, depth - 1))
        except Refused as refused:
            refused.path.append(f"[{number}]")
            raise
    return lowered


def lower_tuple(items: Iterable[Any], other: Other, depth: int) -> Any:
    """The extension for a tuple."""
    return _Extension(TUPLE, pack_lowered(lower_items(items, other, depth)))


def lower_complex(value: complex) -> Any:
    """The extension for a complex number: its real and its imaginary part."""
    return _Extension(COMPLEX, struct.pack(">dd", value.real, value.imag))


def lower_dict(items: Mapping[Any, Any], other: Other, depth: int) -> dict[Any, Any]:
    """The entries of a mapping, keys and values lowered, in their order."""
    lowered: dict[Any, Any] = {}
    for key, item in items.items():
        try:
            lowered[lower(key, other, depth - 1)] = lower(item, other, depth - 1)
        except Refused as refused:
            refused.path.append(f"[{shown(key)}]")
            raise
        except TypeError:
            message = f"the key {shown(key)} has no form that can be a key again"
            raise Refused(message) from None
    if len(lowered) != len(items):
        message = "two of its keys are the same once they are stored"
        raise Refused(message)
    return lowered


def lower_set(members: AbstractSet[Any], other: Other, depth: int) -> Any:
    """A set, its members in the order of their encoded bytes: the same whatever the hash seed."""
    code = FROZENSET if isinstance(members, frozenset) else SET
    packed = sorted(pack_lowered(lower(member, other, depth - 1)) for member in members)
    return _Extension(code, array_header(len(packed)) + b"".join(packed))


def array_header(count: int) -> bytes:
    """The msgpack header of an array of `count` members that are packed already."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return struct.pack(">BH", 0xDC, count)
    return struct.pack(">BI", 0xDD, count)


def _int(value: int) -> Any:
    if -(1 << 63) <= value < 1 << 64:
        return value
    return _Extension(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def lower_datetime(value: datetime) -> Any:
    """Microseconds since 1970 (UTC when aware, else by the clock on the wall), fold, offset."""
    wall = (value.replace(tzinfo=None) - EPOCH) // _MICROSECOND
    offset = _offset(value)
    if offset is None:
        return _Extension(DATETIME, struct.pack(">qB", wall, value.fold))
    return _Extension(DATETIME, struct.pack(">qBq", wall - offset, value.fold, offset))


def _time(value: time) -> Any:
    minute = value.hour * 60 + value.minute
    since = (minute * 60 + value.second) * 1_000_000 + value.microsecond
    offset = _offset(value)
    if offset is None:
        return _Extension(TIME, struct.pack(">qB", since, value.fold))
    return _Extension(TIME, struct.pack(">qBq", since, value.fold, offset))


def _offset(value: datetime | time) -> int | None:
    """Microseconds east of UTC; None for a naive value."""
    if value.tzinfo is None:
        return None
    try:
        offset = value.utcoffset()
    except Exception as error:
        message = f"its time zone gives no offset: {error}"
        raise Refused(message) from None
    if offset is None:
        message = "it has a time zone that gives no offset from UTC; only the offset can be kept"
        raise Refused(message)
    return offset // _MICROSECOND


def _timedelta(value: timedelta) -> Any:
    return _Extension(TIMEDELTA, struct.pack(">iii", value.days, value.seconds, value.microseconds))


_LOWER: Final[dict[type, Callable[[Any], Any]]] = {
    int: _int,
    datetime: lower_datetime,
    date: lambda value: _Extension(DATE, struct.pack(">i", value.toordinal() - EPOCH_DAY)),
    time: _time,
    timedelta: _timedelta,
    Decimal: lambda value: _Extension(DECIMAL, str(value).encode()),
    UUID: lambda value: _Extension(UUID_, value.bytes),
}
LEAVES: Final = frozenset(_LOWER) | _ATOMS
"""The plain types that hold no other values."""
