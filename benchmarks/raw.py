"""What the database does at best with the bytes of our history: the ceiling for any such system.

Rows like those of 10-step runs are inserted into durable's own history table by a bare psycopg (or
sqlite3) connection: a thousand rows to one commit, by every way the driver offers, of which the fastest
multi-row insert counts; and one row to a commit. No scheduler, no fence, no workflow: nobody can be faster than this with
one connection, and nobody needs to be as fast.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import psycopg

from benchmarks import stores
from durable.clock import SystemClock, to_datetime
from durable.model.history import StepCompleted
from durable.model.wire import encode_event

STEPS = 10
COLUMNS = ("run_key", "seq", "at", "cmd", "type", "name", "data")
TYPES = ("bigint", "bigint", "timestamptz", "integer", "smallint", "text", "bytea")

Row = tuple[Any, ...]
Insert = Callable[[list[Row]], None]


def rows(first_run: int, count: int) -> list[Row]:
    """History rows of whole runs, `at` in microseconds."""
    now = SystemClock().now()
    result = b"\x01" + msgpack.packb(7)
    made: list[Row] = []
    for number in range(count):
        run, step = divmod(number, STEPS)
        event = StepCompleted(
            at=now, cmd=step + 1, name="add_one", result=result, worker=1,
            fingerprint=(number * 0x9E3779B97F4A7C15) % 2**63, took=15, site="on_durable.py:26",
        )  # fmt: skip
        row = encode_event(step + 2, event)
        made.append((first_run + run, row.seq, row.at, row.cmd, row.type, row.name, row.data))
    return made


def postgres_ways(connection: psycopg.Connection[Any], table: str) -> dict[str, Insert]:
    """Every way of psycopg to insert many rows and commit once."""
    columns = ", ".join(COLUMNS)
    arrays = ", ".join(f"%b::{kind}[]" for kind in TYPES)
    unnest = f"insert into {table} ({columns}) select * from unnest({arrays})"
    values = f"insert into {table} ({columns}) values ({', '.join(['%b'] * len(COLUMNS))})"
    copy = f"copy {table} ({columns}) from stdin (format binary)"

    def by_unnest(batch: list[Row]) -> None:
        connection.execute(
            unnest, [list(column) for column in zip(*batch, strict=True)], prepare=True
        )

    def by_executemany(batch: list[Row]) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(values, batch)

    def by_copy(batch: list[Row]) -> None:
        with connection.cursor().copy(copy) as stream:
            stream.set_types(TYPES)
            for row in batch:
                stream.write_row(row)

    return {"unnest": by_unnest, "executemany": by_executemany, "copy": by_copy}


def sqlite_ways(connection: sqlite3.Connection, table: str) -> dict[str, Insert]:
    """The one way of SQLite: executemany inside a transaction."""
    marks = ", ".join("?" * len(COLUMNS))
    values = f"insert into {table} ({', '.join(COLUMNS)}) values ({marks})"

    def by_executemany(batch: list[Row]) -> None:
        connection.execute("begin immediate")
        connection.executemany(values, batch)
        connection.execute("commit")

    return {"executemany": by_executemany}


def _time(insert: Insert, batches: Iterator[list[Row]]) -> list[float]:
    """Seconds of each batch; making the rows is not on the clock."""
    samples: list[float] = []
    for batch in batches:
        began = time.perf_counter()
        insert(batch)
        samples.append(time.perf_counter() - began)
    return samples


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Time every way; the samples are seconds per commit."""
    url: str = spec["url"]
    await stores.migrate(url)
    table = stores.table(url, "history")
    connection = stores.connect(url)
    lite = isinstance(connection, sqlite3.Connection)
    ways = sqlite_ways(connection, table) if lite else postgres_ways(connection, table)  # type: ignore[arg-type]
    at = _identity if lite else _with_datetimes
    first = 10**9  # runs of nobody

    def batches(number: int, size: int) -> Iterator[list[Row]]:
        nonlocal first
        for _ in range(number):
            yield at(rows(first, size))
            first += size // STEPS + 1

    size: int = spec["rows"]
    found: dict[str, Any] = {}
    for name, insert in ways.items():
        _time(insert, batches(spec["warm_up"], size))
        samples = _time(insert, batches(spec["commits"], size))
        found[name] = {"rows_per_s": size * len(samples) / sum(samples), "samples": samples}
    # COPY stands beside the others for whoever wants to know: nothing can be joined to it, so no fence
    # and no guard could ever be part of it.
    inserts = [name for name in found if name != "copy"]
    best = max(inserts, key=lambda name: found[name]["rows_per_s"])
    singly = ways["executemany" if lite else "unnest"]
    _time(singly, batches(spec["warm_up"], 1))
    single = _time(singly, batches(spec["single_commits"], 1))
    connection.close()
    return {
        "best": best,
        "rows_per_s": found[best]["rows_per_s"],
        "rows_per_commit": size,
        "commits_per_s": len(single) / sum(single),
        "ways": found,
        "single_samples": single,
    }


def _identity(batch: list[Row]) -> list[Row]:
    return batch


def _with_datetimes(batch: list[Row]) -> list[Row]:
    """PostgreSQL keeps `at` as a timestamp."""
    return [(*row[:2], to_datetime(row[2]), *row[3:]) for row in batch]
