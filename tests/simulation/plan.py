"""What a seed stands for, as data: the cluster, its knobs, the programs, what people do, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulation.faults import Menu, menu_of
from tests.simulation.programs import program_of


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody does something: `after` seconds of virtual time, by user number `user`."""

    after: float
    user: int
    verb: str
    run: str
    detail: Any = None


@dataclass(slots=True)
class Plan:
    """One simulation."""

    seed: int
    workers: int
    users: int
    lease: float
    cache: int
    slots: int
    max_recoveries: int
    claim: int | None
    commit: int | None
    travel: float
    """Longest time, in seconds, that an operation or its answer travels in peace."""
    knows_the_dead: bool
    acts: list[Act]
    menu: Menu
    first_version: int = 1


_STARTS: Final = ("start", "start", "start", "start eagerly")
_VERBS: Final = (
    *["send"] * 6,
    *["send again"] * 2,
    *["publish"] * 2,
    *["answer"] * 3,
    *["pause"] * 2,
    *["resume"] * 2,
    *["request"] * 2,
    *["cancel"] * 2,
    *["result"] * 2,
    *["look"] * 2,
    "end wait",
    "terminate",
    "restart",
)


def plan_of(seed: int) -> Plan:
    """What a seed stands for."""
    random = Random(f"plan {seed}")
    seconds = random.choice((2.0, 4.0, 8.0))
    users = random.choice((1, 2, 3))
    runs = [f"r{n}" for n in range(random.choice((1, 2, 3, 4, 6)))]
    again = [run for run in runs if random.random() < 0.3]
    acts = [_start(random, users, seconds, run) for run in runs + again]
    acts += [_act(random, users, seconds, runs) for _ in range(random.choice((0, 4, 8, 15)))]
    return Plan(
        seed=seed,
        workers=random.choice((1, 2, 2, 2, 3, 3, 4, 8)),
        users=users,
        lease=random.choice((1.5, 3.0, 6.0)),
        cache=random.choice((0, 1, 2, 1000)),
        slots=random.choice((1, 2, 100)),
        max_recoveries=random.choice((2, 5, 5, 5)),
        claim=random.choice((None, None, 1, 2)),
        commit=random.choice((None, None, 1, 2)),
        travel=random.choice((0.0, 0.001, 0.01, 0.1)),
        knows_the_dead=random.random() < 0.3,
        acts=sorted(acts, key=lambda act: act.after),
        menu=menu_of(random, seconds * 1.5),
        first_version=random.choice((1, 1, 2, 3, 3)),
    )


def _start(random: Random, users: int, seconds: float, run: str) -> Act:
    options: dict[str, Any] = {}
    if random.random() < 0.1:
        options["delay"] = random.choice((0.5, 2.0, 5.0))
    if random.random() < 0.1:
        options["timeout"] = random.choice((0.5, 2.0, 5.0))
    if random.random() < 0.2:
        options["priority"] = random.choice((-1, 5))
    detail = {
        "program": program_of(random),
        "options": options,
        "stubborn": random.random() < 0.15,
    }
    after = random.uniform(0, random.choice((0.3, seconds / 2)))
    return Act(after, random.randrange(users), random.choice(_STARTS), run, detail)


def _act(random: Random, users: int, seconds: float, runs: list[str]) -> Act:
    detail: Any = None
    verb = random.choice(_VERBS)
    if verb == "restart":
        detail = {"program": program_of(random), "options": {}, "stubborn": False}
    elif verb in {"send", "send again", "publish"}:
        detail = random.choice("ab")
    return Act(
        random.uniform(0.1, seconds), random.randrange(users), verb, random.choice(runs), detail
    )
