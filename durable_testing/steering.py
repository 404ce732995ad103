"""What happens next in a run that is explored: nobody's luck decides it, but a schedule.

A run comes to *moments*: an operation of its worker on the database, or a *turn*, when nobody can do anything
before an attempt of a step, the next act of a user, or time is let go on. Without a schedule everything goes
well: attempts in the order of their commands, then users, then time. At each moment there are disturbances to
choose from; a schedule names those that happen. What a run does depends on nothing else, so the moments up to
the last disturbance of a schedule are the same whenever it is played.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

from durable_testing.faults import FAULTS, Fault, Operation
from durable_testing.port import LOOKS, READS

LATE_JUMPS: Final = 5
"""So often something happens by time alone before what is late does, where that would never end."""
IDLE_JUMPS: Final = 400
"""So often time goes on with nothing happening before what could happen does."""

Answer: TypeAlias = Literal["at once", "late"]
Kind: TypeAlias = Literal["fault", "order", "duplicate", "time", "cancel"]

_FREE: Final[frozenset[Kind]] = frozenset({"time", "cancel"})


def kind_of(disturbance: str) -> Kind:
    """What kind of a disturbance this text stands for."""
    place, _, what = disturbance.partition(": ")
    if not place.startswith("turn "):
        return "fault"
    if what.startswith("cancel"):
        return "cancel"
    if what.endswith(" first") and what != "time first":
        return "order"
    return "duplicate" if what.endswith(" twice") else "time"


def is_free(disturbance: str) -> bool:
    """Whether a run may end otherwise because of it: it was cancelled, or something came late."""
    return kind_of(disturbance) in _FREE


class Held:
    """An attempt of a step, or an act of a user, that waits for its turn."""

    __slots__ = ("go", "is_act", "is_ready", "jumps", "name", "order")

    def __init__(
        self, name: str, order: tuple[str, int], is_ready: Callable[[], Awaitable[bool]] | None
    ) -> None:
        self.name = name
        self.order = order
        self.is_ready = is_ready
        self.is_act = is_ready is not None
        self.jumps: int | None = None
        """How often time has gone on since it was said to be late."""
        self.go: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class Steering:
    """Lets one thing happen at a time, and notes what else could have."""

    def __init__(self, schedule: Sequence[str], cancel: Callable[[], Awaitable[None]]) -> None:
        self.moments: list[list[str]] = []
        """The disturbances that could have happened, moment by moment."""
        self.last = -1
        """The moment of the last disturbance that did happen."""
        self.armed = False
        """False: nothing is disturbed, and no operation is counted."""
        self.progress: Callable[[], int] = lambda: 0
        """Grows with everything that is done or becomes durable."""
        self._wanted = deque(schedule)
        self._cancel = cancel
        self._is_cancelled = False
        self._cancel_next = False
        self._held: dict[Held, None] = {}
        self._counts: Counter[str] = Counter()
        self._acts = 0
        self._held_ever = 0
        self._waits_for: tuple[int, int] | None = None
        self._idle_jumps = 0

    @property
    def missed(self) -> Sequence[str]:
        """Disturbances of the schedule for which there was no moment."""
        return tuple(self._wanted)

    def _offer(self, choices: list[str]) -> str | None:
        """Note a moment; the disturbance that happens there."""
        self.moments.append(choices)
        if not self._wanted or self._wanted[0] not in choices:
            return None
        self.last = len(self.moments) - 1
        return self._wanted.popleft().partition(": ")[2]

    # -- operations

    def fault_of(self, operation: Operation) -> Fault | None:
        """The fault that an operation meets."""
        if not self.armed:
            return None
        verb = operation.verb
        if (
            verb in READS or verb in LOOKS
        ):  # what is lost there is lost after the last change as well
            return None
        self._counts[verb] += 1
        chosen = self._offer([f"{verb} {self._counts[verb]}: {label}" for label in FAULTS])
        return None if chosen is None else FAULTS[chosen]

    # -- turns

    async def turn(self, name: str, order: tuple[str, int]) -> str:
        """Wait until an attempt may go on; how."""
        return await self._hold(Held(name, order, None))

    async def act(self, name: str, is_ready: Callable[[], Awaitable[bool]]) -> int:
        """Wait until a user may act; how often he does."""
        self._acts += 1
        return 2 if await self._hold(Held(name, ("~", self._acts), is_ready)) == "twice" else 1

    async def answer_late(self, name: str, order: tuple[str, int]) -> None:
        """Wait until what a step has done may become known."""
        held = Held(f"answer of {name}", order, None)
        held.jumps = 0
        await self._hold(held)

    async def _hold(self, held: Held) -> str:
        self._held[held] = None
        self._held_ever += 1
        try:
            return await held.go
        finally:
            del self._held[held]

    async def next(self, due: float | None) -> bool:
        """Let one thing happen; False: time is to go on, to what is due in `due` seconds, if anything is."""
        if self._cancel_next:
            await self._cancel_run()
            return True
        if due is not None and self._still_waits():
            return False
        ready, late = await self._ready()
        if not ready and late and (due is None or min(map(_jumps, late)) >= LATE_JUMPS):
            ready = late[:1]
        goes_on = await self._let(ready, may_wait=due is not None)
        if not goes_on:
            self._wait(late)
        return goes_on

    def _wait(self, late: Sequence[Held]) -> None:
        """Time goes on until something happens by that."""
        self._waits_for = self.progress(), self._held_ever
        self._idle_jumps = 0
        for held in late:
            held.jumps = _jumps(held) + 1

    def _still_waits(self) -> bool:
        if self._waits_for != (self.progress(), self._held_ever) or self._idle_jumps >= IDLE_JUMPS:
            self._waits_for = None
            return False
        self._idle_jumps += 1
        return True

    async def _ready(self) -> tuple[list[Held], list[Held]]:
        """What could happen now, what goes first first; and what is late."""
        ready: list[Held] = []
        late: list[Held] = []
        for held in sorted(self._held, key=lambda each: (each.is_act, each.order)):
            if held.go.done() or (held.is_ready is not None and not await held.is_ready()):
                continue
            (ready if held.jumps is None else late).append(held)
        return ready, late

    async def _let(self, ready: Sequence[Held], *, may_wait: bool) -> bool:
        """Have the first of these go on, or what the schedule says; False: time goes on."""
        self._counts["turn"] += 1
        turn = f"turn {self._counts['turn']}"
        choices = self._choices(ready, may_wait=may_wait) if self.armed else []
        chosen = self._offer([f"{turn}: {choice}" for choice in choices])
        if chosen == "cancel":
            await self._cancel_run()
            return True
        if chosen == "time first" or not ready:
            return False
        first = ready[0]
        if chosen == f"{first.name} late":
            first.jumps = 0
            return True
        if chosen is not None and chosen.startswith("cancel after "):
            self._cancel_next = True
            first.go.set_result("answers late")
        elif chosen is not None and chosen.endswith((" answers late", " twice")):
            first.go.set_result("answers late" if chosen.endswith("late") else "twice")
        else:
            named = [held for held in ready if chosen == f"{held.name} first"]
            (named or [first])[0].go.set_result("")
        return True

    def _choices(self, ready: Sequence[Held], *, may_wait: bool) -> list[str]:
        """The disturbances of a turn: what may happen instead of the first of these."""
        choices: list[str] = [f"{held.name} first" for held in ready[1:]]
        if ready:
            first = ready[0]
            is_step = not first.is_act and first.jumps is None
            if first.jumps is None and (may_wait or len(ready) > 1):
                choices.append(f"{first.name} late")
                choices += [f"{first.name} answers late"] * is_step
            if first.is_act:
                choices.append(f"{first.name} twice")
            if may_wait:
                choices.append("time first")
            if is_step and not self._is_cancelled:
                choices.append(f"cancel after {first.name}")
        if not self._is_cancelled:
            choices.append("cancel")
        return choices

    async def _cancel_run(self) -> None:
        self._cancel_next = False
        self._is_cancelled = True
        await self._cancel()


def _jumps(held: Held) -> int:
    return held.jumps or 0
