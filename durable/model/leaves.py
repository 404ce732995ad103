"""Values that are no plain ones, under an annotation that tells how to read them back."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from durable.model.packing import (
    lower,
    lower_complex,
    lower_datetime,
    lower_dict,
    lower_items,
    lower_set,
    lower_tuple,
)
from durable.model.refusals import Refused, class_of, is_annotatable, refusal, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_Lower: TypeAlias = Callable[[Any], Any]
_Nest: TypeAlias = Callable[[Any, Callable[[Any, int], Any], int], Any]


def lower_leaf(value: Any, depth: int) -> Any:
    """`value` in msgpack's types: by its base if that is plain, else as pydantic writes it in JSON."""
    if isinstance(value, enum.Enum):
        return lower(value.value, lower_leaf, depth)
    for base, how in _LIKE:
        if isinstance(value, base):
            return how(value)
    for container, nest in _NESTS:
        if isinstance(value, container):
            return nest(value, lower_leaf, depth)
    return lower(_jsonable(value), lower_leaf, depth)


def _exact_datetime(value: datetime) -> Any:
    # A subclass (pandas, pendulum) may override arithmetic: only the fields are taken.
    day = (value.year, value.month, value.day)
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return lower_datetime(datetime(*day, *clock, value.tzinfo, fold=value.fold))  # noqa: DTZ001 - its own, or none


def _exact_date(value: date) -> Any:
    return lower(date(value.year, value.month, value.day))


def _exact_timedelta(value: timedelta) -> Any:
    return lower(timedelta(value.days, value.seconds, value.microseconds))


# Subclasses of plain types, and what only an annotation makes again. A datetime is a date: order counts.
_LIKE: Final[tuple[tuple[type[Any], _Lower], ...]] = (
    (str, str.__str__),
    (int, lambda value: lower(int.__int__(value))),
    (float, float.__float__),
    (bytes, bytes),
    (bytearray, bytes),
    (complex, lower_complex),
    (datetime, _exact_datetime),
    (date, _exact_date),
    (timedelta, _exact_timedelta),
    (Decimal, lambda value: lower(Decimal(value))),
    (UUID, lambda value: lower(UUID(int=value.int))),
)


_NESTS: Final[tuple[tuple[type[Any], _Nest], ...]] = (
    (tuple, lower_tuple),
    (list, lower_items),
    (AbstractSet, lower_set),
    (Mapping, lower_dict),
)


_ITERATED: Final = frozenset({"deque", "SerializationIterator"})
"""Types whose values are written as lists: pydantic's own is what it makes of any iterable."""


def _jsonable(value: Any) -> Any:
    """What pydantic writes into JSON for a value of a type that it knows."""
    kind = class_of(value)
    if kind.__name__ in _ITERATED:
        return list(value)
    refused = refusal(value)
    if refused.found is None or is_annotatable(value):
        raise refused
    if kind is re.Pattern and value.flags & ~re.UNICODE:
        message = f"the flags of {shown(value)} would be lost"
        raise Refused(message)
    written: Any = _written(value)
    if type(written) is kind:
        message = f"{kind.__name__} has no form that can be stored"
        raise Refused(message)
    return written


def _written(value: Any) -> Any:
    try:
        return _writer(class_of(value))(value)
    except Exception:
        return value


@functools.lru_cache(maxsize=1024)
def _writer(kind: Any) -> Callable[[Any], Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - only for types that need it
    from pydantic_core import to_jsonable_python  # noqa: PLC0415

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except Exception:
        return to_jsonable_python
    return functools.partial(adapter.dump_python, mode="json", warnings="error")
