"""Whether a value that was written and read again is still what it was.

Values under an annotation are read back before they are stored. What comes back may be a coercion that
the annotation asks for (1 under `float`), but never another class of thing: a base for its subclass, a
dict for a model, a string for a path, one arm of a union for another.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, Final

from durable.model.packing import LEAVES
from durable.model.refusals import Refused, class_of, is_model

_CONTAINERS: Final = (list, tuple, AbstractSet, Mapping)


def check_alike(given: Any, read: Any, *, narrowed: bool = False) -> None:
    """Raise `Refused` if `read`, which was made from `given`, is another class of thing, anywhere in it.

    With `narrowed`, an instance of a base may stand for one of its subclass.
    """
    kind = class_of(given)
    if kind in LEAVES:
        if class_of(read) is not kind and _is_container(read):
            raise _changed(given, read)
        return
    if kind is not class_of(read) and not _may_become(given, read, narrowed):
        raise _changed(given, read)
    if issubclass(kind, AbstractSet):
        _check_members(given, read)
    elif issubclass(kind, Mapping):
        _check_entries(given, read, narrowed)
    elif issubclass(kind, list | tuple):
        _check_items(given, read, narrowed)
    elif is_model(kind) or is_dataclass(kind):
        _check_fields(given, read, narrowed)


def _may_become(given: Any, read: Any, narrowed: bool) -> bool:
    """Whether a change of type is one that an annotation may ask for."""
    if _is_record(given) or _is_record(read):
        return narrowed and isinstance(given, type(read))
    if _is_container(given):
        return _is_container(read)
    return isinstance(given, type(read))


def _is_container(value: object) -> bool:
    return isinstance(value, _CONTAINERS)


def _is_record(value: Any) -> bool:
    kind = class_of(value)
    return is_model(kind) or is_dataclass(kind) or isinstance(value, enum.Enum)


def _check_items(given: Any, read: Any, narrowed: bool) -> None:
    if len(given) != len(read):
        message = f"{len(given)} items would come back as {len(read)}"
        raise Refused(message)
    for number, (one, other) in enumerate(zip(given, read, strict=True)):
        if type(one) is type(other) and type(one) in LEAVES:
            continue
        try:
            check_alike(one, other, narrowed=narrowed)
        except Refused as refused:
            refused.path.append(f"[{number}]")
            raise


def _check_entries(given: Any, read: Any, narrowed: bool) -> None:
    if len(given) != len(read):
        lost = [key for key in given if key not in read]
        message = f"{f'the key {lost[0]!r}' if lost else 'one of its keys'} would be lost"
        raise Refused(message)
    for (key, one), (other_key, other) in zip(given.items(), read.items(), strict=True):
        try:
            check_alike(key, other_key, narrowed=narrowed)
            check_alike(one, other, narrowed=narrowed)
        except Refused as refused:
            refused.path.append(f"[{key!r}]")
            raise


def _check_members(given: Iterable[Any], read: Iterable[Any]) -> None:
    """Members of sets have no order to compare them by, only their classes."""
    kinds: set[Any] = {type(member) for member in read}
    for member in given:
        if type(member) not in LEAVES and type(member) not in kinds:
            example = next(iter(read), None)
            raise _changed(member, example)


def _check_fields(given: Any, read: Any, narrowed: bool) -> None:
    for name in _names(given):
        try:
            one, other = getattr(given, name), getattr(read, name)
        except AttributeError:
            continue  # never set, or a field that the base does not have
        if type(one) is type(other) and type(one) in LEAVES:
            continue
        try:
            check_alike(one, other, narrowed=narrowed)
        except Refused as refused:
            refused.path.append(f".{name}")
            raise


def _names(record: Any) -> Iterable[str]:
    kind = class_of(record)
    if is_dataclass(kind):
        return [field.name for field in fields(record)]
    extra: Any = getattr(record, "__pydantic_extra__", None)
    return [*kind.__pydantic_fields__, *(extra or ())]


def _changed(given: Any, read: Any) -> Refused:
    """The refusal for a value that would come back as something else."""
    kind = class_of(given)
    other = class_of(read)
    name, base = kind.__name__, other.__name__
    generic = getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")
    if generic is not None and generic is other:
        return Refused(f"it is a {name}, but the annotation says {base}; annotate {name}")
    if issubclass(kind, other) and _is_record(read):
        return Refused(
            f"it is a {name}, but the annotation says {base}, and what {name} adds would be lost;"
            f" annotate a union with a discriminator ({base} | {name}), or SerializeAsAny[{base}]"
        )
    if _is_record(read):
        return Refused(
            f"a {name} would come back as {base}: the union in the annotation does not tell them"
            " apart, add a discriminator"
        )
    return Refused(f"{name} comes back as itself only by its annotation, not as a {base}", kind)
