"""What stands in for steps and children gives outcomes; retries, time-outs and the storing of values stay real."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable import (
    ChildFailed,
    Context,
    DefinitionError,
    PayloadError,
    Retry,
    RunFailed,
    StepTimeout,
    hours,
    step,
    workflow,
)
from durable.model.steps import as_step
from durable_testing import Environment, MockedCall

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Order:
    id: str
    lines: list[str]


class CardDeclined(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@step(retry=Retry(max_attempts=3, initial=60, jitter=0, give_up_on=(CardDeclined,)), timeout=30)
async def charge(order: Order, *, cents: int = 5) -> str:
    raise AssertionError("the real one")


def plain(word: str) -> str:
    raise AssertionError("the real one")


@step
def threaded(word: str) -> str:
    raise AssertionError("the real one")


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    try:
        return await ctx.step(charge, order, cents=7)
    except CardDeclined as declined:
        return f"declined {declined.code}"


@workflow
async def speak(ctx: Context, word: str) -> str:
    return await ctx.step(plain, word) + await ctx.step(threaded, word)


async def test_a_result(url: str) -> None:
    async with Environment(workflows=[fulfil], url=url) as env:
        charged = env.mock(charge, returns="ch_1")
        order = Order("a", ["lamp"])
        assert await env.run(fulfil, order) == "ch_1"
        assert charged.calls == [MockedCall((order,), {"cents": 7}, 1)]
        assert charged.calls[0].args[0] is not order


async def test_a_failure_arrives_as_itself(url: str) -> None:
    async with Environment(workflows=[fulfil], url=url) as env:
        charged = env.mock(charge, raises=CardDeclined(51))
        assert await env.run(fulfil, Order("a", [])) == "declined 51"
        assert len(charged.calls) == 1


async def test_one_outcome_for_each_attempt_with_the_steps_own_retries() -> None:
    async with Environment(workflows=[fulfil]) as env:
        charged = env.mock(charge, outcomes=[OSError("away"), OSError("away"), "ch_3"])
        assert await env.run(fulfil, Order("a", [])) == "ch_3"
        assert [call.attempt for call in charged.calls] == [1, 2, 3]
        assert env.now() - START == timedelta(minutes=3)


async def test_more_attempts_than_outcomes_are_an_error_that_says_so() -> None:
    async with Environment(workflows=[speak]) as env:
        env.mock(plain, outcomes=["a"])
        env.mock(threaded, returns="b")
        assert await env.run(speak, "x") == "ab"
        with pytest.raises(AssertionError, match=r"mock\(plain\): all 1 outcomes are used up"):
            await env.run(speak, "x")


@workflow
async def resigned(ctx: Context, word: str) -> str:
    try:
        return await ctx.step(plain, word)
    except Exception:
        return "nothing"


async def fails_unseen(url: str = "sqlite://", *, result: str) -> None:
    async with Environment(workflows=[resigned], url=url) as env:
        env.mock(plain, outcomes=["a"])
        assert await env.run(resigned, "x") == "a"
        assert await env.run(resigned, "x") == result, "no"


async def test_outcomes_that_are_used_up_fail_a_test_that_does_not_see_it(url: str) -> None:
    with pytest.raises(AssertionError, match=r"mock\(plain\): all 1 outcomes are used up") as error:
        await fails_unseen(url, result="nothing")
    assert "resigned" in error.value.__notes__[-1]  # its runs are shown


async def test_another_error_of_a_test_tells_of_them() -> None:
    with pytest.raises(AssertionError, match="no") as error:
        await fails_unseen(result="something")
    assert "a step has raised: mock(plain): all 1 outcomes are used up" in error.value.__notes__[0]


async def test_a_parent_that_fails_with_them_is_seen() -> None:
    @workflow
    async def outer(ctx: Context) -> str:
        return await ctx.call(speak, "x")

    async with Environment(workflows=[outer, speak]) as env:
        env.mock(plain, outcomes=[])
        with pytest.raises(AssertionError, match="all 0 outcomes are used up"):
            await env.run(outer)


async def test_a_function_is_called_with_the_arguments() -> None:
    async def say(word: str) -> str:
        return word.upper()

    async with Environment(workflows=[speak]) as env:
        env.mock(plain, using=say)
        env.mock(threaded, using=lambda word: word * 2)
        assert await env.run(speak, "hi") == "HIhihi"


async def test_what_takes_too_long_times_out() -> None:
    async def slow(order: Order, *, cents: int = 5) -> str:
        if len(charged.calls) < 2:
            await env.advance(hours(1))
        return "late"

    async with Environment(workflows=[fulfil]) as env:
        charged = env.mock(charge, using=slow)
        assert await env.run(fulfil, Order("a", [])) == "late"
        assert [call.attempt for call in charged.calls] == [1, 2]
        assert env.now() - START == timedelta(seconds=30 + 60)
        charged = env.mock(charge, using=lambda order, cents: env.advance(hours(1)))
        with pytest.raises(StepTimeout, match="took longer than 30 s"):
            await env.run(fulfil, Order("a", []))


async def test_a_result_of_another_type_is_refused_as_that_of_a_step_is() -> None:
    async with Environment(workflows=[fulfil]) as env:
        charged = env.mock(charge, returns=5)  # type: ignore[call-overload]
        with pytest.raises(PayloadError, match="result of step charge"):
            await env.run(fulfil, Order("a", []))
        assert len(charged.calls) == 1


async def test_the_newest_one_counts_and_options_change_nothing() -> None:
    @workflow
    async def patient(ctx: Context, order: Order) -> str:
        return await ctx.step(charge.options(timeout=90), order)

    async with Environment(workflows=[patient]) as env:
        first = env.mock(charge, returns="first")
        second = env.mock(charge, returns="second")
        assert await env.run(patient, Order("a", [])) == "second"
        assert (len(first.calls), len(second.calls)) == (0, 1)


async def test_a_method_is_mocked_for_every_instance() -> None:
    class Payments:
        def __init__(self, key: str) -> None:
            self.key = key

        @step
        async def pay(self, cents: int) -> str:
            raise AssertionError("the real one")

    one, other = Payments("one"), Payments("other")

    @workflow
    async def paying(ctx: Context) -> list[str]:
        return [await ctx.step(one.pay, 1), await ctx.step(other.pay, 2)]

    async with Environment(workflows=[paying]) as env:
        paid = env.mock(Payments.pay, returns="paid")
        assert await env.run(paying) == ["paid", "paid"]
        assert [call.args for call in paid.calls] == [(1,), (2,)]


async def test_two_steps_of_one_function_are_told_apart_by_name() -> None:
    def send(word: str) -> str:
        raise AssertionError("the real one")

    mail, text = step(send, name="mail"), step(send, name="text")

    @workflow
    async def sending(ctx: Context) -> str:
        return await ctx.step(mail, "a") + await ctx.step(text, "b")

    async with Environment(workflows=[sending]) as env:
        env.mock(mail, returns="m")
        env.mock(text, returns="t")
        assert await env.run(sending) == "mt"


@step(name="deliver.parcel")
async def deliver(word: str) -> str:
    return f"really {word}"


class Post:
    @step
    async def send(self, word: str) -> str:
        return f"really {word}"


@pytest.mark.parametrize("mocked", [threaded, threaded.fn, deliver, deliver.fn, Post.send])
async def test_a_step_is_mocked_under_every_name_that_it_is_given(mocked: Any) -> None:
    used = as_step(Post().send if mocked is Post.send else mocked).options(name="another")

    @workflow
    async def using(ctx: Context) -> str:
        return await ctx.step(used, "a")

    async with Environment(workflows=[using]) as env:
        made = env.mock(mocked, returns="mocked")
        assert await env.run(using) == "mocked"
        assert len(made.calls) == 1


async def test_a_mock_of_another_name_stands_for_that_name_only() -> None:
    other = deliver.options(name="other")

    @workflow
    async def using(ctx: Context) -> list[str]:
        return [await ctx.step(each, "a") for each in (deliver, other)]

    async with Environment(workflows=[using]) as env:
        env.mock(other, returns="other")
        assert await env.run(using) == ["really a", "other"]
        env.mock(deliver, returns="any")
        assert await env.run(using) == ["any", "other"]


async def test_undoing_is_mocked_like_any_step() -> None:
    async def refund(charge_id: str) -> None:
        raise AssertionError("the real one")

    @step(compensate=refund)
    async def take() -> str:
        return "ch_1"

    @workflow
    async def failing(ctx: Context) -> None:
        await ctx.step(take)
        raise ValueError("no")

    async with Environment(workflows=[failing]) as env:
        refunded = env.mock(refund, returns=None)
        with pytest.raises(ValueError, match="no"):
            await env.run(failing, id="f")
        assert [call.args for call in refunded.calls] == [("ch_1",)]
        assert (await env.client.get("f")).status == "compensated"


@pytest.mark.parametrize("given", [{}, {"returns": 1, "raises": OSError()}])
async def test_exactly_one_outcome_is_given(given: dict[str, object]) -> None:
    env = Environment(workflows=[speak])
    with pytest.raises(TypeError, match="one of returns=, raises=, outcomes= and using= is needed"):
        env.mock(plain, **given)


async def test_what_has_no_name_cannot_be_mocked() -> None:
    env = Environment(workflows=[speak])
    with pytest.raises(DefinitionError, match="no name of its own"):
        env.mock(lambda: 1, returns=1)


# -- children


@workflow
async def quote(ctx: Context, order: Order) -> Order:
    raise AssertionError("the real one")


@workflow
async def parent(ctx: Context, order: Order) -> list[str]:
    try:
        return (await ctx.call(quote, order, id="quoted")).lines
    except CardDeclined as declined:
        assert isinstance(declined, ChildFailed)
        return [f"declined {declined.code}"]


async def test_a_child_is_started_and_its_result_is_given(url: str) -> None:
    async with Environment(workflows=[parent, quote], url=url) as env:
        quoted = env.mock(quote, returns=Order("q", ["10 EUR"]))
        assert await env.run(parent, Order("a", [])) == ["10 EUR"]
        assert [call.args for call in quoted.calls] == [(Order("a", []),)]
        assert (await env.client.get("quoted")).status == "completed"


async def test_a_child_fails_as_itself() -> None:
    async with Environment(workflows=[parent, quote]) as env:
        env.mock(quote, raises=CardDeclined(7))
        assert await env.run(parent, Order("a", [])) == ["declined 7"]


async def test_a_mocked_child_is_mocked_after_a_crash_too() -> None:
    async with Environment(workflows=[parent, quote]) as env:
        quoted = env.mock(quote, returns=Order("q", ["10 EUR"]))
        await env.crash()
        assert await env.run(parent, Order("a", [])) == ["10 EUR"]
        assert len(quoted.calls) == 1


async def test_a_mocked_workflow_can_be_started_by_the_test() -> None:
    async with Environment(workflows=[quote]) as env:
        env.mock(quote, outcomes=[Order("1", []), OSError("away")])
        assert await env.run(quote, Order("a", [])) == Order("1", [])
        with pytest.raises(OSError, match="away") as failed:
            await env.run(quote, Order("a", []))
        assert isinstance(failed.value, RunFailed)


async def test_a_child_that_nobody_runs_cannot_be_mocked() -> None:
    env = Environment(workflows=[parent])
    with pytest.raises(DefinitionError, match="quote is not among the workflows"):
        env.mock(quote, returns=Order("q", []))


async def test_a_failure_that_nobody_catches_fails_the_run() -> None:
    async with Environment(workflows=[speak]) as env:
        env.mock(plain, raises=OSError("away"))
        with pytest.raises(OSError, match="away") as failed:
            await env.run(speak, "x")
        assert isinstance(failed.value, RunFailed)
