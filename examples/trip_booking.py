"""A trip in which everything is booked at once, or nothing is.

`ctx.parallel` begins all calls together and gives their values under the same keys. The first error is
raised as itself, after the others were told to stop. A booking that is still under way at that moment is
not torn off: it has an undo, so its outcome is awaited, and what was booked is cancelled.

    python -m examples.trip_booking

prints

    lisbon: flight TP-571, hotel Lisbon Inn, car van
    oslo: compensated, SoldOut: no room in oslo
      cancelled: car, flight
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from durable import Client, Context, RunFailed, Worker, step, workflow


class Trip(BaseModel):
    city: str
    travellers: int


class Booking(BaseModel):
    what: str
    code: str


class SoldOut(Exception):
    """There is nothing left to book."""


@step(retry=5)
async def cancel_booking(booking: Booking) -> None:
    """Give it back. One undo serves all three: it gets the booking that it undoes."""


@step(compensate=cancel_booking)
async def book_flight(trip: Trip) -> Booking:
    await asyncio.sleep(0.2)  # slower than the hotel: it is still under way when that says no
    return Booking(what="flight", code="TP-571")


@step(compensate=cancel_booking)
async def book_hotel(trip: Trip) -> Booking:
    await asyncio.sleep(0.1)
    if trip.city == "oslo":
        raise SoldOut(f"no room in {trip.city}")
    return Booking(what="hotel", code=f"{trip.city.title()} Inn")


@step(compensate=cancel_booking)
async def book_car(trip: Trip) -> Booking:
    return Booking(what="car", code="van" if trip.travellers > 4 else "mini")


@workflow
async def book_trip(ctx: Context, trip: Trip) -> dict[str, Booking]:
    return await ctx.parallel(
        {
            "flight": ctx.step(book_flight, trip),
            "hotel": ctx.step(book_hotel, trip),
            "car": ctx.step(book_car, trip),
        }
    )


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[book_trip]):
        trips = [Trip(city="lisbon", travellers=6), Trip(city="oslo", travellers=2)]
        for trip in trips:
            handle = await client.start(book_trip, trip, id=f"trip-to-{trip.city}")
            try:
                booked = await handle.result()
                print(f"{trip.city}:", ", ".join(f"{k} {b.code}" for k, b in booked.items()))
            except RunFailed as error:
                run = await handle.get()
                print(f"{trip.city}: {run.status}, {type(error).__name__}: {error}")
                undone = sorted(undo.step.removeprefix("book_") for undo in run.compensations)
                print("  cancelled:", ", ".join(undone))


if __name__ == "__main__":
    asyncio.run(main())
