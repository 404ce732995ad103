"""`check` finds the open runs that new code would block, whatever their number, and writes nothing."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from durable import Client, Context, Worker, step, workflow
from durable.cli import main
from durable.storage.sqlite import SqliteStorage
from durable_testing import Checked, Sampled, check, checking
from durable_testing.checking import read_only


@step
async def reserve(item: str) -> str:
    return item


@step
async def ship(item: str) -> str:
    return item


@workflow(name="order")
async def order(ctx: Context, kind: int) -> int:
    await ctx.step(reserve, "book")
    for _ in range(kind % 3):
        await ctx.step(ship, "book")
    await ctx.wait_for_event("go", int)
    return kind


@workflow(name="order")
async def order_with_a_change(ctx: Context, kind: int) -> int:
    await ctx.step(reserve, "book")
    for _ in range(kind % 3):
        await ctx.step(ship, "lamp" if kind == 7 else "book")
    if kind % 3 == 2:
        await ctx.step(reserve, "pen")
    await ctx.wait_for_event("go", int)
    return kind


@workflow
async def entity(ctx: Context, n: int) -> int:
    await ctx.step(reserve, f"{n}")
    if n < 3:
        await ctx.continue_as_new(n + 1)
    await ctx.wait_for_event("go", int)
    return n


@workflow(name="parcel")
async def parcel(ctx: Context, kind: int) -> int:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", int)
    return kind


@workflow(name="parcel")
async def parcel_with_an_exception(ctx: Context, kind: int) -> int:
    if kind == 7:
        await ctx.step(ship, "lamp")
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", int)
    return kind


@workflow(name="parcel")
async def parcel_of_another_kind(ctx: Context, kind: int) -> int:
    await ctx.step(ship, "lamp")
    return kind


@workflow
async def forgotten(ctx: Context) -> int:
    return await ctx.wait_for_event("go", int)


ALL = [order, entity, forgotten]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"durable_{request.param}")


@pytest.fixture
async def runs(url: str) -> str:
    """A database with open runs of three workflows, and some that have finished."""
    async with Client(url) as client, Worker(client, workflows=ALL):
        for number in range(12):
            await client.start(order, number, id=f"order-{number:02}")
        await client.start(entity, 1, id="entity")
        await client.start(forgotten, id="forgotten")
        for number in range(2):
            handle = await client.start(order, number, id=f"done-{number}")
            await handle.send_event("go", 1)
            await handle.result(timeout=20)
        while (await client.count()).get("waiting", 0) < 14:
            pass
    return url


def by_name(found: Any) -> dict[str, Checked]:
    return {each.workflow: each for each in found}


async def waiting(url: str, kinds: Iterable[int]) -> None:
    """A database with an open run of one shape for each of these inputs."""
    async with Client(url) as client, Worker(client, workflows=[parcel]):
        for number, kind in enumerate(kinds):
            await client.start(parcel, kind, id=f"parcel-{number:02}")
        while (await client.count()).get("waiting", 0) <= number:
            pass


async def test_unchanged_code_goes_on_with_all(runs: str) -> None:
    """All are replayed where they are few; runs without code are told, and stop nobody."""
    found = by_name(await check(runs, [order, entity], sample=10))
    assert all(each.ok for each in found.values())
    assert (found["order"].runs, found["order"].shapes, found["order"].replayed) == (14, 5, 14)
    assert found["order"].sampled == []
    assert (found["entity"].runs, found["entity"].replayed) == (1, 1)
    assert (found["forgotten"].runs, found["forgotten"].has_code) == (1, False)
    assert found["forgotten"].replayed == 0


async def test_exactly_the_runs_that_a_change_breaks_are_named(runs: str) -> None:
    """A whole shape, and a single run among others of its shape."""
    found = by_name(await check(runs, [order_with_a_change], sample=10))["order"]
    broken = {tuple(each.run_ids): each.explanation for each in found.broken}
    whole, one = ("order-02", "order-05", "order-08", "order-11"), ("order-07",)
    assert broken.keys() == {whole, one}
    assert "step reserve" in broken[whole]
    assert "gets other arguments" in broken[one]
    assert found.replayed == 12 + 2


async def test_a_branch_on_data_is_found_among_runs_of_one_shape(url: str) -> None:
    """Some hundreds are all replayed: none is let pass unseen."""
    await waiting(url, range(20))
    [found] = await check(url, [parcel_with_an_exception])
    assert (found.runs, found.shapes, found.replayed) == (20, 1, 20)
    assert [list(each.run_ids) for each in found.broken] == [["parcel-07"]]
    assert found.broken[0].replayed == 1
    assert found.sampled == []


async def test_a_sample_is_of_different_inputs_and_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of twelve has another input: it is among the four that are replayed."""
    monkeypatch.setattr(checking, "ENOUGH", 4)
    await waiting(url, [5] * 7 + [7] + [5] * 4)
    [found] = await check(url, [parcel])
    assert (found.ok, found.runs, found.shapes, found.replayed) == (True, 12, 1, 4)
    assert found.sampled == [Sampled("parcel-00", is_open=True, runs=12, replayed=4)]
    [found] = await check(url, [parcel_with_an_exception])
    assert [list(each.run_ids) for each in found.broken] == [["parcel-07"]]
    assert (found.replayed, found.sampled) == (12, [])
    [found] = await check(url, [parcel_of_another_kind])
    [broken] = found.broken
    assert (len(broken.run_ids), broken.replayed) == (12, 4)


def test_the_command_tells_what_was_a_sample(
    durable_sqlite: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the table, below it, and as JSON."""
    monkeypatch.setattr(checking, "ENOUGH", 4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    asyncio.run(waiting(durable_sqlite, range(12)))
    for name, imported in (("whole", "parcel"), ("other", "parcel_of_another_kind")):
        (tmp_path / f"{name}.py").write_text(f"from {__name__} import {imported}\n")
    assert main(["check", "whole", "--url", durable_sqlite]) == 0
    said = capsys.readouterr().out
    assert re.search(r"parcel +12 +1 +4 +all that were replayed", said)
    assert "4 of 12 runs like parcel-00 replayed" in said
    assert main(["check", "whole", "--url", durable_sqlite, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["sampled"] == [{"example": "parcel-00", "is_open": True, "runs": 12, "replayed": 4}]
    assert main(["check", "other", "--url", durable_sqlite]) == 1
    assert "12 runs would be blocked (4 of 12 replayed): parcel-00" in capsys.readouterr().out


@pytest.mark.parametrize(
    "sizes, most",
    [
        ([], 800),
        ([800], 800),
        ([1_000_000], 800),
        ([50, 50, 5_000], 700),
        ([5_000] * 20, 40),
        ([2] * 100 + [5_000] * 100, 6),
        ([5_000] * 300, 3),
    ],
)
def test_a_million_runs_cost_some_hundreds_of_replays(sizes: list[int], most: int) -> None:
    """All of small shapes, and as many of each large one as come to that."""
    assert checking._most(sizes) == most


async def test_runs_that_are_gone_meanwhile_break_nothing(
    durable_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting(durable_sqlite, range(3))

    async def of_nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(SqliteStorage, "history", of_nothing)
    [found] = await check(durable_sqlite, [parcel])
    assert found.ok


async def test_nothing_is_written(url: str, runs: str) -> None:
    """PostgreSQL would refuse it, and SQLite's file stays as it is, byte for byte."""
    before = contents(url)
    await check(url, ALL, sample=10)
    assert contents(url) == before
    if url.startswith("postgres"):
        async with Client(
            read_only(url)
        ) as client:  # its store: a client's verb would try for half a minute
            with pytest.raises(Exception, match="read-only transaction"):
                await client.storage.unregister(1)


def contents(url: str) -> Any:
    if not url.startswith("postgres"):
        return Path(url.removeprefix("sqlite:///")).read_bytes()
    with psycopg.connect(url) as connection:
        tables = [
            row[0]
            for row in connection.execute(
                "select tablename from pg_tables where schemaname = 'durable' order by 1"
            )
        ]
        return [
            connection.execute(
                f"select xmin::text, t::text from durable.{table} t order by 2"
            ).fetchall()
            for table in tables
        ]


def test_the_command_exits_with_1_where_a_run_would_be_blocked(
    runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table, what would be blocked, and why; all of it as JSON too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, imported in (("fits", "order, entity"), ("breaks", "order_with_a_change, entity")):
        (tmp_path / f"{name}.py").write_text(f"from {__name__} import {imported}\n")
    assert main(["check", "fits", "--url", runs]) == 0
    said = capsys.readouterr().out
    assert re.search(r"order +12 +3 +12 +all\n", said)
    assert re.search(r"forgotten +1 +1 +0 +not in these modules", said)
    assert main(["check", "breaks", "--url", runs]) == 1
    said = capsys.readouterr().out
    assert "4 runs would be blocked: order-02, order-05, order-08, order-11" in said
    assert "the code no longer matches its history" in said
    assert main(["check", "breaks", "--url", runs, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [each["workflow"] for each in told] == ["entity", "forgotten", "order"]
    assert main(["check", "fits"]) == 2
