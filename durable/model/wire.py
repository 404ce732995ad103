"""History events on disk, and the only place that knows their form.

An event is a row `(seq, type, at, cmd, name, data)`. `data` is one header byte that names the encoding,
then a msgpack array of the event's other fields in their declared order; trailing fields that have their
default value are left out. Payloads inside are byte strings with a header byte of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgpack

from durable.errors import PayloadError
from durable.model import history
from durable.model.history import EVENT_CLASSES, NAMES, Event
from durable.model.value import value

MSGPACK: Final = b"\x01"
"""Header byte: what follows is msgpack."""

_COLUMNS: Final = ("at", "cmd", "name")


@value
class EventRow:
    """One row of the history table; `at` in microseconds since the epoch."""

    seq: int
    type: int
    at: int
    cmd: int | None
    name: str | None
    data: bytes


@value
class _Form:
    """How one event class is laid out."""

    build: Callable[..., Event]
    columns: Callable[[EventRow], tuple[Any, ...]]
    """Of a row those that are fields of the event; its other fields follow on them."""
    fields: Callable[[Event], tuple[Any, ...]]
    defaults: tuple[object, ...]
    """Of the fields, from the left; `MISSING` where there is none."""


def _form(cls: type[Event]) -> _Form:
    fields = dataclasses.fields(cls)
    inside = [field for field in fields if field.name not in _COLUMNS]
    columns = fields[: len(fields) - len(inside)]
    assert all(field.name in _COLUMNS for field in columns), f"{cls} begins with other fields"
    return _Form(
        build=cls,
        columns=_getter([field.name for field in columns]),
        fields=_getter([field.name for field in inside]),
        defaults=tuple(field.default for field in inside),
    )


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    # `attrgetter` gives the bare value of a single one, and refuses none.
    return lambda item: tuple(getattr(item, name) for name in names)


_FORMS: Final = {cls.code: _form(cls) for cls in EVENT_CLASSES}
_NAMES_INSIDE: Final = {
    cls.code: [field.name for field in dataclasses.fields(cls) if field.name not in _COLUMNS]
    for cls in EVENT_CLASSES
}
_msgpack: Any = msgpack
"""msgpack, which ships no types."""
_pack: Final[Callable[[list[Any]], bytes]] = _msgpack.Packer(
    use_bin_type=True, unicode_errors="surrogatepass"
).pack
_unpackb: Final[Callable[..., Any]] = _msgpack.unpackb
_MSGPACK: Final = MSGPACK[0]
_STEP_COMPLETED: Final = history.StepCompleted.code


def encode_event(seq: int, event: Event) -> EventRow:
    """The row that keeps `event` as number `seq` of its run."""
    if type(event) is history.StepCompleted:
        return _encode_step(seq, event)
    form = _FORMS[event.code]
    values = list(form.fields(event))
    defaults = form.defaults
    while values and values[-1] == defaults[len(values) - 1]:
        values.pop()
    return EventRow(
        seq,
        event.code,
        event.at,
        getattr(event, "cmd", None),
        getattr(event, "name", None),
        MSGPACK + _pack(values),
    )


def _encode_step(seq: int, event: history.StepCompleted) -> EventRow:
    """The same for the event that there is most of, without looking up its fields."""
    values = [event.result, event.fingerprint, event.took, event.worker, event.site]
    if event.attempt != 1:
        values.append(event.attempt)
    return EventRow(seq, event.code, event.at, event.cmd, event.name, MSGPACK + _pack(values))


def decode_event(row: EventRow) -> Event:
    """The event that a row keeps; `PayloadError` if it was written by something newer, or is damaged."""
    kind = row.type
    if kind == _STEP_COMPLETED:  # there is most of them, and replay waits for it
        try:
            return history.StepCompleted(row.at, row.cmd, row.name, *unpack_fields(row))  # type: ignore[arg-type]
        except TypeError as error:
            raise _unreadable(row, error) from error
    form = _FORMS.get(kind)
    if form is None:
        name = NAMES.get(row.type, "unknown")
        message = f"event {row.seq} has type {row.type} ({name}), which this version of durable cannot read"
        raise PayloadError(message)
    values = unpack_fields(row)
    try:
        # What newer code has added to the end is left out.
        return form.build(*form.columns(row), *values[: len(form.defaults)])
    except TypeError as error:
        raise _unreadable(row, error) from error


def unpack_fields(row: EventRow) -> list[Any]:
    """The msgpack array inside a row's `data`."""
    data = row.data
    try:
        if data[0] != _MSGPACK:
            raise ValueError("unknown encoding")  # noqa: TRY301
        values: Any = _unpackb(data[1:], strict_map_key=False, unicode_errors="surrogatepass")
    except (ValueError, TypeError, _msgpack.UnpackException, IndexError) as error:
        raise _unreadable(row, error) from error
    if type(values) is not list:
        raise _unreadable(row, "not a list of fields")
    fields: list[Any] = values  # pyright: ignore[reportUnknownVariableType]  msgpack has no types
    return fields


def pack_raw(raw: Any) -> bytes:
    """Plain data as the fields of an event and most payloads are packed."""
    return MSGPACK + _pack(raw)


def unpack_raw(data: bytes) -> Any:
    """What `pack_raw` has packed; `ValueError` for anything else. Types of durable's own are not looked into."""
    if data[:1] != MSGPACK:
        raise ValueError("unknown encoding")
    try:
        return _unpackb(data[1:], strict_map_key=False, unicode_errors="surrogatepass")
    except _msgpack.UnpackException as error:
        raise ValueError(str(error)) from error


def field_names(kind: int) -> Sequence[str]:
    """What stands in `data` of an event of this type, in its order; none for a type that is not known."""
    return _NAMES_INSIDE.get(kind, ())


def _unreadable(row: EventRow, reason: object) -> PayloadError:
    return PayloadError(f"event {row.seq} (type {row.type}) cannot be read: {reason}")
