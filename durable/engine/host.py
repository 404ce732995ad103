"""What the verbs of a context need of the run that they belong to."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from durable.engine.calls import Call
    from durable.engine.children import Children
    from durable.engine.function import Function
    from durable.engine.loop import WorkflowLoop
    from durable.engine.mailbox import Mailbox
    from durable.engine.saga import Sagas, Scope
    from durable.model.commands import Command, RunStep, Site
    from durable.model.history import RunStarted
    from durable.model.runnable import Workflow


class Host(Protocol):
    """The run, as its context sees it."""

    workflow: Workflow[Any, Any]
    run_id: str
    now: int
    base: int
    length: int
    replaying: bool
    calls: dict[Call, None]
    started: RunStarted | None

    @property
    def discarded(self) -> bool: ...
    def emit(self, command: Command) -> None: ...
    @property
    def loop(self) -> WorkflowLoop: ...
    @property
    def function(self) -> Function: ...
    @property
    def mailbox(self) -> Mailbox: ...
    @property
    def children(self) -> Children: ...
    @property
    def sagas(self) -> Sagas: ...
    def start_step(self, command: RunStep, scope: Scope | None = None) -> Awaitable[Any]: ...
    def new_context(self) -> object: ...
    def set_state(self, name: str, payload: bytes, site: Site) -> None: ...
    def patched(self, change: str) -> bool: ...
    def continue_as_new(self, payload: bytes) -> None: ...
