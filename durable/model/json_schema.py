"""Whether plain data fits a JSON schema: for who gives an answer and does not have its class.

It knows the words that pydantic writes, and ignores all others. Where pydantic reads leniently (a number
written as a string) it does too: the worker, which has the class, has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

Problem: TypeAlias = dict[str, Any]
"""`{"loc": [...], "msg": ..., "type": ...}`, as pydantic tells of an error."""
Schema: TypeAlias = Mapping[str, Any]

_MOST_LEVELS: Final = 100
"""Of nesting; a schema that refers to itself must not lead anybody further."""


def problems(schema: Schema, data: Any) -> list[Problem]:
    """What is wrong with `data` (made of JSON's own types); empty where nothing is."""
    return list(_Reader(schema).look(schema, data, (), _MOST_LEVELS))


def problem(loc: Sequence[str | int], message: str, kind: str) -> Problem:
    """One thing that is wrong."""
    return {"loc": list(loc), "msg": message, "type": kind}


_Loc: TypeAlias = tuple[str | int, ...]
_Found: TypeAlias = Iterator[Problem]


class _Reader:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def look(self, schema: object, data: Any, loc: _Loc, levels: int) -> _Found:
        if schema is False:
            yield problem(loc, "Nothing is allowed here", "extra_forbidden")
            return
        if not isinstance(schema, Mapping) or levels <= 0:
            return
        words = cast("Schema", schema)
        if "$ref" in words:
            yield from self.look(self._resolve(words["$ref"]), data, loc, levels - 1)
        kinds = words.get("type")
        if kinds is not None and not _is_any_of(kinds, data):
            wanted = kinds if isinstance(kinds, str) else " or ".join(kinds)
            yield problem(loc, f"Input should be of type {wanted}", f"{wanted}_type")
            return
        for word, check in _CHECKS.items():
            if word in words:
                yield from check(words[word], data, loc)
        yield from self._alternatives(words, data, loc, levels)
        if isinstance(data, dict):
            yield from self._object(words, cast("dict[str, Any]", data), loc, levels)
        if isinstance(data, list):
            yield from self._array(words, cast("list[object]", data), loc, levels)

    def _resolve(self, reference: str) -> object:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return found  # pyright: ignore[reportUnknownVariableType]

    def _alternatives(self, words: Schema, data: Any, loc: _Loc, levels: int) -> _Found:
        for part in words.get("allOf", ()):
            yield from self.look(part, data, loc, levels - 1)
        for word in ("anyOf", "oneOf"):
            arms = [list(self.look(arm, data, loc, levels - 1)) for arm in words.get(word, ())]
            if arms and all(arms):
                # The arm that came closest says the most.
                yield from min(
                    arms, key=lambda found: (-max(len(p["loc"]) for p in found), len(found))
                )

    def _object(self, words: Schema, data: dict[str, Any], loc: _Loc, levels: int) -> _Found:
        known: Schema = words.get("properties", {})
        for name in words.get("required", ()):
            if name not in data:
                yield problem((*loc, name), "Field required", "missing")
        for name, item in data.items():
            inner = known.get(name, words.get("additionalProperties"))
            yield from self.look(inner, item, (*loc, name), levels - 1)

    def _array(self, words: Schema, data: list[object], loc: _Loc, levels: int) -> _Found:
        first: Sequence[Any] = words.get("prefixItems", ())
        for number, item in enumerate(data):
            inner = first[number] if number < len(first) else words.get("items")
            yield from self.look(inner, item, (*loc, number), levels - 1)


# -- kinds of data


def _is_any_of(kinds: str | Sequence[str], data: Any) -> bool:
    return any(
        _KINDS.get(kind, _anything)(data)
        for kind in ((kinds,) if isinstance(kinds, str) else kinds)
    )


def _anything(_data: Any) -> bool:
    return True


def _is_number(data: Any) -> bool:
    if isinstance(data, str):
        try:
            float(data)
        except ValueError:
            return False
        return True
    return isinstance(data, int | float)


def _is_integer(data: Any) -> bool:
    return _is_number(data) and float(data).is_integer()


def _is_boolean(data: Any) -> bool:
    return isinstance(data, bool) or (isinstance(data, int | str) and data in _BOOLEANS)


_BOOLEANS: Final = frozenset({0, 1, "true", "false", "yes", "no", "on", "off", "1", "0"})
_KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "integer": _is_integer,
    "number": _is_number,
    "boolean": _is_boolean,
    "string": lambda data: isinstance(data, str),
    "null": lambda data: data is None,
    "array": lambda data: isinstance(data, list),
    "object": lambda data: isinstance(data, dict),
}


# -- single words


def _same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _const(value: Any, data: Any, loc: _Loc) -> _Found:
    if not _same(value, data):
        yield problem(loc, f"Input should be {value!r}", "const")


def _enum(values: Sequence[Any], data: Any, loc: _Loc) -> _Found:
    if not any(_same(value, data) for value in values):
        wanted = ", ".join(map(repr, values))
        yield problem(loc, f"Input should be one of {wanted}", "enum")


def _pattern(pattern: str, data: Any, loc: _Loc) -> _Found:
    try:
        fits = not isinstance(data, str) or re.search(pattern, data) is not None
    except re.error:
        return  # Rust's expressions, which pydantic uses, are not all Python's
    if not fits:
        yield problem(loc, f"String should match pattern {pattern!r}", "string_pattern_mismatch")


def _limit(
    holds: Callable[[float, float], bool], of: Callable[[Any], float | None], text: str, kind: str
) -> Callable[[Any, Any, _Loc], _Found]:
    def check(limit: Any, data: Any, loc: _Loc) -> _Found:
        found = of(data)
        if found is not None and not holds(found, limit):
            yield problem(loc, text.format(limit), kind)

    return check


def _text_length(data: Any) -> float | None:
    return len(data) if isinstance(data, str) else None


def _list_length(data: Any) -> float | None:
    return len(cast("list[object]", data)) if isinstance(data, list) else None


def _size(data: Any) -> float | None:
    return float(data) if _is_number(data) and not isinstance(data, bool) else None


_CHECKS: Final[dict[str, Callable[[Any, Any, _Loc], _Found]]] = {
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "minLength": _limit(
        lambda n, m: n >= m, _text_length, "At least {} characters", "string_too_short"
    ),
    "maxLength": _limit(
        lambda n, m: n <= m, _text_length, "At most {} characters", "string_too_long"
    ),
    "minItems": _limit(lambda n, m: n >= m, _list_length, "At least {} items", "too_short"),
    "maxItems": _limit(lambda n, m: n <= m, _list_length, "At most {} items", "too_long"),
    "minimum": _limit(lambda n, m: n >= m, _size, "Should be {} or more", "greater_than_equal"),
    "maximum": _limit(lambda n, m: n <= m, _size, "Should be {} or less", "less_than_equal"),
    "exclusiveMinimum": _limit(lambda n, m: n > m, _size, "Should be more than {}", "greater_than"),
    "exclusiveMaximum": _limit(lambda n, m: n < m, _size, "Should be less than {}", "less_than"),
}
