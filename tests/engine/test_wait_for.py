"""`asyncio.wait_for` in a workflow asks for the same on every Python, and elsewhere is what it was."""

from __future__ import annotations

import asyncio
import sys
from asyncio import wait_for  # under another name, as users import it

import pytest

from durable.engine.context import Context
from durable.model.definition import workflow
from tests.engine.driver import difference, live
from tests.engine.workflows import chain, note


@workflow
async def limits_side_by_side(ctx: Context) -> list[str]:
    return await asyncio.gather(
        asyncio.wait_for(chain(ctx, "a", 1), 60), wait_for(ctx.step(note, "b"), 60), chain(ctx, "c")
    )


def test_what_is_asked_for_is_numbered_in_the_order_of_the_code():
    """Python 3.11 by itself would set both limits first, and ask for c before a and b."""
    recording = live(limits_side_by_side, noise=0)
    first = [(told[0], told[1]) for told in recording.trace[0]]
    assert first == [("timer", 1), ("step", 2), ("timer", 3), ("step", 4), ("step", 5)]
    assert recording.names == ["note"] * 4
    assert recording.outcome == ["a", "b", "c"]
    assert difference(limits_side_by_side, recording) is None


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="no task of its own from Python 3.12 on")
async def test_outside_of_workflows_it_is_that_of_python_3_11():
    async def own_task() -> bool:
        return asyncio.current_task() is not outer

    outer = asyncio.current_task()
    assert await wait_for(own_task(), 60)
    with pytest.raises(TimeoutError):
        await wait_for(asyncio.sleep(60), 0)
