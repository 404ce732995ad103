"""The form of payloads on disk. What was written once stays readable: these rows are only ever added to."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import pytest

from durable.errors import Failure
from durable.model.failure import decode_failure, encode_failure
from durable.model.payload import ANY, arguments_of, fingerprint, shape_of

UTC = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
NAIVE = UTC.replace(tzinfo=None)

PINNED: list[tuple[str, Any]] = [
    ("01c0", None),
    ("01c3", True),
    ("01cb3ff8000000000000", 1.5),
    ("01c401ff", b"\xff"),
    ("01a161", "a"),
    ("01a3eda080", "\ud800"),
    ("0193010203", [1, 2, 3]),
    ("0181a16bc0", {"k": None}),
    ("01d6019201a161", (1, "a")),
    ("01c7050292a161a162", {"a", "b"}),
    ("01d5039101", frozenset({1})),
    ("01c709040006475ef64cf34600", NAIVE),
    ("01c709040006475ef64cf34601", NAIVE.replace(fold=1)),
    ("01c711040006475ef64cf346000000000000000000", UTC),
    (
        "01c711040006475ef64cf3460000000001ad274800",
        UTC.astimezone(dt.timezone(dt.timedelta(hours=2))),
    ),
    ("01d60500004fe7", dt.date(2026, 1, 2)),
    ("01c7090600000000dde878c400", dt.time(1, 2, 3, 4)),
    ("01c7110600000000d693a400000000000000000000", dt.time(1, tzinfo=dt.UTC)),
    ("01c70c07ffffffff0000000000000001", dt.timedelta(days=-1, microseconds=1)),
    ("01c705082d312e3130", decimal.Decimal("-1.10")),
    ("01d80912345678123456781234567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("01c7090a010000000000000000", 2**64),
    ("01c7090aff7fffffffffffffff", -(2**63) - 1),
]


@pytest.mark.parametrize("text, value", PINNED)
def test_plain_values(text, value):
    assert ANY.encode(value, "x").hex() == text
    read = ANY.decode(bytes.fromhex(text), "x")
    assert type(read) is type(value)
    assert repr(read) == repr(value) or read == value


def test_complex_numbers_under_their_annotation():
    text = "01d80b3ff0000000000000c000000000000000"
    assert shape_of(complex).encode(1 - 2j, "x").hex() == text
    assert shape_of(complex).decode(bytes.fromhex(text), "x") == 1 - 2j


def test_timestamps_of_other_msgpack_writers_are_read():
    assert ANY.decode(bytes.fromhex("01d6ff00000001"), "x") == dt.datetime(
        1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC
    )


def test_arguments_and_fingerprints():
    def f(a: int, b: int = 1) -> None: ...

    assert arguments_of(f).encode((), {}, "x").hex() == "019190"
    assert arguments_of(f).encode((1,), {"b": 2}, "x").hex() == "0192910181a16202"
    assert fingerprint(bytes.fromhex("019190")) == 0xE063B240905EDBE6


def test_failures():
    failure = Failure(
        "m:E", "no", "tb", {"args": (1,)}, Failure("m:C", "why"), (Failure("m:G", "g"),)
    )
    text = "0196a36d3a45a26e6fa2746281a461726773d501910196a36d3a43a3776879a080c0909196a36d3a47a167a080c090"
    assert encode_failure(failure).hex() == text
    assert decode_failure(bytes.fromhex(text)) == failure
