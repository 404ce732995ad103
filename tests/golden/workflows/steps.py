"""Steps: what they take, give and raise, and how they are tried again.

Never change what is here: histories that earlier releases have recorded must replay through it for ever. A
feature that is new gets a workflow that is new, at the end.
"""

from __future__ import annotations

import asyncio

from durable import Context, NonRetryable, Retry, RetryAfter, StepTimeout, minutes, step, workflow
from durable.errors import StepFailed


class CardDeclinedError(Exception):
    """Has more to say than a message."""

    def __init__(self, code: int, *, bank: str) -> None:
        super().__init__(f"declined with {code}")
        self.code = code
        self.bank = bank


@step
async def note(what: str) -> str:
    return what


@step
def double(number: int) -> int:
    return 2 * number


@step
async def describe(item: str, /, count: int = 1, *, gift: bool = False) -> str:
    return f"{count} {item}{' as a gift' if gift else ''}"


@step
async def nothing() -> None:
    return None


@step
async def decline(code: int) -> str:
    raise CardDeclinedError(code, bank="First")


@step(retry=Retry(max_attempts=3, initial=60, jitter=0))
async def flaky(what: str) -> str:
    return what


@step(retry=Retry(max_attempts=4, initial=10, factor=3, max_interval=60, jitter=0.5))
async def jittery(what: str) -> str:
    return what


@step(retry=Retry(max_attempts=4, backoff="linear", initial=5, jitter=0))
async def linear(what: str) -> str:
    return what


@step(retry=Retry(max_attempts=3, initial=1), timeout=minutes(5))
async def slow(what: str) -> str:
    return what


@step(fingerprint="warn")
async def loosely(what: str) -> str:
    return what


def plain(what: str) -> str:
    return f"plain {what}"


class Mailer:
    """Whose method is a step."""

    @step
    async def send(self, to: str) -> str:
        return f"sent to {to}"


@workflow
async def step_without_anything(ctx: Context) -> None:
    await ctx.step(nothing)


@workflow
async def step_async_and_sync(ctx: Context, number: int) -> list[object]:
    return [await ctx.step(note, "a"), await ctx.step(double, number)]


@workflow
async def step_arguments(ctx: Context) -> list[str]:
    return [
        await ctx.step(describe, "lamp"),
        await ctx.step(describe, "lamp", 2),
        await ctx.step(describe, "lamp", count=3, gift=True),
    ]


@workflow
async def step_plain_function(ctx: Context) -> str:
    return await ctx.step(plain, "function")


@workflow
async def step_of_a_method(ctx: Context) -> str:
    return await ctx.step(Mailer().send, "ann")


@workflow
async def step_options(ctx: Context) -> list[str]:
    patient = note.options(retry=Retry(max_attempts=2, initial=7, jitter=0), timeout=minutes(2))
    named = step(plain, name="by another name")
    return [await ctx.step(patient, "patient"), await ctx.step(named, "named")]


@workflow
async def step_failed(ctx: Context) -> None:
    await ctx.step(decline, 51)


@workflow
async def step_failed_and_caught(ctx: Context) -> list[object]:
    try:
        await ctx.step(decline, 51)
    except CardDeclinedError as error:
        assert isinstance(error, StepFailed)
        return [error.code, error.bank, await ctx.step(note, f"{error.failure.type}")]
    return []


@workflow
async def step_retried(ctx: Context) -> str:
    return await ctx.step(flaky, "third time")


@workflow
async def step_retried_in_vain(ctx: Context) -> str:
    try:
        return await ctx.step(flaky, "never")
    except OSError as error:
        return await ctx.step(note, f"gave up: {error}")


@workflow
async def step_retried_with_jitter(ctx: Context) -> str:
    return await ctx.step(jittery, "fourth time")


@workflow
async def step_retried_linearly(ctx: Context) -> str:
    return await ctx.step(linear, "third time")


@workflow
async def step_retried_when_it_says(ctx: Context) -> str:
    return await ctx.step(flaky, "later")


@workflow
async def step_not_retried(ctx: Context) -> str:
    try:
        return await ctx.step(flaky, "not again")
    except NonRetryable as error:
        return str(error)


@workflow
async def step_timed_out(ctx: Context) -> str:
    return await ctx.step(slow, "second time")


@workflow
async def step_timed_out_for_good(ctx: Context) -> str:
    try:
        return await ctx.step(slow.options(retry=2), "never")
    except StepTimeout:
        return await ctx.step(note, "gave up")


@workflow
async def step_with_a_loose_fingerprint(ctx: Context) -> str:
    return await ctx.step(loosely, "as recorded")


@workflow
async def step_that_was_mocked(ctx: Context) -> list[str]:
    return [await ctx.step(note, "real"), await ctx.step(flaky, "mocked")]


@workflow
async def step_whose_worker_died(ctx: Context) -> list[str]:
    return [await ctx.step(note, "before"), await ctx.step(flaky, "died in"), "after"]


@workflow
async def step_after_local_values(ctx: Context, names: list[str]) -> dict[str, int]:
    """Local values decide: a counter, a closure, a comprehension."""
    counts: dict[str, int] = {}

    async def count(name: str) -> None:
        counts[name] = counts.get(name, 0) + await ctx.step(double, len(name))

    for place, name in enumerate(sorted(names)):
        if place % 2 == 0 or counts.get(name):
            await count(name)
        else:
            await ctx.step(note, f"{name} passed, {sum(counts.values())} so far")
    return counts


@workflow
async def step_given_up_by_its_caller(ctx: Context) -> str:
    """The step runs on; what it gives comes to nothing."""
    asked = asyncio.create_task(ctx.step(flaky, "nobody waits"))
    await ctx.sleep(1)
    asked.cancel()
    try:
        return await asked
    except asyncio.CancelledError:
        return await ctx.step(note, "went on")


RETRY_LATER = RetryAfter(90)
"""What a step raises that knows when to come again."""
