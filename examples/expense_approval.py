"""An expense that people decide on, and that goes to somebody else when nobody answers.

`ctx.wait_for_approval` puts a question into the database and lets go of the run: it may wait for months and
costs nothing. `client.pending_inputs(to="ann")` is Ann's list of open questions, `client.provide_input`
answers one; a wrong answer is refused and changes nothing. Escalation is no feature of its own: a wait
with a time-out, and then a second wait with another `to`.

    python -m examples.expense_approval

prints (PATIENCE, in seconds, is how long Ann has: 2 days in earnest)

    lunch: paid, nobody asked
    laptop: ann is asked “Pay 1,800.00 for laptop?”
    laptop: paid, approved by ann
    yacht: ann is asked “Pay 90,000.00 for yacht?”
    yacht: cfo is asked “Ann did not answer: pay 90,000.00 for yacht?”
    yacht: rejected by cfo: we have one already
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel

from durable import Client, Context, Decision, Handle, Worker, step, workflow

PATIENCE = timedelta(seconds=float(os.environ.get("PATIENCE", "1")))
FREE = Decimal(100)
"""Up to here nobody is asked."""


class Expense(BaseModel):
    what: str
    amount: Decimal


@step(retry=5)
async def pay(expense: Expense) -> None:
    """Send the money."""


async def decide(ctx: Context, expense: Expense) -> Decision:
    """Any coroutine function may ask: a workflow is ordinary Python."""
    what = f"{expense.amount:,} for {expense.what}?"
    answer = await ctx.wait_for_approval(
        "decision", prompt=f"Pay {what}", to="ann", timeout=PATIENCE, default=None
    )
    if answer is None:  # neither yes nor no: Ann is on holiday
        prompt = f"Ann did not answer: pay {what}"
        answer = await ctx.wait_for_approval("decision", prompt=prompt, to="cfo")
    return answer


@workflow
async def reimburse(ctx: Context, expense: Expense) -> str:
    if expense.amount <= FREE:
        await ctx.step(pay, expense)
        return "paid, nobody asked"
    decision = await decide(ctx, expense)
    if not decision:  # a Decision is true when approved
        return f"rejected by {decision.by}: {decision.comment}"
    await ctx.step(pay, expense)
    return f"paid, approved by {decision.by}"


async def asked(client: Client, handle: Handle[str], who: str) -> None:
    """Wait until `who` is asked: what a page of open questions shows."""
    while not (found := await client.pending_inputs(run_id=handle.id, to=who)):
        await asyncio.sleep(0.02)
    print(f"{handle.id}: {who} is asked “{found[0].prompt}”")


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[reimburse]):
        lunch = Expense(what="lunch", amount=Decimal("34.50"))
        handle = await client.start(reimburse, lunch, id="lunch")
        print(f"lunch: {await handle.result()}")

        laptop = Expense(what="laptop", amount=Decimal("1800.00"))
        handle = await client.start(reimburse, laptop, id="laptop")
        await asked(client, handle, "ann")
        await handle.provide_input("decision", True, by="ann")
        print(f"laptop: {await handle.result()}")

        yacht = Expense(what="yacht", amount=Decimal("90000.00"))
        handle = await client.start(reimburse, yacht, id="yacht")
        await asked(client, handle, "ann")
        await asked(client, handle, "cfo")
        answer = {"approved": False, "comment": "we have one already"}
        await handle.provide_input("decision", answer, by="cfo")
        print(f"yacht: {await handle.result()}")


if __name__ == "__main__":
    asyncio.run(main())
