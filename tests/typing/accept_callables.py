"""Odd callables as steps: each is accepted, with exactly this type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeVar, assert_type, overload

from pydantic import BaseModel

from durable import Context, step, workflow

T = TypeVar("T")


class Order(BaseModel):
    id: str


class Http(Protocol):
    async def get(self, url: str) -> bytes: ...


class Sends:
    async def __call__(self, n: int) -> str:
        return str(n)


class Api:
    @staticmethod
    @step
    async def of_the_class(n: int) -> int:
        return n

    @classmethod
    async def by_the_class(cls, n: int) -> int:
        return n

    async def of_an_instance(self, n: int) -> int:
        return n


def first(items: Sequence[T]) -> T:
    return items[0]


async def first_later(items: Sequence[T]) -> T:
    return items[0]


def untyped(x):  # type: ignore[no-untyped-def]
    return x  # pyright: ignore[reportUnknownVariableType]


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
def either(x: int | str) -> int | str:
    return x


async def named(n: int) -> str:
    return str(n)


async def undo(text: str) -> None: ...


@workflow
async def odd(ctx: Context) -> None:
    assert_type(await ctx.step(first, [1, 2]), int)
    assert_type(await ctx.step(first_later, [1, 2]), int)
    await ctx.step(step(partial(named, 1), name="one"))
    assert_type(await ctx.step(partial(named, 1)), str)
    assert_type(await ctx.step(Sends(), 1), str)
    assert_type(await ctx.step(Order, id="x"), Order)
    assert_type(await ctx.step(len, "abc"), int)
    assert_type(await ctx.step([3].count, 3), int)
    assert_type(await ctx.step(Api.of_the_class, 1), int)
    assert_type(await ctx.step(Api.by_the_class, 1), int)
    assert_type(await ctx.step(Api().of_an_instance, 1), int)
    assert_type(await ctx.step(lambda: 3), int)
    assert_type(await ctx.step(step(named, retry=3, compensate=undo), 3), str)
    await ctx.step(untyped, 1)  # pyright: ignore[reportUnknownArgumentType]
    await ctx.step(either, 3)


async def in_a_step() -> bytes:
    from durable import resource, secret

    assert_type(await secret("token"), str)
    return await resource(Http).get("x")
