"""A strict environment makes errors of what production lets pass."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, field_serializer

from durable import (
    Context,
    InvalidInput,
    NotAwaited,
    PayloadError,
    Retry,
    RunFailed,
    days,
    step,
    workflow,
)
from durable.model.payload import shape_of
from durable.model.strictness import STRICTNESS
from durable_testing import ArgumentChanged, Environment
from durable_testing.strict import strictness


class Note(BaseModel):
    text: str
    secret: str = Field(default="", exclude=True)


Trimmed = Annotated[str, BeforeValidator(lambda text: text.strip())]


class Rounded(BaseModel):
    price: float

    @field_serializer("price")
    def _price(self, price: float) -> float:
        return round(price, 1)


class Cached(BaseModel):
    text: str
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)


@dataclass
class Half:
    kept: int
    lost: int = field(default=0, init=False, compare=False)


class Point(NamedTuple):
    x: float
    y: float


def cached() -> Cached:
    made = Cached(text="a")
    made._cache["a"] = 1
    return made


def half() -> Half:
    made = Half(1)
    made.lost = 2
    return made


class Numbers(list[int]):
    """As good as a list, but for its class."""


def noted() -> Half:
    made: Any = Half(1)
    made.note = "n"
    return made  # type: ignore[no-any-return]


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    inside: T

    @cached_property
    def twice(self) -> list[T]:
        return [self.inside, self.inside]


def box() -> Box[int]:
    """With what Python and caches have put into it."""
    made: Any = Box[int](1)
    made._known = {1: 1}
    assert made.twice == [1, 1]
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "annotation, value, says",
    [
        (Note, Note(text="a", secret="b"), r"\(at \.secret\).*'b' becomes ''"),
        (list[Trimmed], ["a", " b "], r"\(at \[1\]\).*' b ' becomes 'b'"),
        (dict[str, Rounded], {"k": Rounded(price=1.25)}, r"\['k'\]\.price\).*1.25 becomes 1.2"),
        (Cached, cached(), "at ._cache"),
        (Half, half(), r"\.lost\).*2 becomes 0"),
        (list[int], (1, 2), r"\(1, 2\) becomes \[1, 2\]"),
        (Note, {"text": "a"}, "becomes Note"),
        (tuple[float, float], Point(1, 2), r"Point\(x=1, y=2\) becomes \(1.0, 2.0\)"),
        (dict[str, int], Counter("aab"), r"Counter\(.*becomes \{'a': 2, 'b': 1\}"),
        (dict[str, list[int]], defaultdict(list, a=[1]), r"defaultdict\(.*becomes \{'a': \[1\]\}"),
        (set[int], frozenset({1}), r"frozenset\(\{1\}\) becomes \{1\}"),
        (list[int], Numbers([1]), "a Numbers becomes a list"),
        (
            dict[tuple[float, float], int],
            {Point(1, 2): 3},
            r"Point\(x=1, y=2\) becomes \(1.0, 2.0\)",
        ),
        (Half, noted(), r"\.note\).*'n' becomes nothing"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(
    annotation: Any, value: Any, says: str
) -> None:
    shape_of(annotation).encode(value, "result of step s")
    with (
        strictness(wanted=True),
        pytest.raises(PayloadError, match=f"result of step s.*{says}"),
    ):
        shape_of(annotation).encode(value, "result of step s")


@pytest.mark.parametrize(
    "annotation, value",
    [
        (list[float], [1, math.nan, math.inf]),
        (Note, Note(text="a")),
        (Half, Half(1)),
        (Point, Point(1.0, math.nan)),
        (dict[str, Any], OrderedDict(a=(1, {2}, frozenset()))),
        (Sequence[int], (1, 2)),
        (datetime, datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
        (set[Point], {Point(1, 2)}),
        (frozenset[int], frozenset({1})),
        (Counter[str], Counter("aab")),
        (defaultdict[str, list[int]], defaultdict(list, a=[1])),
        (Box[int], box()),
    ],
)
def test_what_comes_back_as_it_was_is_not(annotation: Any, value: Any) -> None:
    with strictness(wanted=True):
        assert shape_of(annotation).encode(value, "value")


def test_it_ends_with_the_last_that_wants_it() -> None:
    shape = shape_of(Note)
    lossy = Note(text="a", secret="b")
    with strictness(wanted=True):
        with strictness(wanted=True), strictness(wanted=False):
            pass
        with pytest.raises(PayloadError):
            shape.encode(lossy, "value")
    assert shape.encode(lossy, "value")
    assert STRICTNESS.compare is None


# -- in runs


@step
async def written(text: str) -> Note:
    return Note(text=text, secret="s")


@workflow
async def writing(ctx: Context, note: Note) -> str:
    return (await ctx.step(written, note.text)).text


async def test_a_result_that_changes_fails_the_run(url: str) -> None:
    async with Environment(workflows=[writing], url=url) as env:
        with pytest.raises(PayloadError, match=r"result of step written .at .secret. cannot be"):
            await env.run(writing, Note(text="a"))
    async with Environment(workflows=[writing], strict=False) as env:
        assert await env.run(writing, Note(text="a")) == "a"


async def test_an_input_that_changes_is_refused() -> None:
    async with Environment(workflows=[writing]) as env:
        with pytest.raises(InvalidInput, match=r"input of workflow writing .at .secret. cannot be"):
            await env.run(writing, Note(text="a", secret="b"))


@step(retry=Retry(max_attempts=5))
def shorten(note: Note, words: list[str]) -> int:
    words.clear()
    return len(note.text)


@workflow
async def shortening(ctx: Context) -> int:
    return await ctx.step(shorten, Note(text="ab"), words=["a"])


async def test_an_argument_that_changes_in_a_step_fails_the_run(url: str) -> None:
    async with Environment(workflows=[shortening], url=url) as env:
        with pytest.raises(ArgumentChanged, match="step shorten of run r has changed an argument"):
            await env.run(shortening, id="r")
        assert (await env.client.get("r")).steps[0].attempts == 1
    async with Environment(workflows=[shortening], strict=False) as env:
        assert await env.run(shortening) == 2


async def test_a_change_that_the_workflow_keeps_to_itself_fails_the_test() -> None:
    @workflow
    async def resigned(ctx: Context) -> int:
        try:
            return await ctx.step(shorten, Note(text="ab"), words=["a"])
        except Exception:
            return 0

    async def using_it() -> None:
        async with Environment(workflows=[resigned]) as env:
            assert await env.run(resigned, id="r") == 0

    with pytest.raises(ArgumentChanged, match="step shorten of run r has changed an argument"):
        await using_it()


async def test_an_argument_that_fits_no_more_has_changed_too() -> None:
    async with Environment(workflows=[shortening]) as env:
        env.mock(shorten, using=lambda note, words: words.append(object()) or 1)
        with pytest.raises(ArgumentChanged):
            await env.run(shortening)


async def test_a_task_that_is_left_pending_fails_the_run(url: str) -> None:
    @workflow
    async def leaving(ctx: Context) -> str:
        asyncio.create_task(ctx.sleep(days(1)), name="nap")  # noqa: RUF006
        await asyncio.sleep(0)
        return "done"

    async with Environment(workflows=[leaving], url=url) as env:
        with pytest.raises(NotAwaited, match=r"run r returned while nap \(.*was pending") as failed:
            await env.run(leaving, id="r")
        assert isinstance(failed.value, RunFailed)
    async with Environment(workflows=[leaving], strict=False) as env:
        assert await env.run(leaving) == "done"


async def test_a_task_that_is_cancelled_is_not_left_pending() -> None:
    @workflow
    async def cancelling(ctx: Context) -> str:
        task = asyncio.create_task(ctx.sleep(days(1)))
        await asyncio.sleep(0)
        task.cancel()
        return "done"

    async with Environment(workflows=[cancelling]) as env:
        assert await env.run(cancelling) == "done"
