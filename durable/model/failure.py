"""Exceptions as data: what is kept of one, its form in bytes, and the way back (`rebuild`).

Whatever an exception holds, taking its data never fails: what cannot be stored is left out or told as
text, what is too long is clipped with a mark that says so.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from durable.errors import Failed, Failure, PayloadError
from durable.model.packing import lower, pack, pack_lowered
from durable.model.refusals import class_of, shown
from durable.model.revival import rebuild
from durable.model.shape import MSGPACK, json_text, parse_json, read

__all__ = ["decode_failure", "encode_failure", "failure_of", "rebuild"]

MOST_MESSAGE: Final = 10_000
"""Characters of a message that are kept."""
MOST_TRACEBACK: Final = 30_000
"""Characters of a traceback that are kept: its first third and the rest from its end."""
MOST_ATTRIBUTE: Final = 64 * 1024
"""Bytes that one argument or attribute may take when encoded."""
MOST_ATTRIBUTES: Final = 256 * 1024
"""Bytes that all attributes may take together."""
MOST_CAUSES: Final = 10
"""Length of the chain of causes, and depth of groups in groups."""
MOST_MEMBERS: Final = 50
"""Exceptions of one group, and arguments of one exception, that are kept."""
MOST_FAILURES: Final = 200
"""Exceptions kept in all, causes and members included."""

_HOUSEKEEPING: Final = frozenset({"args", "failure", "obj", "exceptions"})
"""Kept elsewhere, or (the `obj` of AttributeError) the user's data and no part of the error."""
_UNSET: Final = object()
_HEAP_TYPE: Final = 1 << 9
"""Bit of `type.__flags__`: made by a class statement."""


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception. Never raises for an odd one."""
    return _failure_of(error, MOST_CAUSES, [])


def _failure_of(error: BaseException, depth: int, seen: list[int]) -> Failure:
    seen.append(id(error))
    known = vars(error).get("failure") if isinstance(error, Failed) else None
    if isinstance(known, Failure):
        return _passed_on(error, known)
    return Failure(
        type=f"{type(error).__module__}:{type(error).__qualname__}",
        message=_message(error),
        traceback=_traceback(error),
        attributes=_attributes(error),
        cause=_cause(error, depth, seen),
        exceptions=_members(error, depth, seen),
    )


def _passed_on(error: BaseException, known: Failure) -> Failure:
    """A failure that passes through a workflow stays what it was, with one more part of its way."""
    way = _traceback(error) if error.__traceback__ is not None else ""
    both = f"{known.traceback}\nIt was passed on here:\n\n{way}" if way else known.traceback
    return replace(known, traceback=_clipped_middle(both))


def _cause(error: BaseException, depth: int, seen: list[int]) -> Failure | None:
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is None or depth == 0 or id(cause) in seen or len(seen) >= MOST_FAILURES:
        return None
    return _failure_of(cause, depth - 1, seen)


def _members(error: BaseException, depth: int, seen: list[int]) -> Sequence[Failure]:
    if not isinstance(error, BaseExceptionGroup) or depth == 0:
        return ()
    kept: list[Failure] = []
    for member in cast("BaseExceptionGroup[BaseException]", error).exceptions[:MOST_MEMBERS]:
        if len(seen) >= MOST_FAILURES:
            break
        kept.append(_failure_of(member, depth - 1, seen))
    return tuple(kept)


def _message(error: BaseException) -> str:
    try:
        return clipped(str(error), MOST_MESSAGE)
    except Exception as other:
        return f"<the message of {type(error).__name__} raised {type(other).__name__}>"


def _traceback(error: BaseException) -> str:
    """The frames and the last line of a traceback; causes and members of groups have their own.

    Not by `TracebackException`: it takes in all causes and members, of which there may be millions.
    """
    last = f"{type(error).__module__}.{type(error).__qualname__}: {_message(error)}\n"
    last = last.removeprefix("builtins.")
    if error.__traceback__ is None:
        return last
    try:
        frames = "".join(traceback.format_tb(error.__traceback__))
    except Exception:
        frames = "  (its frames cannot be shown)\n"
    return _clipped_middle(f"Traceback (most recent call last):\n{frames}{last}")


# -------------------------------------------------------------- attributes


def _attributes(error: BaseException) -> dict[str, Any]:
    kept: dict[str, Any] = {"args": tuple(_argument(value) for value in _args(error))}
    room = MOST_ATTRIBUTES
    for name, value in _state(error):
        size = _size(value)
        if size is not None and size <= min(MOST_ATTRIBUTE, room):
            kept[name] = value
            room -= size
    return kept


def _args(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = BaseException.__dict__["args"].__get__(error)
    return args[:MOST_MEMBERS]


def _argument(value: Any) -> Any:
    """An argument as it is, or as the text that stands for it."""
    if type(value) is str and len(value) > MOST_MESSAGE:
        return clipped(value, MOST_MESSAGE)
    size = _size(value)
    if size is not None and size <= MOST_ATTRIBUTE:
        return value
    return shown(value, MOST_MESSAGE)


def _state(error: BaseException) -> Iterator[tuple[str, Any]]:
    """The attributes that an exception has of its own: in C, in slots, in its `__dict__`."""
    for cls in type(error).__mro__:
        if cls is BaseException:
            break
        for name, slot in vars(cls).items():
            if isinstance(slot, types.MemberDescriptorType | types.GetSetDescriptorType):
                if name in _HOUSEKEEPING or name.startswith("__"):
                    continue
                value = _slot_value(slot, error)
                if value is not _UNSET and (value is not None or not _is_builtin(cls)):
                    yield name, value
    for name, value in list(vars(error).items()):
        if name not in _HOUSEKEEPING:
            yield name, value


def _slot_value(slot: Any, error: BaseException) -> Any:
    try:
        return slot.__get__(error)
    except Exception:
        return _UNSET


def _is_builtin(cls: type) -> bool:
    """Classes written in C have None where an attribute was not given."""
    return not cls.__flags__ & _HEAP_TYPE


def _size(value: Any) -> int | None:
    """Bytes that a value takes; None if it cannot be stored."""
    try:
        return len(pack(value))
    except Exception:
        return None


def clipped(text: str, limit: int) -> str:
    """`text`, its end cut off with a mark when it is longer than `limit`."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... [{len(text) - limit:,} more characters]"


def _clipped_middle(text: str) -> str:
    over = len(text) - MOST_TRACEBACK
    if over <= 0:
        return text
    head = MOST_TRACEBACK // 3
    mark = f"\n... [{over:,} characters left out] ...\n"
    return text[:head] + mark + text[head + over :]


# ------------------------------------------------------------------- bytes


def encode_failure(failure: Failure) -> bytes:
    """The payload of a failure. Attributes that cannot be stored are left out."""
    return MSGPACK + pack_lowered(_lowered(failure, MOST_CAUSES * 2))


def _lowered(failure: Failure, depth: int) -> list[Any]:
    return [
        failure.type,
        failure.message,
        failure.traceback,
        {
            name: lower(value)
            for name, value in failure.attributes.items()
            if _size(value) is not None
        },
        None if failure.cause is None or depth == 0 else _lowered(failure.cause, depth - 1),
        [] if depth == 0 else [_lowered(member, depth - 1) for member in failure.exceptions],
    ]


def decode_failure(data: bytes) -> Failure:
    """The failure in a payload; `PayloadError` if it holds none.

    A foreign worker writes it as a JSON object with the names of the fields; only `type` and `message`
    are required.
    """
    where = "a failure"
    if data[:1] == MSGPACK:
        fields = read(data, where)
        return _lifted(fields, MOST_CAUSES * 4)
    return _lifted(_fields(parse_json(json_text(data, where), where)), MOST_CAUSES * 4)


def _fields(value: Any) -> Any:
    """The fields of a failure in JSON, in their order on disk."""
    if not isinstance(value, dict):
        return value
    named = cast("dict[str, Any]", value)
    members = named.get("exceptions", [])
    return [
        named.get("type"),
        named.get("message"),
        named.get("traceback", ""),
        named.get("attributes", {}),
        _fields(named.get("cause")),
        [_fields(member) for member in _list(members)],
    ]


def _list(value: Any) -> list[Any]:
    return list(value) if class_of(value) is list else []


def _lifted(value: Any, depth: int) -> Failure:
    fields = _list(value)
    if depth == 0 or len(fields) < _FIELDS or not _fit(fields):
        message = "a failure cannot be read: it does not have the fields of one"
        raise PayloadError(message)
    kind, message, text, attributes, cause, members = fields[:_FIELDS]
    return Failure(
        type=kind,
        message=message,
        traceback=text,
        attributes={name: item for name, item in attributes.items() if isinstance(name, str)},
        cause=None if cause is None else _lifted(cause, depth - 1),
        exceptions=tuple(_lifted(member, depth - 1) for member in members),
    )


_FIELDS: Final = 6


def _fit(fields: list[Any]) -> bool:
    """Whether all fields but the nested failures have the type they must have; more may follow."""
    kinds = (str, str, str, dict, object, list)
    return all(map(isinstance, fields, kinds))
