"""Branching: `match` and `if`, as in any Python. What a run did not take leaves no trace in its history.

A branch may go by anything that replays alike: the input, results of steps, `ctx.now()`, `ctx.random`.
On enums, literals and unions the type checker proves that no case is missing.

    python -m examples.guides.branching

prints

    by_status archived: unknown status archived
    by_format docx: read docx
    by_plan True: premium
    by_tier 3: tier three
    order subscription: validated, billing set up, renewals scheduled
    order one_time: charged
    alert low: ticket of priority normal
    pay crypto: by chain
    skip True: final step
"""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from typing import Any, Literal, assert_never

from durable import Client, Context, Runnable, Worker, step, workflow


@step
async def do(what: str) -> str:
    """Whatever a branch does."""
    return what


# --- pattern matching: names, texts, yes or no, numbers; `case _` is the default clause


@workflow
async def by_status(ctx: Context, status: str) -> str:
    match status:
        case "active" | "pending":
            return await ctx.step(do, f"handle {status}")
        case unknown:  # nothing falls through in silence
            ctx.log.info("unknown status: %s", unknown)
            return f"unknown status {unknown}"


@workflow
async def by_format(ctx: Context, format: Literal["pdf", "docx"]) -> str:
    match format:
        case "pdf":
            return await ctx.step(do, "read pdf")
        case "docx":
            return await ctx.step(do, "read docx")


@workflow
async def by_plan(ctx: Context, premium: bool) -> str:
    return await ctx.step(do, "premium" if premium else "standard")


@workflow
async def by_tier(ctx: Context, tier: int) -> str:
    words = {1: "tier one", 2: "tier two", 3: "tier three"}
    return await ctx.step(do, words[tier])


# --- several steps in a branch; a branch that grows becomes a function of its own


async def subscribe(ctx: Context) -> str:
    done = [await ctx.step(do, what) for what in ("validated", "billing set up")]
    return ", ".join([*done, await ctx.step(do, "renewals scheduled")])


@workflow
async def order(ctx: Context, kind: Literal["subscription", "one_time"]) -> str:
    return await subscribe(ctx) if kind == "subscription" else await ctx.step(do, "charged")


# --- a default for everything else


@workflow
async def alert(ctx: Context, priority: str) -> str:
    match priority:
        case "critical":
            return await ctx.step(do, "somebody is called")
        case "high":
            return await ctx.step(do, "urgent ticket")
        case _:
            return await ctx.step(do, "ticket of priority normal")


# --- each branch does one thing, and none can be forgotten


class Method(Enum):
    CARD = "card"
    BANK = "bank"
    CRYPTO = "crypto"


@workflow
async def pay(ctx: Context, method: Method) -> str:
    match method:
        case Method.CARD:
            return await ctx.step(do, "by card")
        case Method.BANK:
            return await ctx.step(do, "by transfer")
        case Method.CRYPTO:
            return await ctx.step(do, "by chain")
        case _:
            assert_never(method)


# --- to skip a step is an `if`: there is nothing to jump to


@workflow
async def skip(ctx: Context, skip_optional: bool) -> str:
    if not skip_optional:
        await ctx.step(do, "optional step")
    return await ctx.step(do, "final step")


async def main() -> None:
    workflows: list[Runnable[Any, Any]] = [
        by_status,
        by_format,
        by_plan,
        by_tier,
        order,
        alert,
        pay,
        skip,
    ]
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=workflows):
        calls: list[tuple[str, object]] = [
            ("by_status", "archived"), ("by_format", "docx"), ("by_plan", True), ("by_tier", 3),
            ("order", "subscription"), ("order", "one_time"), ("alert", "low"), ("pay", "crypto"),
            ("skip", True),
        ]  # fmt: skip
        for name, value in calls:  # a workflow may be started by its name, with plain data
            handle = await client.start(name, value)
            print(f"{name} {value}: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
