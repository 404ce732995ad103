"""Plain values as msgpack, and nothing else: the table of types that keep type and content by themselves.

`None bool int float str bytes list dict` are msgpack's own; the rest of the plain types travels as
extensions (`docs/payloads.md` has the table). A value is packed by C where msgpack knows all of it;
otherwise it is first lowered, node by node, to what msgpack knows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgpack
from msgpack import ExtType

from durable.model.refusals import Refused, refusal, shown

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

Other: TypeAlias = Callable[[Any, int], Any]
"""Lowers a value of a type that is not in the table, given the levels left, or raises `Refused`."""

_ATOMS: Final = frozenset({type(None), bool, float, str, bytes})
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock arithmetic, with and without offset
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)


def refuse(value: Any, _depth: int) -> Any:
    """The `Other` for values without an annotation: there is nothing else that comes back as it was."""
    raise refusal(value)


# ---------------------------------------------------------------- to bytes

native: Final = msgpack.Packer(autoreset=True, use_bin_type=True, strict_types=True).pack
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
        packer = msgpack.Packer(
            use_bin_type=True, strict_types=True, unicode_errors="surrogatepass", buf_size=4096
        )
        return packer.pack(value)


def lower(value: Any, other: Other = refuse, depth: int = MAX_DEPTH) -> Any:
    """`value` made of msgpack's own types and extensions only; never the same list or dict again."""
    kind = type(value)
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
        return ExtType(TUPLE, pack_lowered(lower_items(value, other, depth)))
    if kind is set or kind is frozenset:
        return lower_set(value, other, depth)
    return other(value, depth)


def lower_items(items: Any, other: Other, depth: int) -> list[Any]:
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


def lower_dict(items: Any, other: Other, depth: int) -> dict[Any, Any]:
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


def lower_set(members: Any, other: Other, depth: int) -> ExtType:
    """A set, its members in the order of their encoded bytes: the same whatever the hash seed."""
    code = FROZENSET if isinstance(members, frozenset) else SET
    packed = sorted(pack_lowered(lower(member, other, depth - 1)) for member in members)
    return ExtType(code, array_header(len(packed)) + b"".join(packed))


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
    return ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def lower_datetime(value: datetime) -> ExtType:
    """Microseconds since 1970 (UTC when aware, else by the clock on the wall), fold, offset."""
    wall = (value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    offset = _offset(value)
    if offset is None:
        return ExtType(DATETIME, struct.pack(">qB", wall, value.fold))
    return ExtType(DATETIME, struct.pack(">qBq", wall - offset, value.fold, offset))


def _time(value: time) -> ExtType:
    minute = value.hour * 60 + value.minute
    since = (minute * 60 + value.second) * 1_000_000 + value.microsecond
    offset = _offset(value)
    if offset is None:
        return ExtType(TIME, struct.pack(">qB", since, value.fold))
    return ExtType(TIME, struct.pack(">qBq", since, value.fold, offset))


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


def _timedelta(value: timedelta) -> ExtType:
    return ExtType(TIMEDELTA, struct.pack(">iii", value.days, value.seconds, value.microseconds))


_LOWER: Final[dict[type, Callable[[Any], Any]]] = {
    int: _int,
    datetime: lower_datetime,
    date: lambda value: ExtType(DATE, struct.pack(">i", value.toordinal() - _EPOCH_DAY)),
    time: _time,
    timedelta: _timedelta,
    Decimal: lambda value: ExtType(DECIMAL, str(value).encode()),
    UUID: lambda value: ExtType(UUID_, value.bytes),
}
LEAVES: Final = frozenset(_LOWER) | _ATOMS
"""The plain types that hold no other values."""


# -------------------------------------------------------------- from bytes


def unpack(data: bytes | memoryview) -> Any:
    """The value in `data`. Whatever the bytes are, no code is run; any error means they are damaged."""
    if len(data) > _CHECKED_FROM:
        _check_shape(data)
    return _unpack(data, MAX_DEPTH)


# An array header may claim as many members as the payload has bytes, and room is made for them before
# they are read: in large payloads all headers are checked first, which allocates nothing.
_CHECKED_FROM: Final = 1 << 16


def _check_shape(data: bytes | memoryview) -> None:
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _unpack(data: bytes | memoryview, depth: int) -> Any:
    if depth < _ON_HEAP_BELOW:
        return _unpack_on_heap(data, depth)
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        timestamp=3,
        ext_hook=_HOOKS[depth],
    )


# `unpackb` takes some 40 kB of the C stack, and tuples in tuples call it again and again: a few levels
# of them are the usual case, all further ones are read by an object that keeps its state on the heap.
_ON_HEAP_BELOW: Final = MAX_DEPTH - 8


def _unpack_on_heap(data: bytes | memoryview, depth: int) -> Any:
    unpacker = msgpack.Unpacker(
        max_buffer_size=max(len(data), 1),
        read_size=1,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        timestamp=3,
        ext_hook=_HOOKS[depth],
    )
    unpacker.feed(data)
    value = unpacker.unpack()
    if unpacker.tell() != len(data):
        message = "more bytes than its value takes"
        raise ValueError(message)
    return value


def _hook(depth: int) -> Callable[[int, bytes], Any]:
    """Reads an extension that stands `depth` levels above the deepest one allowed."""

    def read(code: int, data: bytes) -> Any:
        if code == TUPLE or code == SET or code == FROZENSET:  # noqa: PLR1714 - a tuple costs more
            if depth == 0:
                message = f"nested more than {MAX_DEPTH} levels deep"
                raise ValueError(message)
            return _COLLECTIONS[code](_array(data, depth - 1))
        how = _READ.get(code)
        if how is None:
            message = f"unknown extension type {code}"
            raise ValueError(message)
        return how(data)

    return read


def _array(data: bytes, depth: int) -> list[Any]:
    members = _unpack(data, depth)
    if type(members) is not list:
        message = "a tuple or set that holds no array"
        raise ValueError(message)
    return members


def _read_datetime(data: bytes) -> datetime:
    micros, fold, offset = _moment(data)
    if offset is None:
        wall, zone = micros, None
    else:
        wall, zone = micros + offset, _zone(offset)
    return (_EPOCH + timedelta(microseconds=wall)).replace(tzinfo=zone, fold=fold)


def _read_time(data: bytes) -> time:
    micros, fold, offset = _moment(data)
    if not 0 <= micros < 86_400_000_000:
        message = "a time outside of the day"
        raise ValueError(message)
    zone = None if offset is None else _zone(offset)
    return (_EPOCH + timedelta(microseconds=micros)).time().replace(tzinfo=zone, fold=fold)


def _moment(data: bytes) -> tuple[int, int, int | None]:
    if len(data) == struct.calcsize(">qB"):
        micros, fold = struct.unpack(">qB", data)
        return micros, fold, None
    micros, fold, offset = struct.unpack(">qBq", data)
    return micros, fold, offset


def _zone(offset: int) -> tzinfo:
    return timezone.utc if offset == 0 else timezone(timedelta(microseconds=offset))


def _read_timedelta(data: bytes) -> timedelta:
    days, seconds, micros = struct.unpack(">iii", data)
    return timedelta(days=days, seconds=seconds, microseconds=micros)


_COLLECTIONS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    TUPLE: tuple,
    SET: set,
    FROZENSET: frozenset,
}
_READ: Final[dict[int, Callable[[bytes], Any]]] = {
    DATETIME: _read_datetime,
    DATE: lambda data: date.fromordinal(struct.unpack(">i", data)[0] + _EPOCH_DAY),
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
    DECIMAL: lambda data: Decimal(data.decode("ascii")),
    UUID_: lambda data: UUID(bytes=data),
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
}
_HOOKS: Final = tuple(_hook(depth) for depth in range(MAX_DEPTH + 1))
