"""The step runner: slots, order, time-outs, cancelling; no slot and no thread is ever lost."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from durable import Retry, current_step, step
from durable.clock import NEVER, Clock, SystemClock, VirtualClock
from durable.errors import RetryAfter, StepFailed, StepTimeout
from durable.model import history
from durable.model.commands import RunStep, Site
from durable.model.failure import decode_failure, rebuild
from durable.model.payload import ANY
from durable.worker.steps import StepRunner

SITE = Site((lambda: None).__code__, 1)
mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="clean")


class Host:
    worker_id = 7

    def __init__(self) -> None:
        self.well = True

    def now(self) -> int:
        return SystemClock().now()

    def healthy(self) -> bool:
        return self.well


class Run:
    """What the runner sees of an execution."""

    id = "run"

    class workflow:  # noqa: N801
        name = "wf"

    def __init__(self) -> None:
        self.active: dict[int, RunStep] = {}
        self.events: list[Any] = []
        self.dead = False

    def at(self) -> int:
        return SystemClock().now()

    def finished_step(self, cmd: int) -> bool:
        return not self.dead and self.active.pop(cmd, None) is not None

    def record(self, event: Any) -> None:
        self.events.append(event)


class Bench:
    def __init__(self, slots: int = 100, clock: Clock | None = None) -> None:
        self.host = Host()
        self.runner = StepRunner(self.host, slots, Random(1), clock or SystemClock())
        self.run: Any = Run()
        self.count = 0

    def submit(self, fn: Any, *args: Any) -> int:
        self.count += 1
        encoded = fn.arguments.encode(args, {}, fn.name)
        command = RunStep(self.count, fn, encoded, args, {}, 0, SITE)
        self.run.active[self.count] = command
        self.runner.submit(self.run, command)
        return self.count

    def cancel(self, cmd: int) -> None:
        del self.run.active[cmd]
        self.runner.cancel(self.run, cmd)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def idle(self) -> None:
        await self.until(lambda: not self.runner.running and not self.runner.backlog)


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    yield bench
    bench.runner.close()


async def test_slots_and_order() -> None:
    """At most `slots` attempts at once; the others wait in order."""
    began: list[int] = []
    gates = [asyncio.Event() for _ in range(6)]

    @step
    async def work(n: int) -> int:
        began.append(n)
        await gates[n].wait()
        return n

    bench = Bench(slots=2)
    for n in range(6):
        bench.submit(work, n)
    await bench.until(lambda: len(began) == 2)
    assert (bench.runner.running, bench.runner.backlog) == (2, 4)
    for n in (1, 0, 2, 3, 4, 5):
        gates[n].set()
        await asyncio.sleep(0)
    await bench.idle()
    assert began == list(range(6))


async def test_nothing_starts_without_a_lease(bench: Any) -> None:
    """A worker that cannot renew starts nothing new."""

    @step
    async def work() -> None: ...

    bench.host.well = False
    bench.submit(work)
    assert (bench.runner.running, bench.runner.backlog) == (0, 1)
    bench.host.well = True
    bench.runner.pump()
    await bench.idle()
    assert len(bench.run.events) == 1


async def test_context_variables_do_not_leak_from_one_step_to_the_next(bench: Any) -> None:
    """Attempts start from the worker's context, in the loop and in threads."""
    seen: list[str] = []

    @step
    async def here() -> None:
        seen.append(mine.get())
        mine.set("dirty")

    @step
    def there() -> None:
        seen.append(mine.get())
        mine.set("dirty")

    narrow = Bench(slots=1)
    for _ in range(3):
        narrow.submit(here)
        narrow.submit(there)
    await narrow.idle()
    narrow.runner.close()
    assert seen == ["clean"] * 6


@pytest.mark.parametrize("swallow", [False, True])
async def test_an_attempt_that_is_cancelled_frees_its_slot_when_it_has_stopped(
    swallow: bool,
) -> None:
    """The attempt is told to stop; its slot is free when it has; what it brings is dropped."""
    stopping, go = asyncio.Event(), asyncio.Event()

    @step
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopping.set()
            await go.wait()
            if not swallow:
                raise
        return "too late"

    bench = Bench(slots=1)
    cmd = bench.submit(work)
    await asyncio.sleep(0)
    bench.cancel(cmd)
    await asyncio.wait_for(stopping.wait(), 5)
    assert bench.runner.running == 1
    go.set()
    await bench.idle()
    assert bench.run.events == []


async def test_a_step_cancelled_before_its_first_moment_frees_its_slot() -> None:
    """Slot lost on cancellation: a task that never began cannot clean up after itself."""

    @step
    async def work() -> None: ...

    bench = Bench(slots=1)
    for _ in range(50):
        bench.cancel(bench.submit(work))  # in the same turn of the loop
        await asyncio.sleep(0)
    bench.submit(work)
    await bench.idle()
    assert len(bench.run.events) == 1


async def test_a_thread_learns_that_nobody_waits() -> None:
    """A thread cannot be stopped: `current_step().cancelled` tells it, after a cancel or a time-out."""
    clock = VirtualClock()
    bench = Bench(clock=clock)
    contexts: list[Any] = []
    go = threading.Event()

    @step(timeout=5)
    def slow() -> None:
        contexts.append(current_step())
        go.wait(10)

    @step
    def endless() -> None:
        contexts.append(current_step())
        go.wait(10)

    try:
        bench.submit(slow)
        cmd = bench.submit(endless)
        await bench.until(lambda: len(contexts) == 2)
        assert not any(context.cancelled for context in contexts)
        clock.advance(5)
        await bench.until(lambda: bench.run.events)
        assert {context.name: context.cancelled for context in contexts} == {
            "slow": True,
            "endless": False,
        }
        bench.cancel(cmd)
        await bench.until(lambda: all(context.cancelled for context in contexts))
        assert len(bench.run.events) == 1
    finally:
        go.set()
        bench.runner.close()


async def test_a_call_that_was_given_up_keeps_its_seat_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else there would soon be more threads at work than there are seats."""
    monkeypatch.setattr("durable.worker.steps.THREADS", 1)
    bench = Bench()
    begun: list[str] = []
    go = threading.Event()

    @step
    def stubborn() -> None:
        begun.append("stubborn")
        go.wait(10)

    @step
    def patient() -> None:
        begun.append("patient")

    try:
        cmd = bench.submit(stubborn)
        await bench.until(lambda: begun)
        bench.cancel(cmd)
        await bench.until(lambda: not bench.runner.running)
        bench.submit(patient)
        assert bench.runner.backlog == 1
        go.set()
        await bench.idle()
        assert begun == ["stubborn", "patient"]
    finally:
        go.set()
        bench.runner.close()


async def test_a_later_attempt_does_not_change_what_an_earlier_one_is_told() -> None:
    """`attempt` is that of the attempt that asks, however long it takes."""
    clock = VirtualClock()
    bench = Bench(clock=clock)
    first: list[Any] = []
    go = threading.Event()

    @step(timeout=5, retry=Retry(max_attempts=3))
    def slow() -> None:
        first.append(current_step())
        go.wait(10)

    try:
        cmd = bench.submit(slow)
        command = bench.run.active[cmd]
        await bench.until(lambda: first)
        clock.advance(5)
        await bench.until(lambda: bench.run.events)
        command.attempt += 1  # as the instance does
        assert first[0].attempt == 1
    finally:
        go.set()
        bench.runner.close()


async def test_a_time_out_is_a_step_timeout(bench: Any) -> None:
    """`timeout` limits one attempt."""

    @step(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    bench.submit(slow)
    await bench.idle()
    (event,) = bench.run.events
    assert isinstance(event, history.StepFailed)
    error = rebuild(decode_failure(event.failure), StepTimeout, step="slow", attempts=1)
    assert isinstance(error, StepFailed)
    assert event.retry_at is None


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError]
)
async def test_whatever_a_step_raises_is_its_outcome(
    bench: Any, error: type[BaseException]
) -> None:
    """Errors that look like those of the machinery end the step, not the worker."""

    @step
    async def here() -> None:
        raise error

    bench.submit(here)
    await bench.idle()
    assert [type(event) for event in bench.run.events] == [history.StepFailed]


async def test_a_step_that_cancels_its_own_task_has_failed(bench: Any) -> None:
    """As a library may do: the run goes on."""

    @step
    async def here() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    bench.submit(here)
    await bench.idle()
    assert [type(event) for event in bench.run.events] == [history.StepFailed]


@pytest.mark.parametrize("delay", [1e308, timedelta.max, timedelta(days=3_000_000)])
async def test_no_attempt_is_due_after_the_end_of_time(
    bench: Any, delay: float | timedelta
) -> None:
    """A delay that no date can bear is as long as can be."""

    @step(retry=2)
    async def later() -> None:
        raise RetryAfter(delay)

    bench.submit(later)
    await bench.idle()
    assert [event.retry_at for event in bench.run.events] == [NEVER]


async def test_what_a_step_raises_on_being_told_to_stop_is_no_outcome() -> None:
    """A worker that stops tells its steps to stop: that is no failure of theirs."""

    @step
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while cleaning up")

    bench = Bench()
    bench.submit(work)
    await asyncio.sleep(0)
    bench.runner.refuse()
    await bench.runner.drain(0)
    assert bench.run.events == []
    assert bench.run.active


async def test_a_step_that_ends_within_the_grace_is_recorded() -> None:
    @step
    async def work() -> int:
        await asyncio.sleep(0.02)
        return 1

    bench = Bench(slots=1)
    bench.submit(work)
    bench.submit(work)
    await asyncio.sleep(0)
    bench.runner.refuse()
    await bench.runner.drain(5)
    assert [type(event) for event in bench.run.events] == [history.StepCompleted]
    assert bench.runner.backlog == 1


async def test_threads_stay_constant_under_a_storm_of_cancels(bench: Any) -> None:
    """Cancel at the very moment of return, many times: the threads of the pool stay, and go on working."""

    @step
    def quick() -> str:
        return threading.current_thread().name

    def pool() -> set[str]:
        return {t.name for t in threading.enumerate() if t.name.startswith("durable-step")}

    for round_ in range(150):
        cmds = [bench.submit(quick) for _ in range(4)]
        for _ in range(round_ % 5):
            await asyncio.sleep(0)
        for cmd in cmds:
            if cmd in bench.run.active:
                bench.cancel(cmd)
        await asyncio.sleep(0)
    await bench.idle()
    threads = len(pool())
    assert 1 <= threads <= 32
    done = len(bench.run.events)
    for _ in range(20):
        bench.submit(quick)
    await bench.idle()
    assert len(bench.run.events) == done + 20
    assert len(pool()) <= 32
    assert all(isinstance(event, history.StepCompleted) for event in bench.run.events)


async def test_a_result_is_encoded_and_says_who_made_it_and_where(bench: Any) -> None:
    """A completion carries attempt, worker, place and how long it took."""

    @step
    async def work(n: int) -> int:
        return n * 2

    bench.submit(work, 21)
    await bench.idle()
    (event,) = bench.run.events
    assert ANY.decode(event.result, "") == 42
    assert (event.worker, event.attempt, event.cmd, event.name) == (7, 1, 1, "work")
    assert event.site == str(SITE)
    assert event.took >= 0
