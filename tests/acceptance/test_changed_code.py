"""A workflow whose code changed under its runs: refused with both sides shown, and the run stays open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable import Client, Context, RunTerminated, Worker, step, workflow
from durable.worker import worker as worker_module


@step
async def reserve(n: int) -> str:
    return f"reserved {n}"


@step
async def charge(n: int) -> str:
    return f"charged {n}"


@step
async def renamed(n: int) -> str:
    return f"charged {n}"


Body = Callable[[Context], Awaitable[Any]]


def order_of(body: Body) -> Any:
    """A version of the workflow `order` with another body."""

    @workflow(name="order")
    async def order(ctx: Context) -> None:
        await body(ctx)

    return order


async def original(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.step(charge, 1)
    await ctx.sleep(0.5)


async def with_renamed(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.step(renamed, 1)
    await ctx.sleep(0.5)


async def with_swapped(ctx: Context) -> None:
    await ctx.step(charge, 1)
    await ctx.step(reserve, 1)
    await ctx.sleep(0.5)


async def with_inserted(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.step(reserve, 2)
    await ctx.step(charge, 1)
    await ctx.sleep(0.5)


async def with_removed(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.sleep(0.5)


async def with_other_arguments(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.step(charge, 2)
    await ctx.sleep(0.5)


async def ends_too_early(ctx: Context) -> None:
    await ctx.step(reserve, 1)


CHANGES = {
    with_renamed: ("step charge", "step renamed"),
    with_swapped: ("step reserve", "step charge"),
    with_inserted: ("step charge", "step reserve"),
    with_removed: ("step charge", "timer sleep"),
    with_other_arguments: ("step charge", "other arguments"),
    ends_too_early: ("step charge", "step charge was removed"),
}


async def parked(client: Client) -> None:
    """Drive a run of the original code until it sleeps, and take its worker away."""
    async with Worker(client, workflows=[order_of(original)]):
        handle = await client.start("order", id="order-1")
        await until(handle, "waiting")


async def until(handle: Any, status: str) -> None:
    async with asyncio.timeout(10):
        while await handle.status() != status:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_changed_workflow_blocks_its_run_and_says_where(
    client: Client, change: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parked(client)
    handle = client.handle("order-1")
    monkeypatch.setattr(worker_module, "code_fingerprint", lambda _: "changed")
    async with Worker(client, workflows=[order_of(change)]):
        await until(handle, "blocked")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.05)
    events = [event async for event in client.history("order-1")]
    assert events[-1].type == "Blocked"
    listed = [run async for run in client.list(status="blocked")]
    assert [run.id for run in listed] == ["order-1"]
    assert listed[0].waiting_for[0].startswith("NondeterminismError: run order-1 cannot go on")
    reason = events[-1].data["reason"]
    history, code = CHANGES[change]
    assert "NondeterminismError" in reason
    assert history in reason.split("code")[1] or history in reason
    assert code in reason
    assert "test_changed_code.py:" in reason
    assert [event.seq for event in events] == list(range(1, len(events) + 1))

    monkeypatch.setattr(worker_module, "code_fingerprint", lambda _: "mended")
    async with Worker(client, workflows=[order_of(original)]):
        assert await handle.result(timeout=10) is None
    types = [event.type async for event in client.history("order-1")]
    assert types[-3:] == ["Unblocked", "TimerFired", "RunCompleted"]


@pytest.mark.parametrize("mode", ["warn", "ignore"])
async def test_other_arguments_may_be_let_through(
    client: Client, mode: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`@step(fingerprint=)`: the recorded result is used, with a warning or without one."""

    async def lenient(ctx: Context) -> None:
        await ctx.step(reserve, 1)
        await ctx.step(charge.options(fingerprint=mode), 2)
        await ctx.sleep(0.5)

    await parked(client)
    monkeypatch.setattr(worker_module, "code_fingerprint", lambda _: "changed")
    async with Worker(client, workflows=[order_of(lenient)]):
        await client.handle("order-1").result(timeout=10)
    told = [line for line in caplog.messages if "with other arguments" in line]
    assert len(told) == (1 if mode == "warn" else 0)
    results = [
        e.data["result"] async for e in client.history("order-1") if e.type == "StepCompleted"
    ]
    assert results == ["reserved 1", "charged 1"]


async def test_the_code_that_blocked_a_run_does_not_try_it_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await parked(client)
    monkeypatch.setattr(worker_module, "code_fingerprint", lambda _: "changed")
    for _ in range(3):
        async with Worker(client, workflows=[order_of(with_renamed)]):
            await until(client.handle("order-1"), "blocked")
    types = [event.type async for event in client.history("order-1")]
    assert types.count("Blocked") == 1


async def test_what_an_ended_step_brought_is_kept_when_the_run_blocks(client: Client) -> None:
    """The event goes into the journal before the instance sees it: a step that ended never runs again."""
    fail = True

    @step
    async def count() -> int:
        calls.append(1)
        return len(calls)

    calls: list[int] = []

    @workflow(name="fragile")
    async def fragile(ctx: Context) -> int:
        result = await ctx.step(count)
        if fail:
            raise BlockingError
        return result

    class BlockingError(BaseException):
        pass

    async with Worker(client, workflows=[fragile]):
        handle = await client.start(fragile)
        with contextlib.suppress(Exception):
            await handle.result(timeout=10)
    assert await handle.status() == "failed"
    assert calls == [1]


async def test_a_run_of_an_unknown_workflow_stays_pending(client: Client) -> None:
    handle = await client.start("elsewhere", {"a": 1})
    async with Worker(client, workflows=[order_of(original)]):
        other = await client.start("order")
        await other.result(timeout=10)
    assert await handle.status() == "pending"


async def test_terminated_runs_say_so(client: Client) -> None:
    from durable.model.history import RunTerminated as Ended
    from durable.model.wire import encode_event

    handle = await client.start("elsewhere")
    await client.storage.terminate(
        handle.id, encode_event(0, Ended(client.clock.now(), "enough")), b""
    )
    with pytest.raises(RunTerminated, match="enough") as caught:
        await handle.result(timeout=10)
    assert caught.value.reason == "enough"
