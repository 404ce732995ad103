"""Values of every kind as inputs, arguments, results and states.

Never change what is here: see `steps`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from durable import Context, step, workflow


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float


class Label(TypedDict):
    text: str
    size: int


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass
class Parcel:
    weight: float
    parts: list[Money] = field(default_factory=list)
    sent: datetime | None = None


class Line(BaseModel):
    item: str
    price: Decimal
    size: Size = Size.SMALL


class Order(BaseModel):
    id: UUID
    lines: list[Line]
    placed: datetime
    note: str | None = None
    labels: dict[str, int] = Field(default_factory=dict)


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    given: int


@step
async def decimals(value: Decimal) -> Decimal:
    return value * 2


@step
async def moments(at: datetime, day: date, clock: time, span: timedelta) -> list[Any]:
    return [at + span, day + span, clock, span * 2]


@step
async def zoned(at: datetime) -> datetime:
    return at + timedelta(hours=3)


@step
async def sizes(size: Size, level: Level) -> tuple[Size, Level]:
    return (Size.LARGE if size is Size.SMALL else Size.SMALL), Level(3 - level)


@step
async def tuples(pair: tuple[int, str], many: tuple[float, ...], point: Point) -> Point:
    return Point(pair[0] + point.x, sum(many) + point.y)


@step
async def sets(names: set[str], fixed: frozenset[int]) -> set[str]:
    return names | {str(number) for number in fixed}


@step
async def mappings(by_number: dict[int, str], label: Label) -> dict[int, Label]:
    return {number: {"text": text, "size": label["size"]} for number, text in by_number.items()}


@step
async def pack(money: Money) -> Parcel:
    return Parcel(1.5, [money, Money(Decimal("0.10"))], datetime(2026, 3, 29, 1, 30, tzinfo=UTC))


@step
async def price(order: Order) -> Order:
    total = sum((line.price for line in order.lines), Decimal(0))
    return order.model_copy(update={"note": f"{total}", "labels": {"lines": len(order.lines)}})


@step
async def pay(with_: Card | Cash) -> Card | Cash:
    return Cash(given=5) if isinstance(with_, Card) else Card(number="4")


@step
async def raw(data: bytes, number: int, fraction: float) -> list[Any]:
    return [data[::-1], number * 2, -fraction, None, True, "é\N{SNOWMAN}", b"\x00\xff"]


@step
async def anything(value: Any) -> Any:
    return {"got": value}


@step
async def path(where: PurePosixPath, id: UUID) -> PurePosixPath:
    return where / str(id)


@workflow
async def value_decimal(ctx: Context, value: Decimal) -> Decimal:
    return await ctx.step(decimals, value) + Decimal("0.001")


@workflow
async def value_datetimes(ctx: Context, at: datetime) -> list[Any]:
    return await ctx.step(moments, at, at.date(), at.time(), timedelta(days=1, microseconds=7))


@workflow
async def value_datetime_of_a_zone(ctx: Context) -> list[datetime]:
    """It comes back with the offset of its moment, in a night in which Lord Howe turns its clocks."""
    at = datetime(2026, 4, 5, 0, 45, tzinfo=ZoneInfo("Australia/Lord_Howe"))
    later = await ctx.step(zoned, at)
    return [later, (await ctx.step(zoned, later.astimezone(ZoneInfo("Asia/Kathmandu"))))]


@workflow
async def value_enums(ctx: Context, size: Size) -> tuple[Size, Level]:
    swapped = await ctx.step(sizes, size, Level.HIGH)
    return await ctx.step(sizes, *swapped)


@workflow
async def value_tuples(ctx: Context, pair: tuple[int, str]) -> Point:
    return await ctx.step(tuples, pair, (1.5, 2.5), Point(3, 4.0))


@workflow
async def value_sets(ctx: Context, names: set[str]) -> set[str]:
    """A set as an argument is the same whatever the order in which it is kept."""
    return await ctx.step(sets, names, frozenset({3, 1, 2}))


@workflow
async def value_mappings(ctx: Context) -> dict[int, Label]:
    return await ctx.step(mappings, OrderedDict([(2, "b"), (1, "a")]), {"text": "t", "size": 3})


@workflow
async def value_dataclasses(ctx: Context, money: Money) -> Parcel:
    parcel = await ctx.step(pack, money)
    parcel.parts.append(money)
    return parcel


@workflow
async def value_models(ctx: Context, order: Order) -> Order:
    return await ctx.step(price, await ctx.step(price, order))


@workflow
async def value_unions(ctx: Context, with_: Card | Cash) -> list[Card | Cash]:
    first = await ctx.step(pay, with_)
    return [first, await ctx.step(pay, first)]


@workflow
async def value_raw(ctx: Context) -> list[Any]:
    return await ctx.step(raw, b"\x00\x01\xfe", 2**70, 0.1)


@workflow
async def value_of_any_type(ctx: Context, value: Any) -> Any:
    nested = await ctx.step(anything, {"list": [1, 2.5, None, ("a", b"b")], "deep": {"er": value}})
    return await ctx.step(anything, nested)


@workflow
async def value_paths_and_ids(ctx: Context, id: UUID) -> PurePosixPath:
    return await ctx.step(path, PurePosixPath("/orders"), id)
