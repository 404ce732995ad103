"""Every line marked `type: ignore` must be refused, by both checkers; an ignore without need is an error."""

from __future__ import annotations

from durable import Context, step, workflow
from durable_testing import Environment


@step
async def charge(order: str) -> str:
    return order


@workflow
async def fulfil(ctx: Context, order: str) -> int:
    return len(order)


async def refused(env: Environment) -> None:
    env.mock(charge, raises="no")  # type: ignore[call-overload]
    env.mock(charge, outcomes=5)  # type: ignore[call-overload]
    env.mock(charge, gives="no")  # type: ignore[call-overload]
    env.mock("charge", returns="ch_1")  # type: ignore[call-overload]
    await env.run(fulfil, 5)  # type: ignore[misc]
    await env.run(fulfil)  # type: ignore[arg-type]
    env.run(fulfil, "a")  # type: ignore[unused-coroutine]
    env.advance(1)  # type: ignore[unused-coroutine]
    await env.advance("1 day")  # type: ignore[arg-type]
    Environment()  # type: ignore[call-arg]
