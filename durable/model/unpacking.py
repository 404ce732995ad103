"""From msgpack back to plain values, whoever wrote the bytes.

No code is run that the bytes name, depth and room are bounded, and any exception means that the bytes
are damaged: callers turn it into a `PayloadError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from durable.model.packing import (
    BIG_INT,
    COMPLEX,
    DATE,
    DATETIME,
    DECIMAL,
    EPOCH,
    EPOCH_DAY,
    FROZENSET,
    MAX_DEPTH,
    SET,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID_,
    msgpack_module,
)
from durable.model.refusals import class_of


def unpack(data: bytes | memoryview) -> Any:
    """The value in `data`. Whatever the bytes are, no code is run; any error means they are damaged."""
    if len(data) > _CHECKED_FROM:
        _check_shape(data)
    return _unpack(data, MAX_DEPTH)


# An array header may claim as many members as the payload has bytes, and room is made for them before
# they are read: in large payloads all headers are checked first, which allocates nothing.
_CHECKED_FROM: Final = 1 << 16


def _check_shape(data: bytes | memoryview) -> None:
    unpacker = msgpack_module.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _unpack(data: bytes | memoryview, depth: int) -> Any:
    if depth < _ON_HEAP_BELOW:
        return _unpack_on_heap(data, depth)
    return msgpack_module.unpackb(
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
    unpacker = msgpack_module.Unpacker(
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
        if code in _COLLECTIONS:
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
    if class_of(members) is not list:
        message = "a tuple or set that holds no array"
        raise ValueError(message)
    return list(members)


def _read_datetime(data: bytes) -> datetime:
    micros, fold, offset = _moment(data)
    if offset is None:
        wall, zone = micros, None
    else:
        wall, zone = micros + offset, _zone(offset)
    return (EPOCH + timedelta(microseconds=wall)).replace(tzinfo=zone, fold=fold)


def _read_time(data: bytes) -> time:
    micros, fold, offset = _moment(data)
    if not 0 <= micros < 86_400_000_000:
        message = "a time outside of the day"
        raise ValueError(message)
    zone = None if offset is None else _zone(offset)
    return (EPOCH + timedelta(microseconds=micros)).time().replace(tzinfo=zone, fold=fold)


def _moment(data: bytes) -> tuple[int, int, int | None]:
    if len(data) == struct.calcsize(">qB"):
        micros, fold = struct.unpack(">qB", data)
        return micros, fold, None
    micros, fold, offset = struct.unpack(">qBq", data)
    return micros, fold, offset


def _zone(offset: int) -> tzinfo:
    return UTC if offset == 0 else timezone(timedelta(microseconds=offset))


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
    DATE: lambda data: date.fromordinal(struct.unpack(">i", data)[0] + EPOCH_DAY),
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
    DECIMAL: lambda data: Decimal(data.decode("ascii")),
    UUID_: lambda data: UUID(bytes=data),
    COMPLEX: lambda data: complex(*struct.unpack(">dd", data)),
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
}
_HOOKS: Final = tuple(_hook(depth) for depth in range(MAX_DEPTH + 1))
