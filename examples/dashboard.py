"""A dashboard from many sources, of which some are slow and some are broken.

`ctx.map(fn, items, limit=3)` runs one step for each item, three at a time, and gives the results in the order
of the items. With `on_error="complete_all"` nobody's error stops the others: each item becomes `Ok(value)`
or `Err(error)`, and the workflow decides what a partial answer is worth.

    python -m examples.dashboard

prints

    sales      84
    visits     66
    refunds    ConnectionError: refunds does not answer
    returns    77
    stock      55
    5 sources, 1 failed after 2 attempts, at most 3 at once
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from durable import Client, Context, Err, Ok, Retry, StepFailed, Worker, step, workflow

LIMIT = 3
SOURCES = ["sales", "visits", "refunds", "returns", "stock"]


class Metric(BaseModel):
    source: str
    value: int


class Failure(BaseModel):
    source: str
    why: str
    attempts: int


class Board(BaseModel):
    metrics: list[Metric]
    failures: list[Failure]


class Gauge:
    """How many steps are at work at once, to show that the limit holds."""

    now = most = 0


@step(retry=Retry(max_attempts=2, initial=0.05), timeout=5)
async def fetch(source: str) -> Metric:
    Gauge.now += 1
    Gauge.most = max(Gauge.most, Gauge.now)
    try:
        await asyncio.sleep(0.02)
    finally:
        Gauge.now -= 1
    if source == "refunds":
        raise ConnectionError(f"{source} does not answer")
    return Metric(source=source, value=11 * len(source) + (29 if source == "sales" else 0))


@workflow
async def build(ctx: Context, sources: list[str]) -> Board:
    board = Board(metrics=[], failures=[])
    outcomes = await ctx.map(fetch, sources, limit=LIMIT, on_error="complete_all")
    for source, outcome in zip(sources, outcomes, strict=True):
        match outcome:
            case Ok(metric):
                board.metrics.append(metric)
            case Err(error):
                attempts = error.attempts if isinstance(error, StepFailed) else 1
                why = f"{type(error).__name__}: {error}"
                board.failures.append(Failure(source=source, why=why, attempts=attempts))
    if not board.metrics:
        raise RuntimeError("no source answers")
    return board


async def main() -> None:
    url = os.environ.get("DURABLE_URL", "sqlite://")
    async with Client(url) as client, Worker(client, workflows=[build]):
        handle = await client.start(build, SOURCES, id="dashboard")
        board = await handle.result()
    shown = {metric.source: str(metric.value) for metric in board.metrics}
    shown |= {failure.source: failure.why for failure in board.failures}
    for source in SOURCES:
        print(f"{source:10} {shown[source]}")
    (failure,) = board.failures
    print(
        f"{len(SOURCES)} sources, 1 failed after {failure.attempts} attempts,"
        f" at most {Gauge.most} at once"
    )


if __name__ == "__main__":
    asyncio.run(main())
