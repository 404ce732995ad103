# ruff: noqa: SLF001 - who plays a case opens the environment that it made
"""One case of an exploration: a run from its start to its end under a schedule, and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from durable.errors import DurableError, RunCancelled, RunFailed
from durable.model.runnable import Runnable
from durable.model.wire import EventRow
from durable_testing.explored import RUN_ID, ExploredEnvironment
from durable_testing.faults import Crash
from durable_testing.judging import (
    Ended,
    Traces,
    effects_of,
    outcome_of,
    problems_of_outcome,
    problems_of_runs,
)

if TYPE_CHECKING:
    from durable.client import Handle
    from durable.model.records import RunDetail

_LOUD: Final = ("durable.worker", "durable.client")
"""Loggers that tell of faults, which are no news here."""
_NOTHING: Final = Traces(("open", None), None)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explored: as given to `explore`."""

    workflow: Runnable[Any, Any]
    input: Any
    mocks: Mapping[Any, Any] = field(default_factory=dict[Any, Any])
    check: Callable[[RunDetail], object] | None = None
    user: Callable[[Handle[Any]], Awaitable[object]] | None = None
    workflows: Sequence[Runnable[Any, Any]] = field(default_factory=list[Runnable[Any, Any]])
    ledger: Any = None
    same_result: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a case."""

    schedule: tuple[str, ...]
    moments: Sequence[Sequence[str]]
    last: int
    """The moment of its last disturbance; -1: it has none."""
    missed: Sequence[str]
    """Disturbances that did not come about."""
    traces: Traces
    trace: tuple[object, ...]
    problem: str | None
    timeline: str

    @property
    def longer(self) -> Sequence[tuple[str, ...]]:
        """Schedules with one more disturbance, after those that it has."""
        later = self.moments[self.last + 1 :]
        return [(*self.schedule, choice) for choices in later for choice in choices]


def play(subject: Subject, schedule: tuple[str, ...], calm: Traces | None) -> Played:
    """Play one case; `calm` is what the undisturbed run left behind. Not from inside of an event loop."""
    if subject.ledger is not None:
        subject.ledger.clear()
    with _quiet(), asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_no_news)
        return runner.run(_Case(subject, schedule, calm).play())


class _Case:
    def __init__(self, subject: Subject, schedule: tuple[str, ...], calm: Traces | None) -> None:
        self._subject = subject
        self._schedule = schedule
        self._calm = calm
        self._env = ExploredEnvironment(
            schedule,
            workflows=list(dict.fromkeys([subject.workflow, *subject.workflows])),
            seed=subject.seed,
        )

    async def play(self) -> Played:
        subject, env = self._subject, self._env
        for step, outcome in subject.mocks.items():
            env.mock(step, **_answered(outcome))
        async with env:
            env.steering.armed = True
            handle: Handle[Any] = await env.client.start(subject.workflow, subject.input, id=RUN_ID)
            problem = await self._drive(handle)
            env.steering.armed = False
            traces = _NOTHING
            if problem is None:
                traces, problem = await self._judge()
            timeline = await env.timeline() if problem is not None else ""
            steering = env.steering
            return Played(
                self._schedule,
                steering.moments,
                steering.last,
                steering.missed,
                traces,
                (*env.trace, traces.outcome, str(traces.effects)),
                problem,
                timeline,
            )

    async def _drive(self, handle: Handle[Any]) -> str | None:
        """Have the run end; what hinders it."""
        user = asyncio.ensure_future(self._use(handle))
        ended = asyncio.ensure_future(self._end(handle))
        try:
            await asyncio.wait({user, ended}, return_when=asyncio.FIRST_COMPLETED)
            if user.done() and user.result() is not None:
                return user.result()
            return await ended
        finally:
            for task in (user, ended):
                task.cancel()
            await asyncio.gather(user, ended, return_exceptions=True)

    async def _use(self, handle: Handle[Any]) -> str | None:
        if self._subject.user is None:
            return None
        try:
            await self._subject.user(handle)
        except DurableError as error:
            if self._schedule:  # who comes too late is told so, and may live with it
                return None
            return f"user= fails: {_shown(error)}"
        except Exception as error:
            return f"user= fails: {_shown(error)}"
        return None

    async def _end(self, handle: Handle[Any]) -> str | None:
        try:
            await handle.result()
        except (RunFailed, RunCancelled):
            pass
        except DurableError as error:
            return _shown(error)
        await self._others_end()
        return None

    async def _others_end(self) -> None:
        """Children may have something to undo yet. Those that were abandoned may wait for ever."""
        client = self._env.client
        for run in [run async for run in client.list() if run.finished_at is None]:
            with suppress(DurableError):
                await client.handle(run.id).result()

    async def _judge(self) -> tuple[Traces, str | None]:
        """What the case leaves behind, and the first thing that is wrong with it."""
        subject, env = self._subject, self._env
        run = await env.client.get(RUN_ID)
        runs = await self._ended()
        outcome = outcome_of(
            run.status, next(each for each in runs if each.run_id == RUN_ID).rows[-1]
        )
        traces = Traces(outcome, effects_of(subject.ledger))
        return traces, next(self._problems(run, runs, traces), None)

    def _problems(self, run: RunDetail, runs: Sequence[Ended], traces: Traces) -> Iterator[str]:
        subject, env = self._subject, self._env
        for name in env.repeated:
            yield f"step {name} ran again after its end was durable"
        if subject.check is not None:
            try:
                subject.check(run)
            except Exception as error:
                yield f"check fails: {_shown(error)}"
        if self._calm is not None:
            yield from problems_of_outcome(
                self._schedule, traces, self._calm, same_result=subject.same_result
            )
        # Last of all: a replay runs the code once more, with whatever it does on the side.
        yield from problems_of_runs(runs, env.undoable)

    async def _ended(self) -> list[Ended]:
        """All runs that have ended."""
        client, known = self._env.client, self._env._worker._workflows
        runs: list[Ended] = []
        async for run in client.list():
            if run.finished_at is None:
                continue
            history = [event async for event in client.history(run.id)]
            rows = [event.row for event in history if isinstance(event.row, EventRow)]
            # As a worker does: that of its version, or of none, which is told as 1.
            code = known.get((run.workflow, run.version), known.get((run.workflow, 0)))
            runs.append(Ended(run.id, code, rows))
        return runs


def _answered(outcome: Any) -> dict[str, Any]:
    """What `Environment.mock` is given for it."""
    if isinstance(outcome, Exception) or _is_exception_class(outcome):
        return {"raises": outcome}
    return {"using" if callable(outcome) else "returns": outcome}


def _is_exception_class(outcome: object) -> bool:
    return isinstance(outcome, type) and issubclass(outcome, Exception)


def _shown(error: Exception) -> str:
    text, name = str(error).strip(), type(error).__name__
    return f"{name}: {text}" if text else name


@contextmanager
def _quiet() -> Generator[None]:
    before = [(logger, logger.disabled) for logger in map(logging.getLogger, _LOUD)]
    for logger, _ in before:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was_disabled in before:
            logger.disabled = was_disabled


def _no_news(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A process that died on purpose leaves tasks behind that ended with that."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)
