"""The plans of hot statements: the right index and no scan, whether SQLite knows the tables' sizes or not.

Where two indexes would do, SQLite guesses, and may take the one that finds everything.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable.model.history import CODES
from durable.model.rows import (
    Act,
    Answer,
    Code,
    Delivery,
    NewWait,
    OutMessage,
    Publication,
    RunFilter,
    Subscription,
    WaitFilter,
    WaitKind,
)
from durable.storage.sqlite import SqliteStorage
from durable.storage.sqlite.connection import Database, Values
from tests.storage.conformance.world import (
    CANCEL,
    START,
    TERMINATED,
    UNBLOCKED,
    Now,
    World,
    appending,
    event,
    finishing,
    new,
    to,
)

MANY = 2_000
KEY = "a run's key"
PAIR = "a run's key and a number or name"
ID = "sqlite_autoindex_runs_1"
WAITS_OF_RUN = "sqlite_autoindex_waits_1"
_FILL = f"""
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
INSERT INTO [runs] (id, lane, created_at, ready_at, owner, epoch, status, finished_at)
SELECT 'filled-' || n, 1 + n % 3, 1, CASE WHEN n % 4 < 2 THEN {START} * 2 + n END,
       CASE WHEN n % 4 = 2 THEN 1 END, 1, CASE WHEN n % 4 = 3 THEN 'completed' ELSE 'waiting' END,
       CASE WHEN n % 4 = 3 THEN n END
FROM n;
INSERT INTO [history] (run_key, seq, at, type, data) SELECT key, 1, 1, 1, x'' FROM [runs];
INSERT INTO [inbox] (run_key, n, name, data) SELECT key, 1, 'm', x'' FROM [runs];
INSERT INTO [inbox_keys] (run_key, key, n, at) SELECT key, 'k', 1, 1 FROM [runs];
INSERT INTO [waits] (run_key, cmd, kind, names, key, recipients, seq)
SELECT key, 9, 1, '["other"]', 'everybody', '[]', 1 FROM [runs];
INSERT INTO [publications] (name, key, data, until) SELECT 'other', id, x'', key FROM [runs]"""
_SEARCH = re.compile(
    r"SEARCH \S+ USING (?:PARTIAL |COVERING )*(?:INDEX (\S+)|(INTEGER PRIMARY KEY)|(PRIMARY KEY)) "
)
_SHORT = frozenset({"durable_workers", "durable_lanes", "l", "head", "named", "holder"})
"""Tables with few rows, and those that our statements build as they go: they may be read from end to end."""


class Plans:
    """How SQLite finds the rows of every statement that a store has run since the last look."""

    def __init__(self, store: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = store
        self._seen: list[tuple[str, Values]] = []
        for verb in ("execute", "fetch"):
            monkeypatch.setattr(Database, verb, self._watching(getattr(Database, verb)))

    def _watching(self, proper: Any) -> Any:
        def watched(database: Database, text: str, values: Values = ()) -> Any:
            self._seen.append((text, values))
            return proper(database, text, values)

        return watched

    async def used(self) -> set[str]:
        """Names of indexes; what else there may be is a fault, and named in SQLite's words."""

        def explain(database: Database, _now: int) -> set[str]:
            seen = [s for s in self._seen if re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)", s[0])]
            plans = [database.fetch(f"EXPLAIN QUERY PLAN {text}", values) for text, values in seen]
            return {name for plan in plans for *_, detail in plan for name in _index(detail)}

        used = await self._store._writer.ask(explain)
        self._seen.clear()
        return used


def _index(detail: str) -> list[str]:
    """What a line of a plan looks its rows up in."""
    if detail.startswith("SCAN"):
        name, _, virtual = detail.removeprefix("SCAN ").partition(" ")
        return [] if name in _SHORT or virtual.startswith("VIRTUAL") else [detail]
    if not detail.startswith("SEARCH"):
        return []
    found = _SEARCH.match(detail)
    if found is None:
        return [detail]
    index, rowid, _ = found.groups()
    return [index.replace("durable_", "") if index else KEY if rowid else PAIR]


@pytest.fixture(params=["unknown to the planner", "many rows known", "few rows known"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    store = SqliteStorage(None)
    await store.open()
    now = Now()
    store.time = now
    world = World(store, now)
    await world.lanes()

    def fill(database: Database, _now: int) -> None:
        if request.param != "few rows known":
            for statement in _FILL.split(";"):
                database.execute(statement)
        if request.param != "unknown to the planner":
            database.execute("ANALYZE")

    await store._writer.ask(fill)
    yield world
    await store.close()


@pytest.fixture
def plans(world: World, monkeypatch: pytest.MonkeyPatch) -> Plans:
    assert isinstance(world.store, SqliteStorage)
    return Plans(world.store, monkeypatch)


def wait(cmd: int = 1, key: str | None = "order", name: str = "paid") -> NewWait:
    return NewWait(cmd, WaitKind.EVENT if key else WaitKind.INPUT, (name,), 1, key=key)


async def test_starts(world: World, plans: Plans):
    worker = await world.worker()
    await world.start("r", tags={"a": "b"})
    await world.start("r")
    await world.start("eager", eager_owner=worker)
    await world.store.restart(new("r"), TERMINATED, CANCEL)
    assert await plans.used() <= {
        KEY,
        PAIR,
        ID,
        WAITS_OF_RUN,
        "runs_parent",
        "sqlite_autoindex_lanes_1",
    }


async def test_claims(world: World, plans: Plans):
    worker = await world.worker()
    await world.start("r")
    await plans.used()
    assert len(await world.claim(worker)) == 1
    assert await plans.used() == {KEY, "runs_ready"}


async def test_what_an_owner_polls(world: World, plans: Plans):
    worker = await world.worker()
    claim = await world.owned(worker, "r")
    world.now.passes(11)
    await plans.used()
    held = await world.store.owned(worker)
    assert await plans.used() == {"runs_owned"}
    await world.store.acknowledge(worker, held)
    await world.store.adopt(worker, [claim.key])
    await world.store.load([(claim.key, 0)])
    await world.store.inbox([(claim.key, 0)])
    await world.store.probe(worker, [claim.key], [claim.epoch])
    assert await plans.used() == {KEY, PAIR}


async def test_commits(world: World, plans: Plans):
    worker = await world.worker()
    claims = [await world.owned(worker, f"r{n}") for n in range(3)]
    await world.deliver("r0")
    await world.deliver("r1")
    await plans.used()
    letters = (*to(claims[2].key), OutMessage("r2", "m", b""))
    batch = [
        appending(claims[0], 2, consumed=1, waits=[wait(1), wait(2)], ended_waits=[2]),
        finishing(claims[1], consumed=1),
        appending(claims[2], act=Act.PARK, status="waiting", messages=letters),
    ]
    answers = await world.store.commit(worker, batch)
    assert [answer.code for answer in answers] == [Code.APPLIED] * 3
    assert await plans.used() == {KEY, PAIR, ID, WAITS_OF_RUN}
    (last,) = await world.store.adopt(worker, [claims[0].key])
    await plans.used()
    await world.finish(worker, last)
    assert await plans.used() == {KEY, WAITS_OF_RUN}


async def test_messages(world: World, plans: Plans):
    await world.start("r")
    await plans.used()
    await world.store.deliver([Delivery("r", "m", b"", f"key-{n}") for n in range(3)])
    assert await plans.used() == {KEY, PAIR, ID}


async def test_publications_and_those_who_wait(world: World, plans: Plans):
    """One publication looks at each wait for it once: what it writes about a run is found by the run."""
    worker = await world.worker()
    claim = await world.owned(worker, "r")
    await world.commit(worker, claim, waits=[wait(name="news", key="everybody")])
    await plans.used()
    until = world.now.after(60)
    some = [Publication("news", "everybody", b"", until, "once") for _ in range(2)]
    assert await world.store.publish(some) == [1, 1]
    await world.store.subscribe([Subscription(claim.key, ("news",), "everybody")])
    assert await plans.used() == {
        KEY,
        PAIR,
        WAITS_OF_RUN,
        "waits_key",
        "publications_idem",
        "publications_topic",
        "publications_until",
    }


async def test_what_a_publication_writes_about_a_run(world: World, plans: Plans):
    """Which is done once for each run that waits."""
    await world.store.subscribe([Subscription(1, ("news",), "everybody")])
    assert await plans.used() == {WAITS_OF_RUN, "publications_topic"}


async def test_an_answer(world: World, plans: Plans):
    worker = await world.worker()
    claim = await world.owned(worker, "r")
    await world.commit(worker, claim, waits=[wait(key=None)])
    await plans.used()
    given = Answer("r", 1, "answer", b"", "token", None, 1)
    assert (await world.store.answer(given)).accepted
    assert await plans.used() == {KEY, PAIR, ID, WAITS_OF_RUN}


async def test_pages_of_waits(world: World, plans: Plans):
    """A run's are found by the run, those under a key by the key, others in the order of the pages."""
    await world.start("r")
    await plans.used()
    kinds = (WaitKind.EVENT, WaitKind.INPUT)
    joined = {KEY, PAIR}
    await world.store.waits(WaitFilter(kinds, run_id="r", limit=10))
    assert await plans.used() == {*joined, ID, WAITS_OF_RUN}
    await world.store.waits(WaitFilter(kinds, key="order", after=5, limit=10))
    assert await plans.used() == {*joined, "waits_key"}
    await world.store.waits(WaitFilter(kinds, workflow="work", after=5, limit=10))
    assert await plans.used() <= {*joined, "waits_listed"}


async def test_orders(world: World, plans: Plans):
    await world.start("r")
    await plans.used()
    await world.store.pause("r", event(0, "Paused"))
    await world.store.resume("r", event(0, "Resumed"))
    await world.store.terminate("r", TERMINATED, CANCEL)
    assert await plans.used() == {KEY, PAIR, ID, WAITS_OF_RUN, "runs_parent"}
    await world.store.unblock(await world.lanes(), ["code-1"], UNBLOCKED)
    assert await plans.used() == {"runs_blocked"}


async def test_a_look_for_lost_workers(world: World, plans: Plans):
    worker = await world.worker()
    await world.owned(worker, "r")
    await plans.used()
    await world.reap(gone=[worker])
    assert await plans.used() == {KEY, "runs_owned", "publications_until"}


async def test_what_is_read_of_runs(world: World, plans: Plans):
    await world.start("r")
    await plans.used()
    await world.store.run("r")
    await world.store.history("r", 0, 10)
    await world.store.finished(["r"])
    await world.store.children(1, [1])
    assert await plans.used() == {KEY, PAIR, ID, "runs_parent"}
    await world.store.states(["r"])
    await world.store.newest("r", CODES["StateSet"], "progress")
    await world.store.replies([("r", 1)])
    assert await plans.used() == {PAIR, ID, "history_states", "history_replies"}
    await world.store.runs(RunFilter(parent_id="r", limit=10))
    assert await plans.used() == {KEY, PAIR, ID, "runs_parent"}
