"""`durable_testing.replay`, on the history of a run that was made through the public API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.on_durable import add_one_step, chain
from benchmarks.replayer import Replay
from durable import Client, Context, Worker, step, workflow
from durable.model.history_file import HistoryFile, load_history
from durable.model.wire import EventRow
from durable_testing import assert_replays, replay
from durable_testing.replaying import History


@step
async def something_else(n: int) -> int:
    return n


@workflow(name=chain.name)
async def another_chain(ctx: Context, steps: int) -> int:
    """Asks for another step at the end."""
    n = 0
    for _ in range(steps - 1):
        n = await ctx.step(add_one_step, n)
    return await ctx.step(something_else, n)


async def prepare(url: str, steps: int) -> dict[str, Replay]:
    """The forms in which a history may be kept, and its replay from each."""
    async with Client(url) as client, Worker(client, workflows=[chain]):
        handle = await client.start(chain, steps)
        assert await handle.result() == steps
        events = [event async for event in client.history(handle.id)]
        text = await client.export_history(handle.id)
    rows = [(row.seq, row.type, row.at, row.cmd, row.name, row.data) for row in _rows(text)]
    assert not replay(another_chain, events), "another step was taken for the recorded one"

    def from_rows() -> HistoryFile:
        return HistoryFile(chain.name, handle.id, [EventRow(*row) for row in rows])

    return {
        "decoded": partial(_replay, lambda: events),
        "bytes": partial(_replay, from_rows),
        "undetected": partial(_replay, from_rows),
        "json": partial(_replay, lambda: text),
    }


def _rows(text: str) -> list[EventRow]:
    return list(load_history(text).rows)


async def _replay(read: Callable[[], History]) -> None:
    assert_replays(chain, read())
