"""How values of one type are written and read: the contract, and the shapes that need no pydantic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import override

from durable.errors import PayloadError, PayloadTooLarge
from durable.model.packing import lower, native, pack_lowered
from durable.model.refusals import Refused, explain
from durable.model.unpacking import unpack

MSGPACK: Final = b"\x01"
"""First byte of a payload that durable wrote: msgpack follows."""
JSON: Final = b"\x02"
"""First byte of a payload that a foreign client wrote: JSON follows."""

MAX_PAYLOAD: Final = 16 * 1024 * 1024
"""Most bytes that one encoded value may have, unless told otherwise."""

IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values can be handed on as they are: nobody can change them."""


class Shape:
    """How values of one annotation become bytes, and bytes become values again.

    `where` names what is written or read in errors ("result of step charge"). Every error is a
    `PayloadError`; an annotation that cannot work is a `DefinitionError` at the first use.
    """

    __slots__ = ()

    @property
    def plain(self) -> bool:
        """Values of this shape are immutable primitives, and are decoded to exactly what they were."""
        return False

    def resolve(self) -> None:
        """Look at the annotation now; `DefinitionError` if it cannot work."""

    def quick(self) -> frozenset[type] | None:
        """The exact types that msgpack writes, and reads back, with no help; None: whatever it knows."""
        return frozenset()

    def lower(self, value: Any) -> Any:
        """`value` in msgpack's own types and extensions; `Refused` if it does not fit this shape."""
        raise NotImplementedError

    def lift(self, value: Any, where: str) -> Any:
        """The value that an unpacked one stands for."""
        raise NotImplementedError

    def lift_json(self, text: bytes, where: str) -> Any:
        """The value that a foreign client's JSON stands for."""
        return self.lift(parse_json(text, where), where)

    def json_schema(self) -> Mapping[str, Any]:
        """What values of this shape look like in JSON; empty where that cannot be said."""
        return {}

    def encode(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> bytes:
        """The payload of `value`; `PayloadError` if it would not come back, or is over `limit` bytes."""
        self.resolve()
        try:
            data = MSGPACK + pack_lowered(self.lower(value))
        except Exception as error:
            raise unwritable(error, where) from error
        return data if len(data) <= limit else too_large(data, where, limit)

    def decode(self, data: bytes, where: str) -> Any:
        """The value of a payload, always a fresh copy; `PayloadError` if it cannot be read as this shape."""
        if data[:1] == MSGPACK:
            return self.lift(read(data, where), where)
        return self.lift_json(json_text(data, where), where)

    def settle(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> tuple[bytes, Any]:
        """The payload of `value` and what its receiver gets: `encode` and `decode` at the least cost."""
        data = self.encode(value, where, limit)
        return data, self.received(value, data, where)

    def received(self, value: Any, data: bytes, where: str) -> Any:
        """What a receiver of `value`, encoded as `data`, gets: as `decode`, without work where none is due."""
        return value if self.plain else self.decode(data, where)


class AnyShape(Shape):
    """No annotation, or one that says nothing: plain values, which come back exactly as they were."""

    __slots__ = ()

    @override
    def quick(self) -> None:
        return None

    @override
    def lower(self, value: Any) -> Any:
        return lower(value)

    @override
    def lift(self, value: Any, where: str) -> Any:
        return value

    @override
    def encode(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> bytes:
        try:
            data = MSGPACK + native(value)
        except (TypeError, ValueError, OverflowError):
            return Shape.encode(self, value, where, limit)
        return data if len(data) <= limit else too_large(data, where, limit)

    @override
    def received(self, value: Any, data: bytes, where: str) -> Any:
        return value if type(value) in IMMUTABLE else self.decode(data, where)


ANY: Final = AnyShape()
"""The shape of what has no annotation, or `Any`, `object`, an unbound type variable."""


def unwritable(error: Exception, where: str) -> PayloadError:
    """The `PayloadError` for whatever went wrong while `where` was written."""
    if isinstance(error, PayloadError):
        return error
    if isinstance(error, Refused):
        return PayloadError(explain(error, where))
    return PayloadError(f"{where} cannot be stored: {describe(error)}")


def describe(error: Exception) -> str:
    """An error's message, or its class where it has none."""
    return str(error) or type(error).__name__


def too_large(data: bytes, where: str, limit: int) -> bytes:
    """Always raises `PayloadTooLarge`."""
    message = (
        f"{where} takes {len(data):,} bytes, more than the {limit:,} that one value may take:"
        " keep it elsewhere and pass a reference, or raise Client(max_payload=)"
    )
    raise PayloadTooLarge(message)


def read(data: bytes, where: str) -> Any:
    """What is packed in a payload that begins with the msgpack header."""
    try:
        return unpack(data[1:])
    except Exception as error:
        message = f"{where} cannot be read: damaged msgpack ({describe(error)})"
        raise PayloadError(message) from error


def json_text(data: bytes, where: str) -> bytes:
    """The JSON of a payload that a foreign client wrote."""
    if data[:1] == JSON:
        return data[1:]
    message = f"{where} cannot be read: unknown encoding ({data[:1].hex() or 'no bytes at all'})"
    raise PayloadError(message)


def parse_json(text: bytes, where: str) -> Any:
    """JSON as plain values."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{where} cannot be read: damaged JSON ({describe(error)})"
        raise PayloadError(message) from error
