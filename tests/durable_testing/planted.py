"""Workflows with a planted bug each, and the same without it: what `explore` must find, and what it must pass."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from durable import Context, Handle, Run, current_step, hours, step, workflow

ENTRIES: list[str] = []
"""What happened, however often."""
BOOKED: dict[str, str] = {}
"""What happened, by the key under which it was asked for."""


@step
async def look_up(word: str) -> str:
    return word.upper()


# -- an effect before its record


@workflow
async def greets_itself(ctx: Context, name: str) -> str:
    ENTRIES.append(f"greeted {name}")
    return await ctx.step(look_up, name)


@step
async def greet(name: str) -> None:
    BOOKED[current_step().idempotency_key] = f"greeted {name}"


@workflow
async def greets_in_a_step(ctx: Context, name: str) -> str:
    await ctx.step(greet, name)
    return await ctx.step(look_up, name)


# -- a lost compensation


@step
async def free(reference: str) -> None:
    BOOKED.pop(reference, None)


async def _book(room: str) -> str:
    reference = current_step().idempotency_key
    BOOKED[reference] = room
    return reference


@step
async def book(room: str) -> str:
    return await _book(room)


@step(compensate=free)
async def book_or_free(room: str) -> str:
    return await _book(room)


@workflow
async def trip_that_forgets(ctx: Context, room: str) -> str:
    reference = await ctx.step(book, room)
    try:
        await ctx.step(look_up, "flight")
    except Exception:  # a cancel is none
        await ctx.step(free, reference)
        raise
    return room


@workflow
async def trip(ctx: Context, room: str) -> str:
    await ctx.step(book_or_free, room)
    await ctx.step(look_up, "flight")
    return room


def nothing_is_left(run: Run) -> None:
    assert run.status == "completed" or not BOOKED, f"{run.status}, and still booked: {BOOKED}"


# -- a wrong assumption about the order of completions


@workflow
async def takes_the_first_for_a(ctx: Context, words: list[str]) -> str:
    found: list[str] = []

    async def one(word: str) -> None:
        found.append(await ctx.step(look_up, word))

    async with asyncio.TaskGroup() as group:
        for word in words:
            group.create_task(one(word))
    return found[0]


@workflow
async def takes_a(ctx: Context, words: list[str]) -> str:
    found = await asyncio.gather(*(ctx.step(look_up, word) for word in words))
    return found[0]


# -- a double charge


@step
async def charge(cents: int) -> str:
    ENTRIES.append(f"charged {cents}")
    return "ch-1"


@step
async def charge_once(cents: int) -> str:
    BOOKED[current_step().idempotency_key] = f"charged {cents}"
    return "ch-1"


@workflow
async def pays_twice(ctx: Context, cents: int) -> str:
    return await ctx.step(charge, cents)


@workflow
async def pays_once(ctx: Context, cents: int) -> str:
    return await ctx.step(charge_once, cents)


@step(timeout=5, retry=2)
def charge_slowly(cents: int) -> str:
    ENTRIES.append(f"charged {cents}")
    return "ch-1"


@workflow
async def pays_again_when_late(ctx: Context, cents: int) -> str:
    return await ctx.step(charge_slowly, cents)


def one_charge(_run: Run) -> None:
    assert len(ENTRIES) < 2, f"charged {len(ENTRIES)} times"


# -- a lost event


@workflow
async def misses_the_pulse(ctx: Context, word: str) -> str:
    arrived = asyncio.Event()

    async def listen() -> None:
        await ctx.wait_for_event("parcel", str)
        arrived.set()
        arrived.clear()

    listening = asyncio.create_task(listen())
    await ctx.step(look_up, word)
    await arrived.wait()
    await listening
    return word


@workflow
async def sees_the_flag(ctx: Context, word: str) -> str:
    arrived = asyncio.Event()

    async def listen() -> None:
        await ctx.wait_for_event("parcel", str)
        arrived.set()

    listening = asyncio.create_task(listen())
    await ctx.step(look_up, word)
    await arrived.wait()
    await listening
    return word


async def sends_a_parcel(handle: Handle[Any]) -> None:
    await handle.send_event("parcel", "p")


@workflow
async def forgets_who_is_late(ctx: Context, word: str) -> str:
    paid = await ctx.wait_for_event("paid", str, timeout=hours(1), default=None)
    if paid is None:
        await ctx.step(look_up, word)
        paid = await ctx.wait_for_event("paid after all", str)
    return paid


@workflow
async def waits_on(ctx: Context, word: str) -> str:
    paid = await ctx.wait_for_event("paid", str, timeout=hours(1), default=None)
    if paid is None:
        await ctx.step(look_up, word)
        paid = await ctx.wait_for_event("paid", str)
    return paid


async def pays(handle: Handle[Any]) -> None:
    await handle.send_event("paid", "cash")


# -- an event that counts twice


@workflow
async def adds_up(ctx: Context, word: str) -> int:
    total = await ctx.wait_for_event("amount", int)
    await ctx.step(look_up, word)
    return total + await ctx.wait_for_event("amount", int, timeout=60, default=0)


async def sends_an_amount(handle: Handle[Any]) -> None:
    await handle.send_event("amount", 3)


async def sends_an_amount_once(handle: Handle[Any]) -> None:
    await handle.send_event("amount", 3, idempotency_key="amount-1")


# -- code that changes under replay


_calls: list[int] = []


@workflow
async def counts_its_calls(ctx: Context, word: str) -> str:
    _calls.append(1)
    for _ in range(len(_calls) % 2 + 1):
        word = await ctx.step(look_up, word)
    return word


# -- all of them


@dataclass(frozen=True)
class Bug:
    """A workflow with a bug, one without, and how they are explored."""

    broken: Any
    mended: Any
    input: Any
    at: tuple[str, ...]
    """The smallest schedule that shows it."""
    says: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    mended_options: dict[str, Any] = field(default_factory=dict[str, Any])


BUGS: dict[str, Bug] = {
    "effect before its record": Bug(
        greets_itself,
        greets_in_a_step,
        "ann",
        ("commit 1: crash before",),
        "the ledger has 'greeted ann' twice, and undisturbed once",
        {"ledger": ENTRIES},
        {"ledger": BOOKED},
    ),
    "lost compensation": Bug(
        trip_that_forgets,
        trip,
        "blue",
        ("turn 1: cancel after book/1",),
        "cancelled, and still booked",
        {"ledger": BOOKED, "check": nothing_is_left},
    ),
    "order of completions": Bug(
        takes_the_first_for_a,
        takes_a,
        ["a", "b"],
        ("turn 1: look_up/2 first",),
        "it ends as completed with 'B', and undisturbed as completed with 'A'",
    ),
    "double charge": Bug(
        pays_twice,
        pays_once,
        500,
        ("commit 1: crash before",),
        "charged 500",
        {"ledger": ENTRIES},
        {"ledger": BOOKED},
    ),
    "double charge of a late answer": Bug(
        pays_again_when_late,
        pays_once,
        500,
        ("turn 1: charge_slowly/1 answers late",),
        "charged 2 times",
        {"ledger": ENTRIES, "check": one_charge},
    ),
    "event lost at a race": Bug(
        misses_the_pulse,
        sees_the_flag,
        "x",
        ("turn 1: event parcel first",),
        "nothing can happen any more",
        {"user": sends_a_parcel},
    ),
    "event lost to a time-out": Bug(
        forgets_who_is_late,
        waits_on,
        "x",
        ("turn 1: event paid late",),
        "event paid after all",
        {"user": pays},
    ),
    "event taken twice": Bug(
        adds_up,
        adds_up,
        "x",
        ("turn 1: event amount twice",),
        "it ends as completed with 6, and undisturbed as completed with 3",
        {"user": sends_an_amount},
        {"user": sends_an_amount_once},
    ),
}
