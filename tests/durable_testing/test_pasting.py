"""A case that fails becomes a test: whatever was given to `explore` is written as code, or said to have no name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from durable import Context, Run, workflow
from durable_testing.pasting import source_of_test
from durable_testing.playing import Subject


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    id: str
    lines: list[int] = []


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
    ],
    ids=repr,
)
def test_a_value_comes_back_from_its_code(given: Any) -> None:
    (found, value), options = read(written(given))
    assert found is packs
    assert value == given
    assert type(value) is type(given)
    assert options == {"seed": 0, "only": ["turn 1: cancel"]}


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
