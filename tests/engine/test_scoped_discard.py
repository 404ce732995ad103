"""A discarded instance with sagas, shields, children and a cancel under way has no effect and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.model.definition import workflow
from durable.model.retry import Retry
from tests.engine import ledger
from tests.engine.driver import Recording, decode_event, tell
from tests.engine.ledger import act, plain, undo
from tests.engine.scoped import scoped
from tests.engine.test_cancelling import everything


@workflow(retry=Retry(max_attempts=2, initial=1))
async def uses_all_in_cleanup(ctx: Context, number: int) -> int:
    """Whatever could have an effect, in `finally` blocks inside of sagas and shields."""

    async def use() -> None:
        ctx.set_state("stage", "cleanup")
        ctx.compensate(undo, "cleanup")
        ctx.patched("cleanup")
        ctx.log.warning("cleanup")
        async with ctx.shield(), ctx.saga():
            await ctx.step(act, "cleanup")
        await ctx.start("child", 1)
        await ctx.call("child", 1)

    async def beside() -> None:
        try:
            async with ctx.saga(), ctx.shield():
                await ctx.step(act, "b")
                await ctx.sleep(5)
                raise KeyError(number)
        finally:
            await use()

    task = asyncio.create_task(beside())
    try:
        async with ctx.shield(), ctx.saga(), asyncio.TaskGroup() as group:
            group.create_task(ctx.step(act, "a"))
            group.create_task(ctx.call("child", 2, timeout=3, default=None))
            await (await ctx.start("child", 3)).result(timeout=2, default=0)
        await task
    finally:
        await use()
        if number:
            await ctx.continue_as_new(number - 1)
    await ctx.step(plain, "end")
    return number


def rebuilt(recording: Recording, length: int, run=everything) -> Instance:
    """An instance that has seen so many events."""
    instance = Instance(run, "run")
    for row in recording.rows[:length]:
        if row.type in (6, 7):  # a generation begins
            instance.discard()
            instance = Instance(run, "run")
        instance.apply(decode_event(row))
    return instance


CASES = [
    (everything, None, {}),
    (everything, None, {"cancel_at": 6}),
    (everything, None, {"cancel_at": 11}),
    (everything, None, {"late_at": 9}),
    (uses_all_in_cleanup, 0, {}),
    (uses_all_in_cleanup, 0, {"cancel_at": 3}),
    (uses_all_in_cleanup, 1, {"cancel_at": 5}),
]


@pytest.mark.parametrize("run, input, options", CASES)
def test_discarding_at_every_event_has_no_effect(run, input, options, capfd, recwarn):
    """`finally` blocks inside of sagas and shields ask for nothing, and nothing is printed."""
    ledger.DONE.clear()
    recording = scoped(run, input, seed=1, noise=0, **options)
    for length in range(1, len(recording.rows) + 1):
        instance = rebuilt(recording, length, run)
        last = instance._commands
        asked = [tell(command) for command in last]
        done = list(ledger.DONE)
        instance.discard()
        assert [tell(command) for command in last] == asked
        assert done == ledger.DONE
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("run, input, options", CASES)
def test_everything_can_be_collected(run, input, options):
    """Whatever the code held on to: nothing outside of it knows the instance."""
    recording = scoped(run, input, seed=1, noise=0, **options)
    recording.instance = None
    watched = []
    for length in range(1, len(recording.rows) + 1):
        instance = rebuilt(recording, length, run)
        watched.append(weakref.ref(instance))
        instance.discard()
    del instance
    gc.collect()
    assert not [one for one in watched if one() is not None]


@workflow
async def in_a_saga(ctx: Context) -> None:
    async with ctx.saga():
        await ctx.step(act, "a")


@workflow
async def saga_fails(ctx: Context) -> None:
    async with ctx.saga():
        await ctx.step(act, "a")
        raise KeyError


@workflow
async def saga_is_caught(ctx: Context) -> None:
    try:
        async with ctx.saga():
            await ctx.step(act, "a")
            raise KeyError
    except KeyError:
        pass


@workflow
async def run_fails(ctx: Context) -> None:
    await ctx.step(act, "a")
    raise KeyError


@workflow
async def has_children(ctx: Context) -> None:
    await ctx.call("child", 1)
    await ctx.start("child", 1)
    await (await ctx.start("child", 1)).result(timeout=5)
    async with ctx.shield():
        await ctx.call("child", 1, timeout=5)


@workflow
async def waits(ctx: Context) -> None:
    async with asyncio.timeout(60), ctx.shield():
        await ctx.sleep(5)
    await ctx.sleep(5)


@pytest.mark.parametrize("cancel_at", [None, 1, 2])
@pytest.mark.parametrize(
    "run",
    [in_a_saga, saga_fails, saga_is_caught, run_fails, has_children, waits],
    ids=lambda run: run.name,
)
def test_a_run_that_ended_leaves_no_circle(run, cancel_at):
    """A worker that ends thousands of runs a second leaves no work to the collector."""
    recording = scoped(run, seed=1, noise=0, park=0, cancel_at=cancel_at)
    recording.instance = None
    gc.collect()
    gc.disable()
    try:
        instance = rebuilt(recording, len(recording.rows), run)
        assert instance.finished
        watched = weakref.ref(instance)
        instance.discard()
        del instance
        assert watched() is None
    finally:
        gc.enable()
