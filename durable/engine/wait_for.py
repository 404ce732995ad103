"""`asyncio.wait_for` in workflows: on Python 3.11 as it is from 3.12 on, so that any Python replays any history.

Before 3.12 it runs a coroutine as a task of its own. That begins only when the tasks which are ready by then have
had their turn, and its end takes two more turns to get through: calls beside it would have other numbers than on
a newer Python, and a run that moves to one would be blocked.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from types import FunctionType
from typing import Any

if sys.version_info < (3, 12):
    wait_for: Any = asyncio.wait_for
    _stock: Any = FunctionType(wait_for.__code__, wait_for.__globals__, "wait_for")
    _loops: list[type] = []

    async def in_line(awaited: Awaitable[Any], timeout: float | None) -> Any:
        """Wait in the task that asks where a workflow does; elsewhere as Python 3.11 has it."""
        in_workflow = isinstance(asyncio.get_running_loop(), tuple(_loops))
        if timeout is None or timeout <= 0 or not in_workflow:
            return await _stock(awaited, timeout)
        async with asyncio.timeout(timeout):
            return await awaited

    async def _asks(fut: Any, timeout: Any) -> Any:
        # Runs in the place of asyncio's code, with its globals: `wait_for` is a name that both modules have.
        return await wait_for.in_line(fut, timeout)

    def wait_in_line(loops: type) -> None:
        """On loops of this class `asyncio.wait_for` makes no task, under whatever name it was imported."""
        _loops.append(loops)
        wait_for.in_line = in_line
        wait_for.__code__ = _asks.__code__

else:

    def wait_in_line(loops: type) -> None:
        """Nothing is to be done."""
