"""What people read when code and history part: both in columns, the likely cause, what to write."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Coroutine
from textwrap import dedent
from typing import Any

import pytest

from durable import Client, Context, RunFailed, Worker, step, workflow
from durable_testing import Environment, replay

Body = Callable[[Context], Coroutine[Any, Any, None]]


@step
async def reserve(item: str) -> str:
    return item


@step
async def charge(cents: int) -> int:
    return cents


@step
async def ship(item: str) -> str:
    return item


@step
async def check_stock(item: str) -> bool:
    return True


@step(name="hold")
async def renamed_reserve(item: str) -> str:
    return item


def order(body: Body) -> Any:
    """A workflow of one and the same name with another body."""

    async def order(ctx: Context) -> None:
        await body(ctx)

    return workflow(order)


async def as_it_was(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.step(charge, 10)
    await ctx.sleep(5)
    await ctx.step(ship, "book")


async def with_one_added(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.step(check_stock, "book")
    await ctx.step(charge, 10)
    await ctx.sleep(5)
    await ctx.step(ship, "book")


async def with_one_removed(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.sleep(5)
    await ctx.step(ship, "book")


async def with_one_renamed(ctx: Context) -> None:
    await ctx.step(renamed_reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)


async def with_two_swapped(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(charge, 10)
    await ctx.wait_for_event("go", str, timeout=3, default=None)


async def with_one_replaced(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.step(check_stock, "book")


async def with_other_arguments(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.step(charge, 11)


async def with_chance(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.step(charge, random.randint(100, 200))


async def with_an_early_end(ctx: Context) -> None:
    await ctx.step(reserve, "book")


async def with_an_early_return(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    if ctx.now().year > 2000:
        return
    await ctx.wait_for_event("go", str)


async def with_an_event_renamed(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("went", str, timeout=3, default=None)
    await ctx.step(charge, 10)


async def with_an_exception(ctx: Context) -> None:
    prices: dict[str, int] = {}
    await ctx.step(reserve, "book")
    await ctx.wait_for_event("go", str, timeout=3, default=None)
    await ctx.step(charge, prices["book"])


async def with_an_exception_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(refused())


async def with_an_exception_beside_a_step(ctx: Context) -> None:
    await asyncio.gather(ctx.step(reserve, "book"), refused())


async def refused() -> None:
    raise ValueError("no more\nthan one line")


async def side_by_side(ctx: Context) -> None:
    both = ctx.step(check_stock, "book"), ctx.step(reserve, "book")
    await asyncio.gather(*both)


EXPLAINED: dict[Body, str] = {
    with_one_added: """\
        run o-1 cannot go on: the code no longer matches its history at command 3

                history             code
             1  step reserve  HERE  step reserve  HERE
             2  event go  HERE      event go  HERE
        >    3  step charge  HERE   step check_stock  HERE
             4  timer sleep  HERE
             5  step ship  HERE

          likely  step check_stock was added before step charge
          mend    if ctx.patched("add check_stock"):
                      await ctx.step(check_stock, "book")
        The run stays open and is tried again by a worker with other code.""",
    with_one_removed: """\
        run o-1 cannot go on: the code no longer matches its history at command 3

                history             code
             1  step reserve  HERE  step reserve  HERE
             2  event go  HERE      event go  HERE
        >    3  step charge  HERE
             4  timer sleep  HERE   timer sleep  HERE
             5  step ship  HERE

          likely  step charge was removed
          mend    if not ctx.patched("remove charge"):
                      ...  # as it was: step charge  HERE
        The run stays open and is tried again by a worker with other code.""",
    with_one_renamed: """\
        run o-1 cannot go on: the code no longer matches its history at command 1

                history             code
        >    1  step reserve  HERE  step hold  HERE
             2  event go  HERE
             3  step charge  HERE
             4  timer sleep  HERE

          likely  step reserve was renamed to hold, or replaced by it
          mend    @step(name="reserve"), if it does the same; or else
                  if ctx.patched("change reserve"):
                      ...  # as it is: step hold  HERE
                  else:
                      ...  # as it was: step reserve  HERE
        The run stays open and is tried again by a worker with other code.""",
    with_two_swapped: """\
        run o-1 cannot go on: the code no longer matches its history at command 2

                history             code
             1  step reserve  HERE  step reserve  HERE
        >    2  event go  HERE
             3  step charge  HERE   step charge  HERE
             4  timer sleep  HERE
             5  step ship  HERE

          likely  calls were reordered: step charge comes before event go now
          mend    if ctx.patched("change go"):
                      ...  # as it is: step charge  HERE
                  else:
                      ...  # as it was: event go  HERE
        The run stays open and is tried again by a worker with other code.""",
    with_chance: """\
        run o-1 cannot go on: the code no longer matches its history at command 3

                history             code
             1  step reserve  HERE  step reserve  HERE
             2  event go  HERE      event go  HERE
        >    3  step charge  HERE   step charge  HERE
             4  timer sleep  HERE
             5  step ship  HERE

          likely  step charge gets other arguments, or calls of it were swapped
          seen    random.randint() at HERE in a workflow draws other numbers on every replay: write ctx.random (DUR102)
          mend    @step(fingerprint="warn"), if the old result will do; or else
                  if ctx.patched("change charge"):
                      ...  # as it is: step charge  HERE
                  else:
                      ...  # as it was: step charge  HERE
        The run stays open and is tried again by a worker with other code.""",
    with_an_event_renamed: """\
        run o-1 cannot go on: the code no longer matches its history at command 2

                history             code
             1  step reserve  HERE  step reserve  HERE
        >    2  event go  HERE      event went  HERE
             3  step charge  HERE
             4  timer sleep  HERE
             5  step ship  HERE

          likely  event go was renamed to went, or replaced by it
          mend    if ctx.patched("change go"):
                      ...  # as it is: event went  HERE
                  else:
                      ...  # as it was: event go  HERE
        The run stays open and is tried again by a worker with other code.""",
    with_an_exception: """\
        run o-1 cannot go on: the code no longer matches its history at command 3

                history             code
             1  step reserve  HERE  step reserve  HERE
             2  event go  HERE      event go  HERE
        >    3  step charge  HERE
             4  timer sleep  HERE
             5  step ship  HERE

          likely  the code raises KeyError: 'book' at HERE, where history goes on with step charge
          mend    the line that raises; or, if it is meant to
                  if ctx.patched("change charge"):
                      ...  # as it is: raise KeyError  HERE
                  else:
                      ...  # as it was: step charge  HERE
        The run stays open and is tried again by a worker with other code.""",
    side_by_side: """\
        run o-1 cannot go on: the code no longer matches its history at command 1

                history             code
        >                           step check_stock  HERE
             1  step reserve  HERE  step reserve  HERE
             2  event go  HERE
             3  step charge  HERE
             4  timer sleep  HERE

          likely  step check_stock was added before step reserve
          mend    if ctx.patched("add check_stock"):
                      ...  # step check_stock  HERE
        The run stays open and is tried again by a worker with other code.""",
}

CAUSES: dict[Body, str] = {
    with_other_arguments: "step charge gets other arguments, or calls of it were swapped",
    with_one_replaced: "event go was replaced by step check_stock",
    with_an_early_end: "event go was removed",
    with_an_exception_in_a_group: "the code raises ValueError: no more at test_explaining.py:{refused}, where history"
    " goes on with step reserve",
    with_an_exception_beside_a_step: "the code raises ValueError: no more at test_explaining.py:{refused}, where history"
    " goes on with step reserve",
    with_an_early_return: "event go is not come to any more, or was given up at once",
}


@pytest.fixture
async def recorded() -> str:
    """The history of the code as it was."""
    wf = order(as_it_was)
    async with Environment(workflows=[wf]) as env:
        run = await env.client.start(wf, id="o-1")
        await run.result()
        return await env.client.export_history("o-1")


@pytest.mark.parametrize("change", EXPLAINED, ids=lambda change: change.__name__)
async def test_both_sides_stand_in_columns_with_the_cause_and_the_cure(recorded: str, change: Body):
    told = replay(order(change), recorded).explanation
    here = re.sub(r"test_explaining\.py:\d+", "HERE", told)
    assert _one_width(here) == _one_width(dedent(EXPLAINED[change]))
    head, *rows = told.split("\n\n")[1].splitlines()
    column = head.index("code")
    assert all(row[column - 2 : column].strip() == "" for row in rows)
    assert all(row[column] != " " for row in rows if len(row) > column)


def _one_width(text: str) -> str:
    """Columns are as wide as what stands in them: names of files are not in what is expected."""
    return re.sub(r"(?<=\S) {2,}", "  ", text)


@pytest.mark.parametrize("change", CAUSES, ids=lambda change: change.__name__)
async def test_the_likely_cause(recorded: str, change: Body):
    told = replay(order(change), recorded).explanation
    cause = CAUSES[change].format(refused=refused.__code__.co_firstlineno + 1)
    assert f"  likely  {cause}\n" in told


async def fails_and_undoes(ctx: Context) -> None:
    await ctx.step(step(reserve, name="reserve", compensate=ship), "book")
    raise ValueError("sold out")


async def fails(ctx: Context) -> None:
    await ctx.step(reserve, "book")
    raise ValueError("sold out")


async def test_an_exception_that_history_had_too_is_not_the_cause():
    wf = order(fails_and_undoes)
    async with Environment(workflows=[wf]) as env:
        run = await env.client.start(wf, id="o-1")
        with pytest.raises(RunFailed):
            await run.result()
        recorded = await env.client.export_history("o-1")
    assert "  likely  undo ship was removed\n" in replay(order(fails), recorded).explanation


async def test_what_a_worker_blocks_says_the_same(tmp_path, monkeypatch):
    """In the history, in full; in lists, its first line."""
    async with Client(f"sqlite:///{tmp_path}/x.db") as client:
        async with Worker(client, workflows=[order(as_it_was)]):
            run = await client.start("order", id="o-1")
            await _until(run, "waiting")
        monkeypatch.setattr("durable.worker.worker.code_fingerprint", lambda _: "other")
        async with Worker(client, workflows=[order(with_one_renamed)]):
            await _until(run, "blocked")
        reasons = [e.data["reason"] async for e in client.history("o-1") if e.type == "Blocked"]
        assert "likely  step reserve was renamed to hold, or replaced by it" in reasons[0]
        assert "> " in reasons[0]
        [blocked] = (await client.list(status="blocked")).items
        assert blocked.waiting_for == (reasons[0].splitlines()[0],)


async def test_what_cannot_be_explained_is_blocked_all_the_same(recorded: str, monkeypatch, caplog):
    monkeypatch.setattr("durable.worker.explaining._mentioned", lambda _: 1 / 0)
    told = replay(order(with_one_removed), recorded).explanation
    assert told.startswith(
        "run o-1 cannot go on: the code no longer matches its history at command 3: "
    )
    assert "could not be explained" in caplog.text


async def _until(run: Any, status: str) -> None:
    end = time.monotonic() + 10
    while await run.status() != status:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
