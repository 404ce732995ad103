"""Requests: a question to a running workflow, taken once and answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable.clock import SECOND
from durable.engine.context import Context
from durable.model.definition import Workflow, workflow
from durable.model.events import Request
from durable.model.payload import ANY
from tests.engine.driver import Asked, Driver, Sent, failure, live, result, same_on_replay

ADD = Request("add", list[int], int)


def of(body: Callable[[Context], Any]) -> Workflow[None, Any]:
    @workflow(name="requests")
    async def requests(ctx: Context) -> Any:
        return await body(ctx)

    return requests


def run(body: Callable[[Context], Any], *sends: Sent) -> Any:
    found = [result(of(body), sends=sends, park=park) for park in (0, 1)]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("wait_from", [0.0, 10.0])
def test_a_request_is_taken_and_answered(wait_from: float):
    """`reply` encodes at once and is part of the same commit as what led to it."""

    async def body(ctx: Context) -> str:
        await ctx.sleep(wait_from)
        asked = await ctx.wait_for_request(ADD)
        asked.reply(sum(asked.payload))
        return "answered"

    recording = live(of(body), sends=[Asked(SECOND, "add", [1, 2])], noise=0, park=0)
    assert recording.commands("answer") == [("answer", 1, "add", ANY.encode(3, ""), None)]
    assert "answer" in [told[0] for told in recording.trace[-2]]  # with what follows from it
    assert same_on_replay(of(body), recording)


def test_a_request_may_be_rejected():
    """The workflow may `reject`, with a reason."""

    async def body(ctx: Context) -> str:
        (await ctx.wait_for_request(ADD)).reject("closed")
        return "rejected"

    recording = live(of(body), sends=[Asked(1, "add", [1])])
    assert recording.commands("answer")[0][3:] == (None, "closed")


def test_requests_are_taken_one_by_one_in_their_order():
    """A workflow that answers for ever is a service."""

    async def body(ctx: Context) -> list[int]:
        total = []
        for _ in range(3):
            asked = await ctx.wait_for_request(ADD)
            total.append(sum(asked.payload))
            asked.reply(sum(total))
        return total

    assert run(body, *(Asked(n, "add", [n, n]) for n in (1, 2, 3))) == [2, 4, 6]


@pytest.mark.parametrize("again", ["reply", "reject"])
def test_answering_twice_is_an_error(again: str):
    """A request is answered once."""

    async def body(ctx: Context) -> str:
        asked = await ctx.wait_for_request(ADD)
        asked.reply(1)
        try:
            asked.reply(2) if again == "reply" else asked.reject("no")
        except RuntimeError as error:
            return str(error)
        return ""

    assert run(body, Asked(1, "add", [])) == "request add was answered already"


def test_an_answer_of_another_type_is_refused_and_the_request_is_open_still():
    """The answer is encoded by the request's own type."""

    async def body(ctx: Context) -> str:
        asked = await ctx.wait_for_request(ADD)
        try:
            asked.reply("x")  # type: ignore[arg-type]
        except Exception as error:
            asked.reply(3)
            return type(error).__name__
        return ""

    assert run(body, Asked(1, "add", [])) == "PayloadError"


def test_an_answer_is_encoded_at_once():
    """20. Later changes to the object are not seen."""
    request = Request("list", int, list[int])

    async def body(ctx: Context) -> None:
        answer = [1]
        (await ctx.wait_for_request(request)).reply(answer)
        answer.append(2)

    recording = live(of(body), sends=[Asked(1, "list", 1)])
    assert ANY.decode(recording.commands("answer")[0][3], "") == [1]


def test_a_request_has_a_name_of_its_own_among_events():
    """An event of the same name is no request."""

    async def body(ctx: Context) -> list[Any]:
        event, request = await asyncio.gather(ctx.wait_for_event("add"), ctx.wait_for_request(ADD))
        request.reply(0)
        return [event, request.payload]

    assert run(body, Asked(1, "add", [1]), Sent(2, "add", 2)) == [2, [1]]


def test_a_request_that_does_not_fit_stays():
    """As events: it is told of, and the wait goes on."""

    async def body(ctx: Context) -> Any:
        asked = await ctx.wait_for_request(ADD)
        asked.reply(1)
        return asked.payload

    assert run(body, Asked(1, "add", "x"), Asked(2, "add", [5])) == [5]


def test_nobody_asks_in_time():
    """After `timeout`: `WaitTimeout`, or `default`."""

    async def body(ctx: Context) -> list[Any]:
        found = [await ctx.wait_for_request(ADD, timeout=0, default=None)]
        try:
            await ctx.wait_for_request(ADD, timeout=3)
        except TimeoutError as error:
            found.append(str(error).partition(" (")[0])  # type: ignore[arg-type]
        return found

    assert run(body) == [None, "run run: no request add came in time"]


def test_a_request_that_was_taken_and_given_back_can_be_taken_again():
    """A wait that is cancelled in time takes nothing away."""

    async def body(ctx: Context) -> Any:
        first = asyncio.create_task(ctx.wait_for_request(ADD))
        await ctx.sleep(1)
        first.cancel()
        asked = await ctx.wait_for_request(ADD)
        asked.reply(1)
        return asked.payload

    assert run(body, Asked(5 * SECOND, "add", [1])) == [1]


def test_only_a_request_can_be_waited_for():
    """A name alone has no types."""

    async def body(ctx: Context) -> None:
        await ctx.wait_for_request("add")  # type: ignore[call-overload]

    assert failure(of(body)).type == "builtins:TypeError"


def test_the_driver_takes_one_answer_for_each_request():
    """What the driver is told once it is not told again."""

    async def body(ctx: Context) -> None:
        for _ in range(2):
            (await ctx.wait_for_request(ADD)).reply(1)

    driver = Driver(of(body), sends=[Asked(1, "add", []), Asked(2, "add", [])], noise=0)
    driver.finish()
    assert sorted(driver.answers) == [1, 2]
