"""Random programs made of the verbs that reach beyond their run: the tree, the workflow, and who disturbs it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, TypeAlias

from hypothesis import strategies as st

from durable import ChildFailed, Context, Retry, RunAlreadyExists, WaitTimeout, current_step, step
from durable.errors import IllegalTransition, NotAllowedInWorkflow
from durable.model.definition import workflow
from tests.acceptance.crash_points import LEDGER

Tree: TypeAlias = dict[str, Any]
"""A node of a program: `do` says what, the rest with what."""


@step
async def note(n: int) -> int:
    LEDGER.began()
    return n


@step
async def linger(s: float) -> float:
    LEDGER.began()
    await LEDGER.takes(s)
    return s


@step
async def fail(n: int) -> None:
    LEDGER.began()
    raise LookupError(n)


@step(retry=Retry(max_attempts=3, initial=1, jitter=0))
async def shaky(n: int) -> int:
    LEDGER.began()
    if current_step().attempt < n % 4 + 1:
        raise OSError(n)
    return n


@step
async def unmake(name: str) -> None:
    LEDGER.undo(name)


@step(compensate=unmake)
async def make(name: str, s: float) -> str:
    LEDGER.began()
    if s:
        await LEDGER.takes(s)
    return name


class Machine:
    """Runs a program inside a workflow."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.made = 0
        self.seen: list[Any] = []

    async def run(self, tree: Tree) -> None:
        await getattr(self, f"do_{tree['do']}")(**{k: v for k, v in tree.items() if k != "do"})

    async def do_seq(self, parts: list[Tree]) -> None:
        for part in parts:
            await self.run(part)

    async def do_step(self, n: int) -> None:
        self.seen.append(await self.ctx.step(note, n))

    async def do_linger(self, s: float) -> None:
        await self.ctx.step(linger, s)

    async def do_fail(self, n: int) -> None:
        await self.ctx.step(fail, n)

    async def do_shaky(self, n: int) -> None:
        self.seen.append(await self.ctx.step(shaky, n))

    async def do_make(self, s: float) -> None:
        self.made += 1
        await self.ctx.step(make, f"{self.ctx.run_id} {self.made}", s)

    async def do_sleep(self, s: float) -> None:
        await self.ctx.sleep(s)

    async def do_event(self, name: str, s: float, key: str | None) -> None:
        found = await self.ctx.wait_for_event(name, timeout=s, default=None, key=key)
        self.seen.append((name, found))

    async def do_both(self, s: float) -> None:
        self.seen.append(await self.ctx.wait_for_all(["a", "b"], timeout=s, default=None))

    async def do_ask(self, s: float) -> None:
        self.seen.append(await self.ctx.wait_for_input("q", int, timeout=s, default=None))

    async def do_tell(self, target: str, name: str) -> None:
        with contextlib.suppress(IllegalTransition):
            await self.ctx.send_event(target, name, len(self.seen))

    async def do_publish(self, name: str) -> None:
        await self.ctx.publish(name, len(self.seen), key="k")

    async def do_call(self, tree: Tree, s: float, brave: bool) -> None:
        try:
            await self.ctx.call(run_program, {"tree": tree}, timeout=s)
        except (ChildFailed, WaitTimeout) as error:
            self.seen.append(type(error).__name__)
            if not brave:
                raise

    async def do_start(self, tree: Tree, how: str, after: str, conflict: str | None) -> None:
        options: dict[str, Any] = (
            {} if conflict is None else {"on_conflict": conflict, "id": "shared"}
        )
        if conflict == "return_existing":
            how = "cancel"
        handle = await self.ctx.start(run_program, {"tree": tree}, on_parent_close=how, **options)
        try:
            if after == "cancel":
                await handle.cancel()
            elif after == "result":
                await handle.result(timeout=30, default=None)
            elif after == "tell":
                await handle.send_event("a", 1)
        except (ChildFailed, RunAlreadyExists) as error:
            self.seen.append(type(error).__name__)

    async def do_saga(self, parts: list[Tree], brave: bool) -> None:
        try:
            async with self.ctx.saga():
                await self.do_seq(parts)
        except LookupError:
            self.seen.append("undone")
            if not brave:
                raise

    async def do_parallel(self, parts: list[Tree], limit: int | None, on_error: str) -> None:
        await self.ctx.parallel([self.run(part) for part in parts], limit=limit, on_error=on_error)  # type: ignore[call-overload]

    async def do_race(self, parts: list[Tree]) -> None:
        await self.ctx.race(**{f"r{n}": self.run(part) for n, part in enumerate(parts)})

    async def do_map(self, items: int, limit: int | None) -> None:
        self.seen += await self.ctx.map(note, range(items), limit=limit)

    async def do_shield(self, parts: list[Tree]) -> None:
        async with self.ctx.shield():
            await self.do_seq(parts)

    async def do_timeout(self, body: Tree, s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with self.ctx.timeout(s):
                await self.run(body)

    async def do_try(self, body: Tree, final: Tree) -> None:
        try:
            await self.run(body)
        except LookupError:
            self.seen.append("caught")
        finally:
            await self.run(final)

    async def do_swallow(self, body: Tree) -> None:
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.seen.append("swallowed")

    async def do_state(self, n: int) -> None:
        self.ctx.set_state("n", n)

    async def do_patched(self, n: int) -> None:
        if self.ctx.patched("p"):
            await self.do_step(n)


@workflow(name="program")
async def run_program(ctx: Context, given: dict[str, Any]) -> list[Any]:
    """The workflow that runs a program, and begins anew as often as it says."""
    machine = Machine(ctx)
    await machine.run(given["tree"])
    if given.get("again"):
        with contextlib.suppress(NotAllowedInWorkflow):
            await ctx.continue_as_new({**given, "again": given["again"] - 1})
    await machine.do_step(99)
    return machine.seen


# -- making them

_SECONDS = st.sampled_from([0.3, 1.0, 2.5, 6.0])


def _node(do: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.fixed_dictionaries({"do": st.just(do), **parts})


_LEAVES = st.one_of(
    _node("step", n=st.integers(0, 9)),
    _node("make", s=st.sampled_from([0.0, 0.0, 2.0])),
    _node("event", name=st.sampled_from("ab"), s=_SECONDS, key=st.sampled_from([None, "k"])),
    _node("sleep", s=_SECONDS),
    _node("linger", s=_SECONDS),
    _node("shaky", n=st.integers(0, 9)),
    _node("fail", n=st.integers(0, 9)),
    _node("both", s=_SECONDS),
    _node("ask", s=_SECONDS),
    _node("tell", target=st.sampled_from(["main", "other"]), name=st.sampled_from("ab")),
    _node("publish", name=st.sampled_from("ab")),
    _node("map", items=st.integers(0, 5), limit=st.sampled_from([None, 1, 2])),
    _node("state", n=st.integers(0, 9)),
    _node("patched", n=st.integers(0, 9)),
)


def _nested(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    parts = st.lists(inner, min_size=1, max_size=4)
    limit = st.sampled_from([None, 1, 2])
    conflict = st.sampled_from([None, None, "raise", "return_existing", "restart"])
    return st.one_of(
        _node("seq", parts=parts),
        _node("saga", parts=parts, brave=st.booleans()),
        _node(
            "parallel",
            parts=parts,
            limit=limit,
            on_error=st.sampled_from(["fail_fast", "complete_all"]),
        ),
        _node("race", parts=parts),
        _node("shield", parts=parts),
        _node("timeout", body=inner, s=_SECONDS),
        _node("try", body=inner, final=inner),
        _node("swallow", body=inner),
        _node("call", tree=inner, s=_SECONDS, brave=st.booleans()),
        _node(
            "start",
            tree=inner,
            how=st.sampled_from(["cancel", "abandon"]),
            after=st.sampled_from(["nothing", "cancel", "result", "tell"]),
            conflict=conflict,
        ),
    )


TREES = st.recursive(_LEAVES, _nested, max_leaves=10)
PROGRAMS = st.fixed_dictionaries(
    {
        "tree": st.lists(TREES, min_size=1, max_size=4).map(
            lambda parts: {"do": "seq", "parts": parts}
        ),
        "again": st.sampled_from([0, 0, 0, 1, 2]),
    }
)
ACTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.2, 1.0, 3.0]),
        st.sampled_from(
            ["a", "b", "publish a", "publish b", "answer", "pause", "end wait"] * 2
            + ["cancel", "terminate"]
        ),
    ),
    max_size=6,
)
FAULTS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(5, 90),
        st.sampled_from(["error before", "lost answer", "crash before", "crash after"]),
    ),
    max_size=6,
)
