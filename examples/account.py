"""An account that lives for ever: a run per account, which takes events, answers requests, and never grows.

The run is the account: its local variables are its balance, and it handles one thing at a time, so there is
nothing to lock. Events are told and forgotten; a `Request` is a question with an answer, and its asker waits
for it. `ctx.set_state` shows the balance to whoever looks. After a number of entries
`ctx.continue_as_new` begins the run anew with its balance and an empty history; the id stays, and nothing
that came in between is lost.

    python -m examples.account

prints

    ada has 500 after 5 deposits
    withdrew 120, 380 left
    run account-ada rejected request withdraw: 1000 is more than the 380 there are
    closed with 380 in generation 4
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from durable import Client, Context, Event, Request, RequestRejected, Worker, workflow

ENTRIES = 2
"""Entries in one generation: some thousands in yours, so that the history stays short."""


class Account(BaseModel):
    owner: str
    balance: int = 0
    generation: int = 1


class Deposit(BaseModel):
    cents: int


WITHDRAW = Request("withdraw", int, int)
"""A question to a run: how much to take, and the new balance as the answer."""
CLOSE = Event("close")


@workflow
async def account(ctx: Context, state: Account) -> int:
    for _ in range(ENTRIES):
        ctx.set_state("balance", state.balance)
        ctx.set_state("generation", state.generation)
        name, came = await ctx.race(
            deposit=ctx.wait_for_event(Deposit),
            withdraw=ctx.wait_for_request(WITHDRAW),
            close=ctx.wait_for_event(CLOSE),
        )
        if name == "close":
            return state.balance
        if isinstance(came, Deposit):
            state.balance += came.cents
        elif came.payload > state.balance:
            came.reject(f"{came.payload} is more than the {state.balance} there are")
        else:
            state.balance -= came.payload
            came.reply(state.balance)
    state.generation += 1
    await ctx.continue_as_new(state)


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[account]):
        ada = await client.start(account, Account(owner="ada"), id="account-ada")
        for _ in range(5):
            await ada.send_event(Deposit(cents=100))
        while (await client.state(ada.id)).get("balance") != 500:
            await asyncio.sleep(0.01)
        print("ada has 500 after 5 deposits")

        left = await ada.request(WITHDRAW, 120)
        print(f"withdrew 120, {left} left")
        try:
            await ada.request(WITHDRAW, 1000)
        except RequestRejected as error:
            print(error)

        await ada.send_event(CLOSE, None)
        balance = await ada.result()
        print(f"closed with {balance} in generation {(await client.state(ada.id))['generation']}")


if __name__ == "__main__":
    asyncio.run(main())
