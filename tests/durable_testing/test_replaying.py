"""`replay`: what code goes the way of a history, and what does not."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from durable import Client, Context, DurableError, Retry, Worker, step, workflow
from durable.errors import PayloadError
from durable_testing import Environment, assert_replays, replay


@step
async def reserve(item: str) -> str:
    return f"reserved {item}"


@step(compensate=reserve)
async def charge(amount: int) -> str:
    return f"charged {amount}"


@workflow
async def child(ctx: Context, n: int) -> int:
    return n + 1


@workflow
async def order(ctx: Context, amount: int) -> list[Any]:
    if ctx.patched("reserve-first"):
        await ctx.step(reserve, "book")
    paid = await ctx.step(charge, amount)
    told = await ctx.wait_for_event("paid", str)
    both = await ctx.parallel([ctx.call(child, 1), ctx.step(reserve, "pen")])
    await ctx.sleep(0.01)
    return [paid, told, *both]


@workflow
async def counts(ctx: Context, n: int) -> int:
    await ctx.step(reserve, str(n))
    if n < 3:
        await ctx.continue_as_new(n + 1)
    return n


@workflow
async def fails(ctx: Context) -> None:
    await ctx.step(charge, 1)
    message = "no such book"
    raise LookupError(message)


@workflow(retry=Retry(max_attempts=2, initial=0.01))
async def tries_again(ctx: Context) -> None:
    await ctx.step(charge, 1)
    message = "not again"
    raise LookupError(message)


@workflow
async def waits(ctx: Context) -> str:
    await ctx.step(reserve, "book")
    return await ctx.wait_for_event("never", str)


ALL = [child, order, counts, fails, tries_again, waits]


@pytest.fixture
async def client(durable_sqlite: str) -> Any:
    async with Client(durable_sqlite) as client, Worker(client, workflows=ALL):
        yield client


async def recorded(client: Client, wf: Any, *input: Any) -> str:
    """The history of a run that has ended, as a file."""
    handle = await client.start(wf, *input)
    if wf is order:
        await handle.send_event("paid", "yes")
    with contextlib.suppress(LookupError):
        await handle.result(timeout=20)
    return await client.export_history(handle.id)


Body = Callable[..., Coroutine[Any, Any, Any]]


def changed(name: str, body: Body) -> Any:
    """The workflow of a name with another body."""
    return workflow(name=name)(body)


@pytest.mark.parametrize(
    "wf, input",
    [(order, (5,)), (counts, (1,)), (fails, ()), (tries_again, ()), (child, (1,))],
    ids=lambda value: getattr(value, "name", None),
)
async def test_unchanged_code_replays(client: Client, wf: Any, input: tuple[Any, ...]) -> None:
    """Steps, events, children, groups, undos, patches, generations, retries of the whole run."""
    text = await recorded(client, wf, *input)
    report = replay(wf, text)
    assert report, report.explanation
    assert report.explanation.endswith("events replayed alike")


async def test_a_history_comes_from_the_client_a_text_or_a_file(
    client: Client, tmp_path: Path
) -> None:
    text = await recorded(client, counts, 1)
    file = tmp_path / "counts.history.json"
    file.write_text(text)
    [run] = await client.list(workflow=counts)
    events = [event async for event in client.history(run.id)]
    for history in (text, file, str(file), events):
        assert_replays(counts, history)
    with pytest.raises(DurableError, match="from its first event on"):
        replay(counts, events[1:])
    with pytest.raises(PayloadError):
        replay(counts, "{}")


async def test_an_open_run_may_go_on_otherwise(client: Client) -> None:
    """What has not been asked for yet may change; what it waits for may not."""
    handle = await client.start(waits)
    while await handle.status() != "waiting":
        pass
    text = await client.export_history(handle.id)

    async def waits_and_more(ctx: Context) -> str:
        await ctx.step(reserve, "book")
        told = await ctx.wait_for_event("never", str)
        return await ctx.step(reserve, told)

    async def waits_for_another(ctx: Context) -> str:
        await ctx.step(reserve, "book")
        return await ctx.wait_for_event("ever", str)

    assert replay(waits, text)
    assert replay(changed("waits", waits_and_more), text)
    report = replay(changed("waits", waits_for_another), text)
    assert not report
    assert "event never" in report.explanation
    assert "event ever" in report.explanation


async def counts_with_another_step(ctx: Context, n: int) -> int:
    await ctx.step(charge, 5)
    await ctx.step(reserve, str(n))
    if n < 3:
        await ctx.continue_as_new(n + 1)
    return n


async def counts_farther(ctx: Context, n: int) -> int:
    await ctx.step(reserve, str(n))
    if n < 4:
        await ctx.continue_as_new(n + 1)
    return n


async def counts_by_two(ctx: Context, n: int) -> int:
    await ctx.step(reserve, str(n))
    if n < 3:
        await ctx.continue_as_new(n + 2)
    return n


async def counts_another_way(ctx: Context, n: int) -> int:
    await ctx.step(reserve, str(n))
    if n < 3:
        await ctx.continue_as_new(n + 1)
    return -n


async def counts_on(ctx: Context, n: int) -> int:
    await ctx.step(reserve, str(n))
    if n < 3:
        await ctx.continue_as_new(n + 1)
    await ctx.step(reserve, "book")
    return n


@pytest.mark.parametrize(
    "body, told",
    [
        (counts_farther, ["completed with 3", "continued with 4"]),
        (counts_by_two, ["continued with 2", "continued with 3"]),
        (counts_another_way, ["completed with 3", "completed with -3"]),
        (counts_on, ["completed with 3", "goes on"]),
    ],
)
async def test_another_end_is_told_with_both_sides(
    client: Client, body: Body, told: list[str]
) -> None:
    text = await recorded(client, counts, 1)
    report = replay(changed("counts", body), text)
    assert not report.ok
    history, code = (
        next(line for line in report.explanation.splitlines() if line.startswith(f"  {side}"))
        for side in ("history", "code")
    )
    assert told[0] in history
    assert told[1] in code
    with pytest.raises(AssertionError, match="no longer matches its history"):
        assert_replays(changed("counts", body), text)


async def test_another_call_in_a_later_generation_is_told_with_both_sides(client: Client) -> None:
    text = await recorded(client, counts, 1)
    report = replay(changed("counts", counts_with_another_step), text)
    assert not report.ok
    assert re.search(r"> +\d+  step reserve  .* step charge  test_replaying", report.explanation)
    with pytest.raises(AssertionError, match="no longer matches its history"):
        assert_replays(changed("counts", counts_with_another_step), text)


# -- of another workflow, or version


def versioned(**options: Any) -> Any:
    async def body(ctx: Context) -> str:
        return await ctx.step(reserve, "book")

    return workflow(name="versioned", **options)(body)


async def test_a_renamed_workflow_goes_on_with_no_run_of_the_old_name(client: Client) -> None:
    text = await recorded(client, child, 1)
    report = replay(changed("kid", child.fn), text)
    assert not report.ok
    assert "it is of workflow child, and this code of workflow kid" in report.explanation
    assert '@workflow(name="child")' in report.explanation
    with pytest.raises(AssertionError, match="keep the name"):
        assert_replays(changed("kid", child.fn), text)


@pytest.mark.parametrize(
    "recorded_with, code, told",
    [
        (
            {"version": 2},
            {"version": 3},
            "of version 2 of workflow versioned, and this is version 3",
        ),
        ({"version": 2}, {}, "and this is code without a version"),
        ({}, {"version": 2}, "of version 1 of workflow versioned, and this is version 2"),
        ({"version": 2}, {"version": 2}, ""),
        ({}, {"version": 1}, ""),
        ({}, {}, ""),
    ],
)
async def test_a_run_stays_with_its_version(
    recorded_with: dict[str, int], code: dict[str, int], told: str
) -> None:
    old = versioned(**recorded_with)
    async with Environment(workflows=[old]) as env:
        await env.run(old, id="v")
        text = await env.client.export_history("v")
    report = replay(versioned(**code), text)
    assert report.ok is not bool(told)
    assert told in report.explanation


# -- files that were edited


async def test_a_history_may_have_been_saved_by_an_editor(client: Client, tmp_path: Path) -> None:
    """In UTF-8 as people write it, with or without a byte order mark."""
    edited = (await recorded(client, order, 5)).replace('"run": "', '"run": "bücher-')
    file = tmp_path / "edited.history.json"
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(edited, encoding=encoding)
        assert_replays(order, file)
        assert_replays(order, str(file))
        assert_replays(order, file.read_text(encoding="utf-8"))
    file.write_text(edited, encoding="latin-1")
    with pytest.raises(PayloadError, match=r"edited\.history\.json .* not text in UTF-8"):
        replay(order, file)


@pytest.mark.parametrize(
    "kept, told", [(slice(0), "it has no events"), (slice(1, None), "it begins with StepCompleted")]
)
async def test_a_history_without_its_beginning_is_refused(
    client: Client, kept: slice, told: str
) -> None:
    document = json.loads(await recorded(client, counts, 5))
    document["events"] = document["events"][kept]
    with pytest.raises(PayloadError, match=f"of run .* cannot be replayed: {told}, and not with"):
        replay(counts, json.dumps(document))
