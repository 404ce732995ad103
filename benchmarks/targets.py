"""What must hold, as data: each target is one figure, or the ratio of two, with a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.figures import Book, Place

LITE = "sqlite"


@dataclass(frozen=True, slots=True)
class Target:
    """`figure`, divided by `over` where that is given, must be at least or at most `bound`."""

    text: str
    figure: Place
    sense: Literal[">=", "<="]
    bound: float
    over: Place | None = None

    def value(self, book: Book) -> float | None:
        """What was measured; None where a part was not."""
        figure = book.values.get(self.figure)
        if figure is None or self.over is None:
            return figure
        over = book.values.get(self.over)
        return figure / over if over else None

    def met(self, book: Book) -> bool | None:
        """Whether the target holds; None where it was not measured."""
        value = self.value(book)
        if value is None:
            return None
        return value >= self.bound if self.sense == ">=" else value <= self.bound


def _over_dbos(text: str, key: str, sense: Literal[">=", "<="], bound: float, store: str) -> Target:
    return Target(text, Place(key, store), sense, bound, Place(key, store, "dbos"))


def _over_postgres(key: str, sense: Literal[">=", "<="], bound: float) -> Target:
    return Target("SQLite / PostgreSQL", Place(key, LITE), sense, bound, Place(key))


def _over_temporal(key: str, sense: Literal[">=", "<="], bound: float) -> Target:
    return Target("times Temporal", Place(key, LITE), sense, bound, Place(key, LITE, "temporal"))


def _flat(key: str) -> Target:
    return Target("most / fewest", Place(f"{key}.most"), "<=", 1.5, Place(f"{key}.fewest"))


PG = "postgresql"
TARGETS: tuple[Target, ...] = (
    _over_dbos("times DBOS", "throughput10.256", ">=", 40, PG),
    _over_dbos("times DBOS", "throughput1.256", ">=", 25, PG),
    _over_dbos("of DBOS", "latency.p50", "<=", 1 / 3, PG),
    _over_dbos("of DBOS", "events.p50", "<=", 1 / 3, PG),
    _flat("fanout"),
    _flat("family"),
    Target("per second", Place("parked.transactions"), "<=", 5),
    Target("ms a step", Place("sequential.shortest"), "<=", 0.8),
    Target(
        "longest run / shortest run",
        Place("sequential.longest"),
        "<=",
        1.3,
        Place("sequential.shortest"),
    ),
    Target(
        "of the raw limit",
        Place("throughput10.256"),
        ">=",
        0.10,
        Place("raw.rows_per_s", PG, "raw"),
    ),
    Target("bytes a step", Place("size.bytes"), "<=", 260),
    Target("most asleep / none asleep", Place("claim.most"), "<=", 1.5, Place("claim.none")),
    Target("with a backlog / without", Place("claim.backlog"), "<=", 3, Place("claim.none")),
    Target("steps/s", Place("replay.total"), ">=", 100_000),
    _over_temporal("replayer.1000.bytes", ">=", 80),
    _over_temporal("replayer.2000.bytes", ">=", 80),
    _over_dbos("times DBOS on SQLite", "throughput10.256", ">=", 40, LITE),
    _over_postgres("throughput10.256", ">=", 0.5),
    _over_postgres("throughput1.256", ">=", 0.5),
    _over_postgres("fanout.per_s", ">=", 0.5),
    _over_postgres("latency.p50", "<=", 2),
    _over_postgres("sequential.shortest", "<=", 2),
    _over_postgres("replay.total", ">=", 0.5),
)
