"""The statuses of a run and the one table of legal changes between them."""

from __future__ import annotations

from typing import Literal, TypeAlias

from durable.errors import IllegalTransition

RunStatus: TypeAlias = Literal[
    "pending",
    "running",
    "waiting",
    "paused",
    "blocked",
    "compensating",
    "completed",
    "failed",
    "cancelled",
    "terminated",
    "compensated",
    "compensation_failed",
]

OPEN: tuple[RunStatus, ...] = ("pending", "running", "waiting", "paused", "blocked", "compensating")
FINAL: tuple[RunStatus, ...] = (
    "completed",
    "failed",
    "cancelled",
    "terminated",
    "compensated",
    "compensation_failed",
)

# How the scheduler may hold a run back; kept beside the status so that a hold can be lifted.
HOLD_PAUSED = 1
HOLD_BLOCKED = 2

_ENDS: frozenset[RunStatus] = frozenset(FINAL)


def _to(*statuses: RunStatus) -> frozenset[RunStatus]:
    return frozenset(statuses)


# A run that parks or is claimed while it undoes stays `compensating`. It leaves that for an end, or, where it
# is tried again as a whole, for its next attempt. It never completes: nothing that succeeded is undone.
TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    "pending": _to("running", "paused", "blocked", "terminated"),
    "running": _to("running", "waiting", "paused", "blocked", "compensating") | _ENDS,
    "waiting": _to("running", "paused", "blocked", "terminated"),
    "paused": _to("pending", "running", "waiting", "compensating", "terminated"),
    "blocked": _to("pending", "running", "waiting", "compensating", "paused", "terminated"),
    "compensating": _to("compensating", "running", "waiting", "paused", "blocked")
    | (_ENDS - _to("completed")),
    **dict.fromkeys(FINAL, _to()),
}


def is_final(status: RunStatus) -> bool:
    """Whether a run of this status has ended for good."""
    return status in _ENDS


def check_transition(run_id: str, old: RunStatus, new: RunStatus) -> None:
    """Raise `IllegalTransition` unless a run may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        message = f"run {run_id} is {old} and cannot become {new}"
        raise IllegalTransition(message)
