"""What is measured, and how much of it: the sizes of a full run and of a quick one, as data.

A level of a full run takes three to ten seconds and is done three times, of which the median counts.
DBOS gets fewer workflows per level, so that it takes no more time than ours; both are in steady state.
A quick run shows that everything works and roughly where the figures are; it proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

POSTGRES = "postgresql"
SQLITE = "sqlite"
STORES = (POSTGRES, SQLITE)

FULL = 0
QUICK = 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One child process: a workload on a system on a store."""

    name: str
    kind: str
    system: str
    store: str
    spec: dict[str, Any]
    timeout: float = 600.0
    options: dict[str, Any] = field(default_factory=dict)


def level(in_flight: int, runs: int, warm_up: int | None = None) -> dict[str, int]:
    """One level of concurrency; the warm-up fills it once unless said otherwise."""
    return {"in_flight": in_flight, "runs": runs, "warm_up": warm_up or max(20, in_flight)}


# name -> system -> (full, quick)
_THROUGHPUT: dict[str, tuple[int, dict[str, tuple[dict[str, Any], dict[str, Any]]]]] = {
    "throughput10": (
        10,
        {
            "durable": (
                {
                    "rounds": 3,
                    "levels": [
                        level(1, 400),
                        level(64, 6_000),
                        level(256, 8_000),
                        level(1000, 8_000),
                    ],
                },
                {"rounds": 1, "levels": [level(1, 50), level(256, 2_000)]},
            ),
            "dbos": (
                {
                    "rounds": 1,
                    "levels": [
                        level(1, 150),
                        level(64, 300),
                        level(256, 500),
                        level(1000, 1_200, 100),
                    ],
                },
                {"rounds": 1, "levels": [level(1, 10), level(256, 256, 20)]},
            ),
        },
    ),
    "throughput1": (
        1,
        {
            "durable": (
                {
                    "rounds": 3,
                    "levels": [
                        level(1, 2_500),
                        level(64, 20_000),
                        level(256, 25_000),
                        level(1000, 25_000),
                    ],
                },
                {"rounds": 1, "levels": [level(1, 100), level(256, 4_000)]},
            ),
            "dbos": (
                {
                    "rounds": 1,
                    "levels": [
                        level(1, 600),
                        level(64, 1_200),
                        level(256, 2_000),
                        level(1000, 2_500, 200),
                    ],
                },
                {"rounds": 1, "levels": [level(1, 20), level(256, 512, 50)]},
            ),
        },
    ),
}

_ON_SYSTEMS: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "latency": {
        "durable": ({"runs": 1_000, "warm_up": 100}, {"runs": 100, "warm_up": 20}),
        "dbos": ({"runs": 300, "warm_up": 30}, {"runs": 50, "warm_up": 10}),
    },
    "sequential": {
        "durable": (
            {"lengths": [1_000, 5_000, 20_000], "warm_up": 100, "rounds": 3},
            {"lengths": [200, 2_000], "warm_up": 20, "rounds": 1},
        ),
        "dbos": (
            {"lengths": [1_000], "warm_up": 20, "rounds": 1},
            {"lengths": [200], "warm_up": 5, "rounds": 1},
        ),
    },
    "fanout": {
        "durable": (
            {"sizes": [1_000, 10_000], "warm_up": 100, "rounds": 3},
            {"sizes": [200, 2_000], "warm_up": 20, "rounds": 1},
        ),
        "dbos": (
            {"sizes": [1_000], "warm_up": 20, "rounds": 1},
            {"sizes": [200], "warm_up": 5, "rounds": 1},
        ),
    },
    "family": {
        "durable": (
            {"sizes": [1_000, 10_000], "warm_up": 100, "rounds": 3},
            {"sizes": [200, 2_000], "warm_up": 20, "rounds": 1},
        ),
        "dbos": (
            {"sizes": [1_000], "warm_up": 20, "rounds": 1},
            {"sizes": [100], "warm_up": 5, "rounds": 1},
        ),
    },
    "events": {
        "durable": (
            {"waiting": 20, "events": 400, "warm_up": 40},
            {"waiting": 20, "events": 60, "warm_up": 20},
        ),
        "dbos": (
            {"waiting": 10, "events": 200, "warm_up": 20},
            {"waiting": 10, "events": 20, "warm_up": 10},
        ),
    },
    "event_flood": {
        "durable": (
            {"runs": 1_000, "each": 20, "rounds": 3},
            {"runs": 200, "each": 10, "rounds": 1},
        ),
        "dbos": (
            {"runs": 10, "each": 50, "rounds": 1},
            {"runs": 10, "each": 5, "rounds": 1},
        ),
    },
    "size": {
        "durable": (
            {"steps": 10, "runs": 5_000, "in_flight": 256},
            {"steps": 10, "runs": 500, "in_flight": 64},
        ),
        "dbos": (
            {"steps": 10, "runs": 500, "in_flight": 64},
            {"steps": 10, "runs": 60, "in_flight": 64},
        ),
    },
}

_RAW = (
    {"rows": 1_000, "commits": 200, "single_commits": 2_000, "warm_up": 20},
    {"rows": 1_000, "commits": 30, "single_commits": 200, "warm_up": 3},
)
_REPLAY = ({"steps": 20_000, "rounds": 7}, {"steps": 3_000, "rounds": 3})
_REPLAYER = {
    "durable": (
        {"lengths": [1_000, 2_000], "rounds": 15},
        {"lengths": [200], "rounds": 3},
    ),
    "temporal": (
        {"lengths": [1_000, 2_000], "rounds": 3},
        {"lengths": [200], "rounds": 1},
    ),
}
_CLAIM = (
    {"sleeping": [0, 100_000, 1_000_000], "backlog": 100_000, "claims": 300},
    {"sleeping": [0, 10_000, 50_000], "backlog": 10_000, "claims": 40},
)
_MEMORY = (
    {"runs": 10_000, "warm_up": 1_000},
    {"runs": 2_000, "warm_up": 1_000},
)
_CACHES = {"memory_cached": (20_000, 5_000), "memory_parked": (100, 50)}
_PARKED = (
    {"runs": 100_000, "seconds": 10},
    {"runs": 2_000, "seconds": 5},
)
_RECOVERY = ({"runs": 2_000}, {"runs": 200})


def tuning(store: str, options: dict[str, Any]) -> Measurement:
    """A short trial of settings of DBOS; the fastest are used for everything that is compared."""
    spec = {"steps": 10, "rounds": 1, "levels": [level(256, 400, 50)]}
    return Measurement("tuning", "throughput", "dbos", store, spec, options=options)


def measurements(*, quick: bool) -> list[Measurement]:
    """Everything, in an order that has both systems do the same thing one right after the other."""
    which = QUICK if quick else FULL
    found: list[Measurement] = [
        Measurement("raw", "raw", "raw", store, _RAW[which]) for store in STORES
    ]
    for name, (steps, systems) in _THROUGHPUT.items():
        found += [
            Measurement(name, "throughput", system, store, {"steps": steps, **sizes[which]})
            for store in STORES
            for system, sizes in systems.items()
        ]
    for name, systems in _ON_SYSTEMS.items():
        found += [
            Measurement(name, name, system, store, sizes[which])
            for store in STORES
            for system, sizes in systems.items()
        ]
    # No database takes part; ours makes its history in one.
    found += [
        Measurement("replayer", "replayer", system, SQLITE, sizes[which])
        for system, sizes in _REPLAYER.items()
    ]
    for store in STORES:
        found.append(Measurement("replay", "replay", "durable", store, _REPLAY[which]))
        found.append(Measurement("claim", "claim", "durable", store, _CLAIM[which]))
        found.append(Measurement("recovery", "recovery", "durable", store, _RECOVERY[which]))
    for name, caches in _CACHES.items():
        spec = {**_MEMORY[which], "cache": caches[which]}
        found.append(Measurement(name, "memory", "durable", POSTGRES, spec))
    found.append(Measurement("parked", "parked", "durable", POSTGRES, _PARKED[which]))
    return found
