"""Shapes that pydantic reads and writes: models, dataclasses, enums, unions, containers of known types."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from msgpack import ExtType

from durable.errors import DefinitionError, PayloadError
from durable.model.packing import (
    MAX_DEPTH,
    TUPLE,
    lower,
    lower_datetime,
    lower_dict,
    lower_items,
    lower_set,
    pack_lowered,
)
from durable.model.refusals import Refused, is_annotatable, refusal, shown
from durable.model.shape import Shape
from durable.model.traps import Guard, guard_of, renames_on_the_way

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_MOST_ERRORS: Final = 3
"""Validation errors that a message tells of."""


class SchemaShape(Shape):
    """The shape of any annotation that pydantic understands. Its schema is made at the first use."""

    __slots__ = ("_adapter", "_annotation", "_by_alias", "_guard")

    _adapter: TypeAdapter[Any]
    _guard: Guard | None
    _by_alias: bool

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def resolve(self) -> None:
        if not hasattr(self, "_adapter"):
            self._make()

    def _make(self) -> TypeAdapter[Any]:
        """Build everything that depends on the annotation. Done twice by two threads, it is the same."""
        from pydantic import TypeAdapter  # noqa: PLC0415 - 95 ms that plain values need not pay

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(self._annotation)
            schema: Any = adapter.core_schema
            self._guard = guard_of(schema)
            self._by_alias = not renames_on_the_way(schema)
        except Exception as error:
            raise _undefinable(self._annotation, error) from error
        self._adapter = adapter
        return adapter

    def lower(self, value: Any) -> Any:
        self.resolve()
        if self._guard is not None:
            self._guard(value)
        try:
            dumped = self._dump(value, "error")
        except Exception:
            dumped = self._dump(self._fitted(value), "none")
        return lower(dumped, _leaf)

    def _dump(self, value: Any, warnings: Any) -> Any:
        return self._adapter.dump_python(
            value, mode="python", round_trip=True, by_alias=self._by_alias, warnings=warnings
        )

    def _fitted(self, value: Any) -> Any:
        """`value` made to fit the annotation: a tuple for a list, a dict for a model."""
        try:
            fitted = self._adapter.validate_python(value, strict=False, by_alias=True, by_name=True)
        except Exception as error:
            if isinstance(error, ValueError) and hasattr(error, "errors"):
                reason = f"it does not fit {name_of(self._annotation)}: {_told(error)}"
                raise Refused(reason) from error
            raise
        if self._guard is not None:
            self._guard(fitted)
        return fitted

    def lift(self, value: Any, where: str) -> Any:
        self.resolve()
        try:
            return self._adapter.validate_python(value, strict=False, by_alias=True, by_name=True)
        except Exception as error:
            raise self._unreadable(error, where) from error

    def lift_json(self, text: bytes, where: str) -> Any:
        self.resolve()
        try:
            return self._adapter.validate_json(text, strict=False, by_alias=True, by_name=True)
        except Exception as error:
            raise self._unreadable(error, where) from error

    def _unreadable(self, error: Exception, where: str) -> PayloadError:
        return PayloadError(
            f"{where} cannot be read as {name_of(self._annotation)}: {_told(error)}"
        )


def name_of(annotation: Any) -> str:
    """An annotation as one would write it, more or less."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _undefinable(annotation: Any, error: Exception) -> DefinitionError:
    first = str(error).split("\n", 1)[0] or type(error).__name__
    return DefinitionError(f"{name_of(annotation)} cannot be stored: {first}")


def _told(error: Exception) -> str:
    """An error in one line; of a validation error the first few parts, without the values."""
    errors: Any = getattr(error, "errors", None)
    if not callable(errors):
        return str(error) or type(error).__name__
    parts: Any = errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(str(step) for step in part['loc'])}: {part['msg']}" if part["loc"] else part["msg"]
        for part in parts[:_MOST_ERRORS]
    ]
    more = len(parts) - _MOST_ERRORS
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


# ------------------------------------------------------------------ leaves


def _leaf(value: Any, depth: int) -> Any:
    """Lowers what stands under an annotation that tells how to read it back."""
    if isinstance(value, enum.Enum):
        return lower(value.value, _leaf, depth)
    for base, how in _BASES:
        if isinstance(value, base):
            return how(value, depth)
    if isinstance(value, Iterator) and type(value).__name__ == "SerializationIterator":
        return lower_items(value, _leaf, depth)
    return lower(_jsonable(value), _leaf, depth)


def _jsonable(value: Any) -> Any:
    """What pydantic writes into JSON for a value of a type that it knows."""
    refused = refusal(value)
    if refused.found is None or is_annotatable(value):
        raise refused
    if isinstance(value, re.Pattern) and value.flags & ~re.UNICODE:
        message = f"the flags of {shown(value)} would be lost"
        raise Refused(message)
    try:
        written = _writer(type(value))(value)
    except Exception:
        message = f"a {type(value).__qualname__} has no form that can be stored"
        raise Refused(message) from None
    if type(written) is type(value):
        message = f"a {type(value).__qualname__} has no form that can be stored"
        raise Refused(message)
    return written


@functools.lru_cache(maxsize=1024)
def _writer(kind: type) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 - as above
    from pydantic_core import to_jsonable_python  # noqa: PLC0415

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except Exception:
        return to_jsonable_python
    return functools.partial(adapter.dump_python, mode="json", warnings="error")


def _exact_datetime(value: datetime, _depth: int) -> Any:
    # A subclass (pandas, pendulum) may override arithmetic: only the fields are taken.
    return lower_datetime(
        datetime(
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
            value.tzinfo,
            fold=value.fold,
        )
    )


# Subclasses of plain types, and containers that msgpack lacks. Their annotation makes them again.
_BASES: Final[tuple[tuple[Any, Any], ...]] = (
    (str, lambda value, depth: "".join((value,))),
    (bool, lambda value, depth: bool(value)),
    (int, lambda value, depth: lower(int.__int__(value))),
    (float, lambda value, depth: float.__float__(value)),
    (bytes | bytearray | memoryview, lambda value, depth: bytes(value)),
    (tuple, lambda value, depth: ExtType(TUPLE, pack_lowered(lower_items(value, _leaf, depth)))),
    (list, lambda value, depth: lower_items(value, _leaf, depth)),
    (set | frozenset, lambda value, depth: lower_set(value, _leaf, depth)),
    (Mapping, lambda value, depth: lower_dict(value, _leaf, depth)),
    (datetime, _exact_datetime),
    (date, lambda value, depth: lower(date(value.year, value.month, value.day))),
    (timedelta, lambda value, depth: lower(timedelta(value.days, value.seconds, value.microseconds))),
    (Decimal, lambda value, depth: lower(Decimal(value))),
    (UUID, lambda value, depth: lower(UUID(int=value.int))),
)
