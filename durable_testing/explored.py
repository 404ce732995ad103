"""An environment in which a schedule decides what happens next, and which operation meets a fault."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from durable.clock import SECOND
from durable.errors import DurableError
from durable.model.history import CompensationCompleted, StepCompleted
from durable.model.lifecycle import FINAL
from durable.model.rows import WaitFilter, WaitKind
from durable_testing.clients import TestClient
from durable_testing.environment import Environment
from durable_testing.faults import FaultyStorage
from durable_testing.steering import Steering
from durable_testing.timing import TimeKeeper

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.model.wire import EventRow
    from durable.storage.base import Storage
    from durable.worker.step_context import StepContext
    from durable_testing.judging import Call
    from durable_testing.workers import House

T = TypeVar("T")

RUN_ID: Final = "explored"
"""The id of the run that is explored."""
RETRY_SECONDS: Final = 2.0
"""What failed in the database is tried again sooner than after this."""
MAX_PAUSES: Final = 1_000
"""So often a worker tries something again at once."""
_DONE: Final = frozenset({StepCompleted.code, CompensationCompleted.code})


class Door(FaultyStorage):
    """One operation at a time, of all processes: which comes first must not depend on threads."""

    def __init__(self, inner: Storage, turn: asyncio.Lock, *given: Any, **options: Any) -> None:
        super().__init__(inner, *given, **options)
        self._turn = turn

    async def _pass(self, verb: str, call: Callable[..., Awaitable[T]], *arguments: object) -> T:
        async with self._turn:
            return await super()._pass(verb, call, *arguments)


class SteeredKeeper(TimeKeeper):
    """Time goes on only when the schedule says so."""

    next: Callable[[float | None], Awaitable[bool]]
    """Has something happen, given how many seconds away the next due thing is; False: time goes on."""

    async def _move(self) -> None:
        await self._settled()
        if self._waiters and not self._settling:
            stored: int | None = await self._port.next_due()
            known = [due for due in (self._clock.next_due, stored) if due is not None]
            due = (min(known) - self._clock.now()) / SECOND if known else None
            changes = self._port.changes
            if await self.next(due):
                return
            await self._settled()
            if self._port.changes != changes:  # work was found at a second look
                return
        await super()._move()


class SwiftClock:
    """A worker's clock on which it tries again at once: how long it waits before must not be seen by a run.

    A run that looks at the time would else end otherwise where the database was away for a moment. What is tried
    without end does take its time, for else nobody would ever come to an end.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses = 0
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.call_later = clock.call_later
        self.look_later = clock.look_later

    async def sleep(self, delay: float) -> None:
        """Wait for so long, or for nothing but that all is quiet."""
        is_pause = delay <= RETRY_SECONDS and self._pauses < MAX_PAUSES
        self._pauses += is_pause
        await self._clock.sleep(0 if is_pause else delay)


class EvenRandom(Random):
    """Draws the same each time: pauses between attempts must not depend on how many others there were before."""

    def __init__(self, draw: float) -> None:
        super().__init__()
        self._draw = draw

    def random(self) -> float:
        """What it always is."""
        return self._draw


class SteeredClient(TestClient):
    """A user, who acts when it is his turn."""

    steering: Steering

    async def send_event(self, *given: Any, **options: Any) -> None:
        """Send an event."""
        await self._act(f"event {_named(given[1])}", super().send_event, given, options)

    async def publish(self, *given: Any, **options: Any) -> None:
        """Publish an event."""
        await self._act(f"publication {_named(given[0])}", super().publish, given, options)

    async def cancel_wait(self, *given: Any) -> None:
        """End a wait."""
        await self._act(f"end of wait {given[1]}", super().cancel_wait, given, {})

    async def provide_input(self, *given: Any, **options: Any) -> None:
        """Answer a question, as soon as it is asked, whatever `wait` is."""
        run_id, name = given[:2]

        async def is_asked() -> bool:
            where = WaitFilter((WaitKind.INPUT,), run_id, name, limit=1)
            row = await self.storage.run(run_id)
            ended = row is not None and row.status in FINAL
            return ended or bool(await self.storage.waits(where))

        given_options = {**options, "wait": 0}
        await self._act(f"input {name}", super().provide_input, given, given_options, is_asked)

    async def request(self, *given: Any, **options: Any) -> Any:
        """Ask a run and wait for its answer."""
        await self.steering.act(f"request {given[1].name}", _at_once)
        return await super().request(*given, **options)

    async def _act(
        self,
        name: str,
        call: Callable[..., Awaitable[None]],
        given: Sequence[Any],
        options: dict[str, Any],
        is_ready: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        times = await self.steering.act(name, is_ready or _at_once)
        await call(*given, **options)
        if times > 1:
            with suppress(DurableError):  # refused: it was too late, or is known to have been there
                await call(*given, **options)


async def _at_once() -> bool:
    return True


def _named(event: Any) -> str:
    """What an event is called."""
    if isinstance(event, str):
        return event
    name = getattr(event, "name", None)
    return name if isinstance(name, str) else type(event).__name__


class ExploredEnvironment(Environment):
    """Starts its only run with `steering.armed`; everything else is as in any environment."""

    _keeper_kind: ClassVar[type[TimeKeeper]] = SteeredKeeper
    _is_recorded: ClassVar[bool] = False

    def __init__(self, schedule: Sequence[str], **options: Any) -> None:
        self.steering = Steering(schedule, self._cancel)
        self.trace: list[object] = []
        """All that was done and became durable, in order."""
        self.repeated: list[str] = []
        """Steps that began although their end was durable."""
        self.undoable: set[Call] = set()
        """Calls of steps that have an undo."""
        self._durable: set[tuple[int, int | None]] = set()
        super().__init__(**options)
        self.steering.progress = lambda: len(self.trace)
        self._port.on_events = self._note
        self._turn = asyncio.Lock()
        self._doors: list[Door] = []

    # -- parts

    def _new_house(self, strict: bool) -> House:
        house = super()._new_house(strict)
        even = EvenRandom(house.random.random())
        return dataclasses.replace(house, around=self._around, random=even)

    def _new_time_keeper(self) -> TimeKeeper:
        keeper = super()._new_time_keeper()
        assert isinstance(keeper, SteeredKeeper)
        keeper.next = self._next
        return keeper

    def _door(self, port: Any) -> Storage:
        door = Door(port, self._turn, self.steering.fault_of, clock=self._clock)
        self._doors.append(door)
        storage: Any = door
        return storage  # type: ignore[no-any-return]

    def _new_client(self, storage: Any, clock: Clock) -> TestClient:
        if storage is not self._port:
            return super()._new_client(storage, SwiftClock(clock))
        calm: Any = Door(storage, self._turn)
        client = SteeredClient(calm, clock, self._keeper, self._ids)
        client.steering = self.steering
        return client

    # -- what happens

    def _around(self, attempt: StepContext) -> AbstractAsyncContextManager[None]:
        return self._held(attempt)

    @asynccontextmanager
    async def _held(self, attempt: StepContext) -> AsyncGenerator[None]:
        """Begin when it is its turn, and be known to have ended when it is the turn of that."""
        execution, cmd = attempt.execution, attempt.command.cmd
        prefix = "" if attempt.run_id == RUN_ID else f"{attempt.run_id}/"
        name = f"{prefix}{attempt.name}/{cmd}"
        order = attempt.run_id, cmd
        with self._not_at_work(attempt):
            how = await self.steering.turn(name, order)
        self.trace.append(name)
        if (execution.key, cmd) in self._durable:
            self.repeated.append(name)
        if attempt.command.step.compensate is not None:
            self.undoable.add((attempt.run_id, cmd))
        yield
        if how == "answers late":
            with self._not_at_work(attempt):
                await self.steering.answer_late(name, order)

    @contextmanager
    def _not_at_work(self, attempt: StepContext) -> Generator[None]:
        """While it is held it is not at work, nor is the thread that it has been given."""
        activity = self._house.activity
        seated = attempt.seats is not None
        if seated:
            activity.end()
        try:
            with activity.waiting(attempt):
                yield
        finally:
            if seated:
                activity.begin()

    def _note(self, key: int, events: Sequence[EventRow]) -> None:
        for event in events:
            self.trace.append((key, event.type, event.cmd, event.name))
            if event.type in _DONE:
                self._durable.add((key, event.cmd))

    async def _next(self, due: float | None) -> bool:
        if self._doors[-1].crashed:
            self.trace.append("crash")
            await self._crash()
            return True
        return await self.steering.next(due)

    async def _crash(self) -> None:
        armed, self.steering.armed = self.steering.armed, False
        try:
            await super()._crash()
        finally:
            self.steering.armed = armed

    async def _cancel(self) -> None:
        self.trace.append("cancel")
        with suppress(DurableError):  # it has just ended
            await self.client.cancel(RUN_ID)
