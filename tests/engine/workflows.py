"""Workflows that use one primitive of asyncio each; other processes import them by name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

from durable.engine.context import Context, current_context
from durable.model.definition import Workflow, step, workflow
from durable.model.retry import Retry

HERE = contextvars.ContextVar("here", default="nowhere")


@step
async def note(what: str) -> str:
    return what


@step
def double(number: int) -> int:
    return 2 * number


@step
def fail(message: str) -> None:
    raise ValueError(message)


_tries: dict[str, int] = {}


@step(retry=Retry(max_attempts=3, initial=1, jitter=0.25))
def flaky(number: int) -> int:
    """Fails as often as its attempts allow, and then no more."""
    key = f"flaky {number}"
    _tries[key] = _tries.get(key, 0) + 1
    if _tries[key] % 3:
        message = f"not yet: {number}"
        raise ConnectionError(message)
    return number


async def chain(ctx: Context, name: str, length: int = 2) -> str:
    """Several steps, one after the other."""
    for number in range(length):
        await ctx.step(note, f"{name}{number}")
    return name


@workflow
async def gathers_chains(ctx: Context) -> list[str]:
    return await asyncio.gather(*(chain(ctx, name, 3) for name in "abcd"))


@workflow
async def gathers_with_failures(ctx: Context) -> list[str]:
    found = await asyncio.gather(
        chain(ctx, "a"), ctx.step(fail, "x"), ctx.step(double, 4), return_exceptions=True
    )
    return [str(item) for item in found]


@workflow
async def task_group(ctx: Context) -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chain(ctx, name)) for name in "abcde"]
        tasks.append(group.create_task(ctx.step(note, "call")))
    return [task.result() for task in tasks]


@workflow
async def task_group_that_fails(ctx: Context) -> list[str]:
    cleaned: list[str] = []

    async def worker(name: str) -> None:
        try:
            await chain(ctx, name, 9)
        finally:
            await ctx.step(note, f"clean {name}")
            cleaned.append(name)

    try:
        async with asyncio.TaskGroup() as group:
            for name in "abcdefg":
                group.create_task(worker(name))
            await ctx.step(double, 1)
            group.create_task(ctx.step(fail, "no"))
    except* ValueError:
        await ctx.step(note, "caught")
    return cleaned


@workflow
async def timeouts(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(3):
            await chain(ctx, "a", 20)
    except TimeoutError:
        seen.append("asyncio.timeout")
    try:
        async with ctx.timeout(3):
            await chain(ctx, "b", 20)
    except TimeoutError:
        seen.append("ctx.timeout")
    try:
        await asyncio.wait_for(chain(ctx, "c", 20), 3)
    except TimeoutError:
        seen.append("wait_for")
    async with asyncio.timeout(1000):
        seen.append(await asyncio.wait_for(ctx.step(note, "d"), 1000))
    return seen


@workflow
async def nested_timeouts(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        async with asyncio.timeout(10):
            try:
                async with asyncio.timeout(2):
                    await ctx.sleep(5)
            except TimeoutError:
                seen.append("inner")
            await ctx.sleep(100)
    except TimeoutError:
        seen.append("outer")
    task = asyncio.current_task()
    assert task is not None
    seen.append(str(task.cancelling()))
    await ctx.step(note, "after")
    return seen


@workflow
async def waits_for_the_first(ctx: Context) -> list[str]:
    pending = {asyncio.create_task(chain(ctx, name), name=name) for name in "abcdefghij"}
    order: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            order.append(task.get_name())
            await ctx.step(note, f"after {task.get_name()}")
    return order


@workflow
async def waits_for_the_first_exception(ctx: Context) -> list[str]:
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(chain(ctx, name, 4), name=name) for name in "abcdef"
    ]
    tasks.append(asyncio.create_task(ctx.step(fail, "no"), name="fail"))
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        await ctx.step(note, f"cancel {task.get_name()}")
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.exception()
    return sorted(task.get_name() for task in done | pending)


@workflow
async def waits_with_a_timeout(ctx: Context) -> int:
    tasks = [asyncio.create_task(chain(ctx, name, 6), name=name) for name in "abcdef"]
    done, pending = await asyncio.wait(tasks, timeout=3)
    for task in [*done, *pending]:
        await ctx.step(note, task.get_name())
    await asyncio.gather(*pending)
    return len(done) + len(pending)


@workflow
async def waits_for_gatherings(ctx: Context) -> list[str]:
    pending: set[asyncio.Future[tuple[str, str]]] = {
        asyncio.gather(chain(ctx, f"{name}-"), ctx.step(note, name)) for name in "abcdefgh"
    }
    order: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        order += [await ctx.step(note, future.result()[1]) for future in done]
    return order


@workflow
async def as_completed_tasks(ctx: Context) -> list[str]:
    tasks = [asyncio.create_task(chain(ctx, name)) for name in "abcdef"]
    return [await ctx.step(note, await task) for task in asyncio.as_completed(tasks)]


@workflow
async def as_completed_coroutines(ctx: Context) -> list[str]:
    coroutines = [chain(ctx, name) for name in "abcdefghijklmnop"]
    return [await ctx.step(note, await task) for task in asyncio.as_completed(coroutines)]


@workflow
async def as_completed_calls(ctx: Context) -> list[int]:
    calls = [ctx.step(double, number) for number in range(12)]
    return [await ctx.step(double, await task) for task in asyncio.as_completed(calls)]


@workflow
async def as_completed_mixed(ctx: Context) -> list[str]:
    given = [
        chain(ctx, "a"),
        asyncio.create_task(chain(ctx, "b")),
        ctx.step(note, "c"),
        asyncio.ensure_future(chain(ctx, "d")),
        chain(ctx, "e"),
    ]
    try:
        return [await task for task in asyncio.as_completed(given, timeout=100)]
    except TimeoutError:
        return ["timeout"]


@workflow
async def as_completed_with_a_timeout(ctx: Context) -> list[str]:
    seen: list[str] = []
    try:
        for task in asyncio.as_completed([chain(ctx, name, 5) for name in "abcd"], timeout=3):
            seen += [await task]
    except TimeoutError:
        seen.append(await ctx.step(note, "timeout"))
    return seen


@workflow
async def queue(ctx: Context) -> list[str]:
    work: asyncio.Queue[str] = asyncio.Queue(maxsize=2)
    seen: list[str] = []

    async def produce(name: str) -> None:
        for number in range(4):
            await work.put(await ctx.step(note, f"{name}{number}"))

    async def consume() -> None:
        while True:
            item = await work.get()
            seen.append(await ctx.step(note, f"ate {item}"))
            work.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    await asyncio.gather(*(produce(name) for name in "xyz"))
    await work.join()
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    return seen


@workflow
async def event_and_lock(ctx: Context) -> list[str]:
    go, lock = asyncio.Event(), asyncio.Lock()
    seen: list[str] = []

    async def worker(name: str) -> None:
        await go.wait()
        async with lock:
            seen.append(await ctx.step(note, name))

    async def open_the_gate() -> None:
        await ctx.sleep(2)
        go.set()

    await asyncio.gather(*(worker(name) for name in "abcd"), open_the_gate())
    return seen


@workflow
async def semaphore(ctx: Context) -> int:
    limit = asyncio.Semaphore(3)
    inside = most = 0

    async def worker(number: int) -> None:
        nonlocal inside, most
        async with limit:
            inside += 1
            most = max(most, inside)
            await ctx.step(double, number)
            inside -= 1

    await asyncio.gather(*(worker(number) for number in range(10)))
    return most


@workflow
async def condition(ctx: Context) -> list[str]:
    changed = asyncio.Condition()
    stock: list[str] = []
    seen: list[str] = []

    async def buyer() -> None:
        async with changed:
            await changed.wait_for(lambda: stock)
            seen.append(stock.pop())

    async def seller(name: str) -> None:
        item = await ctx.step(note, name)
        async with changed:
            stock.append(item)
            changed.notify()

    await asyncio.gather(*(buyer() for _ in range(4)), *(seller(name) for name in "abcd"))
    return sorted(seen)


@workflow
async def barrier(ctx: Context) -> list[str]:
    gate = asyncio.Barrier(3)
    seen: list[str] = []

    async def worker(name: str) -> None:
        await chain(ctx, name)
        async with gate as position:
            seen.append(f"{name}{position}")
        await ctx.step(note, f"past {name}")

    await asyncio.gather(*(worker(name) for name in "abcdef"))
    return seen


@workflow
async def sleeps(ctx: Context) -> list[float]:
    start = ctx.now()
    await asyncio.sleep(0)
    await ctx.sleep(0)
    await asyncio.sleep(2.5)
    await ctx.sleep(1.5)
    await ctx.sleep_until(ctx.now().replace(year=2030))
    await ctx.sleep_until(start)
    loop = asyncio.get_running_loop()
    called: asyncio.Future[float] = loop.create_future()
    loop.call_later(7, called.set_result, 7.0)
    return [await called, loop.time() - (ctx.now() - start).total_seconds()]


@workflow
async def shields(ctx: Context) -> list[str]:
    seen: list[str] = []
    protected = asyncio.create_task(chain(ctx, "kept", 4))
    try:
        async with asyncio.timeout(1):
            await asyncio.shield(protected)
    except TimeoutError:
        seen.append("timeout")
    seen.append(await protected)
    return seen


@workflow
async def cancels_a_task(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def work() -> None:
        try:
            await ctx.sleep(1000)
        except asyncio.CancelledError:
            seen.append(await ctx.step(note, "cleaned"))
            raise
        finally:
            seen.append("finally")

    task = asyncio.create_task(work())
    await ctx.step(note, "meanwhile")
    task.cancel("enough")
    try:
        await task
    except asyncio.CancelledError as error:
        seen.append(f"cancelled {error}")
    return seen


@workflow
async def generators(ctx: Context) -> list[str]:
    seen: list[str] = []

    async def items(name: str) -> AsyncIterator[str]:
        try:
            for number in range(3):
                yield await ctx.step(note, f"{name}{number}")
        finally:
            seen.append(await ctx.step(note, f"{name} closed"))

    seen += [item async for item in items("a")]
    async for item in items("b"):
        seen.append(item)
        break  # the rest of it is finished when the run ends
    await ctx.step(note, "last")
    return seen


@workflow
async def context_variables(ctx: Context) -> list[str]:
    seen = [HERE.get()]
    HERE.set("main")

    async def child(name: str) -> str:
        before = HERE.get()
        HERE.set(name)
        await ctx.step(note, name)
        assert current_context() is ctx
        return f"{before} {HERE.get()}"

    seen += await asyncio.gather(child("a"), child("b"))
    return [*seen, HERE.get()]


@workflow
async def retries(ctx: Context) -> list[int]:
    return await asyncio.gather(*(ctx.step(flaky, number) for number in range(4)))


@workflow
async def random_values(ctx: Context) -> list[str]:
    async def draw(name: str) -> str:
        await chain(ctx, name)
        number = ctx.random.random()
        await ctx.step(note, f"{name} {number} {ctx.uuid()}")
        return str(ctx.uuid())

    return list(await asyncio.gather(*(draw(name) for name in "abc")))


ALL: tuple[Workflow[None, object], ...] = tuple(
    found for found in list(vars().values()) if isinstance(found, Workflow)
)
