# ruff: noqa: SLF001 - a worker of a test is a worker in the same house
"""A worker as it is, but for two things: it tells when steps are at work, and asks mocks for their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from durable.worker.executors import PROCESSES, THREADS, Seats
from durable.worker.steps import StepRunner
from durable.worker.worker import Worker
from durable_testing.mocks import OutcomesUsedUp
from durable_testing.noted import Noted
from durable_testing.strict import ArgumentChanged, arguments_kept

if TYPE_CHECKING:
    from durable.client import Client
    from durable.clock import Clock
    from durable.model.runnable import Workflow
    from durable.worker.guard import GuardMode
    from durable.worker.roster import Roster
    from durable.worker.step_context import StepContext
    from durable_testing.activity import Activity
    from durable_testing.mocks import Mocks

LEASE_SECONDS = 900 * 365 * 86_400.0
"""Time that jumps is no missed heartbeat."""


def _nothing(_attempt: StepContext) -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class House:
    """What an environment and its workers share."""

    activity: Activity
    mocks: Mocks
    random: Random
    strict: bool
    around: Callable[[StepContext], AbstractAsyncContextManager[None]] = _nothing
    """What an attempt goes through before its function is called, and after."""
    noted: Noted = field(default_factory=Noted)


class WatchedSeats(Seats):
    """A call in a thread is at work until it returns, also when nobody waits for it any more."""

    def __init__(self, number: int, on_free: Callable[[], None], activity: Activity) -> None:
        super().__init__(number, on_free)
        self._activity = activity

    def take(self) -> None:
        """A call begins."""
        self._activity.begin()
        super().take()

    def give_back(self) -> None:
        """It has really ended."""
        super().give_back()
        self._activity.end()


class WatchedRunner(StepRunner):
    """Runs steps, or what stands in for them."""

    def __init__(
        self,
        host: Roster,
        slots: int,
        random: Random,
        clock: Clock,
        house: House,
    ) -> None:
        super().__init__(host, slots, random, clock)
        self._activity, self._mocks, self._strict = house.activity, house.mocks, house.strict
        self._around, self._noted = house.around, house.noted
        self._seats = {
            "thread": WatchedSeats(THREADS, self.pump, self._activity),
            "process": WatchedSeats(PROCESSES, self.pump, self._activity),
        }

    async def _attempt(self, attempt: StepContext) -> None:
        with self._activity.going_on(attempt):
            await super()._attempt(attempt)

    async def _call(self, attempt: StepContext) -> bytes:
        async with self._around(attempt):
            return await self._call_or_mock(attempt)

    async def _call_or_mock(self, attempt: StepContext) -> bytes:
        step = attempt.command.step
        if step.executor == "process" and self._mocks.of(step) is not None:
            args, kwargs = step.arguments.decode(attempt.command.arguments, f"step {step.name}")
            value = await self._invoke(attempt, args, kwargs)
            return step.result.encode(value, f"result of step {step.name}")
        return await super()._call(attempt)

    async def _invoke(
        self, attempt: StepContext, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        try:
            return await self._strictly(attempt, args, kwargs)
        except (ArgumentChanged, OutcomesUsedUp) as error:
            self._noted.add(error)
            raise

    async def _strictly(
        self, attempt: StepContext, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        command = attempt.command
        if not self._strict or command.args is not None:  # those that are passed on cannot change
            return await self._answer(attempt, args, kwargs)
        with arguments_kept(command.step, args, kwargs, attempt.run_id):
            return await self._answer(attempt, args, kwargs)

    async def _answer(
        self, attempt: StepContext, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        mock = self._mocks.of(attempt.command.step)
        if mock is not None:
            seats, attempt.seats = attempt.seats, None
            if seats is not None:
                seats.give_back()
            return await mock.call(args, kwargs, attempt.attempt)
        return await super()._invoke(attempt, args, kwargs)


class TestWorker(Worker):
    """A worker of a test environment."""

    __test__ = False

    def __init__(self, client: Client, house: House, **options: Any) -> None:
        guard: GuardMode = "raise" if house.strict else "warn"
        super().__init__(client, lease=LEASE_SECONDS, grace=0, guard=guard, **options)
        self._house = house

    def _runner(self, roster: Roster, slots: int) -> StepRunner:
        return WatchedRunner(roster, slots, self._house.random, self._clock, self._house)

    def replace(self, workflow: Workflow[Any, Any]) -> None:
        """Drive runs from now on with this instead of the one of the same name and version."""
        self._workflows[workflow.name, workflow.lane().version] = workflow

    def attempts(self) -> list[StepContext]:
        """What is running now."""
        return [one for runner in self._runners.values() for one in runner._running.values()]

    def serves(self, workflow: str, version: int, queue: str) -> bool:
        """Whether runs of this lane are taken up here."""
        known = {(workflow, 0), (workflow, version)} & self._workflows.keys()
        return bool(known) and queue in self._queues

    async def take_over(self, worker: int) -> None:
        """Free the runs of a worker that is known to be dead, and look for work."""
        await self._reaper.reap([worker])
        self.poke()
