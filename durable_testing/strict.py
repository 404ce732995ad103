"""What a strict environment does not let pass: values that change when they are stored, and arguments in a step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from durable.errors import PayloadError
from durable.model.refusals import Refused, class_of, is_model, shown
from durable.model.strictness import STRICTNESS

if TYPE_CHECKING:
    from durable.model.steps import Step


class ArgumentChanged(PayloadError):
    """A step has changed an argument. Its caller never sees that: the step has a copy."""


_CONTAINERS: Final = (Mapping, list, tuple, AbstractSet)
_open = 0


@contextmanager
def strictness(*, wanted: bool) -> Generator[None]:
    """Be strict in this process, until the last such block has ended."""
    global _open  # noqa: PLW0603 - the process is what it counts for
    if not wanted:
        yield
        return
    _open += 1
    STRICTNESS.compare, STRICTNESS.pending_tasks = check_same, True
    try:
        yield
    finally:
        _open -= 1
        if not _open:
            STRICTNESS.compare, STRICTNESS.pending_tasks = None, False


# -- values


def check_same(given: Any, read: Any) -> None:
    """Raise `Refused` if `read`, which is what a receiver gets, is not what was given, anywhere in it."""
    kind, other = class_of(given), class_of(read)
    if kind is other and _is_record(kind):
        for name in _names(given):
            _inside(f".{name}", getattr(given, name, _MISSING), getattr(read, name, _MISSING))
    elif not _same_container(kind, other):
        raise _changed(given, read)
    elif issubclass(kind, Mapping):
        _check_entries(given, read)
    elif issubclass(kind, list | tuple):
        _check_items(given, read)
    elif not _equal(given, read):
        raise _changed(given, read)


def _same_container(kind: type[Any], other: type[Any]) -> bool:
    """True also of what is no container: an asyncpg UUID, say, is as good as the one that it becomes."""
    if not (issubclass(kind, _CONTAINERS) or issubclass(other, _CONTAINERS)):
        return True
    return kind is other or (kind is OrderedDict and other is dict)  # which keeps the order, too


def _check_entries(given: Mapping[Any, Any], read: Mapping[Any, Any]) -> None:
    if given.keys() != read.keys():
        raise _changed(given, read)
    keys = {key: key for key in read}
    for key, one in given.items():
        check_same(key, keys[key])  # equal they are, alike they need not be
        _inside(f"[{key!r}]", one, read[key])


def _check_items(given: Sequence[Any], read: Sequence[Any]) -> None:
    if len(given) != len(read):
        raise _changed(given, read)
    for number, (one, other) in enumerate(zip(given, read, strict=True)):
        _inside(f"[{number}]", one, other)


def _inside(step: str, given: Any, read: Any) -> None:
    try:
        check_same(given, read)
    except Refused as refused:
        refused.path.append(step)
        raise


def _equal(given: Any, read: Any) -> bool:
    kind = class_of(given)
    if kind.__eq__ is not object.__eq__:
        return bool(given == read) or bool(given != given and read != read)  # noqa: PLR0124 - NaN
    return class_of(read) is kind and bool(
        getattr(given, "__dict__", None) == getattr(read, "__dict__", None)
    )


def _is_record(kind: type[Any]) -> bool:
    return is_dataclass(kind) or is_model(kind)


_MISSING = object()


def _names(record: Any) -> Sequence[str]:
    """Of everything that a dataclass or a model holds, but for what it has only computed."""
    if is_dataclass(record):
        named = [field.name for field in fields(record)]
        return [*named, *(name for name in _attributes(record) if name not in named)]
    extra: Any = getattr(record, "__pydantic_extra__", None)
    private: Any = getattr(record, "__pydantic_private__", None)
    return [*class_of(record).__pydantic_fields__, *(extra or ()), *(private or ())]


def _attributes(record: Any) -> Iterator[str]:
    """What it has, declared or not; without what a cache, an ORM or Python itself keeps there for its own use."""
    kind = class_of(record)
    for name in getattr(record, "__dict__", ()):
        if not name.startswith("_") and not isinstance(getattr(kind, name, None), cached_property):
            yield name


def _changed(given: Any, read: Any) -> Refused:
    was, becomes = shown(given), _shown(read)
    if was == becomes:
        was, becomes = (f"a {class_of(value).__name__}" for value in (given, read))
    return Refused(f"it does not come back as it was: {was} becomes {becomes}")


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else shown(value)


# -- arguments


@contextmanager
def arguments_kept(
    step: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], run_id: str
) -> Generator[None]:
    """Raise `ArgumentChanged` if the arguments are others at the end of this block than at its beginning."""
    before = step.arguments.encode(args, kwargs, f"step {step.name}")
    yield
    try:
        same = step.arguments.encode(args, kwargs, f"step {step.name}") == before
    except PayloadError:
        same = False
    if not same:
        message = (
            f"step {step.name} of run {run_id} has changed an argument, which is lost: "
            "a step has a copy of its own, return what is to be kept"
        )
        raise ArgumentChanged(message)
