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
HOLD_NONE = 0
HOLD_PAUSED = 1
HOLD_BLOCKED = 2

_ENDS: frozenset[RunStatus] = frozenset(FINAL)
TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    "pending": frozenset({"running", "paused", "blocked", "terminated"}),
    "running": frozenset({"running", "waiting", "paused", "blocked", "compensating"}) | _ENDS,
    "waiting": frozenset({"running", "paused", "blocked", "terminated"}),
    "paused": frozenset({"pending", "running", "waiting", "terminated"}),
    "blocked": frozenset({"pending", "running", "waiting", "paused", "terminated"}),
    "compensating": frozenset({"compensating", "paused", "blocked"}) | _ENDS,
    **dict.fromkeys(FINAL, frozenset[RunStatus]()),
}


def is_final(status: RunStatus) -> bool:
    """Whether a run of this status has ended for good."""
    return status in _ENDS


def check_transition(run_id: str, old: RunStatus, new: RunStatus) -> None:
    """Raise `IllegalTransition` unless a run may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        message = f"run {run_id} is {old} and cannot become {new}"
        raise IllegalTransition(message)
