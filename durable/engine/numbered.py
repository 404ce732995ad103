"""Order where asyncio has none: sets of tasks and futures are ordered alike in every process.

Asyncio keeps them in sets, which are ordered by hash, and by default the hash is an address.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars
import sys
from collections.abc import Collection, Coroutine
from types import CodeType, FrameType
from typing import Any, Protocol, TypeVar

from durable.errors import NotAllowedInWorkflow

T = TypeVar("T")


class Numbering(Protocol):
    """The loop that they belong to."""

    def next_number(self) -> int: ...


class WorkflowFuture(asyncio.Future[T]):
    """A future that hashes by its number, which who makes it has to give it: an `__init__` costs too much."""

    __slots__ = ("number",)
    number: int

    def __hash__(self) -> int:
        return self.number


class WorkflowTask(asyncio.Task[T]):
    """A task that hashes by its number."""

    __slots__ = ("context", "number")

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        loop: Any,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        number: int = loop.next_task()
        self.number = 0
        self.context = contextvars.copy_context() if context is None else context
        super().__init__(coro, loop=loop, name=name or f"Task-{number}", context=self.context)
        # Not before: asyncio has just put it into one set with the tasks of all loops, where those of a
        # thousand runs with one and the same number would each have to be compared with all others.
        self.number = number

    def __hash__(self) -> int:
        return self.number or object.__hash__(self)


_GatheringFuture: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]  # noqa: SLF001
MAKES_GATHERING: CodeType = _GatheringFuture.__init__.__code__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class _NumberedGathering(_GatheringFuture):  # type: ignore[misc]
    """What `asyncio.gather` gives back."""

    number = 0

    def __hash__(self) -> int:
        return self.number or object.__hash__(self)


def number_gathering(loop: Numbering, making: FrameType) -> Any:
    """Number the future of an `asyncio.gather`, given the frame (of `MAKES_GATHERING`) that makes it.

    It is the one future that asyncio does not ask its loop for.
    """
    gathering = making.f_locals["self"]
    gathering.__class__ = _NumberedGathering
    gathering.number = loop.next_number()
    return gathering


def as_completed_of(depth: int) -> FrameType | None:
    """The frame of the `asyncio.as_completed` on whose behalf the code `depth` frames up makes a task."""
    asking = sys._getframe(depth)  # noqa: SLF001  as above
    if asking.f_code not in _ENSURE_FUTURE:
        return None
    frame: FrameType | None = asking
    for _ in range(3):  # through `ensure_future` and the comprehension round it
        if frame is not None:
            frame = frame.f_back
        if frame is not None and frame.f_code in _AS_COMPLETED:
            return frame
    return None


def in_their_order(as_completed: FrameType) -> list[Coroutine[Any, Any, Any]]:
    """The bare coroutines that an `as_completed` was given; `NotAllowedInWorkflow` where they have no order."""
    local = as_completed.f_locals
    awaited: Any = local.get("fs", local.get("aws"))
    if not isinstance(awaited, Collection) or isinstance(awaited, set | frozenset):
        message = (
            "asyncio.as_completed over a set or an iterator of coroutines has no order that could be "
            "replayed: give it a list"
        )
        raise NotAllowedInWorkflow(message)
    items: list[Any] = list(awaited)  # pyright: ignore[reportUnknownArgumentType]
    coroutines = [item for item in items if not asyncio.isfuture(item)]
    if not all(asyncio.iscoroutine(item) for item in coroutines):
        message = (
            "asyncio.as_completed in a workflow takes coroutines, tasks and futures, nothing else"
        )
        raise NotAllowedInWorkflow(message)
    return list({id(item): item for item in coroutines}.values())


def _codes(*functions: object) -> frozenset[CodeType]:
    return frozenset(code for fn in functions if (code := getattr(fn, "__code__", None)))


_ENSURE_FUTURE = _codes(asyncio.ensure_future, getattr(asyncio.tasks, "_ensure_future", None))
_AS_COMPLETED = _codes(
    asyncio.as_completed,
    getattr(getattr(asyncio.tasks, "_AsCompletedIterator", None), "__init__", None),
)
