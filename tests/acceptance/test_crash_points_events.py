"""Every single fault at every store operation: runs that wait for events, people and requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durable import Client, Context, Event, Request, RunNotFound, WaitTimeout, workflow
from durable.errors import IllegalTransition, InputAlreadyProvided, InputNotPending
from tests.acceptance.crash_points import (
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
    ask,
    doubled,
    end_wait,
    give,
    listener,
    outcome,
    plain,
    publish,
    send,
    slow,
)

NOTE = Event("note", int)
PRICE = Request("price", str, int)


@workflow
async def waits(ctx: Context, n: int) -> int:
    return n + await ctx.wait_for_event(NOTE)


@workflow
async def waits_in_vain(ctx: Context, n: int) -> str:
    try:
        return str(await ctx.wait_for_event(NOTE))
    except WaitTimeout:
        return "in vain"


@workflow
async def busy_first(ctx: Context, n: int) -> int:
    await ctx.step(slow, 2.0)
    return n + await ctx.wait_for_event(NOTE)


@workflow
async def gives_up(ctx: Context, n: int) -> int:
    try:
        return await ctx.wait_for_event(NOTE, timeout=3)
    except WaitTimeout:
        return await ctx.step(add, n)


@workflow
async def has_default(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_event(NOTE, timeout=3, default="nothing")


@workflow
async def picks(ctx: Context, n: int) -> list[int]:
    large = await ctx.wait_for_event(NOTE, where=lambda value: value > 10)
    small = await ctx.wait_for_event(NOTE)
    return [large, small]


@workflow
async def any_of(ctx: Context, n: int) -> Any:
    return list(await ctx.wait_for_any(["no", "note"]))


@workflow
async def all_of(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_all(["one", "two"])


@workflow
async def keyed(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_event("paid", key="order-1")


@workflow
async def keyed_later(ctx: Context, n: int) -> Any:
    await ctx.sleep(4)
    return await ctx.wait_for_event("paid", key="order-1")


@workflow
async def collects(ctx: Context, n: int) -> list[int]:
    got: list[int] = []
    for _ in range(4):
        got.append(await ctx.wait_for_event(NOTE))
        await ctx.step(add, got[-1])
    return got


@workflow
async def sends(ctx: Context, n: int) -> int:
    await ctx.send_event("b", "note", 7)
    return await ctx.step(add, n)


@workflow
async def sends_to_itself(ctx: Context, n: int) -> int:
    await ctx.send_event(ctx.run_id, NOTE, 5)
    return await ctx.wait_for_event(NOTE)


@workflow
async def announces(ctx: Context, n: int) -> int:
    await ctx.publish("paid", 9, key="order-1")
    return n


@workflow
async def sends_to_nobody(ctx: Context, n: int) -> list[str]:
    found: list[str] = []
    for target in ("ended", "unknown"):
        try:
            await ctx.send_event(target, NOTE, 5)
        except (RunNotFound, IllegalTransition) as error:
            found.append(type(error).__name__)
    return found


@workflow
async def approved(ctx: Context, n: int) -> Any:
    decision = await ctx.wait_for_approval("manager", prompt="May I?")
    return [decision.approved, decision.comment, decision.by, await ctx.step(add, n)]


@workflow
async def impatient(ctx: Context, n: int) -> Any:
    return await ctx.wait_for_input("size", int, timeout=3, default=-1)


@workflow
async def sized(ctx: Context, n: int) -> int:
    first = await ctx.wait_for_input("size", int)
    return first + await ctx.wait_for_event(NOTE)


@workflow
async def prices(ctx: Context, n: int) -> list[str]:
    asked: list[str] = []
    for _ in range(2):
        request = await ctx.wait_for_request(PRICE)
        asked.append(request.payload)
        if request.payload == "pear":
            request.reply(await ctx.step(add, 40))
        else:
            request.reject("not sold here")
    return asked


async def to_another(client: Client) -> list[Any]:
    await client.start(listener, 1, id="b")
    sent = await outcome(client, sends)
    return [sent, await client.handle("b").result()]


async def to_everybody(client: Client) -> list[Any]:
    for id in ("b", "c"):
        await client.start(keyed, 1, id=id)
    await client.clock.sleep(1)
    await outcome(client, announces)
    return [await client.handle(id).result() for id in ("b", "c")]


async def to_nobody(client: Client) -> Any:
    await outcome(client, doubled, id="ended")
    return await outcome(client, sends_to_nobody)


async def answered_twice(client: Client) -> Any:
    await client.start(sized, 1, id="a")
    await give(client, "a", "size", 4)
    with pytest.raises((InputAlreadyProvided, InputNotPending)):
        await client.provide_input("a", "size", 5)
    await send(client, "a", NOTE, 10)
    return await outcome(client, sized)


async def asked(client: Client) -> Any:
    await client.start(prices, 1, id="a")
    answers = [await ask(client, "a", PRICE, "pear"), await ask(client, "a", PRICE, "apple")]
    return [*answers, await outcome(client, prices)]


def note(value: int) -> Any:
    return lambda client: send(client, "a", NOTE, value)


def paid(value: int) -> Any:
    return lambda client: publish(client, "paid", value, "order-1")


async def nothing(client: Client) -> None:
    """A second passes."""


PRICES = [41, "run a rejected request price: not sold here", ["pear", "apple"]]
TWO = {"a": "completed", "b": "completed"}
SCENARIOS: dict[str, Scenario] = {
    "event while waiting": Scenario(
        acts(waits, note(5)), (waits,), 6, events={"a": ["EventReceived"]}
    ),
    "event while waiting, worker elsewhere": Scenario(
        acts(waits, note(5)), (waits,), 6, elsewhere=True
    ),
    "event before the wait": Scenario(acts(busy_first, note(5)), (busy_first,), 6),
    "event never comes": plain(gives_up, 2),
    "event has a default": plain(has_default, "nothing"),
    "where leaves an event for others": Scenario(
        acts(picks, note(3), note(20)), (picks,), [20, 3], events={"a": ["EventReceived"] * 2}
    ),
    "any of several": Scenario(acts(any_of, note(5)), (any_of,), ["note", 5]),
    "all of several": Scenario(
        acts(all_of, lambda c: send(c, "a", "two", 2), lambda c: send(c, "a", "one", 1)),
        (all_of,),
        {"one": 1, "two": 2},
    ),
    "key, published while it waits": Scenario(acts(keyed, paid(3)), (keyed,), 3),
    "key, published before it waits": Scenario(acts(keyed_later, paid(3)), (keyed_later,), 3),
    "key, published twice": Scenario(acts(keyed_later, paid(3), paid(4)), (keyed_later,), 3),
    "wait ended from outside": Scenario(
        acts(waits_in_vain, lambda c: end_wait(c, "a", "note")),
        (waits_in_vain,),
        "in vain",
    ),
    "events in order": Scenario(
        acts(collects, note(1), note(2), nothing, note(3), note(4)),
        (collects,),
        [1, 2, 3, 4],
        events={"a": ["EventReceived"] * 4},
        ordered=True,
    ),
    "event to another run": Scenario(to_another, (sends, listener), [2, 7], TWO),
    "event to itself": plain(sends_to_itself, 5, events={"a": ["EventReceived"]}),
    "published by a run": Scenario(
        to_everybody, (announces, keyed), [9, 9], {**TWO, "c": "completed"}
    ),
    "event to nobody": Scenario(
        to_nobody,
        (doubled, sends_to_nobody),
        ["IllegalTransition", "RunNotFound"],
        {"ended": "completed", "a": "completed"},
    ),
    "approval": Scenario(
        acts(approved, lambda c: give(c, "a", "manager", {"approved": True, "comment": "ok"})),
        (approved,),
        [True, "ok", "ada", 2],
        events={"a": ["InputProvided"]},
    ),
    "input never given": plain(impatient, -1),
    "input answered twice": Scenario(
        answered_twice, (sized,), 14, events={"a": ["InputProvided", "EventReceived"]}
    ),
    "requests replied and rejected": Scenario(asked, (prices,), PRICES),
    "requests, worker elsewhere": Scenario(
        asked,
        (prices,),
        PRICES,
        elsewhere=True,
    ),
}
SHORT = (
    "events in order",
    "key, published before it waits",
    "approval",
    "requests replied and rejected",
)
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
async def test_a_waiting_run_survives_some_single_faults(name: str) -> None:
    """Each event is consumed once, in order, whatever fails (a sample of the points)."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], sample(14))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_waiting_run_survives_every_single_fault(name: str) -> None:
    """Every single fault of these scenarios: no sampling."""
    await REPORT.try_points("sqlite://", name, SCENARIOS[name], every)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_POSTGRES)
async def test_the_same_on_postgresql(name: str, durable_postgres: str) -> None:
    """The same guarantees on PostgreSQL (a short selection)."""
    await REPORT.try_points(durable_postgres, name, SCENARIOS[name], POINTS)
