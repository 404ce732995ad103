"""What a strict test environment asks of this process besides; nothing in production."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


class Strictness:
    """Set while such an environment is open."""

    compare: Callable[[Any, Any], None] | None = None
    """Given a value and what its receiver gets; raises `Refused` when they differ."""
    pending_tasks: bool = False
    """A run that returns while tasks of its own are pending fails."""


STRICTNESS: Final = Strictness()
