"""Exceptions: of steps, of the workflow function, and those that must not escape."""

from __future__ import annotations

import asyncio

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.errors import NonRetryable, PayloadError, RetryAfter, StepFailed
from durable.model import history
from durable.model.definition import step, workflow
from durable.model.retry import Retry
from tests.engine.driver import (
    START,
    Driver,
    Stuck,
    failure,
    live,
    replay,
    result,
    tell,
)
from tests.engine.workflows import double, flaky, note


class CardDeclined(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Odd:
    """Its representation has no address, so that messages about it are the same everywhere."""

    def __repr__(self) -> str:
        return "an odd thing"


@step
def decline() -> None:
    raise CardDeclined("no money", 51)


@step(retry=Retry(max_attempts=3, initial=10, jitter=0, give_up_on=(KeyError,)))
def always_fails(how: str) -> None:
    raise {"value": ValueError, "key": KeyError, "type": TypeError, "final": NonRetryable}[how](how)


@step(retry=4)
def wants_time() -> None:
    raise RetryAfter(60, "later")


def test_an_exception_of_a_step_arrives_as_itself_and_as_step_failed():
    """Rebuilt from data, live and after replay alike."""

    @workflow
    async def catches(ctx: Context) -> list[object]:
        try:
            await ctx.step(decline)
        except CardDeclined as error:
            assert isinstance(error, StepFailed)
            seen = [error.code, str(error), error.step, error.attempts, error.failure.message]
            return [*seen, await ctx.step(note, f"code {error.code}")]
        return []

    assert result(catches) == [51, "no money", "decline", 1, "no money", "code 51"]


def test_an_exception_that_nobody_catches_fails_the_run():
    """Any exception that leaves the workflow function fails the run."""

    @workflow
    async def lets_it_pass(ctx: Context) -> None:
        await ctx.step(decline)

    told = failure(lets_it_pass)
    assert told.message == "no money"
    assert told.type.endswith(":CardDeclined")


def test_attempts_go_round_until_one_completes():
    """An attempt that fails is an event; the step is asked for again, due when the event says."""

    @workflow
    async def retries(ctx: Context) -> int:
        return await ctx.step(flaky, 1000)

    recording = live(retries, latencies=[0], park=0, noise=0)
    assert recording.outcome == 1000
    attempts = recording.commands("step")
    assert [(told[1], told[4]) for told in attempts] == [(1, 1), (1, 2), (1, 3)]
    assert attempts[0][5] is None
    assert START < attempts[1][5] < attempts[2][5]
    assert replay(retries, recording.rows) == recording.trace


@pytest.mark.parametrize("how, attempts", [("value", 3), ("key", 1), ("type", 1), ("final", 1)])
def test_the_last_attempt_is_what_the_workflow_sees(how, attempts):
    """Programming errors and `NonRetryable` are not tried again."""

    @workflow
    async def fails(ctx: Context, how: str) -> int:
        try:
            await ctx.step(always_fails, how)
        except StepFailed as error:
            return error.attempts
        return 0

    assert result(fails, how) == attempts


def test_retry_after_says_when():
    """`RetryAfter(d)` counts as an attempt and overrides the back-off."""

    @workflow
    async def waits(ctx: Context) -> int:
        try:
            await ctx.step(wants_time)
        except RetryAfter as error:
            assert isinstance(error, StepFailed)
            return error.attempts
        return 0

    recording = live(waits, latencies=[0], noise=0)
    assert recording.outcome == 4
    dues = [told[5] for told in recording.commands("step")[1:]]
    assert dues == [START + number * 60_000_000 for number in (1, 2, 3)]


def test_a_step_between_two_attempts_can_be_cancelled():
    """Recovery in the middle of step retries knows which attempt is next."""

    @workflow
    async def gives_up(ctx: Context) -> str:
        try:
            async with asyncio.timeout(15):
                await ctx.step(always_fails, "value")
        except TimeoutError:
            return "timeout"
        return "never"

    recording = live(gives_up, latencies=[0], noise=0)
    assert recording.outcome == "timeout"
    assert recording.commands("cancel step") == [("cancel step", 2)]
    assert result(gives_up, latencies=[0]) == "timeout"


ESCAPES = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, StopIteration]


@pytest.mark.parametrize("kind", ESCAPES)
@pytest.mark.parametrize("where", ["at once", "after a step", "in a task", "in a callback"])
def test_nothing_that_workflow_code_raises_escapes(kind, where):
    """The worker must live on, whatever leaves the function."""

    @workflow
    async def raises(ctx: Context, where: str) -> str:
        async def child() -> None:
            await ctx.step(note, "child")
            raise kind("from a task")

        def callback() -> None:
            raise kind("from a callback")

        if where == "after a step":
            await ctx.step(note, "first")
        elif where == "in a task":
            await asyncio.create_task(child())
        elif where == "in a callback":
            asyncio.get_running_loop().call_soon(callback)
            await ctx.step(note, "after the callback")
            return "alive"
        raise kind("from the function")

    recording = live(raises, where)
    assert not isinstance(recording.outcome, Stuck)
    if where == "in a callback":
        assert recording.outcome == "alive"
        assert result(raises, where) == "alive"
        return
    told = failure(raises, where)
    expected = RuntimeError if kind is StopIteration else kind
    assert told.type == f"{expected.__module__}:{expected.__qualname__}"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_an_abandoned_task_raises_does_not_escape(kind):
    """It is told when the run ends."""

    @workflow
    async def abandons(ctx: Context) -> str:
        async def child() -> None:
            await ctx.step(note, "child")
            raise kind

        task = asyncio.create_task(child())
        await ctx.sleep(100)
        return task.get_name()

    recording = live(abandons)
    assert recording.outcome == "Task-2"
    assert recording.logs == ["nobody retrieved the exception of Task-2"]


def test_bad_arguments_are_refused_at_the_await():
    """`PayloadError` when an argument cannot be stored; no command is asked for."""

    @workflow
    async def passes_an_object(ctx: Context) -> str:
        call = ctx.step(note, Odd())  # type: ignore[arg-type]
        await ctx.sleep(1)
        try:
            await call
        except PayloadError as error:
            return str(error)
        return "stored"

    recording = live(passes_an_object)
    assert recording.names == []
    assert "note" in recording.outcome
    assert result(passes_an_object).startswith("argument what of step note")


def test_too_many_arguments_are_refused_at_the_await():
    """As with a plain call."""

    @workflow
    async def passes_too_many(ctx: Context) -> int:
        return await ctx.step(double, 1, 2)  # type: ignore[call-arg]

    recording = live(passes_too_many)
    assert recording.failed
    assert recording.names in ([], ["double"])


def test_a_result_that_cannot_be_stored_fails_the_run():
    """Any exception that leaves the workflow fails it, and this one leaves with its result."""

    @workflow
    async def returns_an_object(ctx: Context) -> int:
        await ctx.step(note, "x")
        return Odd()  # type: ignore[return-value]

    told = failure(returns_an_object)
    assert told.type == "durable.errors:PayloadError"
    assert "result of workflow returns_an_object" in told.message


def test_an_input_that_cannot_be_read_blocks_the_run():
    """Undecodable payloads block the run: it is not failed."""

    @workflow
    async def takes_a_number(ctx: Context, number: int) -> int:
        return number

    instance = Instance(takes_a_number, "run")
    with pytest.raises(PayloadError, match="input of workflow takes_a_number"):
        instance.apply(history.RunStarted(START, "takes_a_number", b"\x07rubbish"))
    instance.discard()


def test_a_result_that_cannot_be_read_blocks_the_run():
    """The same goes for what a step left behind."""

    @workflow
    async def runs_a_step(ctx: Context) -> int:
        return await ctx.step(double, 1)

    driver = Driver(runs_a_step)
    (_, command) = driver.under_way[1]
    event = history.StepCompleted(START, 1, "double", b"\x07", command.fingerprint, 0, 1, "")
    with pytest.raises(PayloadError, match="result of step double"):
        driver.instance.apply(event)


def test_the_receiver_gets_the_decoded_form():
    """A value has the same type and content live and after a replay; every receiver gets its own copy."""
    kept: list[list[int]] = []

    @step
    def give() -> list[int]:
        kept.append([1, 2])
        return kept[-1]

    @step
    def change(numbers: list[int]) -> int:
        numbers.append(9)
        return len(numbers)

    @workflow
    async def changes(ctx: Context) -> list[object]:
        given = await ctx.step(give)
        kept[-1].append(3)
        call = ctx.step(change, given)
        length = await call
        return [given, length, given is kept[-1]]

    recording = live(changes)
    assert recording.outcome == [[1, 2], 3, False]


def test_a_run_that_ended_in_its_history_must_end_in_the_code():
    """History says that it ended, the code goes on: the run is blocked."""
    from durable.errors import NondeterminismError

    @workflow
    async def waits(ctx: Context) -> None:
        await ctx.sleep(1)

    driver = Driver(waits)
    with pytest.raises(NondeterminismError, match="history says that it ended"):
        driver.instance.apply(history.RunCompleted(START, b"\x01\xc0"))


def test_the_last_command_of_a_run_ends_it():
    """Exactly one `CompleteRun` or `FailRun` is asked for, and nothing after it."""

    @workflow
    async def ends(ctx: Context) -> int:
        return await ctx.step(double, 4)

    driver = Driver(ends, noise=0)
    commands = driver.happen(1)
    assert [tell(command)[0] for command in commands] == ["complete"]
    assert driver.instance.finished
    assert driver.finish().outcome == 8
