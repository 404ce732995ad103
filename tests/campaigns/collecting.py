"""Runs that collect what is sent to them, and how much each sender has for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from random import Random

from pydantic import BaseModel

from durable import Context, Event, workflow
from tests.campaigns import labour

BETWEEN_STEPS = 5
"""Events between two steps: what comes while a step runs comes before its wait."""
GENERATION = 25
"""Events after which a run continues as new."""
OVERLAP = 3
"""How many waves of runs are sent to at once."""
CLOSING, COLLECTING = "closing", "collecting"

PARCEL = Event("parcel", tuple[int, int, bool])
"""Sender, its number among what this sender has for this run, and whether it was sent before."""


class Collection(BaseModel):
    """What a run is to have before it ends, and what it has, in the order in which it got it."""

    wanted: int
    taken: list[tuple[int, int, bool]] = []


@workflow
async def collect(ctx: Context, collection: Collection) -> list[tuple[int, int, bool]]:
    """Take one event after the other, with a step now and then."""
    taken = list(collection.taken)
    if not taken:
        await ctx.step(labour.toil, 0, 0)
    while len(taken) < collection.wanted:
        taken.append(await ctx.wait_for_event(PARCEL))
        if len(taken) % BETWEEN_STEPS == 0:
            await ctx.step(labour.toil, len(taken), len(taken) // BETWEEN_STEPS)
        if len(taken) % GENERATION == 0 and len(taken) < collection.wanted:
            await ctx.continue_as_new(Collection(wanted=collection.wanted, taken=taken))
    return taken


def right_steps(wanted: int) -> int:
    """How many steps a run completes."""
    return 1 + wanted // BETWEEN_STEPS


@dataclass(frozen=True, slots=True)
class Share:
    """A whole number in parts that differ by one at most."""

    whole: int
    parts: int

    def of(self, part: int) -> int:
        """How much a part has."""
        return self.whole * (part + 1) // self.parts - self.whole * part // self.parts


@dataclass(frozen=True)
class Plan:
    """Who sends how much to whom: the same for the senders and for their judge."""

    runs: int
    """Runs that take all that is sent to them."""
    events: int
    """Events for all of them together."""
    senders: int
    duplicates: int
    """Events of all senders together that are sent once more."""
    seed: int
    wave: int = 50
    """Runs that are new at the same time."""
    closing: int = 20
    """One run in so many is joined by one that ends before it has had all that is sent to it."""

    @cached_property
    def wanted(self) -> dict[str, int]:
        """Of each run how many events it takes."""
        share = Share(self.events, self.runs)
        wanted = {f"{COLLECTING}-{number}": share.of(number) for number in range(self.runs)}
        for number in range(0, self.runs, self.closing):
            wanted[f"{CLOSING}-{number}"] = max(1, share.of(number) // 2)
        return wanted

    def sent(self, run: str, sender: int) -> int:
        """How many events this sender has for the run."""
        events = Share(self.events, self.runs).of(_number(run))
        return Share(events, self.senders).of(sender)

    def again(self, sender: int) -> int:
        """How many events this sender sends twice."""
        return Share(self.duplicates, self.senders).of(sender)

    def phases(self, sender: int) -> Iterator[tuple[str | None, list[tuple[str, int]]]]:
        """What a sender sends, in its order: runs, and numbers that count from 0 for each run.

        With each phase comes the run to whose end it waits first: so the backlog has a bound, and runs
        also wait for events. All that this run takes was sent in the phases before.
        """
        random = Random(f"{self.seed}:{sender}")
        places: list[tuple[float, str]] = []
        for run in self.wanted:
            wave = _number(run) // self.wave
            places += [
                (wave + random.random() * OVERLAP, run) for _ in range(self.sent(run, sender))
            ]
        reached: dict[str, int] = {}
        for phase, some in groupby(sorted(places), key=lambda place: int(place[0])):
            first = (phase - OVERLAP) * self.wave
            parcels: list[tuple[str, int]] = []
            for _, run in some:
                number = reached[run] = reached.get(run, -1) + 1
                parcels.append((run, number))
            yield (f"{COLLECTING}-{first}" if first >= 0 else None), parcels


def _number(run: str) -> int:
    return int(run.rpartition("-")[2])
