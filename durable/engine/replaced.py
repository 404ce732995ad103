"""Functions of asyncio that do something else on the loops of workflows, under whatever name they were imported.

`asyncio.wait_for` is on Python 3.11 as it is from 3.12 on, so that any Python replays any history. Before 3.12 it
runs a coroutine as a task of its own. That begins only when the tasks which are ready by then have had their turn,
and its end takes two more turns to get through: calls beside it would have other numbers than on a newer Python,
and a run that moves to one would be blocked.

`asyncio.timeout` on Python 3.11.2 and before is as it is from 3.11.3 on: in the cleanup of a task that was cancelled
it takes its own cancellation for that of somebody else, and raises `CancelledError` for `TimeoutError`.

`asyncio.all_tasks` makes its set in an order that follows from the code alone. It walks over the tasks of all
loops in a set that is ordered by address, and whoever cancels what it gives would do that in another order on
every replay.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Collection
from types import FunctionType
from typing import Any, Protocol

from durable.engine.numbered import WorkflowTask

_loops: list[type] = []


class Loop(Protocol):
    """The loop of a workflow."""

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """In the order in which they were made."""
        ...


def _is_of_a_workflow(loop: object) -> bool:
    return isinstance(loop, tuple(_loops))


def _copy_of(function: Any) -> Any:
    return FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )


def on_loops(loops: type) -> None:
    """On loops of this class the functions do what this module says; elsewhere what they always did."""
    if not _loops:
        _replace()
    _loops.append(loops)


# What runs in the place of asyncio's code does so with its globals: the names `all_tasks` and `wait_for` are those
# of asyncio's functions there, which carry ours.

all_tasks: Any = asyncio.all_tasks
_stock_all_tasks: Any = None


def _all_tasks(loop: Any) -> set[asyncio.Task[Any]]:
    asked: Any = asyncio.get_running_loop() if loop is None else loop
    if not _is_of_a_workflow(asked):
        return _stock_all_tasks(loop)  # type: ignore[no-any-return]
    return _not_done(asked)


def _not_done(loop: Loop) -> set[asyncio.Task[Any]]:
    return {task for task in loop.tasks if not task.done()}


def _asks_for_tasks(loop: Any = None) -> Any:
    return all_tasks.of_a_workflow(loop)


wait_for: Any = asyncio.wait_for
_stock_wait_for: Any = None


async def _in_line(awaited: Awaitable[Any], timeout: float | None) -> Any:
    """Wait in the task that asks where a workflow does; elsewhere as Python 3.11 has it."""
    if timeout is None or timeout <= 0 or not _is_of_a_workflow(asyncio.get_running_loop()):
        return await _stock_wait_for(awaited, timeout)
    async with asyncio.timeout(timeout):
        return await awaited


async def _asks_to_wait(fut: Any, timeout: Any) -> Any:
    return await wait_for.in_line(fut, timeout)


class _Since:
    """A task, as a time-out sees it that was entered when it had been cancelled so often before."""

    def __init__(self, task: asyncio.Task[Any], before: int) -> None:
        self._task = task
        self._before = before

    def uncancel(self) -> int:
        return max(0, self._task.uncancel() - self._before)


_stock_enter: Any = asyncio.Timeout.__aenter__
stock_leave: Any = asyncio.Timeout.__aexit__


async def _enter(timeout: Any) -> Any:
    entered = await _stock_enter(timeout)
    task: asyncio.Task[Any] = timeout._task  # noqa: SLF001  as in the stock one
    counts = _is_of_a_workflow(asyncio.get_running_loop()) and type(task) is WorkflowTask
    timeout.cancelled_before = task.cancelling() if counts else 0
    return entered


async def _leave(timeout: Any, *error: Any) -> Any:
    if timeout.cancelled_before:
        task: asyncio.Task[Any] = timeout._task  # noqa: SLF001
        timeout._task = _Since(task, timeout.cancelled_before)  # noqa: SLF001
    return await stock_leave(timeout, *error)


def _replace() -> None:
    global _stock_all_tasks, _stock_wait_for  # noqa: PLW0603  once, with the first loop
    if isinstance(all_tasks, FunctionType):
        _stock_all_tasks = _copy_of(all_tasks)
        all_tasks.of_a_workflow = _all_tasks  # type: ignore[attr-defined]
        all_tasks.__code__ = _asks_for_tasks.__code__
    if sys.version_info < (3, 12):
        _stock_wait_for = _copy_of(wait_for)
        wait_for.in_line = _in_line
        wait_for.__code__ = _asks_to_wait.__code__
    if "_cancelling" not in _stock_enter.__code__.co_names:
        timeouts: Any = asyncio.Timeout
        timeouts.__aenter__, timeouts.__aexit__ = _enter, _leave
