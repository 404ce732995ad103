"""What a claim costs while others sleep: 50 due runs out of a table with up to a million that are not.

A claim finds, locks and updates its runs; it is what a worker does to get work, and the statement that
goes wrong first when a table grows. Runs are put in by SQL, all in one lane, claimed through the storage
port and given back through it; only the claim is on the clock. Two hundred runs are due in each situation,
and a hundred thousand in the one that is called a backlog.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from benchmarks import stores
from benchmarks.drive import spread
from durable.model.rows import Act, Commit, Lane, WorkerInfo
from durable.storage import open_storage

PER_CLAIM = 50
DUE = 200
LEASE = 600.0

_POSTGRES = """
insert into {runs} (id, lane, seq, created_at, ready_at)
select '{kind}-' || n, {lane}, 1, now(), now() + n * interval '1 millisecond' + interval '{delay} second'
from generate_series({first}, {last}) n
"""
_SQLITE = """
with recursive numbers(n) as (select {first} union all select n + 1 from numbers where n < {last})
insert into {runs} (id, lane, seq, created_at, ready_at)
select '{kind}-' || n, {lane}, 1, {now}, {now} + n * 1000 + {delay} * 1000000 from numbers
"""


class Crowd:
    """Runs in the table, by the thousand."""

    def __init__(self, url: str, lane: int) -> None:
        self._runs = stores.table(url, "runs")
        self._connection = stores.connect(url)
        self._lite = isinstance(self._connection, sqlite3.Connection)
        self._lane = lane
        self._made: dict[str, int] = {}

    def grow(self, kind: str, total: int, delay: int) -> None:
        """Have `total` runs of a kind, due in `delay` seconds (negative: since then)."""
        have = self._made.get(kind, 0)
        if total > have:
            statement = (_SQLITE if self._lite else _POSTGRES).format(
                runs=self._runs, kind=kind, lane=self._lane, delay=delay,
                first=have + 1, last=total, now=time.time_ns() // 1000,
            )  # fmt: skip
            self._connection.execute(statement)
            self._made[kind] = total
        self._connection.execute("analyze" if self._lite else f"vacuum analyze {self._runs}")

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Time the claims of every situation, one after the other in one growing table."""
    url: str = spec["url"]
    storage = open_storage(url)
    await storage.open()
    try:
        lease = await storage.register(WorkerInfo("bench", "localhost", 0), LEASE)
        lane = Lane("default", "claimed")
        number = (await storage.lanes([lane]))[lane]
        crowd = Crowd(url, number)
        crowd.grow("due", DUE, -86_400)
        found: dict[str, Any] = {}
        for sleeping in spec["sleeping"]:
            crowd.grow("sleeping", sleeping, 86_400)
            samples = await _claims(storage, lease.worker, number, spec["claims"])
            found[f"sleeping_{sleeping}"] = {**spread(samples), "samples": samples}
        crowd.grow("backlog", spec["backlog"], -3600)
        samples = await _claims(storage, lease.worker, number, spec["claims"])
        found["backlog"] = {**spread(samples), "runs": spec["backlog"], "samples": samples}
        crowd.close()
    finally:
        await storage.close()
    return {"per_claim": PER_CLAIM, "situations": found}


async def _claims(storage: Any, worker: int, lane: int, count: int) -> list[float]:
    samples: list[float] = []
    for number in range(count + count // 10):
        began = time.perf_counter()
        claims = await storage.claim(worker, [lane], PER_CLAIM)
        took = time.perf_counter() - began
        assert len(claims) == PER_CLAIM
        if number >= count // 10:  # the first ones warm plans and pages
            samples.append(took)
        await storage.commit(worker, [_give_back(claim) for claim in claims])
    return samples


def _give_back(claim: Any) -> Commit:
    return Commit(
        key=claim.key,
        epoch=claim.epoch,
        seq=claim.seq,
        events=(),
        consumed=claim.consumed,
        act=Act.PARK,
        status="waiting",
        wake_at=claim.now,
    )
