"""What every family of verbs stands on; `Context` is made of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from durable.engine.calls import Call

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.commands import Command, RunStep
    from durable.model.history import RunStarted


class Host(Protocol):
    """The run, as its verbs see it."""

    run_id: str
    now: int
    length: int
    calls: dict[Call, None]
    started: RunStarted | None

    def emit(self, command: Command) -> None: ...
    def start_step(self, command: RunStep) -> Awaitable[Any]: ...


class Verbs:
    """A family of verbs: each gives back a `Call`, made in the verb itself so that it knows the user's line."""

    def __init__(self, instance: Host, loop: WorkflowLoop) -> None:
        self._instance = instance
        self._loop = loop
