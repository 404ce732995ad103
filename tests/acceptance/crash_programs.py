"""Steps, and acts of users, for scenarios with crash points. Every act may be repeated after a crash."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from durable import Client, Context, Retry, current_step, step, workflow
from durable.clock import SECOND
from durable.errors import IllegalTransition
from durable.model import history
from durable.model.events import NO_PAYLOAD, sent
from durable.model.messages import (
    end_wait_message,
    input_message,
    pack_input,
    request_message,
)
from durable.model.payload import ANY
from durable.model.rows import Answer, Answered, Delivery, Publication, WaitFilter, WaitKind
from durable.model.wire import decode_event
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


async def start_and_wait(
    client: Client, wf: Any, n: Any = 1, id: str = "a", **options: Any
) -> Any:
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


async def send(client: Client, id: str, event: Any, payload: Any = NO_PAYLOAD) -> None:
    """An event, once: it has the same idempotency key whenever it is sent."""
    name, data = sent(event, payload)
    order = Delivery(id, name, data, f"{name} {payload!r}")
    await client._try(lambda: client.storage.deliver([order]))
    client._stirred()


async def publish(client: Client, name: str, payload: Any, key: str) -> None:
    name, data = sent(name, payload)
    until = client._now() + 3600 * SECOND
    one = Publication(name, key, data, until, f"{name} {payload!r}")
    await client._try(lambda: client.storage.publish([one]))
    client._stirred()


async def end_wait(client: Client, id: str, name: str) -> None:
    order = Delivery(id, end_wait_message(name), b"", f"end {name}")
    await client._try(lambda: client.storage.deliver([order]))
    client._stirred()


async def give(client: Client, id: str, name: str, data: Any) -> int:
    """Answer an input as soon as it is asked for, unless it was answered already; its command."""
    where = WaitFilter((WaitKind.INPUT,), run_id=id, name=name)
    while not (found := await client._try(lambda: client.storage.waits(where))):
        kind = history.InputProvided.code
        known = await client._try(lambda: client.storage.newest(id, kind, name))
        if known is not None:
            return known.cmd or 0
        await client.clock.sleep(0.5)
    cmd = found[0].cmd
    assert (await answer(client, id, name, data, cmd)).accepted
    return cmd


async def answer(client: Client, id: str, name: str, data: Any, cmd: int) -> Answered:
    payload = pack_input(ANY.encode(data, "answer"), "ada")
    token, now = secrets.token_hex(4), client._now()
    one = Answer(id, cmd, input_message(cmd, name), payload, token, "ada", now)
    answered = await client._try(lambda: client.storage.answer(one))
    client._stirred()
    return answered


async def ask(client: Client, id: str, name: str, payload: Any) -> tuple[Any, str | None]:
    """A request and what was answered: a value, or the reason why there is none."""
    order = Delivery(id, request_message(name), ANY.encode(payload, name), f"{name} {payload!r}")
    (answer,) = await client._try(lambda: client.storage.deliver([order]))
    client._stirred()
    assert answer.number is not None
    place = (id, answer.number)
    while not (found := await client._try(lambda: client.storage.replies([place]))):
        await client.clock.sleep(0.5)
    event = decode_event(found[place])
    assert isinstance(event, history.RequestAnswered)
    value = None if event.answer is None else ANY.decode(event.answer, name)
    return value, event.rejected


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


def case(scenarios: dict[str, Scenario]) -> Any:
    """How these scenarios are parametrized."""
    return pytest.mark.parametrize("name", scenarios)


def names(*given: str) -> Sequence[str]:
    return given
