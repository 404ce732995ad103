"""How many bytes of database a step costs, tables and indexes and all, after a VACUUM.

Measured as the growth of a fresh database over a number of 10-step runs with trivial payloads, divided
by the number of steps: the rows of the runs themselves are part of the price. Plain VACUUM, as autovacuum
does it: what a user's disk shows, including the room that dead row versions leave behind.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from benchmarks import drive

_RELATIONS = """
select n.nspname || '.' || c.relname, pg_total_relation_size(c.oid), pg_table_size(c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""


def database_bytes(url: str) -> dict[str, tuple[int, int]]:
    """Per table, after a VACUUM: bytes with indexes, and without. SQLite knows only the whole file."""
    if url.startswith("sqlite"):
        return {"file": (pages := _sqlite_bytes(url.removeprefix("sqlite:///")), pages)}
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum")
        rows = connection.execute(_RELATIONS).fetchall()
    return {name: (total, table) for name, total, table in rows}


def _sqlite_bytes(path: str) -> int:
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute("pragma wal_checkpoint(truncate)")
        (pages,) = connection.execute("pragma page_count").fetchone()
        (free,) = connection.execute("pragma freelist_count").fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    finally:
        connection.close()
    return int((pages - free) * size)


async def size(system: drive.System, spec: dict[str, Any]) -> dict[str, Any]:
    """Run the workflows between two looks at the database."""
    steps: int = spec["steps"]
    runs: int = spec["runs"]
    before = database_bytes(spec["url"])
    await drive.flood(system, steps=steps, runs=runs, in_flight=spec["in_flight"])
    after = database_bytes(spec["url"])
    empty = (0, 0)
    growth = {
        name: {
            "bytes_per_step": (after[name][0] - before.get(name, empty)[0]) / (runs * steps),
            "of_it_indexes": (
                (after[name][0] - after[name][1])
                - (before.get(name, empty)[0] - before.get(name, empty)[1])
            )
            / (runs * steps),
        }
        for name in after
        if after[name] != before.get(name)
    }
    total = sum(table["bytes_per_step"] for table in growth.values())
    return {"steps": steps, "runs": runs, "bytes_per_step": total, "tables": growth}
