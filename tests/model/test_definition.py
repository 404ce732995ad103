"""What `@workflow` and `@job` leave behind, and which functions they refuse."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from durable import (
    Context,
    Cron,
    DefinitionError,
    Every,
    Job,
    PayloadError,
    Retry,
    Workflow,
    days,
    job,
    step,
    workflow,
)
from durable.model.rows import Lane
from durable.model.steps import as_step

if TYPE_CHECKING:
    from durable import Context as OnlyForCheckers


class Order(BaseModel):
    id: str


class FakeContext:
    """Enough of a context to call a workflow inline."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep_until(self, when: datetime, /) -> None: ...


@workflow
async def fulfil(ctx: Context, order: Order) -> str:
    """Ship an order."""
    return order.id


@workflow
async def nightly(ctx: Context) -> int:
    return ctx.now().year


@workflow
async def maybe(ctx: Context, order: Order | None) -> bool:
    return order is None


def refused(fn: Any, decorate: Any = workflow) -> str:
    with pytest.raises(DefinitionError) as caught:
        decorate(fn)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- workflows


def test_a_workflow_is_named_by_its_function():
    assert isinstance(fulfil, Workflow)
    assert (fulfil.name, fulfil.version, fulfil.pinned) == ("fulfil", 1, False)
    assert (fulfil.queue, fulfil.timeout, fulfil.retry) == ("default", None, None)
    assert dict(fulfil.tags) == {}
    assert (fulfil.__name__, fulfil.__doc__) == ("fulfil", "Ship an order.")
    assert repr(fulfil) == "<workflow fulfil>"


def test_options_of_a_workflow():
    tags = {"team": "shop"}
    made = workflow(
        name="x", version=2, queue="slow", timeout=days(1), retry=3, tags=tags, schedule=Every(60)
    )(fulfil.fn)
    tags["team"] = "other"
    assert (made.name, made.version, made.pinned, made.queue) == ("x", 2, True, "slow")
    assert (made.timeout, made.retry) == (86_400.0, Retry(max_attempts=3))
    assert made.tags == {"team": "shop"}
    assert made.schedule == (Every(60),)
    with pytest.raises(TypeError):
        made.tags["team"] = "mine"  # type: ignore[index]


def test_only_a_pinned_workflow_has_its_version_in_its_lane():
    assert fulfil.lane() == Lane("default", "fulfil", 0)
    assert fulfil.lane("fast") == Lane("fast", "fulfil", 0)
    assert workflow(version=1, queue="q")(fulfil.fn).lane() == Lane("q", "fulfil", 1)


def test_only_features_that_are_built_are_supported():
    assert fulfil.unsupported is None
    for option in (
        {"schedule": Cron("@daily")},
        {"schedule": [Cron("@daily"), Every(3)]},
        {"on_finish": print},
    ):
        asked: Any = workflow(**option)(fulfil.fn)  # type: ignore[call-overload]
        assert next(iter(option)) in asked.unsupported
    assert workflow(name="x", version=2, queue="q", tags={"a": "b"})(fulfil.fn).unsupported is None
    assert workflow(retry=2, timeout=3)(fulfil.fn).unsupported is None


def test_input_and_result_are_stored_by_their_annotations():
    order = Order(id="1")
    assert fulfil.takes_input
    assert fulfil.input.decode(fulfil.input.encode(order, "i"), "i") == order
    assert fulfil.result.decode(fulfil.result.encode("x", "r"), "r") == "x"
    assert not nightly.takes_input
    assert nightly.input.decode(nightly.input.encode(None, "i"), "i") is None
    with pytest.raises(PayloadError):
        nightly.input.encode(order, "input of nightly")
    assert maybe.input.decode(maybe.input.encode(None, "i"), "i") is None


def test_types_that_cannot_be_stored_are_refused_when_resolved():
    class Opaque: ...

    @workflow
    async def takes(ctx: Context, value: Opaque) -> None: ...

    @workflow
    async def gives(ctx: Context) -> Opaque:
        return Opaque()

    for wrong in (takes, gives):
        with pytest.raises(DefinitionError):
            wrong.resolve()
    for right in (fulfil, nightly, maybe):
        right.resolve()


async def test_calling_a_workflow_runs_it_inline():
    ctx: Any = FakeContext()
    assert await fulfil(ctx, Order(id="7")) == "7"
    assert await nightly(ctx) == 2026
    assert await nightly(ctx, None) == 2026
    assert await maybe(ctx, Order(id="7")) is False
    assert await maybe(ctx) is True
    with pytest.raises(PayloadError, match="input of workflow fulfil"):
        await fulfil(ctx)  # type: ignore[arg-type]


def test_a_workflow_is_no_step():
    with pytest.raises(DefinitionError, match=r"fulfil .*write `await ctx\.call"):
        as_step(fulfil)
    with pytest.raises(DefinitionError, match="cannot be a step"):
        step(fulfil)


# -- functions that are no workflows


def test_the_message_names_function_and_line():
    def wrong(ctx, order: Order) -> None: ...

    line = wrong.__code__.co_firstlineno
    where = "test_the_message_names_function_and_line.<locals>.wrong"
    assert refused(wrong).startswith(f"workflow {where} (test_definition.py:{line}): it must be an")


def test_a_workflow_is_an_async_def():
    def sync(ctx: Context) -> None: ...

    async def generator(ctx: Context):
        yield 1

    class Called:
        async def __call__(self, ctx: Context) -> None: ...

    assert "async def" in refused(sync)
    assert "yields" in refused(generator)
    assert "function with a name" in refused(Called())
    assert "function with a name" in refused(lambda ctx: asyncio.sleep(0))
    assert "function with a name" in refused(Order)


def test_a_workflow_is_not_a_method():
    class Shop:
        async def fulfil(self, ctx: Context) -> None: ...

    assert "not a method" in refused(Shop.fulfil)
    assert "function with a name" in refused(Shop().fulfil)


def test_a_workflow_takes_the_context_and_at_most_one_input():
    async def none() -> None: ...
    async def three(ctx: Context, a: int, b: int) -> None: ...

    assert "0 parameters" in refused(none)
    assert "3 parameters" in refused(three)
    assert "one model" in refused(three)


def test_the_parameters_of_a_workflow_are_positional_and_have_no_default():
    async def keyword(ctx: Context, *, order: Order) -> None: ...
    async def several(ctx: Context, *orders: Order) -> None: ...
    async def named(ctx: Context, **orders: Order) -> None: ...
    async def default(ctx: Context, order: Order | None = None) -> None: ...

    for wrong in (keyword, several, named):
        assert "is not a positional parameter" in refused(wrong)
    assert "`order: T | None`" in refused(default)


def test_the_input_is_annotated():
    async def bare(ctx: Context, order) -> None: ...

    assert "annotate 'order'" in refused(bare)


def test_the_first_parameter_is_the_context():
    async def forgotten(order: Order) -> None: ...
    async def swapped(order: Order, ctx: Context) -> None: ...

    for wrong in (forgotten, swapped):
        assert "first parameter must be the Context" in refused(wrong)


def test_the_context_may_be_annotated_with_what_is_not_known_yet():
    async def bare(ctx, order: Order) -> None: ...
    async def checked(ctx: OnlyForCheckers, order: Order) -> None: ...
    async def anything(ctx: Any, order: Order) -> None: ...
    async def later(ctx: NotYet, order: Order) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for right in (bare, checked, anything, later):
        workflow(right).resolve()


@pytest.mark.parametrize(
    "option",
    [
        {"name": ""},
        {"queue": ""},
        {"version": 0},
        {"version": True},
        {"tags": {"a": 1}},
        {"tags": {"": "x"}},
        {"schedule": "0 9 * * *"},
        {"on_finish": 3},
    ],
)
def test_options_out_of_their_range_are_refused(option: Any):
    assert f"{next(iter(option))}= must be" in refused(fulfil.fn, workflow(**option))


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="executor"):
        workflow(executor="thread")(fulfil.fn)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="version"):
        job(version=2)(tick.fn)  # type: ignore[call-overload]


# -- jobs


@job
async def mail(to: str) -> None: ...


@job(queue="cpu", executor="process", retry=2, timeout=3)
def resize(path: str) -> int:
    return len(path)


@job
def tick() -> None: ...


def test_a_job_is_a_function_of_at_most_one_input():
    assert isinstance(mail, Job)
    assert (mail.name, mail.version, mail.takes_input) == ("mail", 1, True)
    assert (resize.queue, resize.executor, resize.timeout) == ("cpu", "process", 3.0)
    assert resize.fn("abc") == 3
    assert not tick.takes_input
    assert repr(tick) == "<job tick>"
    for each in (mail, resize, tick):
        each.resolve()
        assert each.unsupported == "jobs"


def test_functions_that_are_no_jobs():
    def two(a: int, b: int) -> None: ...
    def bare(a) -> None: ...
    def default(a: int = 1) -> None: ...

    assert "2 parameters" in refused(two, job)
    assert "annotate 'a'" in refused(bare, job)
    assert "has a default" in refused(default, job)


def test_the_executor_of_a_job():
    async def asynchronous(a: int) -> None: ...
    def local(a: int) -> None: ...

    assert "sync functions" in refused(asynchronous, job(executor="thread"))
    assert "at module level" in refused(local, job(executor="process"))
    assert "executor= must be one of" in refused(local, job(executor="gpu"))  # type: ignore[call-overload]
