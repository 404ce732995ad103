"""Values under their annotations: what comes back as it was, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import re
import sqlite3
import threading
import typing
import uuid
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import pydantic
import pytest
import typing_extensions
from pydantic import (
    AnyUrl,
    BaseModel,
    Field,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    computed_field,
)

from durable.errors import DefinitionError, PayloadError, PayloadTooLarge
from durable.model.payload import ANY, MAX_PAYLOAD, shape_of

WHERE = "result of step charge"
T = TypeVar("T")
UserId = NewType("UserId", str)


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    A = "a"


class Bits(enum.Flag):
    A = 1
    B = 2


class Pair(enum.Enum):
    XY = (1, 2)


class M(BaseModel):
    a: int
    when: dt.datetime | None = None


class Base(BaseModel):
    x: int


class Sub(Base):
    y: int


class Twin(BaseModel):
    x: int


class Computed(BaseModel):
    a: int

    @computed_field
    @property
    def b(self) -> int:
        return self.a + 1


class Forbid(BaseModel, extra="forbid"):
    a: int

    @computed_field
    @property
    def b(self) -> int:
        return self.a + 1


class Allow(BaseModel, extra="allow"):
    a: int


class Alias(BaseModel):
    a: int = Field(alias="A")


class OddAlias(BaseModel):
    a: int = Field(validation_alias=pydantic.AliasPath("x", 0))
    b: int = Field(serialization_alias="B")
    c: int = Field(validation_alias=pydantic.AliasChoices("q", "w"))


class Strict(BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    t: tuple[int, ...]
    c: Color
    d: dt.datetime


class Node(BaseModel):
    kids: list[Node] = []
    more: Any = None


class Box(BaseModel, Generic[T]):
    v: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    n: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    n: int


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Shop(BaseModel):
    pets: list[Pet]
    notes: dict[str, Any] = {}


class Secret(BaseModel):
    s: SecretStr


class Hidden(BaseModel):
    a: int = Field(exclude=True)


class Positive(BaseModel):
    n: int = Field(gt=0)


class Root(pydantic.RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Data:
    a: int
    t: tuple[int, ...] = ()


@dataclasses.dataclass
class SubData(Data):
    z: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int


@dataclasses.dataclass
class Derived:
    a: int
    b: int = dataclasses.field(init=False, default=3)


class Point(NamedTuple):
    a: int
    b: str


class Typed(typing_extensions.TypedDict):
    a: int
    b: typing_extensions.NotRequired[list[M]]


NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
BERLIN = dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1)))
SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")

SAME: list[tuple[Any, Any]] = [
    (int, 2**80),
    (int, -(2**63) - 1),
    (int, True),
    (float, math.inf),
    (float, math.nan),
    (float, -0.0),
    (float, 1),
    (bytes, b"\xff\x00"),
    (str, "a\x00b"),
    (str, "\ud800"),
    (str, "x" * 10_000_000),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (dt.datetime, NOW),
    (dt.datetime, NOW.replace(tzinfo=None)),
    (dt.datetime, BERLIN),
    (dt.datetime, NOW.replace(tzinfo=None, fold=1)),
    (dt.datetime, dt.datetime(1, 1, 1)),  # noqa: DTZ001
    (dt.datetime, dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=14)))),
    (dt.date, NOW.date()),
    (dt.timedelta, dt.timedelta(days=1, microseconds=1)),
    (dt.timedelta, dt.timedelta.min),
    (dt.time, dt.time(1, 2, fold=1)),
    (dt.time, dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(minutes=90)))),
    (uuid.UUID, SOME_UUID),
    (pathlib.PurePosixPath, pathlib.PurePosixPath("/x")),
    (pathlib.Path, pathlib.Path("/x")),
    (Color, Color.RED),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (Kind, Kind.A),
    (Bits, Bits.A | Bits.B),
    (Pair, Pair.XY),
    (tuple[int, str], (1, "a")),
    (tuple, (1, 2)),
    (set[int], {1, 2}),
    (frozenset[str], frozenset("a")),
    (dict[int, str], {1: "a"}),
    (dict[tuple[int, int], str], {(1, 2): "a"}),
    (dict[uuid.UUID, int], {SOME_UUID: 1}),
    (dict[Color, int], {Color.RED: 1}),
    (dict[Point, int], {Point(1, "a"): 1}),
    (M, M(a=1, when=NOW)),
    (list[M], [M(a=1)]),
    (Computed, Computed(a=1)),
    (Forbid, Forbid(a=1)),
    (Allow, Allow(a=1, z=NOW)),
    (Alias, Alias(A=1)),
    (OddAlias, OddAlias(x=[1], b=2, q=3)),
    (Strict, Strict(t=(1,), c=Color.RED, d=NOW)),
    (Node, Node(kids=[Node(more={"t": (1, {2})})])),
    (Box[int], Box[int](v=1)),
    (Box, Box(v=(1,))),
    (Root, Root([1])),
    (Shop, Shop(pets=[Cat(n=1), Dog(n=2)], notes={"a": {1}})),
    (Data, Data(1, (2,))),
    (Derived, Derived(1)),
    (Point, Point(1, "a")),
    (Typed, {"a": 1, "b": [M(a=2)]}),
    (int | str, "1"),
    (int | str, 1),
    (float | int, 1),
    (bool | int, 1),
    (str | bytes, b"a"),
    (dt.date | dt.datetime, NOW),
    (dt.datetime | str, "2026-01-01"),
    (uuid.UUID | str, str(SOME_UUID)),
    (Union[M, Base], Base(x=1)),  # noqa: UP007 - the old way is a type of its own
    (Base | Sub, Sub(x=1, y=2)),
    (Sub | Base, Base(x=1)),
    (M | Any, M(a=1)),
    (int | Color, Color.RED),
    (decimal.Decimal | float, 1.5),
    (decimal.Decimal | str, "1.0"),
    (list[int] | tuple[int, ...], (1,)),
    (Optional[M], None),  # noqa: UP045 - the same
    (Any, NOW),
    (Any, (1, 2)),
    (Any, {1: 2}),
    (Any, {(1, frozenset({b"x"})): [{2.5: None}]}),
    (Any, decimal.Decimal("sNaN123")),
    (object, {"a": NOW}),
    (list, [NOW]),
    (dict[str, Any], {"t": (1,), "d": NOW}),
    (Literal["a", 1], 1),
    (Literal[b"a"], b"a"),
    (Annotated[int, Field(gt=0)], 5),
    (complex, 1j),
    (complex, complex(-0.0, -0.0)),
    (fractions.Fraction, fractions.Fraction(1, 3)),
    (zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("UTC")),
    (re.Pattern, re.compile("a")),
    (AnyUrl, AnyUrl("http://a")),
    (ipaddress.IPv4Address, ipaddress.IPv4Address("1.1.1.1")),
    (collections.deque[int], collections.deque([1])),
    (collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
    (collections.Counter[str], collections.Counter("aab")),
    (Sequence[int], (1, 2)),
    (Iterable[int], [1, 2]),
    (Mapping[str, int], {"a": 1}),
    (UserId, UserId("u")),
    (T, (1, 2)),
    (None, None),
    (list[bytes], [b"\xff"]),
    (list[int], [2**100]),
    (list[str], ["\ud800\x00"]),
]


def same(given: Any, read: Any) -> bool:
    if type(given) is not type(read):
        return False
    if isinstance(given, set | frozenset):
        return sorted(map(repr, given)) == sorted(map(repr, read))
    return repr(given) == repr(read)


@pytest.mark.parametrize("annotation, value", SAME, ids=lambda part: repr(part)[:40])
def test_comes_back_with_the_same_type_and_content(annotation, value):
    shape = shape_of(annotation)
    data = shape.encode(value, WHERE)
    read = shape.decode(data, WHERE)
    assert data[:1] == b"\x01"
    assert same(value, read)
    assert shape.settle(value, WHERE)[0] == data
    assert same(value, shape.settle(value, WHERE)[1])
    assert shape.encode(read, WHERE) == data, "what is read is written in the same way again"


@pytest.mark.parametrize(
    "annotation, value, read",
    [
        (list[float], [1], [1.0]),
        (list[int], (1, 2), [1, 2]),
        (Base, {"x": "1"}, Base(x=1)),
        (dt.datetime, NOW.replace(tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")), None),
        (SerializeAsAny[Base], Sub(x=1, y=2), Base(x=1)),
    ],
    ids=repr,
)
def test_becomes_what_the_annotation_says(annotation, value, read):
    got = shape_of(annotation).decode(shape_of(annotation).encode(value, WHERE), WHERE)
    if read is None:
        assert got == value
        assert got.utcoffset() == value.utcoffset()
        assert type(got.tzinfo) is dt.timezone
    else:
        assert got == read
        assert type(got) is type(read)


async def _coroutine() -> None:
    pass


CORO = _coroutine()
CORO.close()
GENERATOR = (n for n in ())
REFUSED: list[tuple[Any, Any, str]] = [
    (Secret, Secret(s="x"), r"\['s'\].*SecretStr cannot be stored"),
    (Any, SecretStr("x"), "SecretStr cannot be stored"),
    (dict[str, Any], {"k": [SecretBytes(b"x")]}, r"\['k'\]\[0\].*SecretBytes"),
    (Base, Sub(x=1, y=2), r"is a Sub, but the annotation says Base.*SerializeAsAny\[Base\]"),
    (list[Base], [Base(x=1), Sub(x=1, y=2)], r"\(at \[1\]\).*is a Sub"),
    (dict[str, Base], {"k": Sub(x=1, y=2)}, r"\(at \['k'\]\).*is a Sub"),
    (Base | str, Sub(x=1, y=2), "is a Sub"),
    (Base | None, Sub(x=1, y=2), "is a Sub"),
    (Data, SubData(1, (), 2), "is a SubData, but the annotation says Data"),
    (Box, Box[int](v=1), r"annotate Box\[int\]"),
    (Base | Twin, Twin(x=1), "Base: the union in the annotation does not tell them apart"),
    (Base | dict[str, Any], {"x": 1}, "does not tell them apart"),
    (list[Any] | Base, [Base(x=1)], r"\[0\].*Base comes back as itself only by its annotation"),
    (str | Color, Color.RED, "Color comes back as itself only"),
    (Any, M(a=1), "annotate the result: -> M"),
    (Any, Data(1), "annotate the result: -> Data"),
    (Any, Color.RED, "annotate the result: -> Color"),
    (Any, Kind.A, "annotate the result: -> Kind"),
    (Any, Point(1, "a"), "annotate the result: -> Point"),
    (Any, [M(a=1)], r"\(at \[0\]\).*instead of Any"),
    (dict[str, Any], {"a": [M(a=1)]}, r"\(at \['a'\]\[0\]\).*instead of Any"),
    (dict[str, Any], {"p": pathlib.PurePosixPath("/")}, "PurePosixPath"),
    (Allow, Allow(a=1, z=M(a=1)), r"\(at \.z\)"),
    (Node, Node(more=M(a=1)), r"\(at \.more\)"),
    (Typed, {"a": 1, "extra": 2}, "the key 'extra' would be lost"),
    (Hidden, Hidden(a=1), "could not be read again as Hidden"),
    (M, M.model_construct(a="zz"), "could not be read again as M"),
    (Positive, Positive.model_construct(n=-1), "could not be read again as Positive: n"),
    (decimal.Decimal, decimal.Decimal("NaN"), "could not be read again"),
    (re.Pattern, re.compile("a", re.IGNORECASE), "flags"),
    (set[Frozen], {Frozen(1)}, "use a list"),
    (dict[Frozen, int], {Frozen(1): 2}, "use a list"),
    (int, "abc", "'abc' is a str, but the annotation says int"),
    (str, Kind.A, "is a Kind, but the annotation says str"),
    (list[int], ["abc"], "does not fit list"),
    (list[int], [Level.LOW], r"\[0\].*Level comes back as itself only"),
    (Any, CORO, "is an `await` missing"),
    (Any, GENERATOR, "make it a list"),
    (Any, len, "choose the function"),
    (Any, math, "pass its name"),
    (Any, int, "pass its name"),
    (Any, threading.Lock(), "no plain value"),
    (Any, object(), "no plain value"),
    (Any, collections.OrderedDict(a=1), "OrderedDict"),
    (Any, 1j, "complex"),
    (Any, dt.time(1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), "no offset"),
]


def without_address(part: object) -> str:
    """A test has the same name in every process."""
    return repr(part).partition(" at 0x")[0][:40]


@pytest.mark.parametrize("annotation, value, told", REFUSED, ids=without_address)
def test_is_refused_when_it_would_not_come_back(annotation, value, told):
    with pytest.raises(PayloadError, match=told) as caught:
        shape_of(annotation).encode(value, WHERE)
    assert str(caught.value).startswith(WHERE)
    assert "\n" not in str(caught.value)


def test_a_context_and_connections_cannot_be_stored():
    class Context:
        __module__ = "durable.engine.context"

    connection = sqlite3.connect(":memory:")
    with pytest.raises(PayloadError, match="a Context cannot be stored"):
        ANY.encode(Context(), "argument ctx of step charge")
    with pytest.raises(PayloadError, match="a Connection cannot be stored: open it where"):
        ANY.encode({"c": connection}, WHERE)
    connection.close()


def test_an_open_file_cannot_be_stored(tmp_path):
    with (tmp_path / "f").open("w") as file, pytest.raises(PayloadError, match="path"):
        ANY.encode(file, WHERE)


@pytest.mark.parametrize(
    "annotation", [bytearray, typing.Iterator[int], threading.Thread, sqlite3.Connection], ids=repr
)
def test_what_has_no_schema_is_a_definition_error(annotation):
    with pytest.raises(DefinitionError, match="cannot be stored"):
        shape_of(annotation).resolve()
    with pytest.raises(DefinitionError):
        shape_of(annotation).encode([1], WHERE)


def test_every_receiver_gets_a_copy():
    given = {"a": [1]}
    _, one = ANY.settle(given, WHERE)
    given["a"].append(2)
    assert one == {"a": [1]}
    model = Node(kids=[Node()])
    _, copy = shape_of(Node).settle(model, WHERE)
    assert copy == model
    assert copy.kids[0] is not model.kids[0]


def test_plain_shapes_hand_on_the_value_itself():
    for annotation in (int, str, float, bool, bytes, None, int | None, UserId):
        assert shape_of(annotation).plain
    for annotation in (Any, list[int], M, Color, Literal[1], Annotated[int, Field(gt=0)]):
        assert not shape_of(annotation).plain
    text = "x" * 100
    assert shape_of(str).settle(text, WHERE)[1] is text
    assert ANY.settle(text, WHERE)[1] is text


def test_shapes_are_made_once():
    assert shape_of(list[M]) is shape_of(list[M])
    assert shape_of(Any) is ANY
    assert shape_of(object) is ANY
    assert shape_of(T) is ANY


def test_too_large_values_name_place_size_and_limit():
    shape = shape_of(bytes)
    assert len(shape.encode(bytes(MAX_PAYLOAD - 6), WHERE)) == MAX_PAYLOAD
    with pytest.raises(PayloadTooLarge, match=r"charge takes 16,777,217 bytes.*16,777,216"):
        shape.encode(bytes(MAX_PAYLOAD - 5), WHERE)
    for annotation in (Any, str, list[str]):
        value = ["y" * 100] if annotation == list[str] else "y" * 100
        assert shape_of(annotation).encode(value, WHERE, limit=200)
        with pytest.raises(PayloadTooLarge, match="max_payload"):
            shape_of(annotation).encode(value, WHERE, limit=100)


@pytest.mark.parametrize(
    "annotation, text, value",
    [
        (int, b"1", 1),
        (int, b'"1"', 1),
        (str | None, b"null", None),
        (float, b"NaN", math.nan),
        (Any, b'{"a": [1, null]}', {"a": [1, None]}),
        (M, b'{"a": "1", "when": "2026-01-02T03:04:05.678901Z"}', M(a=1, when=NOW)),
        (Alias, b'{"A": 1}', Alias(A=1)),
        (Alias, b'{"a": 1}', Alias(A=1)),
        (tuple[int, ...], b"[1, 2]", (1, 2)),
        (set[Color], b'["red"]', {Color.RED}),
        (dict[int, str], b'{"1": "a"}', {1: "a"}),
        (uuid.UUID, f'"{SOME_UUID}"'.encode(), SOME_UUID),
        (dt.timedelta, b'"PT1H"', dt.timedelta(hours=1)),
    ],
    ids=repr,
)
def test_json_of_foreign_clients_is_read_by_the_annotation(annotation, text, value):
    read = shape_of(annotation).decode(b"\x02" + text, WHERE)
    assert type(read) is type(value)
    assert read == value or math.isnan(value)


def test_what_older_code_wrote_is_read_lax():
    assert shape_of(int).decode(shape_of(str).encode("5", WHERE), WHERE) == 5
    assert shape_of(M).decode(ANY.encode({"a": "1"}, WHERE), WHERE) == M(a=1)
    with pytest.raises(PayloadError, match="cannot be read as M: a: Field required"):
        shape_of(M).decode(ANY.encode({}, WHERE), WHERE)
