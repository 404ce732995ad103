"""The first two weeks of a customer, as one function that sleeps most of the time.

A sleeping run is a row in a database: no process waits, and a restart changes nothing. `wait_for_event` with
a time-out is a sleep that somebody may end. `ctx.set_state` publishes where the run stands, for whoever
shows it.

    python -m examples.onboarding                    # a day takes a fifth of a second
    DAY_SECONDS=86400 python -m examples.onboarding  # in earnest

prints

    ada: welcome
    ada: well done
    ada is active: works on engine
    bob: welcome
    bob: tips
    bob: shall we call?
    bob is lost: gone after 14 days
"""

from __future__ import annotations

import asyncio
import os
from typing import Literal

from pydantic import BaseModel

from durable import Client, Context, Event, Worker, days, step, workflow

DAY = days(1) * (float(os.environ.get("DAY_SECONDS", "0.2")) / 86_400)
"""What this program takes for a day; `days(1)` in yours."""


class Project(BaseModel):
    name: str


FIRST_PROJECT = Event("first_project", Project)
"""A name and the type of what comes with it: both checkers hold senders and waits to it."""


@step(retry=5)
async def send_mail(customer: str, template: str) -> None:
    print(f"{customer}: {template}")


@workflow
async def onboard(ctx: Context, customer: str) -> Literal["active", "lost"]:
    begun = ctx.now()  # the time that history tells, the same on every replay
    ctx.set_state("phase", "new")
    await ctx.step(send_mail, customer, "welcome")

    project = await ctx.wait_for_event(FIRST_PROJECT, timeout=3 * DAY, default=None)
    if project is None:
        await ctx.step(send_mail, customer, "tips")
        project = await ctx.wait_for_event(FIRST_PROJECT, timeout=4 * DAY, default=None)
    if project is not None:
        ctx.set_state("phase", f"works on {project.name}")
        await ctx.step(send_mail, customer, "well done")
        return "active"

    ctx.set_state("phase", "silent")
    await ctx.step(send_mail, customer, "shall we call?")
    await ctx.sleep_until(begun + 14 * DAY)
    ctx.set_state("phase", f"gone after {(ctx.now() - begun) // DAY} days")
    return "lost"


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[onboard]):
        ada = await client.start(onboard, "ada", id="onboard-ada")
        await ada.send_event(FIRST_PROJECT, Project(name="engine"))  # kept, should it be early
        print(f"ada is {await ada.result()}: {(await client.state(ada.id))['phase']}")

        bob = await client.start(onboard, "bob", id="onboard-bob")
        print(f"bob is {await bob.result()}: {(await client.state(bob.id))['phase']}")


if __name__ == "__main__":
    asyncio.run(main())
