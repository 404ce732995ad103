"""How values read on a terminal and in JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from durable.telling.words import between, clean, count, duration, plain, short


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "0 ms"),
        (0.04, "40 ms"),
        (0.9999, "1000 ms"),
        (1, "1.0 s"),
        (6.14, "6.1 s"),
        (42, "42 s"),
        (60, "1 min"),
        (90, "1.5 min"),
        (720, "12 min"),
        (3600, "1 h"),
        (2 * 86_400, "2 d"),
        (40 * 86_400, "40 d"),
    ],
)
def test_durations_have_one_unit(seconds, words):
    assert duration(seconds) == words


def test_what_has_not_begun_took_no_time():
    now = datetime.now(UTC)
    assert between(None, now) == ""
    assert between(now - timedelta(seconds=5), now) == "5.0 s"
    assert between(now + timedelta(hours=1), None) == "0 ms"  # clocks of two machines differ


def test_counts():
    assert [count(1, "crash", "crashes"), count(2, "crash", "crashes"), count(0, "step")] == [
        "1 crash",
        "2 crashes",
        "0 steps",
    ]


@given(st.text())
def test_no_text_steers_the_terminal(text):
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in clean(text))


def test_a_sequence_for_the_terminal_becomes_harmless():
    assert clean("a\x1b[31mred\nb\u202e") == "a [31mred b"


def test_a_long_value_is_cut():
    assert short({"text": "x" * 100}, 20) == '{"text": "xxxxxxxxx…'


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    when: date


@dataclass
class Record:
    name: str
    inner: object
    _hidden: int = 0


def test_everything_a_run_may_hold_becomes_json():
    value = Record(
        "x",
        {
            1: (1, 2.5, None, True),
            "set": {3},
            "time": datetime(2026, 1, 2, tzinfo=UTC),
            "span": timedelta(minutes=1),
            "money": Decimal("1.50"),
            "id": UUID(int=7),
            "bytes": b"\x00\xff",
            "model": Model(when=date(2026, 1, 2)),
            "enum": Colour.RED,
        },
    )
    assert json.loads(json.dumps(plain(value))) == {
        "name": "x",
        "inner": {
            "1": [1, 2.5, None, True],
            "set": [3],
            "time": "2026-01-02T00:00:00+00:00",
            "span": 60.0,
            "money": "1.50",
            "id": "00000000-0000-0000-0000-000000000007",
            "bytes": "AP8=",
            "model": {"when": "2026-01-02"},
            "enum": "Colour.RED",
        },
    }
