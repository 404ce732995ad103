"""`Environment`: a whole house for tests, with the real engine, worker and store, and a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, Self, TypeVar, overload

from durable.clock import to_datetime
from durable.errors import DefinitionError, DurableError
from durable.model.duration import Duration, seconds_of
from durable.model.runnable import Runnable, Workflow
from durable.model.scope import STEP
from durable.model.steps import Step, as_step
from durable.storage import open_storage
from durable_testing.activity import Activity
from durable_testing.clients import TestClient
from durable_testing.mocks import UNSET, Mock, Mocks, make_mock, stand_in
from durable_testing.port import Port
from durable_testing.process import Process
from durable_testing.recording import histories
from durable_testing.report import drawn
from durable_testing.session import SESSION, Left, current_test
from durable_testing.strict import strictness
from durable_testing.stuck import Troubles
from durable_testing.timing import PassingClock, StandingClock, TimeKeeper
from durable_testing.workers import House, TestWorker

if TYPE_CHECKING:
    from durable.client import Client
    from durable.clock import Clock
    from durable.storage.base import Storage

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_CUT_OFF: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""After these nothing is looked up any more: there may be no time for it."""
_OWN_DATABASES: Final = frozenset({"sqlite://", "sqlite:///", "sqlite:///:memory:"})
"""URLs of a new database each time."""


class Environment:
    """Workflows in a database, with a worker and a client, on a clock of their own. Use `async with`.

    Time stands still until every run is idle. While somebody waits (`run`, `handle.result()`, `advance`) it
    then jumps to whatever is due next, so thirty days pass in milliseconds; when nothing is due any more,
    whoever waits gets a `Stuck` that says what each run waits for.

    `workflows` are served on every queue that they name; `steps` and `resources` as for a `Worker`.
    `strict` makes errors of what production lets pass: a value that differs from what its receiver gets, an
    argument that a step changes, a task that a run leaves pending when it returns, workflow code that reads the
    clock or calls what else no replay can repeat. The first of these holds for every value that this process
    stores while the environment is open.
    `start_at` (aware) is where time begins, by default 2026-01-01 UTC. `url` is an empty database,
    `sqlite://` (in memory) or `postgresql://...`. `seed` decides whatever is left to chance: the jitter
    of retries and the ids of runs that are given none; 0 is that of `pytest --durable-seed`.

    Leaving it raises what a step has raised because the test is wrong (`ArgumentChanged`, outcomes of a mock
    that are used up), where the workflow has caught it.
    """

    _keeper_kind: ClassVar[type[TimeKeeper]] = TimeKeeper
    _is_recorded: ClassVar[bool] = True
    """Whether leaving it means something to a test: `--durable-record` keeps the histories of its runs, what a
    test that fails shows has them, and an error of the test in a step fails it."""

    def __init__(
        self,
        *,
        workflows: Iterable[Runnable[Any, Any]],
        steps: Iterable[Step[..., Any]] = (),
        resources: Iterable[object] = (),
        start_at: datetime | None = None,
        url: str = "sqlite://",
        strict: bool = True,
        seed: int = 0,
    ) -> None:
        self.seed = seed or SESSION.seed
        self._workflows = list(workflows)
        self._steps = list(steps)
        self._resources = list(resources)
        self._clock = StandingClock(start_at)
        self._house = self._new_house(strict)
        self._stand_ins: list[Workflow[Any, Any]] = []
        self._driven_by_mocks: set[str] = set()
        self._port = Port(open_storage(url), self._clock, self._house.activity)
        self._names = itertools.count(1)
        self._ids = Random(_seed_of_ids(self.seed, url))
        number = SESSION.count("environments") if self._is_recorded else 0
        self._name = f"{current_test()} {number}"  # the same in every session
        self._not_passed = SESSION.not_passed
        self._processes: list[Process] = []
        self._crashing: asyncio.Task[None] | None = None
        self._client: TestClient | None = None
        self._time: TimeKeeper | None = None

    # -- life

    async def __aenter__(self) -> Self:
        if self._client is not None:
            message = "an Environment is used once: make a new one"
            raise RuntimeError(message)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(strictness(wanted=self._house.strict))
            await self._port.inner.open()
            stack.push_async_callback(self._port.inner.close)
            self._time = self._new_time_keeper()
            stack.push_async_callback(self._time.stop)
            waiting = PassingClock(self._clock, self._time)
            self._client = await stack.enter_async_context(self._new_client(self._port, waiting))
            self._client.on_end = self._house.noted.ended
            stack.push_async_callback(self._end_workers)
            await self._start_worker()
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> None:
        try:
            unseen = self._unseen() if error is None else None
            failed = error if unseen is None else unseen
            if isinstance(failed, Exception):
                failed.add_note(await self._told())
            elif not isinstance(failed, _CUT_OFF):
                await self._leave(failed)
            if unseen is not None:
                raise unseen
        finally:
            await self._keeper.stop()  # first of all: whoever still waits is told that it is closed
            await self._open.aclose()

    def _unseen(self) -> Exception | None:
        """What a step has raised because the test is wrong, and the workflow has kept from the test."""
        error = self._house.noted.take() if self._is_recorded else None
        if error is not None:
            error.add_note("a step has raised this, and nobody who waited for a run was told")
            error.__traceback__ = None  # it leads through the worker, not through the test
        return error

    async def _leave(self, error: BaseException | None) -> None:
        """Leave to the test what it shows when it fails, and keeps when it passes."""
        if not (self._is_recorded and SESSION.is_watched):
            return
        kept: Mapping[str, str] = {}
        if error is None and SESSION.record_to is not None:
            kept = await histories(self.client, self._name, but=self._driven_by_mocks)
        SESSION.left.append(Left(self._not_passed, await self._told(), kept))

    def _new_house(self, strict: bool) -> House:
        return House(Activity(), Mocks(), Random(self.seed), strict)

    def _new_time_keeper(self) -> TimeKeeper:
        troubles = Troubles(self._port, lambda: self._worker)
        return self._keeper_kind(
            self._clock,
            self._port,
            self._house.activity,
            when_stopped=troubles.look,
            when_stuck=troubles.stuck,
            when_slow=troubles.slow,
        )

    async def _told(self) -> str:
        """What helps to understand a test that fails."""
        try:
            runs = await self.timeline()
        except Exception as error:  # it is told on the way out, and may not come in its way
            runs = f"its runs cannot be read: {error}"
        seed = f"environment with seed {self.seed} (pytest --durable-seed={self.seed})"
        unseen = [f"a step has raised: {message}" for message in self._house.noted.unseen]
        return "\n\n".join([seed, *unseen, runs])

    async def _end_workers(self) -> None:
        if self._crashing is not None:  # it may be about to start another one
            await asyncio.gather(self._crashing, return_exceptions=True)
        for process in self._processes:
            if not process.dead:
                await process.die()
                # Nobody else would take its runs over before the end of its lease.
                await self._port.unregister(process.worker_id)

    def _new_client(self, storage: Any, clock: Clock) -> TestClient:
        return TestClient(storage, clock, self._keeper, self._ids)

    def _door(self, port: Any) -> Storage:
        """What stands between a worker and the database: tests of faults put something there."""
        return port  # type: ignore[no-any-return]

    async def _start_worker(self) -> None:
        door = self._door(self._port)
        process = Process(self._new_client(door, self._clock), self._new_worker)
        self._processes.append(process)
        await self._keeper.wait(process.start())

    def _new_worker(self, client: Client) -> TestWorker:
        worker = TestWorker(
            client,
            self._house,
            workflows=self._workflows,
            steps=self._steps,
            resources=self._resources,
            queues=self._queues(),
            name=f"worker-{next(self._names)}",
        )
        for workflow in self._stand_ins:
            worker.replace(workflow)
        return worker

    def _queues(self) -> Sequence[str]:
        named = [workflow.queue for workflow in self._workflows]
        named += [step.queue for step in self._steps if step.queue is not None]
        return list(dict.fromkeys(["default", *named]))

    @property
    def _worker(self) -> TestWorker:
        worker = self._processes[-1].worker
        assert isinstance(worker, TestWorker)
        return worker

    @property
    def _keeper(self) -> TimeKeeper:
        if self._time is None:
            raise _not_open()
        return self._time

    # -- what tests do

    @property
    def client(self) -> Client:
        """An open client, of another process than the worker's."""
        if self._client is None:
            raise _not_open()
        return self._client

    def now(self) -> datetime:
        """What time it is in here, in UTC."""
        return to_datetime(self._clock.now())

    @overload
    async def run(self, workflow: Runnable[None, R], /, *, id: str | None = None) -> R: ...
    @overload
    async def run(self, workflow: Runnable[T, R], input: T, /, *, id: str | None = None) -> R: ...
    async def run(
        self, workflow: Runnable[Any, Any], input: Any = None, /, *, id: str | None = None
    ) -> Any:
        """Start a run and give its result; time passes as it needs it. Errors as of `handle.result()`.

        Also raises `Stuck` when it would never end, and `NondeterminismError` when it is blocked.
        """
        handle = await self.client.start(workflow, input, id=id)
        return await handle.result()

    async def advance(self, duration: Duration, /) -> None:
        """Let time pass (seconds or a timedelta), with everything happening at its own time.

        Inside of a step, or of what stands in for one, it takes that long; what else the step does meanwhile
        is not waited for.
        """
        await self._keeper.pass_time(seconds_of(duration, "advance"))

    async def settle(self) -> None:
        """Let everybody do what can be done without time: then runs wait, or sleep, or have ended."""
        await self._keeper.settle()

    async def crash(self) -> None:
        """Kill the worker without any clean-up, as if its process were gone; another one takes its runs over.

        Called from inside of a step, this is where the step dies. Calls of one moment are one crash: whoever
        calls while a worker dies waits until another one has its runs.
        """
        self._keeper.check()
        attempt = STEP.get()
        if not self._house.activity.knows(attempt):
            await asyncio.shield(self._crash_under_way())
            return
        process = self._process_of(attempt)
        with self._house.activity.waiting(attempt):
            while not process.dead:  # the first one may be that of the worker before
                await asyncio.shield(self._crash_under_way())
        raise asyncio.CancelledError  # a step of a dead worker goes nowhere

    def _process_of(self, attempt: object) -> Process:
        return next((each for each in self._processes if each.runs(attempt)), self._processes[-1])

    def _crash_under_way(self) -> asyncio.Task[None]:
        """The one that is, or else a new one: two at once would leave two workers behind."""
        if self._crashing is None or self._crashing.done():
            outside = contextvars.copy_context()
            outside.run(STEP.set, None)  # the next worker is no part of a step
            self._crashing = asyncio.create_task(self._crash(), context=outside)
        return self._crashing

    async def _crash(self) -> None:
        dead = self._processes[-1]
        worker = dead.worker_id
        await dead.die(self._house.activity.going_on())
        await self._start_worker()
        await self._worker.take_over(worker)

    async def timeline(self, run_id: str | None = None, /) -> str:
        """All runs (the newest twenty), or one, as text: what happened when, and what is waited for.

        A test that fails inside of `async with` shows this with its error. `RunNotFound`.
        """
        return await drawn(self.client, self.now(), run_id)

    # -- mocks

    @overload
    def mock(self, step: Step[..., R] | Runnable[Any, R], /, *, returns: R) -> Mock: ...
    @overload
    def mock(self, step: Step[..., Any] | Runnable[Any, Any], /, *, raises: Exception) -> Mock: ...
    @overload
    def mock(
        self, step: Step[..., R] | Runnable[Any, R], /, *, outcomes: Sequence[R | Exception]
    ) -> Mock: ...
    @overload
    def mock(
        self, step: Step[P, R], /, *, using: Callable[P, Awaitable[R]] | Callable[P, R]
    ) -> Mock: ...
    @overload
    def mock(
        self,
        step: Callable[..., Any],
        /,
        *,
        returns: object = ...,
        raises: Exception = ...,
        outcomes: Sequence[object] = ...,
        using: Callable[..., Any] = ...,
    ) -> Mock: ...
    def mock(
        self,
        step: Any,
        /,
        *,
        returns: Any = UNSET,
        raises: Any = UNSET,
        outcomes: Any = UNSET,
        using: Any = UNSET,
    ) -> Mock:
        """Let something stand in for a step, or for a child: its function is not called any more.

        `returns` is its result, `raises` its failure, `outcomes` one of either for each attempt, `using` a
        function that is called with its arguments. Retries, time-outs and the storing of arguments and
        results stay as they are. The newest mock of a step counts, also for `step.options(name=...)` where that
        name has no mock of its own. A mock of `step.options(name=...)` stands for that name only.
        """
        given = {"returns": returns, "raises": raises, "outcomes": outcomes, "using": using}
        if isinstance(step, Runnable):
            return self._mock_child(step, given)
        made = make_mock(as_step(step).name, **given)
        self._house.mocks.add(step, made)
        return made

    def _mock_child(self, child: Any, given: dict[str, Any]) -> Mock:
        workflow = next((each for each in self._workflows if each is child), None)
        if not isinstance(workflow, Workflow):
            message = (
                f"{child.name} is not among the workflows of this environment: add it to workflows="
            )
            raise DefinitionError(message)
        made = make_mock(child.name, **given)
        replaced = stand_in(workflow, made, self._driven_by_mocks)
        self._stand_ins.append(replaced)
        for process in self._processes:
            if isinstance(process.worker, TestWorker):
                process.worker.replace(replaced)
        return made


def _not_open() -> DurableError:
    return DurableError("the environment is not open: use `async with Environment(...) as env`")


def _seed_of_ids(seed: int, url: str) -> str:
    """The same in every session. On a database that has runs of this test already no id comes again."""
    one = f"{seed} {current_test()}"
    before = 0 if url in _OWN_DATABASES else SESSION.count("databases")
    return f"{one} {before}" if before else one
