"""Verbs for child runs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal, TypeAlias, TypeVar, get_args, overload

from durable.engine.calls import Call
from durable.engine.children import ChildHandle
from durable.engine.verbs import Verbs
from durable.engine.waits import NO_DEFAULT, checked_timeout
from durable.model.commands import OnConflict
from durable.model.duration import Duration
from durable.model.ids import checked_id
from durable.model.naming import checked_name
from durable.model.runnable import Runnable

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")

ParentClose: TypeAlias = Literal["cancel", "abandon"]
"""What becomes of a child that was started when its parent ends."""


class ChildVerbs(Verbs):
    """Verbs for child runs."""

    @overload
    async def call(
        self,
        child: Runnable[None, R],
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration | None = None,
        on_conflict: OnConflict = "raise",
    ) -> R: ...
    @overload
    async def call(
        self,
        child: Runnable[None, R],
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration,
        default: D,
        on_conflict: OnConflict = "raise",
    ) -> R | D: ...
    @overload
    async def call(
        self,
        child: Runnable[T, R],
        input: T,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration | None = None,
        on_conflict: OnConflict = "raise",
    ) -> R: ...
    @overload
    async def call(
        self,
        child: Runnable[T, R],
        input: T,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration,
        default: D,
        on_conflict: OnConflict = "raise",
    ) -> R | D: ...
    @overload
    async def call(
        self,
        child: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration | None = None,
        default: Any = ...,
        on_conflict: OnConflict = "raise",
    ) -> Any: ...
    def call(
        self,
        child: Any,
        input: Any = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
        on_conflict: OnConflict = "raise",
    ) -> Any:
        """Run a workflow, or one known by its name, as a run of its own and wait for its result.

        Raises the child's own exception, which is also a `ChildFailed`; `ChildCancelled` when it was
        cancelled or terminated; `InvalidInput`. `timeout` (seconds or a timedelta) limits the wait: when it
        passes the child is cancelled, and this raises `WaitTimeout` or gives `default`. Whoever gives up
        waiting cancels the child, too. `id` is made from this run's, unless given; for one that a run has
        already, `on_conflict` says: `"raise"` `RunAlreadyExists`, `"return_existing"` wait for that run,
        `"restart"` terminate it and start anew.
        """
        seconds = checked_timeout(timeout, default, "call")
        options: dict[str, Any] = {"seconds": seconds, "default": default}
        options |= _checked(child, id, queue, on_conflict)
        return Call(self._instance.calls, self._begin_call, (child, input, options))

    def _begin_call(
        self, call: Call, child: Any, input: Any, options: dict[str, Any]
    ) -> Awaitable[Any]:
        return self._instance.children.start(child, input, site=call.site, **options).called()

    @overload
    async def start(
        self,
        child: Runnable[None, R],
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        on_parent_close: ParentClose = "cancel",
        on_conflict: OnConflict = "raise",
    ) -> ChildHandle[R]: ...
    @overload
    async def start(
        self,
        child: Runnable[T, R],
        input: T,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        on_parent_close: ParentClose = "cancel",
        on_conflict: OnConflict = "raise",
    ) -> ChildHandle[R]: ...
    @overload
    async def start(
        self,
        child: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        on_parent_close: ParentClose = "cancel",
        on_conflict: OnConflict = "raise",
    ) -> ChildHandle[Any]: ...
    def start(
        self,
        child: Any,
        input: Any = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        on_parent_close: ParentClose = "cancel",
        on_conflict: OnConflict = "raise",
    ) -> Any:
        """Start a workflow, or one known by its name, as a run of its own; done once that is recorded.

        When this run ends, the child is cancelled, or goes on with `on_parent_close="abandon"`. For `id` and
        `on_conflict` see `call`; that an id is taken shows in `ChildHandle.result`. Raises `InvalidInput`.
        """
        if on_parent_close not in get_args(ParentClose):
            message = f'on_parent_close= is "cancel" or "abandon", not {on_parent_close!r}'
            raise ValueError(message)
        options: dict[str, Any] = {"abandoned": on_parent_close == "abandon"}
        options |= _checked(child, id, queue, on_conflict)
        return Call(self._instance.calls, self._begin_start, (child, input, options))

    def _begin_start(
        self, call: Call, child: Any, input: Any, options: dict[str, Any]
    ) -> Awaitable[Any]:
        return self._instance.children.start(child, input, site=call.site, **options).begun()


def _checked(
    child: Any, id: str | None, queue: str | None, on_conflict: OnConflict
) -> dict[str, Any]:
    """What `call` and `start` have in common; `TypeError` or `ValueError`."""
    if not isinstance(child, Runnable):
        checked_name(child, "a child (give its workflow, or the name of that)")
    if on_conflict not in get_args(OnConflict):
        message = f'on_conflict= is "raise", "return_existing" or "restart", not {on_conflict!r}'
        raise ValueError(message)
    return {
        "id": None if id is None else checked_id(id),
        "queue": None if queue is None else checked_name(queue, "a queue"),
        "conflict": on_conflict,
    }
