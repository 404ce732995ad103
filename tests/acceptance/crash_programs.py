"""Steps, and acts of users, for scenarios with crash points. Every act may be repeated after a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from durable import Client, Context, Request, Retry, current_step, step, workflow
from durable.errors import (
    IllegalTransition,
    InputAlreadyProvided,
    InputNotPending,
    RequestRejected,
)
from tests.acceptance.crash_points import LEDGER, Scenario

# -- steps


@step
async def add(n: int) -> int:
    LEDGER.began()
    return n + 1


@step
async def slow(seconds: float) -> float:
    LEDGER.began()
    await LEDGER.takes(seconds)
    return seconds


@step
async def broken(what: str = "broken") -> None:
    LEDGER.began()
    raise LookupError(what)


@step
async def undo_make(name: str) -> None:
    LEDGER.undo(name)


@step(compensate=undo_make)
async def make(name: str) -> str:
    LEDGER.began()
    return name


@step(compensate=undo_make)
async def make_slowly(name: str) -> str:
    LEDGER.began()
    await LEDGER.takes(2.0)
    return name


@step(retry=Retry(max_attempts=3, initial=1, jitter=0))
async def undo_with_trouble(name: str) -> None:
    LEDGER.undo(f"{name} {current_step().attempt}")
    if current_step().attempt < 2:
        raise OSError("not yet")


@step(compensate=undo_with_trouble)
async def make_with_trouble(name: str) -> str:
    LEDGER.began()
    return name


@step
async def cannot_undo(name: str) -> None:
    LEDGER.undo(name)
    raise OSError("never")


@step(compensate=cannot_undo)
async def make_for_good(name: str) -> str:
    LEDGER.began()
    return name


# -- children


@workflow
async def doubled(ctx: Context, n: int) -> int:
    return 2 * await ctx.step(add, n)


@workflow
async def waits_long(ctx: Context, n: int) -> int:
    await ctx.sleep(300)
    return n


@workflow
async def failing(ctx: Context, n: int) -> int:
    await ctx.step(broken, f"broken {n}")
    return n


@workflow
async def listener(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_event("note")


# -- acts of users


async def start_and_wait(client: Client, wf: Any, n: Any = 1, id: str = "a", **options: Any) -> Any:
    handle = await client.start(wf, n, id=id, **options)
    return await handle.result()


async def outcome(client: Client, wf: Any, n: Any = 1, id: str = "a", **options: Any) -> Any:
    """The result of a run, or the name and text of its error."""
    try:
        return await start_and_wait(client, wf, n, id, **options)
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        kinds = ("RunTimeout", "RunTerminated", "RunCancelled", "RunFailed")
        return next(name for name in kinds if name in names), str(error)


async def send(client: Client, id: str, event: Any, payload: Any) -> None:
    """An event, once: it has the same idempotency key whenever it is sent."""
    with contextlib.suppress(IllegalTransition):
        await client.send_event(id, event, payload, idempotency_key=f"{event} {payload}")


async def publish(client: Client, name: str, payload: Any, key: str) -> None:
    await client.publish(name, payload, key=key, idempotency_key=f"{name} {payload}")


async def end_wait(client: Client, id: str, name: str) -> None:
    with contextlib.suppress(IllegalTransition):
        await client.cancel_wait(id, name)


async def give(client: Client, id: str, name: str, data: Any) -> None:
    """Answer an input as soon as it is asked for, unless it was answered already."""
    with contextlib.suppress(InputAlreadyProvided, InputNotPending):
        await client.provide_input(id, name, data, by="ada", wait=60)


async def ask(client: Client, id: str, request: Request[Any, Any], payload: Any) -> Any:
    """What was answered, or the reason why there is no answer."""
    handle = client.handle(id)
    try:
        return await handle.request(request, payload, timeout=None, idempotency_key=str(payload))
    except RequestRejected as error:
        return str(error)


async def cancel(client: Client, id: str = "a") -> None:
    """Ask for a cancel; it may have been heard already, before a crash."""
    with contextlib.suppress(IllegalTransition):
        await client.cancel(id, reason="not needed")


def acts(wf: Any, *acts: Callable[[Client], Awaitable[Any]], n: Any = 1, **options: Any) -> Any:
    """A program: start `a`, wait a little, do these things one second apart, and say how it ended."""

    async def program(client: Client) -> Any:
        await client.start(wf, n, id="a", **options)
        for act in acts:
            await client.clock.sleep(1)
            await act(client)
        return await outcome(client, wf, n, **options)

    return program


def plain(wf: Any, expected: Any, *others: Any, **options: Any) -> Scenario:
    """A run that needs nobody."""
    return Scenario(lambda client: outcome(client, wf), (wf, *others), expected, **options)
