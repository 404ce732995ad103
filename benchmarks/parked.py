"""What many runs that wait for an event cost while nothing happens: memory of the worker, work of the database.

Transactions are counted by the server itself, for the whole database, over some seconds in which no event comes.
Those that look are counted too: one at the beginning. What the server does by itself after so many inserts (to
vacuum them and to look at them) would be counted as well, so that it is done before.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from benchmarks.memory import resident
from benchmarks.on_durable import listen
from durable import Client, Worker

_TOGETHER = 500
"""Runs that are started in one call."""
_QUIET_SECONDS = 12.0
"""Until the server has counted the busy time: it hears of what a connection did once that is idle for ten seconds."""


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Park them, wait until it is quiet, and look."""
    runs: int = spec["runs"]
    async with Client(spec["url"]) as client, Worker(client, workflows=[listen]) as worker:
        for _ in range(0, runs, _TOGETHER):
            await client.start_many(listen, [1] * min(_TOGETHER, runs))
        waiting = 0
        while waiting < runs:
            await asyncio.sleep(0.5)
            waiting = (await client.count(workflow=listen)).get("waiting", 0)
        await asyncio.to_thread(tidy, spec["url"])
        await asyncio.sleep(_QUIET_SECONDS)
        before = transactions(spec["url"])
        await asyncio.sleep(spec["seconds"])
        after = transactions(spec["url"])
        details = worker.health().details
        return {
            "runs": runs,
            "process_mb": resident() / 2**20,
            "transactions_per_s": (after - before) / spec["seconds"],
            "cached": details["cached"],
            "held": details["runs"],
        }


def tidy(url: str) -> None:
    """Leave nothing to do for the server's own vacuuming."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


def transactions(url: str) -> int:
    """How many the database has seen so far."""
    query = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
