"""What is done and undone.

Never change what is here: see `steps`.
"""

from __future__ import annotations

import asyncio

from durable import Context, Retry, days, step, workflow
from tests.golden.workflows.steps import decline, note


@step(retry=Retry(max_attempts=2, initial=30, jitter=0))
async def cancel_flight(booking: str) -> str:
    return f"cancelled {booking}"


@step(compensate=cancel_flight)
async def book_flight(city: str) -> str:
    return f"flight-{city}"


@step
async def cancel_hotel(booking: str, fee: int) -> None:
    return None


@step
async def book_hotel(city: str) -> str:
    return f"hotel-{city}"


@workflow
async def saga_completed(ctx: Context) -> list[str]:
    async with ctx.saga():
        booked = [await ctx.step(book_flight, "Lisbon")]
        ctx.compensate(cancel_hotel, await ctx.step(book_hotel, "Lisbon"), fee=20)
    return booked


@workflow
async def saga_undone(ctx: Context) -> None:
    await ctx.step(book_flight, "Lisbon")
    hotel = await ctx.step(book_hotel, "Lisbon")
    ctx.compensate(cancel_hotel, hotel, fee=20)
    await ctx.step(book_flight, "Porto")
    await ctx.step(decline, 51)


@workflow
async def saga_undone_and_caught(ctx: Context) -> str:
    try:
        async with ctx.saga():
            await ctx.step(book_flight, "Porto")
            await ctx.step(decline, 51)
    except Exception:
        return await ctx.step(note, "by train")
    return "by plane"


@workflow
async def saga_whose_undo_is_retried(ctx: Context) -> None:
    await ctx.step(book_flight, "Lisbon")
    await ctx.step(decline, 51)


@workflow
async def saga_whose_undo_fails(ctx: Context) -> None:
    await ctx.step(book_flight, "Lisbon")
    ctx.compensate(cancel_hotel, "hotel", fee=1)
    await ctx.step(decline, 51)


@workflow
async def saga_cancelled(ctx: Context) -> None:
    await ctx.step(book_flight, "Lisbon")
    await ctx.sleep(days(30))


@workflow
async def saga_side_by_side(ctx: Context) -> list[str]:
    """One that still runs when the other fails is awaited and undone."""
    try:
        async with ctx.saga():
            await ctx.parallel(
                [ctx.step(book_flight, "a"), ctx.step(book_flight, "b"), ctx.step(decline, 1)]
            )
    except Exception as error:
        return [str(error)]
    return []


@workflow
async def saga_in_a_saga(ctx: Context) -> list[str]:
    seen = []
    try:
        async with ctx.saga():
            await ctx.step(book_flight, "outer")
            try:
                async with ctx.saga():
                    await ctx.step(book_flight, "inner")
                    await ctx.step(decline, 2)
            except Exception:
                seen.append(await ctx.step(note, "inner undone"))
            async with ctx.saga():
                await ctx.step(book_flight, "kept for a while")
            await ctx.step(decline, 3)
    except Exception:
        seen.append(await ctx.step(note, "outer undone"))
    return seen


@workflow
async def saga_of_tasks(ctx: Context) -> list[str]:
    """Tasks begun in the block belong to it."""
    seen = []
    try:
        async with ctx.saga(), asyncio.TaskGroup() as group:
            for city in ("a", "b"):
                group.create_task(ctx.step(book_flight, city))
            await ctx.sleep(5)
            group.create_task(ctx.step(decline, 4))
    except* Exception as errors:
        seen += [str(error) for error in errors.exceptions]
    return seen
