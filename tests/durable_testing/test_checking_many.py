"""`durable check` on a hundred thousand open runs of twenty shapes: the long form of its promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from durable import Client, Context, Worker, step, workflow
from durable_testing.checking import ENOUGH

SHAPES = 20
EACH = 5_000
CODE = """
from durable import Context, step, workflow

@step
async def note(n: int) -> int:
    return n

@workflow
async def chain(ctx: Context, steps: int) -> int:
    for n in range(steps):
        await ctx.step(note, {n})
    await ctx.wait_for_event("go", int)
    return steps
"""


@step
async def note(n: int) -> int:
    return n


@workflow
async def chain(ctx: Context, steps: int) -> int:
    for n in range(steps):
        await ctx.step(note, n)
    await ctx.wait_for_event("go", int)
    return steps


async def fill(url: str) -> None:
    """A real run of each shape, and copies of its rows."""
    async with Client(url) as client, Worker(client, workflows=[chain]):
        for steps in range(SHAPES):
            await client.start(chain, steps, id=f"run{steps}")
        while (await client.count()).get("waiting", 0) < SHAPES:
            pass
    with psycopg.connect(url) as connection:
        runs = _columns(connection, "runs", "key", "id")
        events = _columns(connection, "history", "run_key")
        connection.execute(
            f"""insert into durable.runs (id, {runs})
                select id || '-' || n, {runs} from durable.runs, generate_series(2, {EACH}) n"""
        )
        connection.execute(
            f"""insert into durable.history (run_key, {events})
                select c.key, {", ".join(f"h.{name}" for name in events.split(", "))}
                  from durable.runs c
                  join durable.runs o on o.id = split_part(c.id, '-', 1)
                  join durable.history h on h.run_key = o.key
                 where c.id like '%-%'"""
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


def _columns(connection: psycopg.Connection, table: str, *without: str) -> str:
    rows = connection.execute(
        "select column_name from information_schema.columns"
        " where table_schema = 'durable' and table_name = %s and is_generated = 'NEVER'",
        [table],
    )
    return ", ".join(name for (name,) in rows if name not in without)


@pytest.mark.slow
@pytest.mark.campaign
async def test_a_hundred_thousand_runs(durable_postgres: str, tmp_path: Path) -> None:
    """Exactly the runs that a planted change breaks, and nothing written."""
    await fill(durable_postgres)
    for name, argument in (("fits", "n"), ("breaks", "n if n < 17 else -n")):
        (tmp_path / f"{name}.py").write_text(CODE.replace("{n}", argument))
    before = _activity(durable_postgres)
    assert len(_checked(durable_postgres, tmp_path, "fits", 0)) == 0
    broken = _checked(durable_postgres, tmp_path, "breaks", 1)
    assert len(broken) == 2 * EACH
    assert {run_id.partition("-")[0] for run_id in broken} == {"run18", "run19"}
    assert _activity(durable_postgres) == before


def _checked(url: str, folder: Path, module: str, code: int) -> list[str]:
    root = str(Path(__file__).parents[2])
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "durable.cli", "check", module, "--url", url, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - begun
    assert done.returncode == code, done.stderr
    [found] = json.loads(done.stdout)
    print(f"\n  {module}: {found['runs']:,} runs, {found['shapes']} shapes, {took:.1f} s")
    assert (found["runs"], found["shapes"]) == (SHAPES * EACH, SHAPES)
    assert found["replayed"] == ENOUGH
    return [run_id for shape in found["broken"] for run_id in shape["run_ids"]]


def _activity(url: str) -> list[object]:
    """All rows, by what every write changes."""
    with psycopg.connect(url) as connection:
        return [
            connection.execute(
                f"select count(*), max(xmin::text::bigint), sum(hashtext(t::text)) from durable.{table} t"
            ).fetchone()
            for table in ("runs", "history", "inbox", "waits", "lanes", "workers")
        ]
