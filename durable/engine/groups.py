"""Calls side by side: the machine behind `ctx.parallel`, `ctx.map` and `ctx.race`.

Nothing of a group is in history: its members are, each by itself. A group is ordinary workflow code that
waits until all that it has started has ended, whatever ends it: no member outlives its group.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from durable.engine.calls import Call
from durable.engine.waits import WaitFuture
from durable.model.events import Err, Ok

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop

Decides: TypeAlias = Callable[[asyncio.Future[Any]], bool]
"""Whether a member that has ended ends the whole group."""

_NONE: Final = object()


class Group:
    """Members that run side by side, at most `limit` at once, taken in order as there is room."""

    def __init__(
        self, loop: WorkflowLoop, members: Iterable[Any], decides: Decides, limit: int | None
    ) -> None:
        self.futures: list[asyncio.Future[Any]] = []
        """What was started, in the order given; a member that was given twice is here twice."""
        self.decided: asyncio.Future[Any] | None = None
        """The member that ended the group."""
        self._loop = loop
        self._members = iter(members)
        self._lazy = not isinstance(members, Collection)
        self._decides = decides
        self._limit = limit
        self._more = True
        self._over = False
        self._started: dict[int, tuple[Any, asyncio.Future[Any]]] = {}
        self._running: dict[asyncio.Future[Any], None] = {}
        self._late: list[asyncio.Future[Any]] = []
        self._waiter: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Run until all members have ended, or one decides and the others are cancelled and have ended.

        Cancelled itself, it cancels them all, waits for their cleanup, and is cancelled.
        """
        try:
            await self._until_decided()
        except GeneratorExit:
            self._stop()  # closed by hand: nobody can wait for them
            raise
        except BaseException:
            self._stop()
            await self._until_empty()
            raise
        if self.decided is None:
            return
        self._stop()
        try:
            await self._until_empty()
        except asyncio.CancelledError:
            self._tell(self.decided)
            raise

    async def _until_decided(self) -> None:
        while self.decided is None:
            self._take()
            if not self._running:
                return
            await self._something()

    async def _until_empty(self) -> None:
        """Wait for what was cancelled; a cancellation that comes meanwhile is not lost, but has to wait too."""
        cancelled: asyncio.CancelledError | None = None
        while self._running:
            try:
                await self._something()
            except asyncio.CancelledError as error:
                cancelled = error
        for late in self._late:
            self._tell(late)
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # its traceback holds this frame

    async def _something(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # -- members

    def _take(self) -> None:
        while self._more and (self._limit is None or len(self._running) < self._limit):
            member = next(self._members, _NONE)
            if member is _NONE:
                self._more = False
            else:
                self._start(member)

    def _start(self, member: Any) -> None:
        known = self._started.get(id(member))
        if known is not None:
            self.futures.append(known[1])
            return
        future = self._future_of(member)
        self._started[id(member)] = member, future
        self.futures.append(future)
        self._running[future] = None
        future.add_done_callback(self._on_end)

    def _future_of(self, member: Any) -> asyncio.Future[Any]:
        if inspect.isawaitable(member):
            return asyncio.ensure_future(member, loop=self._loop)
        message = (
            "what runs side by side must be awaitable, such as ctx.step(...) or a coroutine: "
            f"number {len(self.futures) + 1} is of type {type(member).__name__}"
        )
        raise TypeError(message)

    def _on_end(self, future: asyncio.Future[Any]) -> None:
        del self._running[future]
        wanted = self._more or not self._running
        if self._over:
            self._late.append(future)
        elif self._decides(future):
            self.decided = future
            self._over = wanted = True
            self._more = False
        waiter = self._waiter
        if wanted and waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the end

    def _stop(self) -> None:
        """Cancel what runs; what was not taken yet never starts."""
        self._over = True
        self._more = False
        if self._lazy:
            self._close_iterator()
        else:
            for member in self._members:
                if asyncio.isfuture(member):
                    self._start(member)
                elif id(member) not in self._started:
                    forgo(member)
        for future in list(self._running):
            future.cancel()

    def _close_iterator(self) -> None:
        close = getattr(self._members, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:
                # The members still have to be cancelled and waited for.
                self._report("the iterator of a group raised while it was closed", error)

    def _tell(self, late: asyncio.Future[Any]) -> None:
        """An error of which no `await` will hear: the run's log has it."""
        error = None if late.cancelled() else late.exception()
        if error is not None:
            self._report("a member of a group that was already over failed", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})


class Race(Group):
    """A group that the first to end decides; of those that end by the same event, the first in order.

    Of waits for which something had come before the race began, the one for which it came first. The others
    have not taken theirs.
    """

    def __init__(self, loop: WorkflowLoop, members: Collection[Any]) -> None:
        super().__init__(loop, members, _any_end, None)

    async def _until_decided(self) -> None:
        try:
            await super()._until_decided()
            idle: asyncio.Future[None] = self._loop.create_future()
            self._loop.when_idle(idle)
            await idle
        except BaseException:
            self._give_back(self._ended)  # cancelled: nobody won
            raise
        over = self._ended
        self.decided = self._first(over)
        self._late = [one for one in over if one is not self.decided]
        self._give_back(self._late)

    @property
    def _ended(self) -> list[asyncio.Future[Any]]:
        return [one for one in dict.fromkeys(self.futures) if one.done()]

    def _give_back(self, unused: Iterable[asyncio.Future[Any]]) -> None:
        for one in unused:
            wait = self._wait_of(one)
            if wait is not None:
                wait.give_back()

    def _first(self, over: list[asyncio.Future[Any]]) -> asyncio.Future[Any]:
        first = over[0]
        if self._wait_of(first) is None:
            return first
        waits = [(self._wait_of(one), one) for one in over]
        return min((wait.came, n, one) for n, (wait, one) in enumerate(waits) if wait)[2]

    def _wait_of(self, future: asyncio.Future[Any]) -> WaitFuture | None:
        """The wait that is this member, if it found what it waited for as soon as it began."""
        call = next((call for call, started in self._started.values() if started is future), None)
        wait = call.awaited if isinstance(call, Call) else None
        return wait if isinstance(wait, WaitFuture) and wait.found else None


def forgo(member: object) -> None:
    """Give up what was never started: a coroutine is closed, a task or future cancelled."""
    if asyncio.isfuture(member):
        member.cancel()
    elif asyncio.iscoroutine(member):
        member.close()


def forgo_all(calls: object) -> None:
    """Give up the members of a group that never began; those that a generator would give do not exist yet."""
    if _are_there(calls):
        for member in calls.values() if _is_mapping(calls) else calls:
            forgo(member)


def _is_mapping(calls: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(calls, Mapping)


def _are_there(calls: object) -> TypeGuard[Iterable[Any]]:
    """Whether the members exist already: in a collection, or behind an iterator over one."""
    return isinstance(calls, Collection) or length_hint(calls, -1) >= 0


# -- what the members give


def _failed(future: asyncio.Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


def _broke(future: asyncio.Future[Any]) -> bool:
    """No `Err` stands for what a program must not go on after, such as KeyboardInterrupt."""
    return not future.cancelled() and not isinstance(future.exception(), Exception | None)


def _any_end(_future: asyncio.Future[Any]) -> bool:
    return True


def _value(future: asyncio.Future[Any]) -> Any:
    return future.result()


def _outcome(future: asyncio.Future[Any]) -> Ok[Any] | Err:
    """Of a member that somebody cancelled it is an `Err`, as `gather(return_exceptions=True)` has it."""
    try:
        return Ok(future.result())
    except (Exception, asyncio.CancelledError) as error:
        return Err(error)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


ON_ERROR: Final[Mapping[str, tuple[Decides, Callable[[asyncio.Future[Any]], Any]]]] = {
    "fail_fast": (_failed, _value),
    "complete_all": (_broke, _outcome),
}
"""Who ends the group, and what is given for each member."""


async def run_all(
    loop: WorkflowLoop, members: Iterable[Any], limit: int | None, on_error: str
) -> list[Any]:
    """What the members give, in their order."""
    decides, give = ON_ERROR[on_error]
    group = Group(loop, members, decides, limit)
    try:
        await group.run()
        if group.decided is not None:
            group.decided.result()  # raises
        return [give(future) for future in group.futures]
    finally:
        del group  # the traceback of what is raised holds this frame


async def run_in_shape(loop: WorkflowLoop, calls: Any, limit: int | None, on_error: str) -> Any:
    """What the calls give, in a mapping, a tuple or a list, as the calls came."""
    if _is_mapping(calls):
        keys = list(calls)
        values = await run_all(loop, list(calls.values()), limit, on_error)
        return dict(zip(keys, values, strict=True))
    # A copy of what is there already: whoever made it may change it while the group goes on.
    members: Iterable[Any] = list(calls) if _are_there(calls) else calls
    values = await run_all(loop, members, limit, on_error)
    return tuple(values) if isinstance(calls, tuple) else values


async def run_race(loop: WorkflowLoop, calls: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and the value of the first to end."""
    race = Race(loop, list(calls.values()))
    try:
        await race.run()
        winner = race.decided
        assert winner is not None
        name = list(calls)[race.futures.index(winner)]
        return name, winner.result()
    finally:
        winner = None
        del race  # as above
