"""A sender process of the campaign `events`: it starts runs, and sends them what its plan says, in order.

It writes into the ledger what it was told of each event: `accepted`, `refused` because the run has ended,
and `again` for one that it sent a second time. What is sent again says so itself: nobody may ever see it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random

from durable import Client, IllegalTransition
from tests.campaigns.collecting import CLOSING, PARCEL, Collection, Plan, collect
from tests.campaigns.effects import Ledger

LARGEST = 60
"""Events that a sender sends at the same time, in one call or in many."""
Parcel = tuple[str, int]
"""A run, and the number of an event."""


class Sender:
    """One of several that send to the same runs."""

    def __init__(self, client: Client, ledger: Ledger, plan: Plan, number: int) -> None:
        self._client = client
        self._ledger = ledger
        self._plan = plan
        self._number = number
        self._random = Random(f"{plan.seed}:{number}:manner")
        self._known: set[str] = set()
        self._phases = list(plan.phases(number))
        parcels = [one for _, some in self._phases for one in some if not self._is_late(one)]
        again = self._random.sample(range(len(parcels)), plan.again(number))
        self._again = {parcels[place] for place in again}

    async def send_all(self) -> None:
        """Send all that the plan has for this sender."""
        for awaited, parcels in self._phases:
            if awaited is not None:
                await self._client.handle(awaited).result()
            rest = iter([one for one in parcels if not self._is_late(one)])
            while some := list(islice(rest, self._random.randint(1, LARGEST))):
                await self._send_some(some)
        for parcel in (
            one for _, parcels in self._phases for one in filter(self._is_late, parcels)
        ):
            await self._client.handle(parcel[0]).result()
            await self._send_in_turn([parcel])

    async def _send_some(self, parcels: Sequence[Parcel]) -> None:
        await self._start({run for run, _ in parcels})
        if self._random.random() < 0.5:
            # Only one by one does a sender learn which of them came too late.
            await self._send_together([one for one in parcels if not one[0].startswith(CLOSING)])
            parcels = [one for one in parcels if one[0].startswith(CLOSING)]
        async with asyncio.TaskGroup() as tasks:
            for run in dict.fromkeys(run for run, _ in parcels):
                tasks.create_task(self._send_in_turn([one for one in parcels if one[0] == run]))

    def _is_late(self, parcel: Parcel) -> bool:
        """It is sent when its run has ended."""
        run, number = parcel
        return run.startswith(CLOSING) and number == self._plan.sent(run, self._number) - 1

    async def _start(self, runs: set[str]) -> None:
        """Whoever comes first starts a run."""
        wanted = self._plan.wanted
        new = {run: Collection(wanted=wanted[run]) for run in sorted(runs - self._known)}
        if new:
            await self._client.start_many(collect, new)
            self._known |= runs

    async def _send_together(self, parcels: Sequence[Parcel]) -> None:
        """In one call, and all of it once more if any is to be sent again."""
        if not parcels:
            return
        key = f"{self._number}:{parcels[0]}"
        await self._client.send_events(
            [(run, PARCEL, (self._number, number, False)) for run, number in parcels],
            idempotency_key=key,
        )
        for parcel in parcels:
            self._note("accepted", parcel)
        if self._again.intersection(parcels):
            await self._client.send_events(
                [(run, PARCEL, (self._number, number, True)) for run, number in parcels],
                idempotency_key=key,
            )
            for parcel in parcels:
                self._note("again", parcel)

    async def _send_in_turn(self, parcels: Sequence[Parcel]) -> None:
        """One after the other, to one run."""
        for parcel in parcels:
            try:
                await self._send(parcel, again=False)
            except IllegalTransition:
                self._note("refused", parcel)
                continue
            self._note("accepted", parcel)
            if parcel in self._again:
                await self._send(parcel, again=True)
                self._note("again", parcel)

    async def _send(self, parcel: Parcel, *, again: bool) -> None:
        run, number = parcel
        await self._client.send_event(
            run, PARCEL, (self._number, number, again), idempotency_key=f"{self._number}:{number}"
        )

    def _note(self, what: str, parcel: Parcel) -> None:
        run, number = parcel
        self._ledger.write(what, run, cmd=self._number, stage=number)


async def work(options: argparse.Namespace) -> None:
    plan = Plan(options.runs, options.events, options.senders, options.duplicates, options.seed)
    ledger = Ledger(options.ledger)
    async with Client(options.url) as client:
        await Sender(client, ledger, plan, options.number).send_all()
    ledger.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--ledger", required=True, type=Path)
    for name in ("number", "runs", "events", "senders", "duplicates", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(work(_options())))
