"""The events of a history, as users read them: payloads and forms as plain data, times as datetimes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from durable.clock import to_datetime
from durable.model.carried import Carried, unpack_carried
from durable.model.failure import decode_failure
from durable.model.forms import InputForm, unpack_form
from durable.model.history import NAMES
from durable.model.payload import ANY
from durable.model.records import HistoryEvent
from durable.model.wire import EventRow, decode_event

_HIDDEN: Final = frozenset({"at", "cmd", "name", "fingerprint", "seed", "parent_key", "parent_cmd"})
"""Not shown: what stands elsewhere in the record, and what only durable itself can read."""


def event_of(row: EventRow, workers: Mapping[int, str]) -> HistoryEvent:
    """The public view of a history event."""
    event = decode_event(row)
    data: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        name, value = field.name, getattr(event, field.name)
        if name in _HIDDEN or value is None:
            continue
        if name in _UNPACKED:
            data |= _UNPACKED[name](value)
        elif name in ("worker", "lost"):
            data[name] = workers.get(value, str(value))
        else:
            read = _READ.get(name)
            data[name] = value if read is None else read(value)
    return HistoryEvent(
        seq=row.seq,
        type=NAMES[row.type],
        at=to_datetime(row.at),
        command=row.cmd,
        name=row.name,
        data=data,
        row=row,
    )


def _asked(form: InputForm) -> dict[str, Any]:
    return {
        "kind": form.kind,
        "prompt": form.prompt,
        "metadata": form.metadata,
        "schema": form.schema,
        "choices": [list(choice) for choice in form.choices],
        "to": list(form.to),
        "remind": form.remind,
    }


def _taken_along(carried: Carried) -> dict[str, Any]:
    return {
        "unread": [event.name for event in carried.unread],
        "children": [child.child_id for child in carried.children],
    }


_UNPACKED: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "form": lambda packed: _asked(unpack_form(packed)),
    "carried": lambda packed: _taken_along(unpack_carried(packed)),
}
"""Fields that hold several things."""
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(
        ("input", "result", "payload", "answer"), lambda payload: ANY.decode(payload, "a payload")
    ),
    **dict.fromkeys(("due", "retry_at", "deadline"), to_datetime),
    "failure": lambda failure: dataclasses.asdict(decode_failure(failure)),
}
