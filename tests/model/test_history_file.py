"""Histories as files: every event comes back byte for byte, and what is plain can be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import PayloadError
from durable.model import history
from durable.model.history_file import HistoryFile, dump_history, load_history
from durable.model.payload import ANY
from durable.model.wire import EventRow, encode_event
from tests.model.test_wire import GOLDEN, event_of, names

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.frozensets(st.integers()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def there_and_back(*rows: EventRow) -> list[EventRow]:
    text = dump_history(HistoryFile("order", "run-1", rows))
    assert text.isascii()
    return list(load_history(text).rows)


@pytest.mark.parametrize("pinned", GOLDEN, ids=names)
def test_every_kind_of_event_comes_back_byte_for_byte(pinned: dict[str, Any]) -> None:
    """Whatever it holds."""
    row = encode_event(7, event_of(pinned))
    assert there_and_back(row) == [row]


@given(value=VALUES, name=st.text(st.characters(), max_size=5))
def test_every_payload_comes_back_byte_for_byte(value: Any, name: str) -> None:
    """Also NaN, surrogates, big numbers, sets, and objects that look like our own marks."""
    row = encode_event(1, history.EventReceived(5, name, ANY.encode(value, "a value"), 1))
    assert there_and_back(row) == [row]


@pytest.mark.parametrize("value", [{"$bytes": "eA=="}, {"$payload": 1}, {"a": {"$": 1}}, {1: 2}])
def test_what_looks_like_a_mark_is_none(value: Any) -> None:
    row = encode_event(1, history.EventReceived(5, "x", ANY.encode(value, "a value"), 1))
    assert there_and_back(row) == [row]


def test_what_newer_or_damaged_rows_hold_stays() -> None:
    """They come back as they are; who reads them says what is wrong."""
    rows = [
        EventRow(1, 11, 5, None, "x", b"\x09damaged"),
        EventRow(2, 250, 5, 3, None, b"\x01\x91\x01"),
        EventRow(3, 11, 5, None, None, b""),
    ]
    assert there_and_back(*rows) == rows


def test_plain_payloads_can_be_read() -> None:
    """In a review, a change of a history shows what has changed."""
    row = encode_event(1, history.EventReceived(0, "paid", ANY.encode({"amount": 7}, "x"), 1))
    file = json.loads(dump_history(HistoryFile("order", "run-1", [row])))
    assert (file["durable_history"], file["workflow"], file["run"]) == (1, "order", "run-1")
    [event] = file["events"]
    assert event["type"] == "EventReceived"
    assert event["at"] == "1970-01-01T00:00:00+00:00"
    assert {"$payload": {"amount": 7}} in event["fields"].values()


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no history"),
        ("[]", "no history"),
        ("{}", "no history"),
        ('{"durable_history": 2}', "format 2, newer than 1"),
        ('{"durable_history": 1, "workflow": "w", "run": "r", "events": [{}]}', "no history"),
    ],
)
def test_what_is_no_history_is_told(text: str, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        load_history(text)
