"""Bodies of workflows, run by the driver: for tests that have many small ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable.engine.context import Context
from durable.model.definition import Workflow, step, workflow
from tests.engine.driver import result

Body = Callable[[Context], Any]


def run(body: Body, **options: Any) -> Any:
    """What `body` returns as a workflow; live, replayed and evicted at every event it must be alike."""
    return result(of(body), **options)


def of(body: Body) -> Workflow[None, Any]:
    @workflow(name="grouped")
    async def grouped(ctx: Context) -> Any:
        return await body(ctx)

    return grouped


async def after(ctx: Context, seconds: float, value: Any = None) -> Any:
    """A value, or an exception, some time later."""
    await ctx.sleep(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


@step
def decline(code: int) -> None:
    raise KeyError(code)
