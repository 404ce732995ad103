"""Every single fault at every store operation: sagas, cancels and what else changes the course of a run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from durable import Client, Context, Event, NotAllowedInWorkflow, Retry, workflow
from durable.errors import IllegalTransition
from tests.acceptance.crash_points import (
    LEDGER,
    OneOf,
    Report,
    Scenario,
    every,
    lines_of_workflows,
    on_postgres,
    sample,
)
from tests.acceptance.crash_programs import (
    acts,
    add,
    broken,
    cancel,
    doubled,
    make,
    make_for_good,
    make_slowly,
    make_with_trouble,
    outcome,
    plain,
    send,
    slow,
    undo_make,
    waits_long,
)

NOTE = Event("note", int)


# -- sagas


@workflow
async def trip(ctx: Context, n: int) -> None:
    for name in ("flight", "hotel", "car"):
        await ctx.step(make, name)
    await ctx.step(broken)


@workflow
async def caught(ctx: Context, n: int) -> str:
    await ctx.step(make, "before")
    try:
        async with ctx.saga():
            await ctx.step(make, "one")
            await ctx.step(make, "two")
            await ctx.step(broken)
    except LookupError:
        return f"caught {await ctx.step(add, n)}"
    return "no"


@workflow
async def nested(ctx: Context, n: int) -> None:
    async with ctx.saga():
        await ctx.step(make, "outer")
        try:
            async with ctx.saga():
                await ctx.step(make, "inner")
                await ctx.step(broken)
        except LookupError:
            await ctx.step(make, "again")
        await ctx.step(broken)


@workflow
async def troubled(ctx: Context, n: int) -> None:
    await ctx.step(make, "first")
    await ctx.step(make_with_trouble, "second")
    await ctx.step(broken)


@workflow
async def for_good(ctx: Context, n: int) -> None:
    await ctx.step(make, "first")
    await ctx.step(make_for_good, "second")
    await ctx.step(broken)


@workflow
async def still_running(ctx: Context, n: int) -> None:
    await ctx.step(make, "first")
    await asyncio.gather(ctx.step(make_slowly, "slow"), ctx.step(broken))


@workflow
async def registers(ctx: Context, n: int) -> None:
    ctx.compensate(undo_make, "by hand")
    await ctx.step(make, "second")
    await ctx.step(broken)


@workflow
async def cancelled_trip(ctx: Context, n: int) -> None:
    await ctx.step(make, "flight")
    await ctx.step(make, "hotel")
    await ctx.wait_for_event("never")


# -- cancels


@workflow
async def waits(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_event("never")


@workflow
async def works(ctx: Context, n: int) -> Any:
    return await ctx.step(slow, 500.0)


@workflow
async def swallows(ctx: Context, n: int) -> str:
    try:
        await ctx.sleep(500)
    except asyncio.CancelledError:
        return f"swallowed {await ctx.step(add, n)}"
    return "no"


@workflow
async def last_moment(ctx: Context, n: int) -> float:
    return await ctx.step(slow, 1.0)


@workflow
async def shielded(ctx: Context, n: int) -> str:
    async with ctx.shield():
        await ctx.step(slow, 3.0)
        await ctx.step(add, n)
    await ctx.sleep(500)
    return "no"


@workflow
async def cleans_up(ctx: Context, n: int) -> None:
    try:
        await ctx.sleep(500)
    finally:
        await ctx.step(add, n)


# -- the course of a run


@workflow
async def two_steps(ctx: Context, n: int) -> float:
    await ctx.step(slow, 2.0)
    return await ctx.step(add, n)


@workflow
async def napper(ctx: Context, n: int) -> int:
    await ctx.sleep(2)
    return await ctx.step(add, n)


@workflow(retry=Retry(max_attempts=3, initial=2, jitter=0))
async def stubborn(ctx: Context, n: int) -> None:
    await ctx.step(add, n)
    await ctx.step(broken)


@workflow
async def generations(ctx: Context, n: int) -> Any:
    if n < 3:
        await ctx.step(add, n)
        await ctx.continue_as_new(n + 1)
    return [n, await ctx.wait_for_event(NOTE), await ctx.wait_for_event(NOTE)]


@workflow
async def takes_one_each(ctx: Context, n: int) -> int:
    got = await ctx.wait_for_event(NOTE)
    if n < 3:
        await ctx.continue_as_new(n + 1)
    return got


@workflow
async def slow_generations(ctx: Context, n: int) -> int:
    await ctx.step(slow, 2.0)
    if n < 2:
        await ctx.continue_as_new(n + 1)
    return n


async def pause_over_a_new_generation(client: Client) -> Any:
    """The pause comes in the last step of a generation; the first step of the next one waits for `resume`."""
    await client.start(slow_generations, 1, id="a")
    await client.clock.sleep(1)
    await pause(client)
    await client.clock.sleep(8)
    if not LEDGER.lines:  # before the first resume, whoever calls it
        LEDGER.lines.append(
            f"{len({name for what, name in LEDGER.entries if what == 'began'})} begun"
        )
    await resume(client)
    return [LEDGER.lines[0], await outcome(client, slow_generations)]


@workflow
async def parent_of_generations(ctx: Context, n: int) -> int:
    if n < 2:
        await ctx.start(waits_long, n, id="kid")
        await ctx.step(add, n)
        await ctx.continue_as_new(n + 1)
    return await ctx.call(doubled, n, id="second")


@workflow
async def keeps_promises(ctx: Context, n: int) -> str:
    await ctx.step(make, "one")
    try:
        await ctx.continue_as_new(n)
    except NotAllowedInWorkflow:
        return "refused"


@workflow
async def patches(ctx: Context, n: int) -> Any:
    first = ctx.patched("dearer")
    await ctx.step(add, n)
    return [first, ctx.patched("dearer"), await ctx.step(add, n)]


@workflow
async def says(ctx: Context, n: int) -> int:
    ctx.set_state("progress", 1)
    await ctx.step(add, n)
    ctx.set_state("progress", {"done": 2})
    ctx.set_state("other", "x")
    await ctx.sleep(2)
    return n


async def pause(client: Client) -> None:
    with contextlib.suppress(IllegalTransition):
        await client.pause("a")


async def resume(client: Client) -> None:
    with contextlib.suppress(IllegalTransition):
        await client.resume("a")


async def pass_a_second(client: Client) -> None:
    """Nothing is done."""


async def never_driven(client: Client) -> Any:
    await client.start(works, 1, id="a", delay=8)
    await cancel(client)
    return await outcome(client, works)


async def state(client: Client) -> Any:
    result = await outcome(client, says)
    return [result, await client.state("a")]


def note(value: int) -> Any:
    return lambda client: send(client, "a", NOTE, value)


FAILED = ("RunFailed", "broken")
LATE = "run a passed its deadline"
CANCELLED = ("RunCancelled", "run a was cancelled: not needed")
AS_CANCELLED = {"a": "cancelled"}
COMPENSATED = {"a": "compensated"}
SCENARIOS: dict[str, Scenario] = {
    "saga of the run": plain(trip, FAILED, runs=COMPENSATED, undone=["car", "hotel", "flight"]),
    "saga block, caught": plain(caught, "caught 2", undone=["two", "one"]),
    "saga in a saga": plain(nested, FAILED, runs=COMPENSATED, undone=["inner", "again", "outer"]),
    "undo is retried": plain(
        troubled, FAILED, runs=COMPENSATED, undone=["second 1", "second 2", "first"]
    ),
    "undo fails": plain(
        for_good, FAILED, runs={"a": "compensation_failed"}, undone=["second", "first"]
    ),
    "undo of a step that is still running": plain(
        still_running, FAILED, runs=COMPENSATED, undone=["slow", "first"]
    ),
    "undo by hand": plain(registers, FAILED, runs=COMPENSATED, undone=["second", "by hand"]),
    "cancel undoes": Scenario(
        acts(cancelled_trip, pass_a_second, pass_a_second, cancel),
        (cancelled_trip,),
        CANCELLED,
        AS_CANCELLED,
        undone=OneOf(["hotel", "flight"], ["flight"], []),
    ),
    "cancel while it waits": Scenario(acts(waits, cancel), (waits,), CANCELLED, AS_CANCELLED),
    "cancel in a step": Scenario(acts(works, cancel), (works,), CANCELLED, AS_CANCELLED),
    "cancel, worker elsewhere": Scenario(
        acts(works, cancel), (works,), CANCELLED, AS_CANCELLED, elsewhere=True
    ),
    "cancel swallowed": Scenario(
        acts(swallows, cancel),
        (swallows,),
        OneOf("swallowed 2", CANCELLED),
        {"a": OneOf("completed", "cancelled")},
    ),
    "cancel as the last step ends": Scenario(
        acts(last_moment, cancel),
        (last_moment,),
        OneOf(1.0, CANCELLED),
        {"a": OneOf("completed", "cancelled")},
    ),
    "cancel held back by a shield": Scenario(
        acts(shielded, cancel), (shielded,), CANCELLED, AS_CANCELLED
    ),
    "cancel and cleaning up": Scenario(
        acts(cleans_up, cancel), (cleans_up,), CANCELLED, AS_CANCELLED
    ),
    "cancel before it began": Scenario(never_driven, (works,), CANCELLED, AS_CANCELLED),
    "pause and resume while it sleeps": Scenario(
        acts(napper, pause, pass_a_second, pass_a_second, resume), (napper,), 2
    ),
    "pause and resume in a step": Scenario(
        acts(two_steps, pause, pass_a_second, pass_a_second, resume), (two_steps,), 2
    ),
    "pause, worker elsewhere": Scenario(
        acts(two_steps, pause, pass_a_second, pass_a_second, resume),
        (two_steps,),
        2,
        elsewhere=True,
    ),
    "pause over a new generation": Scenario(
        pause_over_a_new_generation,
        (slow_generations,),
        [OneOf("0 begun", "1 begun"), 2],
        elsewhere=True,
    ),
    "cancel while it is paused": Scenario(
        acts(works, pause, cancel, resume), (works,), CANCELLED, AS_CANCELLED
    ),
    "deadline": Scenario(
        lambda client: outcome(client, works, timeout=4),
        (works,),
        ("RunTimeout", LATE),
        {"a": "failed"},
    ),
    "deadline of a run that nobody drives": Scenario(
        lambda client: outcome(client, waits, timeout=4),
        (waits,),
        ("RunTimeout", LATE),
        {"a": "failed"},
    ),
    "whole run again": plain(stubborn, FAILED, runs={"a": "failed"}),
    "new generations with unread events": Scenario(
        acts(generations, note(1), note(2)),
        (generations,),
        [3, 1, 2],
        events={"a": ["EventReceived"] * 2},
    ),
    "an event for each generation": Scenario(
        acts(takes_one_each, note(1), note(2), note(3)), (takes_one_each,), 3
    ),
    "new generation with open children": plain(
        parent_of_generations,
        6,
        waits_long,
        doubled,
        runs={"a": "completed", "kid": "cancelled", "second": "completed"},
    ),
    "no new generation with promises": plain(keeps_promises, "refused"),
    "patched": plain(patches, [True, True, 2]),
    "state": Scenario(state, (says,), [1, {"progress": {"done": 2}, "other": "x"}]),
}
SHORT = ("saga of the run", "cancel in a step", "pause and resume in a step", "deadline")
SHORT += ("new generations with unread events", "whole run again")
ON_POSTGRES, POINTS = on_postgres(SCENARIOS, SHORT)
REPORT = Report()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Faults are not news here."""
    with lines_of_workflows():
        yield


@pytest.fixture(scope="module", autouse=True)
def report() -> Iterator[None]:
    """Say in the end what was tried."""
    yield
    REPORT.print()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_course_of_a_run_survives_some_single_faults(name: str) -> None:
    """A cancel, a deadline, an undo take effect once, whatever fails (a sample of the points)."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], sample(14))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_course_of_a_run_survives_every_single_fault(name: str) -> None:
    """Every single fault of these scenarios: no sampling."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], every)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_same_on_postgresql(name: str, durable_postgres: str) -> None:
    """The same guarantees on PostgreSQL (a short selection)."""
    await REPORT.try_points(durable_postgres, name, SCENARIOS[name], POINTS)
