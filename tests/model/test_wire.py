"""History events on disk. `tests/golden/wire/events.json` pins their form: rows are only ever added to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import PayloadError
from durable.model import history
from durable.model.history import CODES, EVENT_CLASSES, FINAL_CODES, Event
from durable.model.wire import EventRow, decode_event, encode_event, field_names

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "wire" / "events.json").read_text()
)
CLASSES = {cls.__name__: cls for cls in EVENT_CLASSES}


def event_of(pinned: dict[str, Any]) -> Event:
    fields = {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) and "hex" in value else value
        for name, value in pinned["fields"].items()
    }
    return CLASSES[pinned["event"]](**fields)


def row(event: str, values: Any, **columns: Any) -> EventRow:
    """A row as another version, or a fault, may have written it."""
    data = values if isinstance(values, bytes) else b"\x01" + msgpack.packb(values)
    return EventRow(
        7, CODES[event], columns.get("at", 1), columns.get("cmd"), columns.get("name"), data
    )


def names(pinned: dict[str, Any]) -> str:
    return pinned["event"]


@pytest.mark.parametrize("pinned", GOLDEN, ids=names)
def test_an_event_is_written_as_it_always_was(pinned):
    written = encode_event(5, event_of(pinned))
    fields = pinned["fields"]
    assert written == EventRow(
        5,
        pinned["type"],
        fields["at"],
        fields.get("cmd"),
        fields.get("name"),
        bytes.fromhex(pinned["data"]),
    )


@pytest.mark.parametrize("pinned", GOLDEN, ids=names)
def test_an_event_is_read_as_it_always_was(pinned):
    event = event_of(pinned)
    fields = pinned["fields"]
    data = bytes.fromhex(pinned["data"])
    stored = EventRow(5, pinned["type"], fields["at"], fields.get("cmd"), fields.get("name"), data)
    read = decode_event(stored)
    assert type(read) is type(event)
    assert read == event


def test_every_event_class_is_pinned():
    assert {pinned["event"] for pinned in GOLDEN} == set(CLASSES)


def test_codes_are_never_given_twice():
    assert len(set(CODES.values())) == len(CODES)
    for cls in EVENT_CLASSES:
        assert CODES[cls.__name__] == cls.code
    assert {
        CODES[name] for name in ("RunCompleted", "RunFailed", "RunCancelled", "RunTerminated")
    } == (FINAL_CODES)


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.__name__)
def test_fields_added_later_have_defaults(cls):
    """What old rows lack is filled in; so no field without a default may follow one with a default."""
    pinned = next(one for one in GOLDEN if one["event"] == cls.__name__)
    inside = [field for field in dataclasses.fields(cls) if field.name not in ("at", "cmd", "name")]
    required = [field for field in inside if field.default is dataclasses.MISSING]
    assert required == inside[: len(required)]
    shortest = decode_event(
        row(
            cls.__name__,
            [getattr(event_of(pinned), field.name) for field in required],
            cmd=1,
            name="n",
        )
    )
    for field in inside[len(required) :]:
        assert getattr(shortest, field.name) == field.default


@given(
    st.builds(
        history.StepCompleted,
        at=st.integers(0, 2**62),
        cmd=st.integers(1, 2**31),
        name=st.text(min_size=1),
        result=st.binary(),
        fingerprint=st.integers(0, 2**64 - 1),
        took=st.integers(0, 2**62),
        worker=st.integers(1, 2**62),
        site=st.text(st.characters(exclude_categories=("Cs",))),
        attempt=st.integers(1, 2**31),
    )
)
def test_any_completion_comes_back(event):
    assert decode_event(encode_event(1, event)) == event


@pytest.mark.parametrize("event", ["RunFailed", "TimerFired", "EventReceived", "StateSet"])
def test_what_newer_code_adds_to_an_event_is_left_out(event):
    known = event_of(next(one for one in GOLDEN if one["event"] == event))
    values = [getattr(known, name) for name in field_names(known.code)]
    data = b"\x01" + msgpack.packb([*values, "added"])
    assert decode_event(dataclasses.replace(encode_event(7, known), data=data)) == known


@pytest.mark.parametrize(
    "stored",
    [
        row("RunFailed", b""),
        row("RunFailed", b"\x02{}"),
        row("RunFailed", b"\x01"),
        row("RunFailed", b"\x01\x91"),
        row("RunFailed", b"\x01\xc1"),
        row("RunFailed", b"\x01\x90\x90"),
        row("RunFailed", b"\x01" + b"\x91" * 5_000),
        row("RunFailed", {"failure": b""}),
        row("RunFailed", 1),
        row("RunRetried", []),
        row("StepCompleted", b"\x01\x80", cmd=1, name="n"),
        EventRow(7, 9_999, 1, None, None, b"\x01\x90"),
    ],
)
def test_a_damaged_or_unknown_row_is_told_with_its_number(stored):
    with pytest.raises(PayloadError, match="event 7"):
        decode_event(stored)


def test_damaged_rows_are_payload_errors_and_odd_texts_survive() -> None:
    """Whatever stands in a row, reading it is an event or a `PayloadError` that names it."""
    event = history.StepCompleted(1, 1, "s", b"\x01\xc0", 1, 1, 1, "a.py:1")
    row = encode_event(2, event)
    fields = msgpack.unpackb(row.data[1:])
    for damaged in (fields[:2], [*fields, 1, 2, 3], 7, {}):
        data = b"\x01" + msgpack.packb(damaged)
        with pytest.raises(PayloadError, match="event 2"):
            decode_event(dataclasses.replace(row, data=data))
    odd = history.RunTerminated(1, "a lone \ud800 surrogate and a \x00")
    assert decode_event(encode_event(1, odd)) == odd
