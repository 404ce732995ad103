"""What cannot be deterministic raises `NotAllowedInWorkflow` and says which step to write instead."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from durable.engine.context import Context, current_context
from durable.errors import NotAllowedInWorkflow
from durable.model.definition import step, workflow
from tests.engine.driver import failure, live, result
from tests.engine.workflows import chain, double, note


@step
async def add_one(number: int) -> int:
    return number + 1


class Payments:
    @step
    def pay(self, amount: int) -> int:
        return amount


async def _in_a_thread() -> None:
    await asyncio.to_thread(print, "never")


async def _in_an_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print, "never")


async def _in_a_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, print, "never")


async def _over_the_network() -> None:
    await asyncio.open_connection("localhost", 1)


async def _as_a_server() -> None:
    await asyncio.start_server(print, "localhost", 1)


async def _in_a_subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _in_a_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _from_a_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print, "never")


async def _with_a_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


async def _by_name_resolution() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def _by_stopping_the_loop() -> None:
    asyncio.get_running_loop().stop()


FORBIDDEN = {
    _in_a_thread: "run_in_executor() in a workflow: threads cannot be replayed: make it a step",
    _in_an_executor: "a sync step runs in a thread",
    _in_a_pool: "a sync step runs in a thread",
    _over_the_network: "create_connection() in a workflow: input and output belong into a step",
    _as_a_server: "create_server() in a workflow",
    _in_a_subprocess: "subprocess_exec() in a workflow: a subprocess belongs into a step",
    _in_a_shell: "a subprocess belongs into a step",
    _from_a_thread: "other threads cannot reach into a workflow: send it an event",
    _with_a_signal: "signals belong to the worker's process",
    _by_name_resolution: "getaddrinfo() in a workflow",
    _by_stopping_the_loop: "return from the workflow function",
}


@pytest.mark.parametrize(
    "what, advice", FORBIDDEN.items(), ids=lambda it: getattr(it, "__name__", "")
)
def test_what_asyncio_cannot_replay_is_refused_with_advice(what, advice):
    """`run_in_executor`, sockets, subprocesses, `asyncio.to_thread` raise `NotAllowedInWorkflow`."""

    @workflow
    async def does_it(ctx: Context) -> None:
        await ctx.step(note, "before")
        await what()

    told = failure(does_it)
    assert told.type == "durable.errors:NotAllowedInWorkflow"
    assert advice in told.message


def test_the_refusal_is_a_runtime_error_that_can_be_caught():
    """`NotAllowedInWorkflow(RuntimeError)`."""

    @workflow
    async def catches(ctx: Context) -> str:
        try:
            await asyncio.to_thread(print)
        except RuntimeError as error:
            return type(error).__name__
        return "allowed"

    assert result(catches) == "NotAllowedInWorkflow"


@pytest.mark.parametrize("what", ["sync", "async", "method"])
def test_a_step_called_directly_in_a_workflow_is_refused(what):
    """`Step.__call__` raises when a workflow is running, and says what to write."""

    @workflow
    async def calls(ctx: Context, what: str) -> int:
        await ctx.step(note, "before")
        if what == "sync":
            return double(1)
        if what == "async":
            return await add_one(1)
        return Payments().pay(1)

    told = failure(calls, what)
    assert told.type == "durable.errors:NotAllowedInWorkflow"
    assert "is a step: write `await ctx.step(" in told.message
    assert "test_forbidden.py:" in told.message


def test_a_step_called_directly_in_a_task_of_a_workflow_is_refused():
    """Tasks of a workflow are workflow code."""

    @workflow
    async def calls_in_a_task(ctx: Context) -> int:
        async def work() -> int:
            await ctx.sleep(1)
            return double(1)

        return await asyncio.create_task(work())

    assert failure(calls_in_a_task).type == "durable.errors:NotAllowedInWorkflow"


def test_outside_of_a_workflow_a_step_is_a_plain_call():
    """Outside a workflow and inside another step it is a plain call."""

    @step
    def inside(number: int) -> int:
        return double(number) + 1

    @workflow
    async def runs(ctx: Context) -> int:
        return await ctx.step(inside, 2)

    assert double(2) == 4
    assert result(runs) == 5
    assert double(2) == 4


def test_current_context_is_there_only_in_a_workflow():
    """`current_context()` gives the context of the workflow that is running here."""

    @workflow
    async def asks(ctx: Context) -> bool:
        async def deep() -> bool:
            await ctx.step(note, "first")
            return current_context() is ctx

        return all(await asyncio.gather(deep(), deep())) and current_context() is ctx

    assert result(asks) is True
    with pytest.raises(NotAllowedInWorkflow, match="outside of a workflow"):
        current_context()


@pytest.mark.parametrize("given", ["set", "iterator", "awaitable", "new each time"])
def test_as_completed_over_what_has_no_order_is_refused(given, recwarn):
    """A set or an iterator of coroutines has no order that could be replayed."""

    class Awaitable:
        def __await__(self):
            yield

    class NewEachTime(list[str]):
        def __iter__(self):
            return iter([chain(None, name) for name in "abc"])

    @workflow
    async def awaits(ctx: Context, given: str) -> list[str]:
        coroutines = [chain(ctx, name) for name in "abc"]
        over = {
            "set": lambda: set(coroutines),
            "iterator": lambda: iter(coroutines),
            "awaitable": lambda: [*coroutines, Awaitable()],
            "new each time": lambda: NewEachTime("abc"),
        }[given]()
        try:
            return [await task for task in asyncio.as_completed(over)]
        finally:
            for coroutine in coroutines:
                coroutine.close()

    told = failure(awaits, given)
    assert told.type == "durable.errors:NotAllowedInWorkflow"
    assert "asyncio.as_completed" in told.message


def test_as_completed_over_a_set_of_tasks_is_fine():
    """Tasks are ordered by their numbers."""

    @workflow
    async def awaits(ctx: Context) -> list[str]:
        tasks = {name: asyncio.create_task(chain(ctx, name)) for name in "abcdef"}
        first = [await task for task in asyncio.as_completed(set(tasks.values()))]
        chains = {name: chain(ctx, name) for name in "xyz"}
        return first + [await task for task in asyncio.as_completed(chains.values())]

    assert sorted(result(awaits)) == list("abcdefxyz")


def test_a_verb_that_does_not_exist_is_an_attribute_error():
    """A slip of the pen is no missing feature."""

    @workflow
    async def misspells(ctx: Context) -> None:
        ctx.slep(1)  # type: ignore[attr-defined]

    assert failure(misspells).type == "builtins:AttributeError"


@pytest.mark.parametrize("option", [{"queue": "other"}])
def test_a_step_option_that_is_not_built_is_refused_where_it_is_used(option):
    """Never ignored in silence."""
    odd = step(add_one.fn, **option)

    @workflow
    async def uses(ctx: Context) -> int:
        return await ctx.step(odd, 1)

    recording = live(uses)
    assert recording.outcome.type == "builtins:NotImplementedError"
    assert "add_one" in recording.outcome.message
