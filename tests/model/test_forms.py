"""What people are asked, as it is stored; which answers fit it, with the class and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from durable.errors import InvalidInput, PayloadError
from durable.model import forms
from durable.model.events import Decision
from durable.model.forms import (
    Approval,
    Choice,
    InputForm,
    Typed,
    check_answer,
    pack_form,
    unpack_form,
)
from durable.model.history import InputProvided
from durable.model.json_schema import problems
from durable.model.payload import ANY, JSON


class Item(BaseModel):
    name: str = Field(min_length=2, max_length=5, pattern="^[a-z]+$")
    many: int = Field(1, ge=1, lt=100)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: UUID
    items: list[Item] = Field(min_length=1, max_length=3)
    due: date | None = None
    price: Decimal = Decimal(1)
    kind: Literal["a", "b"] = "a"
    more: dict[str, int] = {}


class Node(BaseModel):
    name: str
    inner: Node | None = None


@dataclass
class Point:
    x: int
    y: float


class Colour(Enum):
    RED = "r"
    BLUE = "b"


ORDER: dict[str, Any] = {
    "id": "12345678-1234-5678-1234-567812345678",
    "items": [{"name": "abc", "many": 3}],
}


def form_of(question: forms.Question, **other: Any) -> InputForm:
    fields = {"prompt": "", "metadata": {}, "to": [], "remind": None, **other}
    return InputForm(
        question.kind, question.type, schema=question.schema, choices=question.choices, **fields
    )


def provided(payload: bytes) -> InputProvided:
    return InputProvided(17_000_000, 1, "q", payload, "ann", 1)


def answer(question: forms.Question, data: Any) -> Any:
    """What the workflow gets when a client answers so, through the stored form."""
    stored = unpack_form(pack_form(form_of(question)))
    return question.read(provided(check_answer(stored, "q", data)))


def wrong(question: forms.Question, data: Any) -> list[dict[str, Any]]:
    """What is told about an answer that does not fit."""
    with pytest.raises(InvalidInput) as caught:
        check_answer(unpack_form(pack_form(form_of(question))), "q", data)
    found = [dict(error) for error in caught.value.errors]
    assert found
    assert all(set(error) == {"loc", "msg", "type"} for error in found)
    return found


# -- the form


@given(
    st.text(),
    st.dictionaries(st.text(), st.integers() | st.text() | st.tuples(st.booleans())),
    st.lists(st.text()),
    st.none() | st.floats(1, 1e9),
)
def test_a_form_comes_back_as_it_was(
    prompt: str, metadata: dict[str, Any], to: list[str], remind: float | None
):
    """Prompt, metadata, schema, choices, whom, and reminders are all stored."""
    form = form_of(Approval(), prompt=prompt, metadata=metadata, to=to, remind=remind)
    assert unpack_form(pack_form(form)) == form


def test_a_newer_form_can_be_read():
    """Fields that a newer version added are ignored."""
    form = form_of(Choice(["a"], several=False))
    data = ANY.encode([*ANY.decode(pack_form(form), ""), "new", 3], "")
    assert unpack_form(data) == form


def test_metadata_is_plain_data():
    """What cannot be stored is told to who asks."""
    with pytest.raises(PayloadError, match="metadata"):
        pack_form(form_of(Approval(), metadata={"a": object()}))


def test_a_type_without_a_schema_in_json_may_be_asked_for_all_the_same():
    """Then nothing can be checked before the worker reads it."""
    assert Typed("input", Any).schema == {}
    assert answer(Typed("input", Any), {"a": (1,)}) == {"a": (1,)}


# -- answers


@pytest.mark.parametrize(
    "annotation, data, value",
    [
        (int, 3, 3),
        (int, "3", 3),
        (str, "x", "x"),
        (bool, True, True),
        (float, 1, 1),
        (int | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (list[int], [1, 2], [1, 2]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (Colour, "r", Colour.RED),
        (Colour, Colour.RED, Colour.RED),
        (date, "2026-01-02", date(2026, 1, 2)),
        (date, date(2026, 1, 2), date(2026, 1, 2)),
        (date | None, date(2026, 1, 2), date(2026, 1, 2)),
        (Decimal, "1.50", Decimal("1.50")),
        (Point, {"x": 1, "y": 2}, Point(1, 2.0)),
        (Point, Point(1, 2.5), Point(1, 2.5)),
        (Order, ORDER, Order(**ORDER)),
        (Order, Order(**ORDER), Order(**ORDER)),
        (Node, {"name": "a", "inner": {"name": "b"}}, Node(name="a", inner=Node(name="b"))),
        (Annotated[int, Field(gt=3)], 4, 4),
    ],
)
@pytest.mark.parametrize("here", [True, False], ids=["class", "schema"])
def test_an_answer_that_fits(
    annotation: Any, data: Any, value: Any, here: bool, monkeypatch: pytest.MonkeyPatch
):
    """By the class itself where it is imported, else by its JSON schema: the same answers fit."""
    if not here:
        monkeypatch.setattr(forms, "_shape_here", lambda _: None)
    found = answer(Typed("input", annotation), data)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "annotation, data, loc",
    [
        (int, "x", ()),
        (int, 1.5, ()),
        (str, 3, ()),
        (bool, "perhaps", ()),
        (Literal["a", "b"], "c", ()),
        (list[int], [1, "x"], (1,)),
        (list[int], {"a": 1}, ()),
        (Colour, "g", ()),
        (Order, {**ORDER, "items": []}, ("items",)),
        (Order, {**ORDER, "items": [{"name": "abc"}] * 4}, ("items",)),
        (Order, {**ORDER, "items": [{"name": "a"}]}, ("items", 0, "name")),
        (Order, {**ORDER, "items": [{"name": "abcdef"}]}, ("items", 0, "name")),
        (Order, {**ORDER, "items": [{"name": "ABC"}]}, ("items", 0, "name")),
        (Order, {**ORDER, "items": [{"name": "abc", "many": 0}]}, ("items", 0, "many")),
        (Order, {**ORDER, "items": [{"name": "abc", "many": 100}]}, ("items", 0, "many")),
        (Order, {"items": [{"name": "abc"}]}, ("id",)),
        (Order, {**ORDER, "kind": "c"}, ("kind",)),
        (Order, {**ORDER, "more": {"a": "x"}}, ("more", "a")),
        (Order, {**ORDER, "other": 1}, ("other",)),
        (Node, {"name": "a", "inner": {"inner": None}}, ("inner", "name")),
    ],
)
@pytest.mark.parametrize("here", [True, False], ids=["class", "schema"])
def test_an_answer_that_does_not_fit_says_where(
    annotation: Any, data: Any, loc: Sequence[Any], here: bool, monkeypatch: pytest.MonkeyPatch
):
    """`InvalidInput.errors` is a list of `{"loc": [...], "msg": ..., "type": ...}`, either way."""
    if not here:
        monkeypatch.setattr(forms, "_shape_here", lambda _: None)
    assert list(loc) in [error["loc"] for error in wrong(Typed("form", annotation), data)]


def test_a_class_of_the_same_name_with_other_fields_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    """Another version of the class in this process: the stored schema counts."""
    form = form_of(Typed("form", Point))
    newer = InputForm(**{**vars_of(form), "schema": TypeAdapter(Item).json_schema()})
    assert ANY.decode(check_answer(newer, "q", {"name": "abc"}), "") == {"name": "abc"}


def vars_of(form: InputForm) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.__dataclass_fields__}


@pytest.mark.parametrize(
    "data, approved, comment",
    [
        (True, True, None),
        ({"approved": False, "comment": "no"}, False, "no"),
        (Decision(approved=True, comment="c", at=datetime(2026, 1, 1, tzinfo=UTC)), True, "c"),
    ],
)
def test_a_decision(data: Any, approved: bool, comment: str | None):
    """True, false, `{"approved": .., "comment": ..}`; it says by whom and when."""
    found = answer(Approval(), data)
    assert (found.approved, found.comment, found.by) == (approved, comment, "ann")
    assert found.at == datetime(1970, 1, 1, 0, 0, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    "data", [None, 1, "yes", {}, {"approved": 1}, {"approved": True, "x": 1}, {"comment": "c"}]
)
def test_what_is_no_decision(data: Any):
    """Neither one nor "yes" is a decision."""
    wrong(Approval(), data)
    with pytest.raises(PayloadError, match="no decision"):
        Approval().read(provided(ANY.encode(data, "")))


def test_choices_are_given_back_as_they_were_offered():
    """Also where JSON has no such type, and where values are objects."""
    days = [date(2026, 1, 1), date(2026, 1, 2)]
    assert answer(Choice(days, several=False), "2026-01-02") == days[1]
    assert answer(Choice(days, several=False), days[1]) is days[1]
    points = [Point(1, 2), Point(3, 4)]
    assert answer(Choice(points, several=False), {"x": 3, "y": 4.0}) is points[1]
    assert answer(Choice(Colour, several=True), ["b", Colour.RED]) == [Colour.RED, Colour.BLUE]
    json = JSON + b'"2026-01-01"'
    assert Choice(days, several=False).read(provided(json)) is days[0]


@pytest.mark.parametrize("data", ["c", 1, None, [], ["a"], True])
def test_what_was_not_offered_is_refused(data: Any):
    """By the client, and by the worker again."""
    choice = Choice({"a": "A", "b": "B"}, several=False)
    assert "'a', 'b'" in wrong(choice, data)[0]["msg"]
    with pytest.raises(PayloadError, match="not offered"):
        choice.read(provided(ANY.encode(data, "")))


@pytest.mark.parametrize("data, loc", [("ab", []), ({"a": 1}, []), (["a", "c"], [1]), (3, [])])
def test_several_are_a_list_of_what_was_offered(data: Any, loc: list[Any]):
    """Each that was not offered is told of, with its place."""
    assert wrong(Choice(["a", "b"], several=True), data)[0]["loc"] == loc


# -- schemas


@pytest.mark.parametrize(
    "schema, data, fits",
    [
        ({}, object, True),
        (True, 1, True),
        ({"type": ["integer", "null"]}, None, True),
        ({"const": 1}, True, False),
        ({"enum": [0, None]}, False, False),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 3, False),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, [1, 2], False),
        ({"exclusiveMinimum": 1}, 1, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, 1, True),
        ({"$ref": "#/$defs/missing"}, 1, True),
        ({"pattern": "("}, "x", True),
        ({"format": "unheard of", "words": "nobody knows"}, 1, True),
    ],
)
def test_words_of_a_schema(schema: Any, data: Any, fits: bool):
    """What it does not know it ignores; a schema that refers to itself leads nobody astray."""
    assert (problems(schema, data) == []) is fits
