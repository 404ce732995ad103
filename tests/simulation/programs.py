"""Random workflow programs: trees as data, drawn from a seed, and the workflow that runs them.

The verbs and steps are those of the campaign with faulty runs; here are the code that changes between versions,
stock asyncio, requests, and trees that are drawn without hypothesis, which would take longer than to run them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any, Final

from durable import ChildFailed, Context, Request, Retry, StepFailed, WaitTimeout, step
from durable.errors import (
    IllegalTransition,
    NotAllowedInWorkflow,
    RunAlreadyExists,
    StoreUnavailable,
)
from durable.model.definition import workflow
from tests.campaigns.faulty_runs_programs import Machine, Tree, linger, make

NEWEST: Final = 3
"""Version of the code that every process runs in the end."""
SHARED: Final = "shared"
"""The id of children that meet each other, and take each other's place."""
FIRST: Final = " of two"
SECOND: Final = " after it"
"""Endings of the names of two things that one saga makes, one after the other."""
ADD: Final = Request("add", int, int)
_SECONDS: Final = (0.1, 0.4, 1.0, 2.5)
_VERSION: list[Callable[[], int]] = [lambda: NEWEST]


def code_version() -> int:
    """Of the code that runs here and now."""
    return _VERSION[0]()


def set_code_version(version: Callable[[], int]) -> None:
    """Who knows it."""
    _VERSION[0] = version


@step
async def strange(n: int) -> Any:
    """Raises, or gives, what might be taken for something else on its way."""
    if n == 0:
        raise StoreUnavailable("says a step")
    if n == 1:
        raise asyncio.CancelledError
    if n == 2:
        raise TimeoutError
    return object()


@step
async def unspoil(name: str) -> None:
    """Cannot be done."""
    raise LookupError(name)


@step(compensate=unspoil)
async def spoil(name: str) -> str:
    return name


strange.result.resolve()  # else the first failure of a process has another traceback than the later ones


class Programs(Machine):
    """Runs a tree."""

    async def do_tell(self, target: str, name: str) -> None:
        """The same with a number that nothing else is sent with."""
        with contextlib.suppress(IllegalTransition):
            await self.ctx.send_event(target, name, self.ctx.random.getrandbits(52))

    async def do_strange(self, n: int) -> None:
        try:
            await self.ctx.step(strange, n)
        except StepFailed as error:
            self.seen.append(type(error).__name__)

    async def do_spoil(self, n: int) -> None:
        await self.ctx.step(spoil, str(n))

    async def do_hurried(self, s: float) -> None:
        try:
            await self.ctx.step(linger.options(timeout=0.3, retry=2), s)
        except StepFailed as error:
            self.seen.append(type(error).__name__)

    async def do_renewed(self, n: int) -> None:
        """A small change of the code: old runs go on as they began."""
        if code_version() >= 2 and self.ctx.patched("renewed"):
            await self.do_step(n + 100)
        else:
            await self.do_step(n)

    async def do_broken(self, n: int) -> None:
        """What version 2 does here is not what the others do, and it says so nowhere."""
        if code_version() == 2:
            await self.do_linger(0.1)
        await self.do_step(n)

    async def do_gather(self, parts: list[Tree]) -> None:
        found = await asyncio.gather(*map(self.run, parts), return_exceptions=True)
        self.seen += [type(one).__name__ for one in found if one is not None]

    async def do_limit(self, body: Tree, s: float) -> None:
        try:
            async with asyncio.timeout(s):
                await self.run(body)
        except TimeoutError:
            self.seen.append("timeout")

    async def do_any(self, s: float) -> None:
        with contextlib.suppress(WaitTimeout):
            self.seen.append(str(await self.ctx.wait_for_any(["a", "b"], timeout=s)))

    async def do_odd(self, name: str, s: float) -> None:
        found = await self.ctx.wait_for_event(
            name, timeout=s, default=None, where=lambda n: isinstance(n, int) and n % 2 == 1
        )
        self.seen.append(found)

    async def do_serve(self, s: float) -> None:
        with contextlib.suppress(WaitTimeout):
            asked = await self.ctx.wait_for_request(ADD, timeout=s)
            asked.reply(asked.payload + 1)

    async def do_undo(self, parts: list[Tree]) -> None:
        """Things that are undone in the end, and then a failure."""
        async with self.ctx.saga():
            pair = self.ctx.random.getrandbits(52)
            for place in FIRST, SECOND:
                self.made += 1
                await self.ctx.step(make, f"{pair}{place}", 0.0)
            await self.do_seq(parts)
            raise LookupError("undone")

    async def do_race_sleep(self, body: Tree, s: float) -> None:
        await self.ctx.race(body=self.run(body), sleep=self.do_sleep(s))

    async def do_call(self, tree: Tree, s: float, brave: bool) -> None:
        try:
            await self.ctx.call(program, {"tree": tree}, timeout=s)
        except (ChildFailed, WaitTimeout) as error:
            self.seen.append(type(error).__name__)
            if not brave:
                raise

    async def do_launch(self, n: int) -> None:
        """A child that goes its own way: its start is all that is waited for."""
        await self.ctx.start(program, {"tree": {"do": "step", "n": n}}, on_parent_close="abandon")

    async def do_start(self, tree: Tree, how: str, after: str, conflict: str | None) -> None:
        options: dict[str, Any] = {}
        if conflict is not None:
            options = {"on_conflict": conflict, "id": SHARED}
            how = "cancel" if conflict == "return_existing" else how
        handle = await self.ctx.start(program, {"tree": tree}, on_parent_close=how, **options)
        try:
            if after == "cancel":
                await handle.cancel()
            elif after == "result":
                await handle.result(timeout=3, default=None)
            elif after == "tell":
                await handle.send_event("a", self.ctx.random.getrandbits(52))
        except (ChildFailed, RunAlreadyExists) as error:
            self.seen.append(type(error).__name__)


@workflow(name="program")
async def program(ctx: Context, given: dict[str, Any]) -> list[Any]:
    """Runs a tree, and begins anew as often as it says."""
    return await _run(ctx, given)


@workflow(name="stubborn", retry=Retry(max_attempts=2, initial=0.5, jitter=0))
async def stubborn(ctx: Context, given: dict[str, Any]) -> list[Any]:
    """The same, tried again as a whole when it fails."""
    return await _run(ctx, given)


async def _run(ctx: Context, given: dict[str, Any]) -> list[Any]:
    machine = Programs(ctx)
    await machine.run(given["tree"])
    if given.get("again"):
        with contextlib.suppress(NotAllowedInWorkflow):
            await ctx.continue_as_new({**given, "again": given["again"] - 1})
    await machine.do_step(99)
    return machine.seen


# -- drawing them


class Growing:
    """Draws one tree of a limited number of leaves."""

    def __init__(self, random: Random, leaves: int) -> None:
        self._random = random
        self._left = leaves

    def tree(self, depth: int) -> Tree:
        random = self._random
        if depth == 0 or self._left <= 1 or random.random() < 0.35:
            self._left -= 1
            return random.choice(_LEAVES)(random)
        return random.choice(_NESTED)(self, depth - 1)

    def trees(self, depth: int, most: int = 3) -> list[Tree]:
        return [self.tree(depth) for _ in range(self._random.randint(1, most))]

    def seconds(self) -> float:
        return self._random.choice(_SECONDS)

    def choice(self, *options: Any) -> Any:
        return self._random.choice(options)


def program_of(random: Random) -> dict[str, Any]:
    """What a run is given."""
    growing = Growing(random, random.choice((1, 3, 6, 10)))
    parts = growing.trees(random.randint(1, 4), 4)
    return {"tree": {"do": "seq", "parts": parts}, "again": random.choice((0, 0, 0, 0, 1, 2))}


def _leaf(do: str, **parts: Callable[[Random], Any]) -> Callable[[Random], Tree]:
    return lambda random: {"do": do, **{name: draw(random) for name, draw in parts.items()}}


def _s(random: Random) -> float:
    return random.choice(_SECONDS)


def _n(random: Random) -> int:
    return random.randrange(10)


def _of(*options: Any) -> Callable[[Random], Any]:
    return lambda random: random.choice(options)


_LEAVES: Final = (
    *[_leaf("step", n=_n)] * 4,
    *[_leaf("make", s=_of(0.0, 0.0, 1.0))] * 2,
    *[_leaf("event", name=_of("a", "b"), s=_s, key=_of(None, None, "k"))] * 3,
    *[_leaf("sleep", s=_s)] * 2,
    *[_leaf("shaky", n=_n)] * 2,
    *[_leaf("tell", target=_of("r0", "r1", "r2"), name=_of("a", "b"))] * 2,
    _leaf("linger", s=_s),
    _leaf("fail", n=_n),
    _leaf("strange", n=_of(0, 1, 2, 3)),
    _leaf("spoil", n=_n),
    _leaf("hurried", s=_of(0.1, 1.0)),
    _leaf("both", s=_s),
    _leaf("any", s=_s),
    _leaf("odd", name=_of("a", "b"), s=_s),
    *[_leaf("ask", s=_s)] * 2,
    *[_leaf("launch", n=_n)] * 2,
    _leaf("serve", s=_s),
    _leaf("publish", name=_of("a", "b")),
    _leaf("map", items=_of(0, 1, 3, 5), limit=_of(None, 1, 2)),
    _leaf("state", n=_n),
    _leaf("renewed", n=_n),
    _leaf("broken", n=_n),
)
_NESTED: Final[tuple[Callable[[Growing, int], Tree], ...]] = (
    lambda g, d: {"do": "seq", "parts": g.trees(d)},
    lambda g, d: {"do": "saga", "parts": g.trees(d), "brave": g.choice(True, False)},
    lambda g, d: {"do": "undo", "parts": g.trees(d, 1)},
    lambda g, d: {
        "do": "parallel",
        "parts": g.trees(d),
        "limit": g.choice(None, 1, 2),
        "on_error": g.choice("fail_fast", "complete_all"),
    },
    lambda g, d: {"do": "gather", "parts": g.trees(d)},
    *[lambda g, d: {"do": "race", "parts": g.trees(d, 4)}] * 3,
    lambda g, d: {"do": "race_sleep", "body": g.tree(d), "s": g.seconds()},
    lambda g, d: {"do": "shield", "parts": g.trees(d, 2)},
    lambda g, d: {"do": "timeout", "body": g.tree(d), "s": g.seconds()},
    lambda g, d: {"do": "limit", "body": g.tree(d), "s": g.seconds()},
    lambda g, d: {"do": "try", "body": g.tree(d), "final": g.tree(d)},
    lambda g, d: {"do": "swallow", "body": g.tree(d)},
    lambda g, d: {
        "do": "call",
        "tree": g.tree(d),
        "s": g.seconds() * 2,
        "brave": g.choice(True, False),
    },
    lambda g, d: {
        "do": "start",
        "tree": g.tree(d),
        "how": g.choice("cancel", "abandon"),
        "after": g.choice("nothing", "cancel", "result", "tell"),
        "conflict": g.choice(None, None, None, "raise", "return_existing", "restart"),
    },
)
