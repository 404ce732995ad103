"""The checks, a file for each subject."""

from __future__ import annotations

from durable.lint.checks.awaits import check_awaits
from durable.lint.checks.calls import check_calls
from durable.lint.checks.handlers import check_handlers
from durable.lint.checks.order import check_order
from durable.lint.checks.state import check_state
from durable.lint.checks.steps import check_steps
from durable.lint.finding import Check

CHECKS: tuple[Check, ...] = (
    check_calls,
    check_awaits,
    check_steps,
    check_handlers,
    check_order,
    check_state,
)
