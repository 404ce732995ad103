"""Every single fault at every store operation: runs with children, and calls side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durable import (
    ChildCancelled,
    Client,
    Context,
    Err,
    RunAlreadyExists,
    WaitTimeout,
    workflow,
)
from tests.acceptance.crash_points import (
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
    failing,
    listener,
    outcome,
    plain,
    send,
    slow,
    waits_long,
)


@workflow
async def calls(ctx: Context, n: int) -> int:
    return await ctx.call(doubled, await ctx.step(add, n), id="kid")


@workflow
async def calls_with_its_own_ids(ctx: Context, n: int) -> list[int]:
    return [await ctx.call(doubled, n), await ctx.call(doubled, n + 1)]


@workflow
async def catches(ctx: Context, n: int) -> str:
    try:
        await ctx.call(failing, n, id="kid")
    except LookupError as error:
        return str(error)
    return "no"


@workflow
async def gives_up(ctx: Context, n: int) -> str:
    try:
        await ctx.call(waits_long, n, id="kid", timeout=3)
    except WaitTimeout:
        return f"gave up {await ctx.step(add, n)}"
    return "no"


@workflow
async def starts(ctx: Context, n: int) -> list[int]:
    handle = await ctx.start(doubled, n, id="kid")
    mine = await ctx.step(add, n)
    return [mine, await handle.result()]


@workflow
async def cancels_child(ctx: Context, n: int) -> str:
    handle = await ctx.start(waits_long, n, id="kid")
    await ctx.sleep(2)
    await handle.cancel()
    try:
        await handle.result()
    except ChildCancelled:
        return "cancelled"
    return "no"


@workflow
async def tells_child(ctx: Context, n: int) -> Any:
    handle = await ctx.start(listener, n, id="kid")
    await handle.send_event("note", 8)
    return await handle.result()


@workflow
async def claims_a_taken_id(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.call(doubled, n, id="taken"))
    except RunAlreadyExists:
        return f"taken {await ctx.step(add, n)}"


@workflow
async def joins_a_taken_id(ctx: Context, n: int) -> int:
    return await ctx.call(doubled, n, id="taken", on_conflict="return_existing")


@workflow
async def replaces_a_taken_id(ctx: Context, n: int) -> int:
    return await ctx.call(doubled, n, id="taken", on_conflict="restart")


@workflow
async def replaces_and_leaves(ctx: Context, n: int) -> int:
    await ctx.start(doubled, n, id="taken", on_conflict="restart", on_parent_close="abandon")
    return n


@workflow
async def replaces_and_ends(ctx: Context, n: int) -> int:
    await ctx.start(waits_long, n, id="taken", on_conflict="restart")
    return n


@workflow
async def replaces_and_cancels(ctx: Context, n: int) -> str:
    handle = await ctx.start(waits_long, n, id="taken", on_conflict="restart")
    await handle.cancel()
    try:
        return str(await handle.result())
    except ChildCancelled:
        return "cancelled"


@workflow
async def abandons(ctx: Context, n: int) -> int:
    await ctx.start(short_nap, n, id="kid", on_parent_close="abandon")
    return n


@workflow
async def short_nap(ctx: Context, n: int) -> int:
    await ctx.sleep(4)
    return await ctx.step(add, n)


@workflow
async def leaves(ctx: Context, n: int) -> int:
    await ctx.start(waits_long, n, id="kid")
    return await ctx.step(add, n)


@workflow
async def fails_with_a_child(ctx: Context, n: int) -> None:
    await ctx.start(waits_long, n, id="kid")
    await ctx.step(broken)


@workflow
async def middle(ctx: Context, n: int) -> int:
    return await ctx.call(waits_long, n, id="grandkid")


@workflow
async def top(ctx: Context, n: int) -> int:
    return await ctx.call(middle, n, id="kid")


@workflow
async def many(ctx: Context, n: int) -> list[int]:
    return await ctx.map(doubled, [n, n + 1, n + 2, n + 3], limit=2)


@workflow
async def side_by_side(ctx: Context, n: int) -> list[Any]:
    calls = {"a": ctx.step(add, n), "b": ctx.step(broken), "c": ctx.step(slow, 1.0)}
    found = await ctx.parallel(calls, on_error="complete_all")
    return ["error" if isinstance(one, Err) else one.value for one in found.values()]


@workflow
async def fails_fast(ctx: Context, n: int) -> str:
    try:
        await ctx.parallel([ctx.step(slow, 1000.0), ctx.call(waits_long, n, id="kid"), fail(ctx)])
    except LookupError as error:
        return str(error)
    return "no"


async def fail(ctx: Context) -> None:
    await ctx.sleep(2)
    await ctx.step(broken)


@workflow
async def mapped(ctx: Context, n: int) -> list[int]:
    return await ctx.map(add, range(n, n + 7), limit=3)


@workflow
async def races(ctx: Context, n: int) -> list[Any]:
    name, value = await ctx.race(
        note=ctx.wait_for_event("note"), step=ctx.step(slow, 300.0), nap=nap(ctx)
    )
    return [name, value]


async def nap(ctx: Context) -> int:
    await ctx.sleep(300)
    return 0


def first_taken(wf: Any) -> Any:
    """A run has the id that the child is to have."""

    async def program(client: Client) -> Any:
        if not await known(client, "taken"):
            await client.start(short_nap, 10, id="taken")
        return await outcome(client, wf)

    return program


async def known(client: Client, id: str) -> bool:
    return await client._try(lambda: client.storage.run(id)) is not None


async def joined(client: Client) -> Any:
    await client.start(doubled, 20, id="taken", delay=3)
    return await outcome(client, joins_a_taken_id)


async def joined_late(client: Client) -> Any:
    await outcome(client, doubled, 20, id="taken")
    return await outcome(client, joins_a_taken_id)


async def terminate(client: Client) -> None:
    row = await client._try(lambda: client.storage.run("a"))
    if row is not None and row.finished_at is None:
        await client.terminate("a", reason="enough")


def with_kid(parent: Any = "completed", kid: Any = "completed", id: str = "kid") -> dict[str, Any]:
    return {"a": parent, id: kid}


MAYBE = OneOf("cancelled", None)
"""Its parent was told to stop, perhaps before it had begun."""
CANCELLED = ("RunCancelled", "run a was cancelled: not needed")
SCENARIOS: dict[str, Scenario] = {
    "call": plain(calls, 6, doubled, runs={"a": "completed", "kid": "completed"}),
    "call, worker elsewhere": plain(calls, 6, doubled, runs=with_kid(), elsewhere=True),
    "calls with made ids": plain(
        calls_with_its_own_ids,
        [4, 6],
        doubled,
        runs={"a": "completed", "a.1": "completed", "a.2": "completed"},
        events={"a": ["ChildCompleted", "ChildCompleted"]},
    ),
    "call fails": plain(catches, "broken 1", failing, runs=with_kid(kid="failed")),
    "call times out": plain(gives_up, "gave up 2", waits_long, runs=with_kid(kid="cancelled")),
    "start and result": plain(starts, [2, 4], doubled, runs=with_kid()),
    "child cancelled by its handle": plain(
        cancels_child, "cancelled", waits_long, runs=with_kid(kid="cancelled")
    ),
    "event to a child": plain(tells_child, 8, listener, runs=with_kid()),
    "taken id, raise": Scenario(
        first_taken(claims_a_taken_id),
        (claims_a_taken_id, doubled, short_nap),
        "taken 2",
        with_kid(id="taken"),
    ),
    "taken id, join the run": Scenario(
        joined, (joins_a_taken_id, doubled), 42, with_kid(id="taken")
    ),
    "taken id, join a run that has ended": Scenario(
        joined_late, (joins_a_taken_id, doubled), 42, with_kid(id="taken")
    ),
    "taken id, restart": Scenario(
        first_taken(replaces_a_taken_id),
        (replaces_a_taken_id, doubled, short_nap),
        4,
        with_kid(id="taken"),
        many_attempts=True,
    ),
    "taken id, restart and leave": Scenario(
        first_taken(replaces_and_leaves),
        (replaces_and_leaves, doubled, short_nap),
        1,
        with_kid(id="taken"),
        many_attempts=True,
    ),
    "taken id, restart and end": Scenario(
        first_taken(replaces_and_ends),
        (replaces_and_ends, waits_long, short_nap),
        1,
        with_kid(kid="cancelled", id="taken"),
        many_attempts=True,
    ),
    "taken id, restart and cancel": Scenario(
        first_taken(replaces_and_cancels),
        (replaces_and_cancels, waits_long, short_nap),
        "cancelled",
        with_kid(kid="cancelled", id="taken"),
        many_attempts=True,
    ),
    "abandoned child": plain(abandons, 1, short_nap, runs=with_kid()),
    "child closed by policy": plain(leaves, 2, waits_long, runs=with_kid(kid="cancelled")),
    "child of a run that fails": plain(
        fails_with_a_child,
        ("RunFailed", "broken"),
        waits_long,
        runs=with_kid("failed", "cancelled"),
    ),
    "grandchildren are cancelled": Scenario(
        acts(top, cancel),
        (top, middle, waits_long),
        CANCELLED,
        {"a": "cancelled", "kid": MAYBE, "grandkid": MAYBE},
    ),
    "grandchildren are terminated": Scenario(
        acts(top, terminate),
        (top, middle, waits_long),
        ("RunTerminated", "run a was terminated: enough"),
        {"a": "terminated", "kid": MAYBE, "grandkid": MAYBE},
    ),
    "children side by side": plain(
        many,
        [4, 6, 8, 10],
        doubled,
        runs={"a": "completed", **{f"a.{n}": "completed" for n in range(1, 5)}},
    ),
    "parallel, complete all": plain(side_by_side, [2, "error", 1.0]),
    "parallel, fail fast": plain(fails_fast, "broken", waits_long, runs=with_kid(kid="cancelled")),
    "map with a limit": plain(mapped, list(range(2, 9))),
    "race": Scenario(acts(races, lambda c: send(c, "a", "note", 1)), (races,), ["note", 1]),
    "child ends as its parent is cancelled": Scenario(
        acts(calls, cancel),
        (calls, doubled),
        OneOf(6, CANCELLED),
        with_kid(OneOf("completed", "cancelled"), OneOf("completed", "cancelled", None)),
    ),
}
SHORT = ("call", "taken id, restart", "grandchildren are terminated", "children side by side")
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
async def test_a_family_survives_some_single_faults(name: str) -> None:
    """A child exists if and only if its start is in its parent's history (a sample of the points)."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], sample(14))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_family_survives_every_single_fault(name: str) -> None:
    """Every single fault of these scenarios: no sampling."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], every)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_same_on_postgresql(name: str, durable_postgres: str) -> None:
    """The same guarantees on PostgreSQL (a short selection)."""
    await REPORT.try_points(durable_postgres, name, SCENARIOS[name], POINTS)
