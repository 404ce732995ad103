"""What a run has its worker do to the world besides running steps: messages, subscriptions, looks at children.

Each may be done again after a crash: the database takes every one of them once.
"""

from __future__ import annotations

from typing import TypeAlias

from durable.model.commands import Send
from durable.model.rows import NewRun
from durable.model.value import value


@value
class Subscribe:
    """Fetch what was published under the key of a wait that others can find now."""

    cmd: int
    names: tuple[str, ...]
    key: str


@value
class LookForChildren:
    """See which of these children exist: whether their start came through is not known here."""

    cmds: tuple[int, ...]


@value
class Follow:
    """Have the end of a run reported that is no child of this one."""

    cmd: int
    run_id: str


@value
class RestartChild:
    """Start a child in the place of an older run of that id."""

    cmd: int
    run: NewRun


@value
class CancelLate:
    """Cancel a child that could not be told in the transaction of the event that led to it.

    It takes the place of another run, and may not have done so by then; or the run was blocked at that event.
    """

    cmd: int
    run_id: str
    data: bytes


Effect: TypeAlias = Send | Subscribe | LookForChildren | Follow | RestartChild | CancelLate
