"""Plays a seed: a cluster with its people and its troubles, the healing, and the judgement."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.acceptance.crash_points import LEDGER
from tests.simulation import programs
from tests.simulation.cluster import Cluster
from tests.simulation.database import SharedDatabase
from tests.simulation.ending import Healing
from tests.simulation.judgement import judge
from tests.simulation.patches import Lines, one_thread_and_one_random_source
from tests.simulation.plan import Plan, plan_of
from tests.simulation.trace import Trace
from tests.simulation.users import Users
from tests.simulation.watch import Broken
from tests.simulation.world import Nemesis

_COLLECTED_EVERY: Final = 20
"""Seeds between two collections of garbage."""
_DATABASES: list[SharedDatabase] = []


@dataclass(slots=True)
class Outcome:
    """What came of a seed."""

    seed: int
    digest: str
    seconds: float
    """Of virtual time."""
    figures: Counter[str]
    statuses: Counter[str]
    fired: Counter[str]
    verbs: Counter[str]
    calls: Counter[str]
    broken: str | None = None
    trace: list[str] = field(default_factory=list)


def play_many(seeds: Iterable[int], *, keep: int = 60) -> Iterator[Outcome]:
    """Play seeds one after the other, with the garbage collected between them and never in one."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds, 1):
            yield play(seed, keep=keep)
            if number % _COLLECTED_EVERY == 0:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def play(seed: int, *, keep: int = 60) -> Outcome:
    """Play a seed to its end."""
    return play_plan(plan_of(seed), keep=keep)


def play_plan(plan: Plan, *, keep: int = 60) -> Outcome:
    """The same for a plan, whoever made it."""
    database = _database()
    trace = Trace(keep=keep)
    cluster = Cluster(plan, database, trace)
    users = Users(cluster)
    broken: str | None = None
    code = lambda: f"code {cluster.version} {cluster.build}"  # noqa: E731
    programs.set_code_version(lambda: cluster.loop.current.version)
    LEDGER.clear(_Sleeping())  # type: ignore[arg-type]
    patches = one_thread_and_one_random_source(
        cluster.random, code, claim=plan.claim, commit=plan.commit
    )
    with patches as lines:
        try:
            cluster.loop.run_until_complete(_course(cluster, users, lines))
        except Exception as error:
            first = next(iter(cluster.watch.found), error)
            broken = str(first) if isinstance(first, Broken) else f"{type(first).__name__}: {first}"
        finally:
            elapsed = cluster.loop.elapsed()
            cluster.close()
    tail = trace.tail() if broken else []
    for table, rows in database.contents():
        trace.note(elapsed, table, rows)
    return Outcome(
        plan.seed,
        trace.digest(),
        elapsed,
        cluster.watch.figures + Counter(turns=cluster.loop.turns),
        Counter(row.shown for row in cluster.watch.rows.values()),
        plan.menu.fired,
        trace.counts,
        users.counts(),
        broken,
        tail,
    )


class _Sleeping:
    """What steps that take their time wait by."""

    class clock:  # noqa: N801
        sleep = staticmethod(asyncio.sleep)


def _database() -> SharedDatabase:
    if not _DATABASES:
        _DATABASES.append(SharedDatabase())
    _DATABASES[0].clear()
    return _DATABASES[0]


async def _course(cluster: Cluster, users: Users, lines: Lines) -> None:
    plan = cluster.plan
    for number in range(plan.workers):
        cluster.hire(f"worker{number}")
    users.arm()
    Nemesis(cluster).arm()
    last = max([0.0, *(act.after for act in plan.acts), *(when for when, _ in plan.menu.times)])
    await asyncio.sleep(last + cluster.random.uniform(0, 3))
    cluster.watch.check()
    await Healing(cluster, users).complete()
    judge(cluster, users, lines)
