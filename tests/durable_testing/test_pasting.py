"""A case that fails becomes a test: whatever was given to `explore` is written as code, or said to have no name."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from types import ModuleType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from durable import Context, Run, workflow
from durable_testing.pasting import source_of_test
from durable_testing.playing import Subject


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    id: str
    lines: list[int] = []


class Right(Flag):
    READ = 1
    WRITE = 2


Spelt = Enum("Spelt", {"a word": 1})


class Outer:
    class Kind(Enum):
        A = 1

    @dataclass
    class Inner:
        n: int


class Aliased(BaseModel):
    plain: int = Field(alias="thePlain")
    dashed: int = Field(alias="the-dashed")
    word: int = Field(alias="class")
    chosen: int = Field(validation_alias=AliasChoices(AliasPath("a", 0), "theChosen"))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="allow")
    plain: int = Field(alias="thePlain")


class Deep(BaseModel):
    found: int = Field(validation_alias=AliasPath("a", 0))


@pydantic_dataclass
class Labelled:
    text: str = Field(alias="theText")


class Eastern(tzinfo):
    def __repr__(self) -> str:
        return "Eastern()"

    def utcoffset(self, _when: datetime | None) -> timedelta:
        return timedelta(hours=5)

    def dst(self, _when: datetime | None) -> None:
        return None

    def tzname(self, _when: datetime | None) -> str:
        return "east"


class Odd(Eastern):
    def utcoffset(self, _when: datetime | None) -> None:  # type: ignore[override]
        return None


@dataclass
class Parcel:
    order: Order
    colours: tuple[Colour, ...]
    weight: Decimal = Decimal(1)
    seen: int = field(default=0, init=False)


@workflow
async def packs(ctx: Context, given: Any) -> None:
    del ctx, given


def check_it(run: Run) -> None:
    assert run.status


LEDGER: list[str] = []


def written(given: Any, **options: Any) -> str:
    return source_of_test(Subject(packs, given, **options), ["turn 1: cancel"], "it breaks\nbadly")


def read(source: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the test gives to `explore`."""
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Passed:
        ok = True

    def explore(*args: Any, **options: Any) -> Passed:
        given.append((args, options))
        return Passed()

    stage = ModuleType("stage")
    code = source.replace("from durable_testing import explore\n", "")
    exec(compile(code, "<test>", "exec"), stage.__dict__ | {"explore": explore}, names := {})
    functions = [found for name, found in names.items() if name.startswith("test_")]
    functions[0].__globals__.update(names)
    functions[0]()
    return given[0]


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        -1.5,
        "it's",
        b"\x00",
        [1, [2, (3,)]],
        (),
        {"a": {1, 2}, 3: set[int]()},
        datetime(2026, 1, 1, tzinfo=UTC),
        date(2026, 1, 1),
        timedelta(days=3, seconds=1),
        Decimal("1.50"),
        UUID(int=5),
        Colour.RED,
        Order(id="o-1", lines=[1, 2]),
        [Parcel(Order(id="o-1"), (Colour.RED,), Decimal("0.1"))],
        {Colour.RED: Order(id="x")},
        datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        [{time(1, 2, tzinfo=UTC): timedelta()}],
        datetime(2026, 1, 1, tzinfo=Eastern()),
        Right.READ | Right.WRITE,
        Right(0),
        Spelt(1),
        Outer.Kind.A,
        Outer.Inner(5),
        frozenset({1}),
        [frozenset({Colour.RED}), frozenset[int]()],
        math.inf,
        [-math.inf, 1.5],
        Aliased.model_validate({"thePlain": 1, "the-dashed": 2, "class": 3, "theChosen": 4}),
        ByName.model_validate({"thePlain": 1, "more": 2}),
        Labelled(theText="a"),
    ],
    ids=repr,
)
def test_a_value_comes_back_from_its_code(given: Any) -> None:
    (found, value), options = read(written(given))
    assert found is packs
    assert value == given
    assert type(value) is type(given)
    assert options == {"seed": 0, "only": ["turn 1: cancel"]}


def test_a_zone_stays_what_it_is() -> None:
    (_, value), _ = read(written(datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))))
    assert value.tzinfo is ZoneInfo("Europe/Berlin")
    (_, value), _ = read(written(datetime(2026, 7, 1, tzinfo=Eastern())))
    assert value.tzinfo == timezone(timedelta(hours=5))


def test_what_is_no_number_stays_none() -> None:
    (_, value), _ = read(written([math.nan]))
    assert math.isnan(value[0])


def local() -> Any:
    @dataclass
    class Local:
        n: int

    return Local(1)


@pytest.mark.parametrize("given", [local(), Deep.model_validate({"a": [1]}), time(1, tzinfo=Odd())])
def test_what_cannot_be_made_by_code_is_asked_for(given: Any) -> None:
    assert "# put input in place of `...`" in written(given)


def test_what_a_module_holds_is_imported_from_there() -> None:
    source = written(1, check=check_it, ledger=LEDGER, workflows=[packs], same_result=False, seed=4)
    assert f"from {__name__} import LEDGER, check_it, packs" in source
    _, options = read(source)
    assert options["ledger"] is LEDGER
    assert options["check"] is check_it
    assert options["workflows"] == [packs]
    assert options["same_result"] is False
    assert options["seed"] == 4


def test_what_has_no_name_is_asked_for() -> None:
    source = written(object(), check=lambda run: None)
    assert "# put input, check in place of `...`" in source
    assert "        check=...,\n" in source


def test_a_script_is_imported_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "__name__", "__main__")
    assert "from test_pasting import packs" in written(1)


def test_the_first_line_of_the_problem_and_the_place_name_the_test() -> None:
    source = written(1)
    assert "def test_packs_turn_1_cancel() -> None:\n    # it breaks\n" in source
    assert "badly" not in source
