"""Time in a test environment: it stands still until nobody can do anything, then jumps to what is due next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from durable.clock import SECOND, Timer, VirtualClock
from durable.errors import DurableError
from durable.model.scope import STEP
from durable_testing.activity import Activity, Quiet

if TYPE_CHECKING:
    from durable_testing.port import Port

T = TypeVar("T")

MAX_JUMPS: Final = 100_000
"""So often time jumps for somebody who waits for the end of a run, before that is taken for endless.

Once a minute for sixty days is less. A bound it must be: of what goes on for ever each jump changes something.
"""
STEP_SECONDS: Final = 60.0
"""So many seconds of the machine's own time pass before a step that does not return is reported."""
_HORIZON: Final = 200 * 365 * 86_400 * SECOND
"""What is further away is upkeep of a worker, for which no test waits."""


class StandingClock(VirtualClock):
    """Looks for what no hint has told of are made when nothing else is left to do, not at their time."""

    def __init__(self, start: datetime | None = None) -> None:
        super().__init__(start)
        self._looks: dict[_Look, None] = {}

    def look_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Wait for the next `look`."""
        del delay
        look = _Look(self._looks, callback)
        self._looks[look] = None
        return look

    def look(self) -> None:
        """Let everybody who waits to have a look have it now."""
        looks, self._looks = list(self._looks), self._looks
        self._looks.clear()
        for look in looks:
            look.callback()

    @property
    def next_due(self) -> int | None:
        """When something is due that a test may wait for."""
        due = super().next_due
        return None if due is None or due - self._start > _HORIZON else due

    def check(self, seconds: float) -> None:
        """Raise `ValueError` if that is further away than time goes here."""
        if self._now - self._start + seconds * SECOND > _HORIZON:
            message = "the time of an environment ends 200 years after its start"
            raise ValueError(message)


class _Look:
    __slots__ = ("_among", "callback")

    def __init__(self, among: dict[_Look, None], callback: Callable[[], object]) -> None:
        self._among = among
        self.callback = callback

    def cancel(self) -> None:
        self._among.pop(self, None)


class PassingClock:
    """A clock on which a sleep makes time pass, as that of somebody who tries again does."""

    def __init__(self, clock: StandingClock, keeper: TimeKeeper) -> None:
        self._keeper = keeper
        self._clock = clock
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.call_later = clock.call_later
        self.look_later = clock.look_later

    async def sleep(self, delay: float) -> None:
        """Wait until so much time has passed."""
        await self._keeper.wait(self._clock.sleep(delay))


class Waiter:
    """Somebody for whom time passes."""

    __slots__ = ("jumps", "run_id", "told")

    def __init__(self, run_id: str | None) -> None:
        self.run_id = run_id
        """The run whose end is waited for, if it is one."""
        self.jumps = 0
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends the wait: with nothing when everything is settled, with an error when it would never end."""

    def fail(self, error: Exception) -> None:
        """It would wait for ever."""
        if not self.told.done():
            self.told.set_exception(error)


class TimeKeeper:
    """Moves the clock, and nobody else does: only while somebody waits, and only when all is quiet."""

    def __init__(
        self,
        clock: StandingClock,
        port: Port,
        activity: Activity,
        *,
        when_stopped: Callable[[list[Waiter]], Awaitable[None]],
        when_stuck: Callable[[], Awaitable[Exception]],
        when_slow: Callable[[], Exception],
    ) -> None:
        """`when_stopped` may fail waiters before each jump.

        `when_stuck` says why nothing is to come, `when_slow` what does not return.
        """
        self._clock = clock
        self._port = port
        self._activity = activity
        self._quiet = Quiet(activity)
        self._when_stopped = when_stopped
        self._when_stuck = when_stuck
        self._when_slow = when_slow
        self._waiters: dict[Waiter, None] = {}
        self._settling: dict[Waiter, None] = {}
        self._wanted = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="durable-time")

    async def stop(self) -> None:
        """Time stands still from now on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(_closed())

    def check(self) -> None:
        """Raise `DurableError` if time stands still for ever."""
        if self._task.done():
            raise _closed()

    # -- who waits. A step that does is not at work: else time would wait for it, and it for time.

    async def wait(self, act: Coroutine[Any, Any, T], run_id: str | None = None) -> T:
        """The value of `act`, with time passing meanwhile; `run_id`: it waits for the end of this run."""
        if self._task.done():
            act.close()
            raise _closed()
        waiter = Waiter(run_id)
        task = asyncio.ensure_future(act)
        self._waiters[waiter] = None
        self._wanted.set()
        try:
            with self._activity.waiting(STEP.get()):
                either: set[asyncio.Future[Any]] = {task, waiter.told}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                waiter.told.result()
            return await task
        finally:
            del self._waiters[waiter]
            task.cancel()
            waiter.told.cancel()
            await asyncio.gather(task, waiter.told, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until nothing moves without time."""
        self.check()
        waiter = Waiter(None)
        self._settling[waiter] = None
        self._wanted.set()
        try:
            with self._activity.waiting(STEP.get()):
                await waiter.told
        finally:
            self._settling.pop(waiter, None)

    async def pass_time(self, seconds: float) -> None:
        """Wait until so much time has passed, and nothing moves at that moment."""
        self._clock.check(seconds)
        await self.wait(self._clock.sleep(seconds))
        await self.settle()

    # -- time

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiters or self._settling:
                try:
                    await self._move()
                except Exception as error:
                    self._fail_all(error)
                    await asyncio.sleep(0)

    def _fail_all(self, error: Exception) -> None:
        for waiter in [*self._waiters, *self._settling]:
            waiter.fail(error)

    async def _move(self) -> None:
        """Let everybody do what can be done; then tell those who waited for that, or go to what is due next."""
        await self._settled()
        if self._settling:
            for waiter in self._settling:
                if not waiter.told.done():
                    waiter.told.set_result(None)
            self._settling.clear()
            return
        changes = self._port.changes
        await self._when_stopped(list(self._waiters))
        stored: int | None = await self._port.next_due()
        await self._calm()
        if self._port.changes != changes or self._settling or not self._waiters:
            return  # somebody has used the meantime
        known = [due for due in (self._clock.next_due, stored) if due is not None]
        if not known:
            self._fail_all(await self._when_stuck())
            await asyncio.sleep(0)
            return
        for waiter in self._waiters:
            waiter.jumps += 1
        self._clock.jump(min(known))

    async def _settled(self) -> None:
        """Return when nobody finds anything to do, however closely he looks."""
        while True:
            await self._calm()
            changes = self._port.changes
            self._clock.look()
            await self._calm()
            due = self._clock.next_due
            if due is not None and due <= self._clock.now():
                self._clock.jump(due)
            elif self._port.changes == changes:
                return

    async def _calm(self) -> None:
        while True:
            turns = self._activity.turns
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    return await self._quiet.reached()
            except TimeoutError:
                if self._activity.turns == turns:
                    raise self._when_slow() from None


def _closed() -> DurableError:
    return DurableError("the environment is closed: its time stands still for ever")
