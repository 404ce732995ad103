"""History events on disk, and the only place that knows their form.

An event is a row `(seq, type, at, cmd, name, data)`. `data` is one header byte that names the encoding,
then a msgpack array of the event's other fields in their declared order; trailing fields that have their
default value are left out. Payloads inside are byte strings with a header byte of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    defaults: tuple[object, ...]
    """Of the fields, from the left; `MISSING` where there is none."""


def _form(cls: type[Event]) -> _Form:
    inside = [field for field in dataclasses.fields(cls) if field.name not in _COLUMNS]
    return _Form(
        build=cls,
        columns=tuple(field.name for field in dataclasses.fields(cls) if field.name in _COLUMNS),
        fields=tuple(field.name for field in inside),
        defaults=tuple(field.default for field in inside),
    )


_FORMS: Final = {cls.code: _form(cls) for cls in EVENT_CLASSES}
_msgpack: Any = msgpack
"""msgpack, which ships no types."""
_pack: Final[Callable[[list[Any]], bytes]] = _msgpack.Packer(
    use_bin_type=True, unicode_errors="surrogatepass"
).pack


def encode_event(seq: int, event: Event) -> EventRow:
    """The row that keeps `event` as number `seq` of its run."""
    if type(event) is history.StepCompleted:
        return _encode_step(seq, event)
    form = _FORMS[event.code]
    values = [getattr(event, name) for name in form.fields]
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
    form = _FORMS.get(row.type)
    if form is None:
        name = NAMES.get(row.type, "unknown")
        message = f"event {row.seq} has type {row.type} ({name}), which this version of durable cannot read"
        raise PayloadError(message)
    values = unpack_fields(row)
    try:
        if row.type == history.StepCompleted.code:
            return history.StepCompleted(row.at, row.cmd, row.name, *values)  # type: ignore[arg-type]
        columns = {name: getattr(row, name) for name in form.columns}
        return form.build(**columns, **dict(zip(form.fields, values, strict=False)))
    except TypeError as error:
        message = f"event {row.seq} (type {row.type}) cannot be read: {error}"
        raise PayloadError(message) from error


def unpack_fields(row: EventRow) -> list[Any]:
    """The msgpack array inside a row's `data`."""
    try:
        if row.data[:1] != MSGPACK:
            raise ValueError("unknown encoding")  # noqa: TRY301
        values: Any = _msgpack.unpackb(
            row.data[1:], use_list=True, strict_map_key=False, unicode_errors="surrogatepass"
        )
    except (ValueError, TypeError, _msgpack.UnpackException, IndexError) as error:
        message = f"event {row.seq} (type {row.type}) cannot be read: {error}"
        raise PayloadError(message) from error
    if type(values) is not list:
        message = f"event {row.seq} (type {row.type}) cannot be read: not a list of fields"
        raise PayloadError(message)
    fields: list[Any] = values  # pyright: ignore[reportUnknownVariableType]  msgpack has no types
    return fields
