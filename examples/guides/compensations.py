"""Compensations: what a step did is undone when the run fails, the last completed first.

An undo is a step. It gets the result of what it undoes, so whatever it needs (an id, above all) belongs into
that result; `ctx.compensate(undo, *args)` registers one with other arguments. One that fails does not stop
the others: the run ends as `compensated`, or as `compensation_failed`, and its record says which.

    python -m examples.guides.compensations

prints

    trip compensated: CardDeclined: no funds
      book_hotel -> cancel_hotel: completed after 1 attempt
      book_flight -> cancel_flight: completed after 3 attempts
    repeated compensated: CardDeclined: no funds
      book_hotel -> cancel_hotel: completed after 1 attempt
    site compensation_failed: CardDeclined: no funds
      delete_domain -> delete_domain: failed after 1 attempt (the registry is closed)
      create_server -> delete_server: completed after 1 attempt
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from durable import Client, Context, Retry, RunFailed, Worker, current_step, step, workflow


class CardDeclined(Exception):
    """The bank says no."""


BOOKINGS: dict[str, str] = {}
"""What the hotel knows of: booked, cancelled."""


# --- linking steps and undos; an undo has its own retry


@step(retry=Retry(max_attempts=3, backoff="exponential", initial=0.05))
async def cancel_flight(flight_id: str) -> None:
    if current_step().attempt < 3:
        raise ConnectionError("the airline does not answer")


# --- idempotent: it may run twice after a crash, and somebody may have been faster


@step
async def cancel_hotel(booking_id: str) -> None:
    if BOOKINGS.get(booking_id) != "cancelled":
        BOOKINGS[booking_id] = "cancelled"


@step(compensate=cancel_flight)
async def book_flight(flight: str) -> str:
    return f"flight-{flight}"


@step(compensate=cancel_hotel)
async def book_hotel(hotel: str) -> str:
    BOOKINGS[hotel] = "booked"
    return hotel


@step
async def charge(cents: int) -> None:
    raise CardDeclined("no funds")


@workflow
async def trip(ctx: Context) -> None:
    await ctx.step(book_flight, "LH-1")
    await ctx.step(book_hotel, "Ritz")
    await ctx.step(charge, 90_000)  # needs no undo: it is the last one


@workflow
async def repeated(ctx: Context) -> None:
    """The hotel was told already; the undo finds that out."""
    hotel = await ctx.step(book_hotel, "Savoy")
    await ctx.step(cancel_hotel, hotel)
    await ctx.step(charge, 10)


# --- ids for the cleanup: the result of the step holds them; others are given with ctx.compensate


class Server(BaseModel):
    id: str
    region: str


@step
async def delete_server(server: Server) -> None:
    """It gets all that it needs."""


@step
async def delete_domain(name: str, registry: str) -> None:
    raise TimeoutError(f"the {registry} is closed")


@step(compensate=delete_server)
async def create_server(region: str) -> Server:
    return Server(id="srv-1", region=region)


@workflow
async def site(ctx: Context) -> None:
    await ctx.step(create_server, "eu")
    ctx.compensate(delete_domain, "example.org", "registry")
    await ctx.step(charge, 500)


# --- what became of the undos


async def show(client: Client, run_id: str) -> None:
    run = await client.get(run_id)
    assert run.error is not None
    print(f"{run_id} {run.status}: {run.error.type.rpartition(':')[2]}: {run.error.message}")
    for undo in run.compensations:  # each with its attempts, its error, and when it ran
        why = f" ({undo.error.message})" if undo.error is not None else ""
        tries = f"{undo.attempts} attempt{'s' if undo.attempts > 1 else ''}"
        print(f"  {undo.step} -> {undo.name}: {undo.status} after {tries}{why}")


async def main() -> None:
    workflows = [trip, repeated, site]
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=workflows):
        for each in workflows:
            handle = await client.start(each, id=each.name)
            try:
                await handle.result()
            except RunFailed:
                await show(client, handle.id)


if __name__ == "__main__":
    asyncio.run(main())
