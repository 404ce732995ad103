"""Random workflow programs: a tree in JSON, the workflow that runs it, and the strategy that makes it.

What a program has seen goes into the arguments of its next step, so that any other order of anything shows
in a fingerprint.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from random import Random
from typing import Any, TypeAlias

from hypothesis import strategies as st

from durable.clock import SECOND
from durable.engine.context import Context
from durable.model.definition import step, workflow
from durable.model.events import Request
from durable.model.retry import Retry
from tests.engine.driver import ENDED, UNKNOWN, Answered, Asked, EndedWait, Sent

Tree: TypeAlias = dict[str, Any]
"""A node of a program: `do` says what, the rest with what."""

DEPTH = 4
LUCK = Random(0)
"""Whether attempts fail; asked only while a program runs live."""


@step
async def note(what: str) -> str:
    return what


@step
def fail(what: str) -> None:
    raise ValueError(what)


@step(retry=Retry(max_attempts=3, initial=1, jitter=0.5))
def shaky(what: str) -> str:
    """Fails now and then, sometimes for good."""
    if LUCK.random() < 0.5:
        raise ConnectionError(what)
    return what


ADD = Request("add", int, int)


def _is_odd(number: int) -> bool:
    """A predicate that fails now and then."""
    return 6 // number > 0 and number % 2 == 1


def letters(number: int) -> list[Sent]:
    """What somebody sends to program `number`, in the order of their times."""
    chance = Random(f"letters {number}")
    found: list[Sent] = []
    for _ in range(chance.choice((0, 5, 20, 40))):
        kind = chance.choice((Sent, Sent, Sent, Sent, Asked, Answered, EndedWait))
        after = chance.choice(_WHENS) * SECOND // 2
        name = {Asked: "add", Answered: "q"}.get(kind, chance.choice("abcn"))
        payload = chance.choice((0, 1, 2, 3, 9, "x"))
        key = chance.choice((None, None, None, "k")) if kind is Sent else None
        found.append(kind(after, name, payload, key))
    return sorted(found, key=lambda sent: sent.after)


_WHENS = (0, 0, 0, 1, 1, 2, 3, 4, 6, 9, 14, 20)


class Machine:
    """Runs a program inside a workflow."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.seen: list[str] = []
        self.left: list[asyncio.Task[None]] = []

    def label(self, what: object) -> str:
        """An argument that tells everything that was seen so far."""
        return f"{what}/{zlib.crc32(repr(self.seen).encode())}"

    async def note(self, what: object) -> None:
        self.seen.append(await self.ctx.step(note, self.label(what)))

    async def run(self, tree: Tree) -> None:
        await getattr(self, f"do_{tree['do']}")(**{k: v for k, v in tree.items() if k != "do"})

    async def branch(self, number: int, tree: Tree) -> int:
        """A part of something that runs parts side by side."""
        await self.run(tree)
        self.seen.append(f"end of {number}")
        return number

    def branches(self, parts: list[Tree]) -> list[Coroutine[Any, Any, int]]:
        return [self.branch(number, part) for number, part in enumerate(parts)]

    # -- one thing

    async def do_step(self, n: int) -> None:
        await self.note(n)

    async def do_fail(self, n: int) -> None:
        await self.ctx.step(fail, self.label(n))

    async def do_shaky(self, n: int) -> None:
        self.seen.append(await self.ctx.step(shaky, self.label(n)))

    async def do_sleep(self, s: float, stock: bool) -> None:
        await (asyncio.sleep(s) if stock else self.ctx.sleep(s))
        self.seen.append(f"slept until {self.ctx.now()}")

    async def do_draw(self) -> None:
        await self.note(f"{self.ctx.random.random()} {self.ctx.uuid()}")

    async def do_log(self) -> None:
        self.ctx.log.info("seen %s", self.label("log"))

    async def do_raise(self, n: int) -> None:
        raise KeyError(n)

    # -- with the world

    async def do_await(
        self, names: list[str], mode: str, s: float | None, lenient: bool, key: str | None
    ) -> None:
        options: dict[str, Any] = {"timeout": s, "key": key}
        if lenient and s is not None:
            options["default"] = "none"
        if mode == "any":
            found: Any = await self.ctx.wait_for_any(names, **options)
        elif mode == "all":
            found = await self.ctx.wait_for_all(names, **options)
        else:
            picky = None if mode == "one" else _is_odd
            found = await self.ctx.wait_for_event(names[0], int, where=picky, **options)
        self.seen.append(f"awaited {found}")

    async def do_ask(self, s: float | None, remind: float | None) -> None:
        answer = await self.ctx.wait_for_input("q", int, timeout=s, remind=remind)
        self.seen.append(f"answered {answer}")

    async def do_serve(self, s: float | None, accepts: bool) -> None:
        asked = await self.ctx.wait_for_request(ADD, timeout=s)
        if accepts:
            asked.reply(asked.payload + 1)
        else:
            asked.reject(self.label("no"))
        self.seen.append(f"served {asked.payload}")

    async def do_tell(self, target: str) -> None:
        await self.ctx.send_event(target, "n", self.label("told"))

    # -- one after the other

    async def do_seq(self, parts: list[Tree]) -> None:
        for part in parts:
            await self.run(part)

    async def do_parts(self, parts: list[Tree], brave: bool) -> None:
        for part in parts:
            try:
                await self.run(part)
            except Exception as error:
                self.seen.append(f"part ended with {type(error).__name__}")
                if not brave:
                    raise

    async def do_try(self, body: Tree, handler: Tree, final: Tree) -> None:
        try:
            await self.run(body)
        except Exception as error:
            self.seen.append(f"caught {type(error).__name__}")
            await self.run(handler)
        finally:
            await self.run(final)

    async def do_cleanup(self, body: Tree, handler: Tree) -> None:
        try:
            await self.run(body)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            await self.run(handler)
            raise

    async def do_generator(self, parts: list[Tree], stop: int) -> None:
        async def items() -> AsyncIterator[int]:
            try:
                for number, part in enumerate(parts):
                    await self.run(part)
                    yield number
            finally:
                await self.note("generator")

        async for number in items():
            self.seen.append(f"item {number}")
            if number == stop:
                break

    # -- side by side

    async def do_gather(self, parts: list[Tree], collect: bool) -> None:
        for found in await asyncio.gather(*self.branches(parts), return_exceptions=collect):
            self.seen.append(f"gathered {found}")

    async def do_parallel(
        self, parts: list[Tree], limit: int | None, on_error: str, form: str
    ) -> None:
        given: Any
        if form == "iterator":
            given = (self.branch(number, part) for number, part in enumerate(parts))
        elif form == "tasks":
            given = [asyncio.create_task(branch) for branch in self.branches(parts)]
        elif form == "mapping":
            given = {f"key {n}": branch for n, branch in enumerate(self.branches(parts))}
        elif form == "calls":
            given = tuple(self.ctx.step(note, self.label(number)) for number in range(len(parts)))
        else:
            given = self.branches(parts)
        try:
            found = await self.ctx.parallel(given, limit=limit, on_error=on_error)
        except Exception as error:
            await self.note(f"parallel ended with {type(error).__name__}")
            raise
        self.seen.append(f"parallel {found}")

    async def do_map(self, items: int, limit: int | None, shaking: bool) -> None:
        labels = (self.label(number) for number in range(items))
        outcomes = await self.ctx.map(
            shaky if shaking else note, labels, limit=limit, on_error="complete_all"
        )
        self.seen += [type(outcome).__name__ for outcome in outcomes]

    async def do_race(self, parts: list[Tree]) -> None:
        name, number = await self.ctx.race(
            **{f"runner {number}": branch for number, branch in enumerate(self.branches(parts))}
        )
        await self.note(f"{name} won with {number}")

    async def do_group(self, parts: list[Tree], body: Tree) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for branch in self.branches(parts):
                    group.create_task(branch)
                await self.run(body)
        except* ValueError as group_error:
            self.seen.append(f"group {len(group_error.exceptions)}")

    async def do_timeout(self, body: Tree, s: float, how: str) -> None:
        try:
            if how == "wait_for":
                await asyncio.wait_for(self.run(body), s)
            else:
                async with (asyncio if how == "asyncio" else self.ctx).timeout(s):
                    await self.run(body)
        except TimeoutError:
            self.seen.append("timeout")

    async def do_wait(
        self, parts: list[Tree], when: str, s: float | None, form: str, end: str
    ) -> None:
        make: Callable[[Any], asyncio.Future[Any]] = {
            "tasks": asyncio.create_task,
            "gathers": lambda branch: asyncio.gather(branch, asyncio.sleep(0)),
        }[form]
        pending = {make(branch) for branch in self.branches(parts)}
        rounds = 0
        while pending and rounds < 3:
            rounds += 1
            done, pending = await asyncio.wait(pending, timeout=s, return_when=when)
            for future in done:
                error = None if future.cancelled() else future.exception()
                await self.note(f"done {error!r}" if error else "done")
        for future in pending:
            await self.note("pending")
            future.cancel()
        if end == "gather":
            await asyncio.gather(*pending, return_exceptions=True)

    async def do_as_completed(self, parts: list[Tree], s: float | None, form: str) -> None:
        given: list[Any]
        if form == "tasks":
            given = [asyncio.create_task(branch) for branch in self.branches(parts)]
        elif form == "coroutines":
            given = [*self.branches(parts)]
        else:
            given = [self.ctx.step(note, self.label(number)) for number in range(len(parts))]
        for next_one in asyncio.as_completed(given, timeout=s):
            try:
                self.seen.append(f"completed {await next_one}")
            except TimeoutError:
                self.seen.append("timeout")
            except ValueError as error:
                self.seen.append(f"failed {error}")

    async def do_cancel(self, body: Tree, meanwhile: Tree) -> None:
        task = asyncio.create_task(self.run(body))
        try:
            await self.run(meanwhile)
        finally:
            task.cancel()
        await asyncio.wait([task])
        self.seen.append(f"cancelled {task.cancelled()}")

    async def do_shield(self, body: Tree, s: float) -> None:
        task = asyncio.create_task(self.run(body))
        try:
            async with asyncio.timeout(s):
                await asyncio.shield(task)
        except TimeoutError:
            await self.note("shielded")
            await task

    async def do_leave(self, body: Tree) -> None:
        self.left.append(asyncio.create_task(self.run(body)))

    async def do_queue(self, parts: list[Tree], consumers: int, size: int) -> None:
        work: asyncio.Queue[int] = asyncio.Queue(size)

        async def produce(number: int, part: Tree) -> None:
            await work.put(await self.branch(number, part))

        async def consume(name: int) -> None:
            while True:
                item = await work.get()
                await self.note(f"{name} ate {item}")
                work.task_done()

        eaters = [asyncio.create_task(consume(name)) for name in range(consumers)]
        try:
            await asyncio.gather(*(produce(*part) for part in enumerate(parts)))
            await work.join()
        finally:
            for eater in eaters:
                eater.cancel()

    async def do_semaphore(self, parts: list[Tree], limit: int) -> None:
        gate = asyncio.Semaphore(limit)

        async def one(number: int, part: Tree) -> None:
            async with gate:
                await self.branch(number, part)

        await asyncio.gather(*(one(*part) for part in enumerate(parts)))

    async def do_event(self, parts: list[Tree], body: Tree) -> None:
        event, lock = asyncio.Event(), asyncio.Lock()

        async def one(number: int, part: Tree) -> None:
            await event.wait()
            async with lock:
                await self.branch(number, part)

        async def opens() -> None:
            try:
                await self.run(body)
            finally:
                event.set()

        await asyncio.gather(opens(), *(one(*part) for part in enumerate(parts)))

    async def do_barrier(self, parts: list[Tree]) -> None:
        gate = asyncio.Barrier(len(parts))

        async def one(number: int, part: Tree) -> None:
            try:
                await self.branch(number, part)
            except Exception:
                await gate.abort()
                raise
            await gate.wait()

        await asyncio.gather(*(one(*part) for part in enumerate(parts)))


@workflow
async def program(ctx: Context, tree: dict[str, Any]) -> list[str]:
    """The workflow that runs a program."""
    machine = Machine(ctx)
    await machine.run(tree)
    await machine.note("end")
    return machine.seen


# -- making them


def _node(do: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.fixed_dictionaries({"do": st.just(do), **parts})


_NUMBER = st.integers(0, 9)
_SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 7.0])
_PATIENCE = st.none() | _SECONDS

_STEP = _node("step", n=_NUMBER)
_SLEEP = _node("sleep", s=_SECONDS, stock=st.booleans())
_SHAKY = _node("shaky", n=_NUMBER)
_OTHERS = [_node("fail", n=_NUMBER), _node("draw"), _node("log"), _node("raise", n=_NUMBER)]
_WORLD = [
    *[
        _node(
            "await",
            names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
            mode=st.sampled_from(["one", "picky", "any", "all"]),
            s=st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 7.0, None]),
            lenient=st.booleans(),
            key=st.none() | st.just("k"),
        )
    ]
    * 6,
    _node("ask", s=_SECONDS, remind=st.none() | st.just(1.0)),
    _node("serve", s=_SECONDS, accepts=st.booleans()),
    _node("tell", target=st.sampled_from(["other", UNKNOWN, ENDED])),
]
_LEAVES = st.sampled_from([*[_STEP] * 6, *[_SLEEP] * 4, *[_SHAKY] * 2, *_OTHERS, *_WORLD]).flatmap(
    lambda strategy: strategy
)


def _inner(child: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(child, min_size=2, max_size=5)
    return st.one_of(
        _node("seq", parts=several),
        _node("gather", parts=several, collect=st.booleans()),
        _node("group", parts=several, body=child),
        _node(
            "parallel",
            parts=several,
            limit=st.none() | st.integers(1, 3),
            on_error=st.sampled_from(["fail_fast", "complete_all"]),
            form=st.sampled_from(["list", "iterator", "tasks", "mapping", "calls"]),
        ),
        _node(
            "map",
            items=st.integers(0, 5),
            limit=st.none() | st.integers(1, 3),
            shaking=st.booleans(),
        ),
        _node("race", parts=several),
        _node(
            "timeout", body=child, s=_SECONDS, how=st.sampled_from(["asyncio", "ctx", "wait_for"])
        ),
        _node(
            "wait",
            parts=several,
            when=st.sampled_from(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]),
            s=_PATIENCE,
            form=st.sampled_from(["tasks", "gathers"]),
            end=st.sampled_from(["gather", "forget"]),
        ),
        _node(
            "as_completed",
            parts=several,
            s=_PATIENCE,
            form=st.sampled_from(["coroutines", "tasks", "calls"]),
        ),
        _node("cancel", body=child, meanwhile=child),
        _node("try", body=child, handler=child, final=child),
        _node("cleanup", body=child, handler=child),
        _node("queue", parts=several, consumers=st.integers(1, 3), size=st.integers(0, 2)),
        _node("semaphore", parts=several, limit=st.integers(1, 2)),
        _node("event", parts=several, body=child),
        _node("barrier", parts=several),
        _node("shield", body=child, s=_SECONDS),
        _node("leave", body=child),
        _node("generator", parts=several, stop=st.integers(0, 3)),
    )


def trees(depth: int = DEPTH) -> st.SearchStrategy[Tree]:
    """Programs, at most `depth` deep; they shrink to fewer and simpler nodes."""
    strategy = _LEAVES
    for _ in range(depth):
        strategy = st.one_of(_LEAVES, _inner(strategy))
    return strategy


def whole_programs(depth: int = DEPTH) -> st.SearchStrategy[Tree]:
    """Programs that do several things."""
    parts = st.lists(_inner(trees(depth - 2)), min_size=1, max_size=5)
    return _node("parts", parts=parts, brave=st.booleans())
