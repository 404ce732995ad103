"""What a run is to its user: started once, driven to its end, its errors kept, its history told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import BaseModel

from durable import (
    Client,
    Context,
    InvalidInput,
    NonRetryable,
    NotAwaited,
    PayloadError,
    Retry,
    RetryAfter,
    RunAlreadyExists,
    RunFailed,
    RunNotFound,
    RunTerminated,
    StepFailed,
    StepTimeout,
    Worker,
    current_context,
    current_step,
    days,
    step,
    workflow,
)


class Order(BaseModel):
    id: str
    amount: Decimal


class CardDeclinedError(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@step
async def add(n: int) -> int:
    return n + 1


@step
def thread_name(n: int) -> str:
    return threading.current_thread().name


@step
async def charge(order: Order) -> str:
    if order.amount < 0:
        raise CardDeclinedError("declined", 51)
    return f"ch-{order.id}"


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    charged = await ctx.step(charge, order)
    await ctx.sleep(0.01)
    return charged


@workflow
async def count(ctx: Context, n: int) -> int:
    for _ in range(5):
        n = await ctx.step(add, n)
    return n


@workflow
async def sleepy(ctx: Context, seconds: float) -> str:
    await ctx.sleep(seconds)
    return "awake"


async def test_a_run_gives_its_result(client: Client) -> None:
    async with Worker(client, workflows=[fulfil, count]):
        handle = await client.start(fulfil, Order(id="42", amount=Decimal("1.5")), id="order-42")
        assert handle.created
        assert await handle.result(timeout=10) == "ch-42"
        assert await (await client.start(count, 1)).result(timeout=10) == 6


async def test_a_run_started_before_any_worker_waits_for_one(client: Client) -> None:
    handle = await client.start(count, 1)
    assert await handle.status() == "pending"
    async with Worker(client, workflows=[count]):
        assert await handle.result(timeout=10) == 6
    assert await handle.status() == "completed"


async def test_starting_an_id_twice_gives_the_existing_run(client: Client) -> None:
    first = await client.start(count, 1, id="one")
    again = await client.start(count, 1, id="one")
    assert (first.created, again.created) == (True, False)
    with pytest.warns(RuntimeWarning, match="another input"):
        await client.start(count, 2, id="one")
    with pytest.raises(RunAlreadyExists, match="is one of count"):
        await client.start(sleepy, 1.0, id="one")
    with pytest.raises(RunAlreadyExists, match="is pending"):
        await client.start(count, 1, id="one", on_conflict="raise")
    assert await client.count() == {"pending": 1}


async def test_fifty_starts_of_one_id_at_once_make_one_run(client: Client) -> None:
    async with Worker(client, workflows=[count]):
        handles = await asyncio.gather(*(client.start(count, 1, id="one") for _ in range(50)))
        assert [handle.created for handle in handles].count(True) == 1
        assert await asyncio.gather(*(handle.result(timeout=10) for handle in handles)) == [6] * 50
    assert await client.count() == {"completed": 1}


async def test_restart_ends_the_old_run_and_keeps_its_history(client: Client) -> None:
    await client.start(sleepy, 1000.0, id="one")
    async with Worker(client, workflows=[sleepy]):
        handle = await client.start(sleepy, 0.0, id="one", on_conflict="restart")
        assert handle.created
        assert await handle.result(timeout=10) == "awake"
    run = await handle.get()
    assert run.retried_from is not None
    assert run.retried_from.startswith("one~")
    old = client.handle(run.retried_from)
    with pytest.raises(RunTerminated, match="restarted"):
        await old.result(timeout=10)


async def test_an_exception_arrives_as_itself_and_as_run_failed(client: Client) -> None:
    async with Worker(client, workflows=[fulfil]):
        handle = await client.start(fulfil, Order(id="1", amount=Decimal(-1)))
        with pytest.raises(CardDeclinedError, match="declined") as caught:
            await handle.result(timeout=10)
    assert isinstance(caught.value, RunFailed)
    assert caught.value.code == 51
    assert caught.value.run_id == handle.id
    run = await handle.get()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type.endswith(":CardDeclinedError")
    assert run.steps[0].status == "failed"


async def test_a_workflow_catches_what_its_step_raised(client: Client) -> None:
    seen: list[object] = []

    @workflow
    async def careful(ctx: Context, order: Order) -> int:
        try:
            await ctx.step(charge, order)
        except CardDeclinedError as error:
            assert isinstance(error, StepFailed)
            seen.append((error.step, error.attempts, error.failure.message))
            return error.code
        return 0

    async with Worker(client, workflows=[careful]):
        handle = await client.start(careful, Order(id="1", amount=Decimal(-1)))
        assert await handle.result(timeout=10) == 51
    assert seen == [("charge", 1, "declined")]


async def test_retries_are_history_and_follow_the_policy(client: Client) -> None:
    calls: list[int] = []

    @step(retry=Retry(max_attempts=3, initial=0.001, jitter=0))
    async def flaky() -> str:
        calls.append(current_step().attempt)
        if len(calls) < 3:
            raise OSError("not yet")
        return current_step().idempotency_key

    @workflow
    async def wf(ctx: Context) -> str:
        return await ctx.step(flaky)

    async with Worker(client, workflows=[wf]):
        handle = await client.start(wf, id="retry")
        assert await handle.result(timeout=10) == "retry:1"
    assert calls == [1, 2, 3]
    types = [event.type async for event in client.history("retry")]
    assert types == ["RunStarted", "StepFailed", "StepFailed", "StepCompleted", "RunCompleted"]
    (record,) = (await handle.get()).steps
    assert (record.attempts, record.status) == (3, "completed")


@pytest.mark.parametrize(
    "error,attempts",
    [
        (TypeError("a bug"), 1),
        (NonRetryable("no"), 1),
        (ValueError("yes"), 3),
        (RetryAfter(0.001, "later"), 3),
    ],
)
async def test_programming_errors_are_not_retried(
    client: Client, error: Exception, attempts: int
) -> None:
    calls: list[int] = []

    @step(retry=Retry(max_attempts=3, initial=0.001))
    def failing() -> None:
        calls.append(1)
        raise error

    @workflow
    async def wf(ctx: Context) -> None:
        await ctx.step(failing)

    async with Worker(client, workflows=[wf]):
        with pytest.raises(RunFailed):
            await (await client.start(wf)).result(timeout=10)
    assert len(calls) == attempts


async def test_an_attempt_that_takes_too_long_is_a_step_timeout(client: Client) -> None:
    @step(timeout=0.02)
    async def slow() -> None:
        await asyncio.sleep(60)

    @workflow
    async def wf(ctx: Context) -> str:
        try:
            await ctx.step(slow)
        except StepTimeout as error:
            assert isinstance(error, TimeoutError)
            return error.step
        return "no"

    async with Worker(client, workflows=[wf]):
        assert await (await client.start(wf)).result(timeout=10) == "slow"


async def test_a_step_that_raises_timeout_error_itself_has_not_timed_out(client: Client) -> None:
    @step(timeout=10)
    async def own() -> None:
        raise TimeoutError("mine")

    @workflow
    async def wf(ctx: Context) -> bool:
        try:
            await ctx.step(own)
        except TimeoutError as error:
            return isinstance(error, StepTimeout)
        return True

    async with Worker(client, workflows=[wf]):
        assert await (await client.start(wf)).result(timeout=10) is False


async def test_a_sync_step_runs_in_a_thread_with_the_context_variables(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> str:
        return await ctx.step(thread_name, 1)

    async with Worker(client, workflows=[wf]):
        assert (await (await client.start(wf)).result(timeout=10)).startswith("durable-step")


@pytest.mark.slow
async def test_a_process_step_runs_in_another_process(client: Client) -> None:
    import os

    from tests.acceptance.process_steps import failing, pid

    @workflow
    async def wf(ctx: Context) -> tuple[int, str]:
        other = await ctx.step(pid, 3)
        try:
            await ctx.step(failing)
        except LookupError as error:
            return other, str(error)
        return other, ""

    async with Worker(client, workflows=[wf]):
        other, message = await (await client.start(wf)).result(timeout=30)
    assert other != os.getpid()
    assert message == "in the process"


async def test_gather_of_whole_chains(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> list[int]:
        async def chain(n: int) -> int:
            for _ in range(3):
                n = await ctx.step(add, n)
            return n

        async with asyncio.timeout(60):
            return await asyncio.gather(*(chain(n * 10) for n in range(10)))

    async with Worker(client, workflows=[wf], queues={"default": 3}):
        result = await (await client.start(wf)).result(timeout=10)
    assert result == [n * 10 + 3 for n in range(10)]


async def test_a_cancelled_step_leaves_no_trace_in_history(client: Client) -> None:
    stopped: list[str] = []

    started = asyncio.Event()

    @step
    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")

    @workflow
    async def wf(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.5):
                await ctx.step(endless)
        except TimeoutError:
            return "gave up"
        return "no"

    async with Worker(client, workflows=[wf]):
        handle = await client.start(wf)
        assert await handle.result(timeout=10) == "gave up"
    assert stopped or not started.is_set()
    types = [event.type async for event in client.history(handle.id)]
    assert types == ["RunStarted", "TimerFired", "RunCompleted"]


async def test_a_sleeping_run_parks_says_for_what_and_goes_on(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> datetime:
        await ctx.step(add, 1)
        before = ctx.now()
        await ctx.sleep(0.3)
        assert ctx.now() - before >= timedelta(seconds=0.3)
        return ctx.now()

    async with Worker(client, workflows=[wf]) as worker:
        handle = await client.start(wf, id="sleeper")
        async with asyncio.timeout(10):
            while await handle.status() != "waiting":
                await asyncio.sleep(0.01)
        run = await handle.get()
        (words,) = run.waiting_for
        assert words.startswith("sleep until 20")
        assert worker.health().details["cached"] == 1
        await handle.result(timeout=10)
    types = [event.type async for event in client.history("sleeper")]
    wanted = ["RunStarted", "StepCompleted", "TimerStarted", "TimerFired", "RunCompleted"]
    assert types == wanted


async def test_a_worker_without_a_cache_replays_to_the_same_end(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> tuple[int, float, uuid.UUID]:
        first = await ctx.step(add, 1)
        drawn, made = ctx.random.random(), ctx.uuid()
        await ctx.sleep(0.05)
        second = await ctx.step(add, first)
        assert current_context() is ctx
        return second, drawn, made

    async with Worker(client, workflows=[wf], cache=0):
        second, drawn, made = await (await client.start(wf, id="a")).result(timeout=20)
    async with Worker(client, workflows=[wf]):
        other = await (await client.start(wf, id="b")).result(timeout=20)
    assert second == 3
    assert isinstance(made, uuid.UUID)
    assert (drawn, made) != other[1:]


async def test_a_delayed_run_starts_when_it_is_due(client: Client) -> None:
    async with Worker(client, workflows=[count]):
        due = datetime.now(UTC) + timedelta(seconds=0.2)
        handles = [
            await client.start(count, 1, at=due),
            await client.start(count, 1, delay=0.2),
        ]
        assert await handles[0].status() == "pending"
        for handle in handles:
            assert await handle.result(timeout=10) == 6
            run = await handle.get()
            assert run.started_at is not None
            assert run.started_at >= due - timedelta(seconds=0.01)


async def test_a_delay_and_a_timeout_that_no_date_can_bear_end_with_the_calendar(
    client: Client,
) -> None:
    """Somebody's "never" is the end of the year 9999, and no error."""
    never = timedelta.max
    late = await client.start(count, 1, delay=never, timeout=never)
    assert await late.status() == "pending"
    async with Worker(client, workflows=[count]):
        patient = await client.start(count, 1, timeout=never)
        assert await patient.result(timeout=10) == 6
    assert await late.status() == "pending"


async def test_bad_arguments_of_start_are_refused_and_nothing_is_stored(client: Client) -> None:
    with pytest.raises(ValueError, match="naive"):
        await client.start(count, 1, at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not both"):
        await client.start(count, 1, at=datetime.now(UTC), delay=1)
    with pytest.raises(ValueError, match="characters"):
        await client.start(count, 1, id="x" * 256)
    with pytest.raises(ValueError, match="NUL"):
        await client.start(count, 1, id="a\x00b")
    with pytest.raises(ValueError, match="priority"):
        await client.start(count, 1, priority=1 << 20)
    with pytest.raises(InvalidInput):
        await client.start(fulfil, {"id": "x"})  # type: ignore[call-overload]
    with pytest.raises(NotImplementedError, match="queue_key"):
        await client.start(count, 1, queue_key="k")
    assert await client.count() == {}


async def test_higher_priority_goes_first(client: Client) -> None:
    order: list[int] = []

    @step
    async def note(n: int) -> None:
        order.append(n)

    @workflow
    async def wf(ctx: Context, n: int) -> None:
        await ctx.step(note, n)

    handles = [await client.start(wf, n, priority=n) for n in (1, 5, -3, 3)]
    async with Worker(client, workflows=[wf], queues={"default": 1}):
        for handle in handles:
            await handle.result(timeout=10)
    assert order == [5, 3, 1, -3]


async def test_start_many_starts_each_input_once(client: Client) -> None:
    handles = await client.start_many(count, {f"run-{n}": n for n in range(1200)})
    again = await client.start_many(count, {"run-1": 1, "run-new": 2})
    assert all(handle.created for handle in handles)
    assert [handle.created for handle in again] == [False, True]
    assert await client.count() == {"pending": 1201}


async def test_listing_pages_through_everything_newest_first(client: Client) -> None:
    await client.start_many(count, {f"a%_{n:02}": n for n in range(25)}, tags={"team": "red"})
    await client.start_many(sleepy, {f"b{n}": 0.0 for n in range(5)}, tags={"team": "blue"})
    page = await client.list(limit=10)
    assert [run.id for run in page][:6] == ["b4", "b3", "b2", "b1", "b0", "a%_24"]
    assert page.next is not None
    everything = [run.id async for run in client.list(limit=7)]
    assert len(everything) == len(set(everything)) == 30
    assert len([run async for run in client.list(workflow=count)]) == 25
    assert len([run async for run in client.list(tags={"team": "blue"})]) == 5
    assert [run async for run in client.list(status="failed")] == []
    assert len([run async for run in client.list(status=["pending", "failed"])]) == 30
    found = await client.find("a%_1", limit=100)
    assert [run.id for run in found] == [f"a%_{n}" for n in range(19, 9, -1)]
    assert await client.count(workflow="sleepy") == {"pending": 5}
    with pytest.raises(ValueError, match="no status"):
        client.list(status="nonsense")  # type: ignore[arg-type]


async def test_unknown_runs_are_said_to_be_unknown(client: Client) -> None:
    handle = client.handle("nobody")
    with pytest.raises(RunNotFound, match="nobody"):
        await handle.result(timeout=5)
    with pytest.raises(RunNotFound):
        await client.get("nobody")
    with pytest.raises(RunNotFound):
        await client.history("nobody")


async def test_waiting_can_be_given_up_and_leaves_the_run_alone(client: Client) -> None:
    async with Worker(client, workflows=[sleepy]):
        handle = await client.start(sleepy, 0.3)
        with pytest.raises(TimeoutError, match="it goes on"):
            await handle.result(timeout=0.01)
        assert await handle.result(timeout=10) == "awake"


async def test_another_client_sees_the_result(url: str, client: Client) -> None:
    if url == "sqlite://":
        pytest.skip("in memory there is only one client")
    async with Client(url) as other, Worker(other, workflows=[count]):
        handles = [await client.start(count, n) for n in range(20)]
        results = await asyncio.gather(*(handle.result(timeout=10) for handle in handles))
    assert results == [n + 5 for n in range(20)]


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


async def test_values_keep_type_and_content_live_and_after_replay(client: Client) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 6789, tzinfo=UTC)

    @step
    async def echo(value: Point, when: datetime, money: Decimal, *, tags: set[str]) -> Point:
        assert isinstance(value, Point)
        assert isinstance(when, datetime)
        assert isinstance(money, Decimal)
        assert tags == {"a", "b"}
        return Point(value.x + 1, (*value.y, 3))

    @workflow
    async def wf(ctx: Context, point: Point) -> Point:
        moved = await ctx.step(echo, point, when, Decimal("1.10"), tags={"b", "a"})
        await ctx.sleep(0.05)
        assert moved == Point(2, (1, 2, 3))
        return moved

    async with Worker(client, workflows=[wf], cache=0):
        result = await (await client.start(wf, Point(1, (1, 2)))).result(timeout=10)
    assert result == Point(2, (1, 2, 3))


async def test_a_result_that_cannot_be_stored_fails_the_step_and_says_what_to_write(
    client: Client,
) -> None:
    @step
    async def untyped():
        return Point(1, ())

    @workflow
    async def wf(ctx: Context) -> None:
        await ctx.step(untyped)

    async with Worker(client, workflows=[wf]):
        with pytest.raises(PayloadError, match="untyped"):
            await (await client.start(wf)).result(timeout=10)


async def test_a_forgotten_await_fails_the_run_with_its_line(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> None:
        ctx.step(add, 1)  # type: ignore[unused-coroutine]

    async with Worker(client, workflows=[wf]):
        with pytest.raises(NotAwaited, match=r"test_runs\.py:\d+"):
            await (await client.start(wf)).result(timeout=10)


async def test_logs_of_a_workflow_are_written_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def wf(ctx: Context) -> None:
        ctx.log.info("before %s", "sleep")
        await ctx.sleep(0.05)
        ctx.log.warning("after")

    with caplog.at_level(logging.INFO, logger="durable.workflow"):
        async with Worker(client, workflows=[wf], cache=0):
            await (await client.start(wf, id="logged")).result(timeout=10)
    lines = [record for record in caplog.records if record.name == "durable.workflow"]
    assert [line.getMessage() for line in lines] == ["before sleep", "after"]
    assert all(line.run_id == "logged" for line in lines)  # type: ignore[attr-defined]


async def test_a_wide_run_is_driven_with_the_slots_there_are(client: Client) -> None:
    running = most = 0

    @step
    async def busy(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n

    @workflow
    async def wf(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.step(busy, n) for n in range(2_500))))

    async with Worker(client, workflows=[wf], queues={"default": 7}):
        assert await (await client.start(wf)).result(timeout=30) == sum(range(2_500))
    assert most == 7


async def test_days_of_sleep_survive_the_worker(client: Client) -> None:
    @workflow
    async def wf(ctx: Context) -> None:
        await ctx.sleep(days(30))

    async with Worker(client, workflows=[wf]):
        handle = await client.start(wf)
        async with asyncio.timeout(10):
            while await handle.status() != "waiting":
                await asyncio.sleep(0.01)
    async with Worker(client, workflows=[wf]):
        with contextlib.suppress(TimeoutError):
            await handle.result(timeout=0.1)
        assert await handle.status() == "waiting"


async def test_nobody_serves_the_workflow(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from durable.client import handle as handles

    monkeypatch.setattr(handles, "_WARN_AFTER_SECONDS", 0.01)
    handle = await client.start(count, 1)
    with (
        pytest.warns(RuntimeWarning, match="no live worker serves count on queue default"),
        pytest.raises(TimeoutError),
    ):
        await handle.result(timeout=1)
