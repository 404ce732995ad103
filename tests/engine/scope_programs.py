"""Random programs with sagas, shields, children, states and generations, made of the nodes of `programs`."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st

from durable.engine.context import Context
from durable.errors import ChildFailed, NotAllowedInWorkflow, WaitTimeout
from durable.model.commands import StartChild
from durable.model.definition import step, workflow
from durable.model.payload import ANY
from durable.model.retry import Retry
from tests.engine.programs import _NUMBER, _SECONDS, Machine, Tree, _inner, _node, trees
from tests.engine.scoped import CANCELLED, NEVER, REFUSED

DEPTH = 3
ENDS: list[object] = [CANCELLED, NEVER, REFUSED, KeyError("child")]
"""Ways in which every tenth child ends; the others give back what they were given."""


@step(retry=Retry(max_attempts=2, initial=1, jitter=0))
async def take_back(what: str) -> None:
    if what.endswith("7"):
        raise ConnectionError(what)


@step(compensate=take_back)
async def reserve(what: str) -> str:
    return what


@step(compensate=take_back, retry=Retry(max_attempts=2, initial=2, jitter=0))
async def reserve_again(what: str) -> str:
    if what.startswith("again 3"):
        raise ConnectionError(what)
    return what


@workflow
async def child(ctx: Context, what: str) -> str:
    return what


def child_ends(command: StartChild) -> object:
    """How a child of a program ends: by its input alone."""
    what = ANY.decode(command.started.input, "input")
    number = sum(what.encode())
    return what if number % 10 else ENDS[number // 10 % len(ENDS)]


class ScopeMachine(Machine):
    """Runs a program inside a workflow."""

    async def do_reserve(self, n: int) -> None:
        self.seen.append(await self.ctx.step(reserve, self.label(n)))

    async def do_again(self, n: int) -> None:
        self.seen.append(await self.ctx.step(reserve_again, self.label(f"again {n}")))

    async def do_compensate(self, n: int) -> None:
        self.ctx.compensate(take_back, self.label(n))

    async def do_state(self, n: int) -> None:
        self.ctx.set_state(f"key {n}", self.label(n))
        if self.ctx.patched(f"patch {n % 3}"):
            await self.note("patched")

    async def do_saga(self, body: Tree, catches: bool) -> None:
        try:
            async with self.ctx.saga():
                await self.run(body)
        except Exception as error:
            await self.note(f"saga ended with {type(error).__name__}")
            if not catches:
                raise

    async def do_hold(self, body: Tree) -> None:
        async with self.ctx.shield():
            await self.run(body)
        self.seen.append("shielded")

    async def do_swallow(self, body: Tree, handler: Tree) -> None:
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.seen.append("swallowed")
            await self.run(handler)

    async def do_call(self, n: int, s: float | None) -> None:
        options: dict[str, Any] = {} if s is None else {"timeout": s}
        try:
            self.seen.append(await self.ctx.call(child, self.label(n), **options))
        except (ChildFailed, WaitTimeout) as error:
            await self.note(f"child ended with {type(error).__name__}")

    async def do_start(self, n: int, body: Tree, s: float | None, ends: str) -> None:
        handle = await self.ctx.start(child, self.label(n), on_parent_close="abandon")
        await self.run(body)
        if ends == "cancel":
            await handle.cancel()
        if ends != "leave":
            try:
                self.seen.append(await handle.result(timeout=s or 1, default="not yet"))
            except ChildFailed as error:
                self.seen.append(f"child ended with {type(error).__name__}")

    async def do_continue(self, n: int) -> None:
        try:
            await self.ctx.continue_as_new({"do": "step", "n": n})
        except NotAllowedInWorkflow:
            self.seen.append("there is something to undo")


@workflow
async def scope_program(ctx: Context, tree: dict[str, Any]) -> list[str]:
    """The workflow that runs a program."""
    machine = ScopeMachine(ctx)
    await machine.run(tree)
    await machine.note("end")
    return machine.seen


@workflow(name="scope_program", retry=Retry(max_attempts=2, initial=3, jitter=0.5))
async def scope_program_retried(ctx: Context, tree: dict[str, Any]) -> list[str]:
    """The same, tried again as a whole."""
    machine = ScopeMachine(ctx)
    await machine.run(tree)
    await machine.note("end")
    return machine.seen


_PATIENCE = st.none() | _SECONDS
_OWN_LEAVES = [
    *[_node("reserve", n=_NUMBER)] * 3,
    _node("again", n=_NUMBER),
    _node("compensate", n=_NUMBER),
    _node("state", n=_NUMBER),
    _node("call", n=_NUMBER, s=_PATIENCE),
    _node("call", n=_NUMBER, s=st.none()),
    _node("continue", n=_NUMBER),
]
_LEAVES = st.one_of(trees(0), st.sampled_from(_OWN_LEAVES).flatmap(lambda strategy: strategy))


def _scoped(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(
        _node("saga", body=inner, catches=st.booleans()),
        _node("hold", body=inner),
        _node("swallow", body=inner, handler=inner),
        _node(
            "start",
            n=_NUMBER,
            body=inner,
            s=_PATIENCE,
            ends=st.sampled_from(["wait", "cancel", "leave"]),
        ),
    )


def scope_trees(depth: int = DEPTH) -> st.SearchStrategy[Tree]:
    """Programs, at most `depth` deep."""
    strategy = _LEAVES
    for _ in range(depth):
        strategy = st.one_of(_LEAVES, _inner(strategy), _scoped(strategy), _scoped(strategy))
    return strategy


def whole_scope_programs() -> st.SearchStrategy[Tree]:
    """Programs that do several things."""
    parts = st.lists(_scoped(scope_trees(DEPTH - 1)), min_size=1, max_size=4)
    return _node("parts", parts=parts, brave=st.booleans())
