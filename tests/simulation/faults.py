"""What may go wrong, and how often: each seed enables some of it, at rates of its own.

A seed in which everything fails a little finds less than many seeds in which a few things fail a lot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

OPERATION_FAULTS: Final = (
    "error before",
    "lost answer",
    "late execution",
    "slow",
    "very slow",
    "crash before",
    "crash after",
    "stall before",
    "stall after",
)
"""What an operation of the store can meet.

`lost answer`: it is done, and the caller gets an error. `late execution`: the caller gets an error first, and
then it is done. `slow` is a second or two, `very slow` longer than a lease. `stall`: the process gets no turn,
mostly for longer than its lease.
"""
WORLD_FAULTS: Final = (
    "crash",
    "stall",
    "graceful stop",
    "outage",
    "partition",
    "missed heartbeats",
    "database clock forward",
    "database clock back",
    "wall clock jump",
    "forced eviction",
    "new code",
)
"""What happens to processes and clocks at any time."""
ROW_FAULTS: Final = ("locked rows",)
"""What a commit can meet: rows of some of its runs are locked by others."""
HINT_FAULTS: Final = ("hint lost", "hint doubled", "hint late")
ALL_FAULTS: Final = (*OPERATION_FAULTS, *ROW_FAULTS, *WORLD_FAULTS, *HINT_FAULTS)
_OPERATION_RATES: Final = (0.003, 0.01, 0.03)
_OFTEN: Final = (0.1, 0.5, 0.9)
_CALM: Final = 0.06
"""Share of the seeds in which nothing goes wrong: what is late or done twice there is nobody's fault."""


@dataclass(slots=True)
class Menu:
    """What goes wrong in one simulation, and what really did."""

    rates: dict[str, float]
    """Of faults that operations and hints meet: how probable."""
    times: list[tuple[float, str]]
    """Of the world's: when, in seconds since the beginning."""
    fired: Counter[str] = field(default_factory=Counter)
    on: bool = True

    @property
    def calm(self) -> bool:
        return not self.rates and not self.times

    def draw(self, random: Random, kinds: tuple[str, ...]) -> str | None:
        """The fault that happens now, if one does."""
        if not self.on or not self.rates:
            return None
        chance = random.random()
        for kind in kinds:
            chance -= self.rates.get(kind, 0.0)
            if chance < 0:
                self.fired[kind] += 1
                return kind
        return None


def menu_of(random: Random, seconds: float) -> Menu:
    """A random part of all that may go wrong within so many seconds."""
    if random.random() < _CALM:
        return Menu({}, [])
    share = random.choice((0.15, 0.3, 0.5))
    rates = {
        kind: random.choice(_OPERATION_RATES)
        for kind in OPERATION_FAULTS
        if random.random() < share
    }
    often = (*ROW_FAULTS, *HINT_FAULTS)
    rates |= {kind: random.choice(_OFTEN) for kind in often if random.random() < share}
    times = [
        (random.uniform(0.0, seconds), kind)
        for kind in WORLD_FAULTS
        if random.random() < share
        for _ in range(random.choice((1, 1, 2, 4)))
    ]
    return Menu(rates, sorted(times))
