"""From an annotation to its shape."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NewType, TypeVar

from typing_extensions import override

from durable.model.packing import lower, native
from durable.model.refusals import Refused, shown
from durable.model.schema import SchemaShape, name_of
from durable.model.shape import ANY, MAX_PAYLOAD, MSGPACK, Shape, too_large


class PrimitiveShape(Shape):
    """`int`, `str | None` and the like: values of a few exact types, none of which can change."""

    __slots__ = ("_annotation", "_types")

    def __init__(self, types: frozenset[type], annotation: Any) -> None:
        self._types = types
        self._annotation = annotation

    @property
    @override
    def plain(self) -> bool:
        return True

    @override
    def quick(self) -> frozenset[type]:
        return self._types

    @override
    def lower(self, value: Any) -> Any:
        if type(value) in self._types:
            return lower(value)
        wanted = name_of(self._annotation)
        reason = f"{shown(value)} is a {type(value).__name__}, but the annotation says {wanted}"
        raise Refused(reason)

    @override
    def lift(self, value: Any, where: str) -> Any:
        if type(value) in self._types:
            return value
        return _lax(self._annotation).lift(value, where)

    @override
    def json_schema(self) -> Mapping[str, Any]:
        known = _JSON_TYPES.get(self._annotation)
        return _lax(self._annotation).json_schema() if known is None else {"type": known}

    @override
    def lift_json(self, text: bytes, where: str) -> Any:
        return _lax(self._annotation).lift_json(text, where)

    @override
    def encode(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> bytes:
        if type(value) in self._types:
            try:
                data = MSGPACK + native(value)
            except (ValueError, OverflowError):
                return Shape.encode(self, value, where, limit)
            return data if len(data) <= limit else too_large(data, where, limit)
        return Shape.encode(self, value, where, limit)


_EXACT: Final[dict[Any, frozenset[type]]] = {
    int: frozenset({int, bool}),
    float: frozenset({float, int, bool}),
    str: frozenset({str}),
    bytes: frozenset({bytes}),
    bool: frozenset({bool}),
    type(None): frozenset({type(None)}),
}
"""What type checkers accept for a primitive annotation; such values are kept as they are."""

_JSON_TYPES: Final[dict[Any, str]] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
}
"""What pydantic would say of them, without loading it."""


def shape_of(annotation: Any) -> Shape:
    """The shape of values with this (evaluated) annotation; made once for each."""
    try:
        return _shape_of(annotation)
    except TypeError:  # metadata that cannot be hashed
        return _new_shape(annotation)


def _new_shape(annotation: Any) -> Shape:
    meant = _meant(annotation)
    if meant is Any or meant is object:
        return ANY
    exact = _exact(meant)
    if exact is not None:
        return PrimitiveShape(exact, meant)
    return SchemaShape(meant)


_shape_of = functools.lru_cache(maxsize=4096)(_new_shape)


def _meant(annotation: Any) -> Any:
    """The annotation behind `None`, new types, type variables and anything iterable."""
    if annotation is None:
        return type(None)
    if isinstance(annotation, NewType):
        return _meant(annotation.__supertype__)
    if isinstance(annotation, TypeVar):
        if annotation.__constraints__:
            return typing.Union[annotation.__constraints__]  # noqa: UP007 - made from a tuple
        return Any if annotation.__bound__ is None else _meant(annotation.__bound__)
    if typing.get_origin(annotation) in (Iterable, Collection):
        (item,) = typing.get_args(annotation)
        return list[item] | tuple[item, ...] | set[item] | frozenset[item]  # type: ignore[valid-type]
    return annotation


def _exact(annotation: Any) -> frozenset[type] | None:
    """The exact types that a primitive annotation, or a union of them, admits."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arms = [_exact(_meant(arm)) for arm in typing.get_args(annotation)]
        if any(arm is None for arm in arms):
            return None
        return frozenset(kind for arm in arms if arm is not None for kind in arm)
    try:
        return _EXACT.get(annotation)
    except TypeError:
        return None


@functools.lru_cache(maxsize=64)
def _lax(annotation: Any) -> SchemaShape:
    """Reads as a primitive what was written as something else: by older code, or in JSON."""
    return SchemaShape(annotation)
