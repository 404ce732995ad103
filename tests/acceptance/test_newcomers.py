"""What a newcomer gets wrong, and what catches it: one test for each row of that table of the API's description."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import random
from typing import Any

import pytest
from pydantic import BaseModel, Field

from durable import (
    Client,
    Context,
    DefinitionError,
    Event,
    NotAllowedInWorkflow,
    NotAwaited,
    PayloadError,
    RunFailed,
    Worker,
    current_step,
    step,
    workflow,
)
from durable.lint import lint_source
from durable_testing import Environment, explore
from tests.typing.check import ROOT

TYPING = ROOT / "tests" / "typing"


@dataclass
class Order:
    id: str
    items: list[str]


@step
async def charge(cents: int) -> str:
    return f"charged {cents}"


@step
async def ship(order: Order) -> str:
    return order.id


def codes(source: str) -> set[str]:
    """What the linter finds in a module."""
    head = "from durable import Context, step, workflow\nimport asyncio\n\n"
    return {finding.code for finding in lint_source(head + inspect.cleandoc(source), "m.py")}


async def failure(wf: Any, *input: Any, **options: Any) -> BaseException:
    """What a run of it ends with in a test."""
    async with Environment(workflows=[wf], **options) as env:
        with pytest.raises(Exception) as caught:
            await env.run(wf, *input)
    return caught.value


# -- forgets `await` on any verb, `client.start`, `handle.result`


@workflow
async def forgets_await(ctx: Context) -> str:
    ctx.step(charge, 5)  # type: ignore[unused-coroutine]
    return "done"


async def test_a_forgotten_await_fails_the_run_with_its_line():
    error = await failure(forgets_await)
    assert isinstance(error, NotAwaited)
    assert "test_newcomers.py:" in str(error)


@pytest.mark.parametrize(
    "line", ["ctx.step(", "ctx.sleep(", "client.start(", ".result(", "ctx.wait_for_event("]
)
def test_type_checkers_refuse_a_forgotten_await(line: str):
    """Both are run over these lines by `make check`: an ignore that is not needed is an error there."""
    refused = [
        text for file in TYPING.glob("refuse_*.py") for text in file.read_text().splitlines()
    ]
    assert any(
        line in text and "unused-coroutine" in text and "await " not in text for text in refused
    )


# -- `await charge(order)` in a workflow


@workflow
async def calls_a_step(ctx: Context) -> str:
    return await charge(5)


async def test_a_step_called_as_a_function_says_what_to_write():
    error = await failure(calls_a_step)
    assert isinstance(error, NotAllowedInWorkflow)
    assert "await ctx.step(charge, ...)" in str(error)
    assert "test_newcomers.py:" in str(error)


# -- `create_task(...)` never awaited; an exception in such a task


@workflow
async def drops_a_task(ctx: Context) -> str:
    asyncio.create_task(ctx.sleep(100), name="dropped")  # noqa: RUF006
    await ctx.step(charge, 5)
    return "done"


@workflow
async def drops_a_failing_task(ctx: Context) -> str:
    async def fails() -> None:
        raise ValueError("in the dark")

    asyncio.create_task(fails(), name="dropped")  # noqa: RUF006
    await ctx.step(charge, 5)
    return "done"


async def test_a_task_that_is_still_pending_is_an_error_in_tests():
    error = await failure(drops_a_task)
    assert "dropped" in str(error)
    assert "test_newcomers.py:" in str(error)


@pytest.mark.parametrize(
    "wf, told", [(drops_a_task, "test_newcomers.py:"), (drops_a_failing_task, "in the dark")]
)
async def test_and_a_warning_in_production(wf: Any, told: str, caplog):
    async with Environment(workflows=[wf], strict=False) as env:
        assert await env.run(wf) == "done"
    warned = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert len(warned) == 1
    assert warned[0].levelname == "WARNING"
    assert told in warned[0].getMessage() + str(warned[0].exc_info)


# -- step without `-> T` returning a model


@step
async def finds_order(id: str):
    return Order(id, [])


@workflow
async def wants_an_order(ctx: Context) -> str:
    return str(await ctx.step(finds_order, "o-1"))


async def test_a_result_without_a_type_is_refused_at_the_first_run():
    error = await failure(wants_an_order)
    assert isinstance(error, PayloadError)
    assert "annotate the result: -> Order" in str(error)


# -- tuple becomes list, int keys become str, Decimal becomes str


@step
async def gives_values(n: int) -> tuple[int, dict[int, Decimal]]:
    return n, {n: Decimal("1.10")}


@step
async def gives_anything(n: int) -> object:
    return gives_a_tuple(n)


def gives_a_tuple(n: int) -> object:
    return {n: (n, Decimal("1.10"))}


@workflow
async def keeps_values(ctx: Context) -> bool:
    typed = await ctx.step(gives_values, 3)
    untyped = await ctx.step(gives_anything, 3)
    return typed == (3, {3: Decimal("1.10")}) and untyped == gives_a_tuple(3)


async def test_values_come_back_as_they_were():
    async with Environment(workflows=[keeps_values]) as env:
        assert await env.run(keeps_values)


class Note(BaseModel):
    text: str
    secret: str = Field(default="", exclude=True)


@step
async def gives_a_note() -> Note:
    return Note(text="a", secret="b")


@workflow
async def loses_a_value(ctx: Context) -> str:
    return (await ctx.step(gives_a_note)).secret


async def test_a_value_that_differs_when_decoded_is_an_error_in_tests():
    error = await failure(loses_a_value)
    assert "gives_a_note" in str(error)


# -- mutates an argument inside a step


@step
async def packs(order: Order) -> str:
    order.items.clear()
    return order.id


@workflow
async def has_it_packed(ctx: Context) -> list[str]:
    order = Order("o-1", ["book"])
    await ctx.step(packs, order)
    return order.items


async def test_an_argument_that_a_step_changes_is_an_error_in_tests():
    assert "packs" in str(await failure(has_it_packed))


async def test_and_is_lost_by_contract_in_production():
    async with Environment(workflows=[has_it_packed], strict=False) as env:
        assert await env.run(has_it_packed) == ["book"]


# -- naive datetimes


@workflow
async def sleeps_until_naive(ctx: Context) -> None:
    await ctx.sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001


@workflow
async def tells_the_time(ctx: Context) -> bool:
    return ctx.now().tzinfo is UTC


async def test_naive_datetimes_are_refused():
    error = await failure(sleeps_until_naive)
    assert isinstance(error, ValueError)
    async with Environment(workflows=[tells_the_time]) as env:
        with pytest.raises(ValueError, match="needs a time zone"):
            await env.client.start(tells_the_time, at=datetime(2030, 1, 1))  # noqa: DTZ001
        assert await env.run(tells_the_time)


# -- `datetime.now()`, `uuid4()`, `random` in a workflow


@workflow
async def reads_the_clock(ctx: Context) -> str:
    return datetime.now(UTC).isoformat()


@workflow
async def draws_an_id(ctx: Context) -> str:
    return str(uuid.uuid4())


@workflow
async def draws_a_number(ctx: Context) -> float:
    return random()


@pytest.mark.parametrize("wf", [reads_the_clock, draws_an_id, draws_a_number])
async def test_clock_and_chance_raise_in_tests_and_warn_once_in_production(wf: Any, caplog):
    error = await failure(wf)
    assert isinstance(error, NotAllowedInWorkflow)
    assert "test_newcomers.py:" in str(error)
    caplog.clear()
    async with Environment(workflows=[wf], strict=False) as env:
        for _ in range(3):
            await env.run(wf)
    assert len([line for line in caplog.messages if "test_newcomers.py:" in line]) == 1


# -- mutable default argument, module global changed by a workflow

_visits = 0


@workflow
async def counts_visits(ctx: Context, word: str) -> int:
    global _visits  # noqa: PLW0603
    _visits += 1
    await ctx.step(charge, _visits)
    return _visits


def test_state_outside_of_the_run_is_found_by_the_linter():
    found = codes("""
        seen = []

        @workflow
        async def wf(ctx: Context, extra: list[str] = []) -> int:
            seen.append(1)
            extra.append("x")
            return len(seen)
    """)
    assert found == {"DUR502", "DUR503"}


async def test_and_by_exploring():
    report = await asyncio.to_thread(explore, counts_visits, "x", max_cases=40)
    assert not report.ok
    assert "counts_visits" in report.explanation


# -- `except Exception` round an await


@workflow
async def survives_everything(ctx: Context) -> str:
    try:
        await ctx.sleep(1000)
    except Exception:
        return "swallowed"
    return "slept"


async def test_except_exception_lets_a_cancellation_through():
    async with Environment(workflows=[survives_everything]) as env:
        handle = await env.client.start(survives_everything)
        await env.settle()
        await env.client.cancel(handle.id)
        await env.settle()
        assert await handle.status() == "cancelled"


def test_a_bare_except_is_found_by_the_linter():
    assert "DUR401" in codes("""
        @workflow
        async def wf(ctx: Context) -> None:
            try:
                await ctx.sleep(5)
            except:
                pass
    """)


# -- lambda, partial, callable object as step


class Charging:
    def __call__(self, cents: int) -> str:
        return f"charged {cents}"


@pytest.mark.parametrize(
    "nameless", [lambda cents: f"{cents}", functools.partial(int, base=10), Charging()]
)
async def test_what_has_no_name_is_no_step_until_it_is_given_one(nameless: Any):
    with pytest.raises(DefinitionError, match=r"name="):
        step(nameless)
    assert step(nameless, name="charge").name == "charge"


# -- closure as step


@workflow
async def uses_a_closure(ctx: Context, factor: int) -> int:
    async def multiplied(n: int) -> int:
        return n * factor

    return await ctx.step(step(multiplied, name="multiplied"), 2)


async def test_a_closure_is_a_step_of_this_process_and_found_by_the_linter():
    async with Environment(workflows=[uses_a_closure]) as env:
        assert await env.run(uses_a_closure, 3) == 6
    assert "DUR305" in codes("""
        @workflow
        async def wf(ctx: Context, factor: int) -> int:
            async def multiplied(n: int) -> int:
                return n * factor
            return await ctx.step(multiplied, 2)
    """)


@pytest.mark.parametrize("elsewhere", [{"queue": "gpu"}, {"executor": "process"}])
def test_a_closure_cannot_run_elsewhere(elsewhere: Any):
    def made(factor: int) -> Any:
        def multiplied(n: int) -> int:
            return n * factor

        return multiplied

    with pytest.raises(DefinitionError):
        step(made(2), **elsewhere)


# -- two steps of one name


@step(name="same")
async def one(n: int) -> int:
    return n


@step(name="same")
async def two(n: int) -> int:
    return 2 * n


@workflow
async def runs_both(ctx: Context) -> int:
    return await ctx.step(one, 1) + await ctx.step(two, 1)


@workflow(name="runs_both")
async def another_of_that_name(ctx: Context) -> int:
    return 0


async def test_two_steps_of_one_name_are_two_steps_two_workflows_are_an_error(tmp_path: Path):
    async with Environment(workflows=[runs_both]) as env:
        assert await env.run(runs_both) == 3
    client = Client(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(DefinitionError, match="two workflows are called runs_both"):
        Worker(client, workflows=[runs_both, another_of_that_name])
    with pytest.raises(
        DefinitionError, match="two steps are called same: give one of them a name="
    ):
        Worker(client, workflows=[runs_both], steps=[one, two])
    with pytest.raises(DefinitionError, match="is not a step"):
        Worker(client, workflows=[runs_both], steps=[runs_both])  # type: ignore[list-item]
    Worker(client, workflows=[runs_both], steps=[one, one, ship])


# -- passes ctx, self, a connection as argument


@step
async def takes_anything(what: Any) -> None: ...


@workflow
async def passes_its_context(ctx: Context) -> None:
    await ctx.step(takes_anything, ctx)


@workflow
async def passes_a_connection(ctx: Context) -> None:
    await ctx.step(takes_anything, _connection)


_connection = sqlite3.connect(":memory:")


@pytest.fixture(autouse=True, scope="module")
def close_connection() -> Iterator[None]:
    yield
    _connection.close()


@pytest.mark.parametrize(
    "wf, what", [(passes_its_context, "Context"), (passes_a_connection, "Connection")]
)
async def test_what_cannot_be_stored_is_no_argument(wf: Any, what: str):
    error = await failure(wf)
    assert isinstance(error, PayloadError)
    assert what in str(error)
    assert "cannot be stored" in str(error)


# -- `default=None` then `if not decision` mixes "no" with "timed out"


@workflow
async def decides(ctx: Context) -> str:
    decision = await ctx.wait_for_event(Event("decision", bool), timeout=60, default=None)
    return "timed out" if decision is None else str(decision)


async def test_a_no_and_a_time_out_can_be_told_apart():
    async with Environment(workflows=[decides]) as env:
        assert await env.run(decides) == "timed out"
        handle = await env.client.start(decides)
        await env.client.send_event(handle.id, Event("decision", bool), False)
        assert await handle.result() == "False"


# -- `handle.result()` with no worker anywhere


async def test_a_result_that_nobody_works_on_is_told_of(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("durable.client.handle._WARN_AFTER_SECONDS", 0.01)  # it is 5 s
    async with Client(f"sqlite:///{tmp_path}/x.db") as client:
        handle = await client.start("fulfil", 1)
        told = "no live worker serves fulfil on queue default"
        with pytest.warns(RuntimeWarning, match=told) as warned:  # noqa: PT031  it may take a while
            waiting = asyncio.create_task(handle.result())
            async with asyncio.timeout(10):
                while not len(warned):
                    await asyncio.sleep(0.01)
            waiting.cancel()


# -- `client.*` inside a workflow

_clients: list[Client] = []


@workflow
async def starts_by_client(ctx: Context) -> None:
    await _clients[0].start(runs_both)


async def test_a_client_in_a_workflow_says_what_to_write():
    async with Environment(workflows=[starts_by_client]) as env:
        _clients[:] = [env.client]
        with pytest.raises(NotAllowedInWorkflow, match=r"ctx\.start"):
            await env.run(starts_by_client)


# -- gather leaves siblings running, TaskGroup wraps


@step
async def fails(n: int) -> int:
    raise LookupError(str(n))


@workflow
async def in_parallel(ctx: Context) -> str:
    cancelled = []

    async def waits() -> None:
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    try:
        await ctx.parallel([ctx.step(fails.options(retry=1), 1), waits()])
    except LookupError:
        return f"the error itself, {len(cancelled)} cancelled"
    return "nothing"


@workflow
async def in_a_group(ctx: Context) -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step(fails.options(retry=1), 1))
            group.create_task(ctx.sleep(1000))
    except ExceptionGroup as errors:
        return f"{len(errors.exceptions)} in a group"
    return "nothing"


async def test_parallel_raises_the_first_error_itself_and_leaves_nobody_running():
    async with Environment(workflows=[in_parallel, in_a_group]) as env:
        assert await env.run(in_parallel) == "the error itself, 1 cancelled"
        assert await env.run(in_a_group) == "1 in a group"


def test_the_guides_say_so_where_gather_is_first_used():
    told = (ROOT / "docs" / "guides" / "parallel.md").read_text()
    assert "`gather` leaves the others running" in told
    assert "ExceptionGroup" in told


# -- sync step never ends after cancel

_ended = threading.Event()


@step
def works_until_told() -> str:
    while not current_step().cancelled:
        time.sleep(0.001)
    _ended.set()
    return "stopped"


@step
def works_and_reports() -> str:
    try:
        while True:
            current_step().heartbeat()
            time.sleep(0.001)
    except Exception:  # not what says that it is over
        return "went on"
    finally:
        _ended.set()


@workflow
async def works(ctx: Context) -> str:
    return await ctx.step(works_until_told)


@workflow
async def reports(ctx: Context) -> str:
    return await ctx.step(works_and_reports)


@workflow
async def gives_up(ctx: Context) -> str:
    return await ctx.step(works_and_reports.options(timeout=0.05))


@pytest.mark.parametrize("wf", [works, reports])
async def test_a_thread_can_look_whether_it_is_still_wanted(tmp_path: Path, wf: Any):
    """`cancelled` tells it, `heartbeat()` raises."""
    _ended.clear()
    async with Client(f"sqlite:///{tmp_path}/x.db") as client, Worker(client, workflows=[wf]):
        handle = await client.start(wf)
        async with asyncio.timeout(10):
            while await handle.status() != "running":
                await asyncio.sleep(0.01)
            await client.cancel(handle.id)
            while not _ended.is_set():
                await asyncio.sleep(0.01)


async def test_and_stops_after_a_time_out(tmp_path: Path):
    _ended.clear()
    async with Client(f"sqlite:///{tmp_path}/x.db") as client, Worker(client, workflows=[gives_up]):
        with pytest.raises(RunFailed, match=r"took longer than 0\.05 s"):
            await (await client.start(gives_up)).result(timeout=10)
        assert await asyncio.to_thread(_ended.wait, 10)
