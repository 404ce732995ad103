"""Payloads that nobody should have written, and values that are too deep or too strange to write."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from durable.errors import PayloadError
from durable.model.failure import decode_failure
from durable.model.packing import BIG_INT, MAX_DEPTH, pack
from durable.model.payload import ANY, arguments_of, shape_of

WHERE = "result of step charge"

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
HASHABLE = st.recursive(
    ATOMS.filter(lambda value: not (isinstance(value, decimal.Decimal) and value.is_snan())),
    lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner),
    max_leaves=5,
)
PLAIN = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


def exact(value: Any) -> Any:
    """A value with its types and all that `==` does not see, in a form that `==` compares."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exact(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted((exact(item) for item in value), key=repr)
    if kind is dict:
        return kind, [(exact(key), exact(item)) for key, item in value.items()]
    if kind in (dt.datetime, dt.time):
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, value.utcoffset()
    return kind, repr(value)


@settings(max_examples=300, deadline=None)
@given(PLAIN)
def test_plain_values_come_back_exactly(value):
    data = ANY.encode(value, WHERE)
    read = ANY.decode(data, WHERE)
    assert exact(read) == exact(value)
    assert ANY.encode(read, WHERE) == data


class Model(BaseModel):
    a: int = 0
    b: tuple[str, ...] = ()
    c: dict[str, Any] = {}


@settings(max_examples=200, deadline=None)
@given(
    PLAIN, st.lists(st.text(), max_size=3).map(tuple), st.dictionaries(st.text(), PLAIN, max_size=3)
)
def test_plain_values_inside_of_models_come_back_exactly(value, texts, more):
    model = Model(b=texts, c={"value": value, **more})
    read = shape_of(Model).settle(model, WHERE)[1]
    assert type(read) is Model
    assert exact(read.c) == exact(model.c)
    assert read.b == texts


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for header in (b"", b"\x01", b"\x02"):
        for read in (
            lambda body: ANY.decode(body, WHERE),
            lambda body: shape_of(Model).decode(body, WHERE),
            lambda body: shape_of(int | None).decode(body, WHERE),
            lambda body: arguments_of(max).decode(body, WHERE),
            decode_failure,
        ):
            try:
                read(header + data)
            except PayloadError as error:
                assert "cannot be read" in str(error)


@settings(max_examples=300, deadline=None)
@given(PLAIN, st.data())
def test_damaged_payloads_are_read_or_refused(value, data):
    body = bytearray(ANY.encode(value, WHERE))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PayloadError):
        ANY.decode(bytes(body), WHERE)


@pytest.mark.parametrize("code", range(128))
def test_extensions_with_wrong_bodies_are_refused(code):
    for body in (b"", b"\xff", b"\x91", b"\xff" * 9, b"\x00" * 16, b"\xff" * 17, b"\xff" * 400):
        ext = b"\x01" + b"\xc8" + len(body).to_bytes(2, "big") + bytes((code,)) + body
        try:
            ANY.decode(ext, WHERE)
        except PayloadError as error:
            assert "damaged msgpack" in str(error)


def test_a_claim_of_size_makes_no_room():
    began = time.monotonic()
    huge = b"\x01" + b"\xdd\x00\xff\xff\xff" * 1000 + bytes(16_000_000)
    small = b"\x01" + b"\xdd\x00\x00\xff\xf0" * 1000 + bytes(60_000)
    for body in (huge, small, b"\x01\xdd\xff\xff\xff\xff", b"\x01\xc6\xff\xff\xff\xff"):
        with pytest.raises(PayloadError):
            ANY.decode(body, WHERE)
    assert time.monotonic() - began < 5


def nested(levels: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"k": value},
    lambda value: [(value,)],
    lambda value: frozenset((value,)),
    lambda value: (b"x", value, {"k": [1]}),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_deep_values_are_kept_or_refused(wrap):
    deepest = 0
    for levels in (50, MAX_DEPTH // 2, 300, 600, 5_000):
        value = nested(levels, wrap)
        try:
            data = ANY.encode(value, WHERE)
        except PayloadError as error:
            assert "cannot be stored" in str(error)
        else:
            assert ANY.decode(data, WHERE) == value
            deepest = levels
    assert deepest >= MAX_DEPTH // 2


def test_a_thread_with_a_small_stack_reads_deep_payloads():
    data = ANY.encode(nested(MAX_DEPTH, lambda value: (value,)), WHERE)
    hostile = b"\x01" + nested_extensions(5_000)
    read: list[Any] = []

    def run() -> None:
        read.append(ANY.decode(data, WHERE))
        with pytest.raises(PayloadError):
            ANY.decode(hostile, WHERE)
        read.append(True)

    size = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert len(read) == 2


def nested_extensions(levels: int) -> bytes:
    body = b"\x90"
    for _ in range(levels):
        inner = b"\x91" + body
        body = b"\xc9" + len(inner).to_bytes(4, "big") + b"\x01" + inner
    return body


def test_deep_json_and_models():
    for text in (b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"1" * 5_000):
        for shape in (ANY, shape_of(int), shape_of(Model)):
            with pytest.raises(PayloadError):
                shape.decode(b"\x02" + text, WHERE)

    class Node(BaseModel):
        next: Node | None = None

    Node.model_rebuild(_types_namespace={"Node": Node})
    node = Node()
    for _ in range(2_000):
        node = Node.model_construct(next=node)
    with pytest.raises(PayloadError):
        shape_of(Node).encode(node, WHERE)


def test_values_that_contain_themselves():
    loop: list[Any] = []
    loop.append(loop)
    cycle: dict[str, Any] = {}
    cycle["me"] = (cycle,)
    for value in (loop, cycle):
        with pytest.raises(PayloadError, match=r"contains itself|recursion"):
            ANY.encode(value, WHERE)
    with pytest.raises(PayloadError):
        shape_of(Model).encode(Model.model_construct(c={"loop": loop}), WHERE)


def test_huge_numbers():
    for value in (10**100_000, -(10**100_000), decimal.Decimal("1e999999"), 2**64, -(2**63) - 1):
        assert ANY.decode(ANY.encode(value, WHERE), WHERE) == value
    assert pack(2**64)[2] == BIG_INT
    with pytest.raises(PayloadError):
        shape_of(str).encode(10**100_000, WHERE)


def test_reprs_that_fail_do_not_hide_the_reason():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(PayloadError, match="Odd is no plain value"):
        ANY.encode([Odd()], WHERE)
    with pytest.raises(PayloadError, match="<Odd> is a Odd"):
        shape_of(int).encode(Odd(), WHERE)


SAME_EVERYWHERE = """
import datetime as dt, decimal, sys, uuid
from durable.model.payload import ANY, arguments_of, fingerprint
value = {"s": {"a", "b", (1, "c"), frozenset({"x", "y", "z"}), None, 2.5, b"q"},
         ("t",): {uuid.UUID(int=n) for n in range(20)}, "d": {decimal.Decimal(n) for n in range(9)}}
print(ANY.encode(value, "x").hex(), fingerprint(arguments_of(max).encode((value,), {}, "x")))
assert "pydantic" not in sys.modules
"""


def test_sets_are_written_alike_under_any_hash_seed():
    written = {
        subprocess.run(
            [sys.executable, "-c", SAME_EVERYWHERE],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (0, 1, 2)
    }
    assert len(written) == 1
