"""A run's history as a file: JSON that people read and compare, and that comes back byte for byte.

The file is an object: `durable_history` (1, the format), `workflow`, `run` and `events`, a list of objects with
`seq`, `type`, `at`, `command`, `name` and `fields`. A payload is `{"$payload": value}` where its value is plain
JSON, and `{"$bytes": base64}` where it is not. An event that could not be written in this way without loss has
`wire`, its bytes in base64, in the place of `fields`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from durable.clock import to_datetime, to_micros
from durable.errors import PayloadError
from durable.model.history import CODES, NAMES
from durable.model.value import value
from durable.model.wire import EventRow, field_names, pack_raw, unpack_fields, unpack_raw

FORMAT: Final = 1
"""Of the file; a newer one is refused."""
_KEY: Final = "durable_history"


@value
class HistoryFile:
    """What such a file holds."""

    workflow: str
    """Name of the workflow, or `module:name`."""
    run_id: str
    rows: Sequence[EventRow]


class _NotPlainError(Exception):
    """Not to be written as JSON without loss."""


def dump_history(file: HistoryFile) -> str:
    """The file as text, in ASCII."""
    document = {
        _KEY: FORMAT,
        "workflow": file.workflow,
        "run": file.run_id,
        "events": [_event(row) for row in file.rows],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def load_history(text: str) -> HistoryFile:
    """What `dump_history` has written. `PayloadError` for anything else, and for a newer format."""
    try:
        document = json.loads(text)
        form = document[_KEY]
        if form == FORMAT:
            rows = [_row(event) for event in document["events"]]
            return HistoryFile(document["workflow"], document["run"], rows)
    except (ValueError, KeyError, TypeError) as error:
        message = f"this is no history that durable has written: {error!r}"
        raise PayloadError(message) from error
    message = f"this history has format {form}, newer than {FORMAT}: read it with a newer durable"
    raise PayloadError(message)


def _event(row: EventRow) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "seq": row.seq,
        "type": NAMES.get(row.type, str(row.type)),
        "at": to_datetime(row.at).isoformat(),
        "command": row.cmd,
        "name": row.name,
    }
    fields = _fields(row)
    exact = {**shown, "fields": fields}
    if fields is not None and _row(exact) == row:
        return exact
    return {**shown, "wire": base64.b64encode(row.data).decode()}


def _fields(row: EventRow) -> dict[str, Any] | None:
    """By name; None: they would not come back as they are."""
    names = field_names(row.type)
    try:
        values = unpack_fields(row)
        if len(values) > len(names):  # written by something newer
            return None
        return {name: _plain(field) for name, field in zip(names, values, strict=False)}
    except (_NotPlainError, PayloadError):
        return None


def _row(event: Any) -> EventRow:
    kind = event["type"]
    if "wire" in event:
        data = base64.b64decode(event["wire"], validate=True)
    else:
        data = pack_raw([_value(field) for field in event["fields"].values()])
    at = to_micros(datetime.fromisoformat(event["at"]))
    code = CODES[kind] if kind in CODES else int(kind)
    return EventRow(event["seq"], code, at, event["command"], event["name"], data)


def _plain(field: Any) -> Any:
    """A field, or what a payload holds, as JSON has it."""
    if isinstance(field, bytes):
        return _payload(field)
    if isinstance(field, list):
        items: list[Any] = field  # pyright: ignore[reportUnknownVariableType]  JSON has no types
        return [_plain(item) for item in items]
    if isinstance(field, dict):
        members: dict[Any, Any] = field  # pyright: ignore[reportUnknownVariableType]
        return _object(members)
    if (
        field is None
        or isinstance(field, str | int)
        or (type(field) is float and math.isfinite(field))
    ):
        return field
    raise _NotPlainError


def _object(field: dict[Any, Any]) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith("$") for key in field):
        return {key: _plain(item) for key, item in field.items()}
    raise _NotPlainError


def _payload(data: bytes) -> dict[str, Any]:
    try:
        inside = unpack_raw(data)
        if pack_raw(inside) == data:
            return {"$payload": _plain(inside)}
    except (_NotPlainError, ValueError, TypeError):
        pass
    return {"$bytes": base64.b64encode(data).decode()}


def _value(shown: Any) -> Any:
    """What `_plain` has made plain."""
    if isinstance(shown, list):
        items: list[Any] = shown  # pyright: ignore[reportUnknownVariableType]
        return [_value(item) for item in items]
    if not isinstance(shown, dict):
        return shown
    known: dict[str, Any] = shown  # pyright: ignore[reportUnknownVariableType]
    if "$payload" in known:
        return pack_raw(_value(known["$payload"]))
    if "$bytes" in known:
        return base64.b64decode(known["$bytes"], validate=True)
    return {key: _value(item) for key, item in known.items()}
