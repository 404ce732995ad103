"""What every family of verbs stands on; `Context` is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.engine.host import Host
    from durable.engine.loop import WorkflowLoop


class Verbs:
    """A family of verbs: each gives back a `Call`, made in the verb itself so that it knows the user's line."""

    def __init__(self, instance: Host, loop: WorkflowLoop) -> None:
        self._instance = instance
        self._loop = loop
