"""The workflow that `durable demo` runs: an order in four steps, of which one fails at first.

Each step notes in a ledger, a plain file outside the database, when it begins and when it is done.
So anybody can count afterwards what really happened in the world.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from durable import Context, Retry, current_step, step, workflow

LEDGER_VARIABLE = "DURABLE_DEMO_LEDGER"
"""The environment variable that names the ledger's file."""


def note(what: str) -> None:
    """Append a line to the ledger, in one write."""
    with Path(os.environ[LEDGER_VARIABLE]).open("a", encoding="utf-8") as ledger:
        ledger.write(f"{what}\n")


def work(name: str, seconds: float) -> None:
    """Do what takes a while: here it only sleeps, and writes the ledger before and after."""
    note(f"{name} begun")
    time.sleep(seconds)
    note(f"{name} done")


@step
def reserve(order: str) -> str:
    """Take the goods from stock."""
    work("reserve", 0.4)
    return f"stock for {order}"


@step(retry=Retry(max_attempts=3, initial=0.5, jitter=0))
def charge(order: str) -> str:
    """Charge the customer; the provider does not answer the first time."""
    if current_step().attempt == 1:
        note("charge begun")
        time.sleep(0.3)
        note("charge failed")
        raise ConnectionError("the payment provider did not answer")
    work("charge", 0.4)
    return f"charge for {order}"


@step
def pack(order: str) -> str:
    """Pack the parcel: long enough to be killed in the middle."""
    work("pack", 1.5)
    return f"parcel for {order}"


@step
def ship(order: str) -> str:
    """Hand the parcel over."""
    work("ship", 0.4)
    return f"parcel of {order} is on its way"


@workflow
async def fulfil(ctx: Context, order: str) -> str:
    """Fulfil an order."""
    await ctx.step(reserve, order)
    await ctx.step(charge, order)
    await ctx.step(pack, order)
    return await ctx.step(ship, order)
