"""Verbs for child runs."""

from __future__ import annotations

from durable.engine.verbs import Verbs


class ChildVerbs(Verbs):
    """Verbs for child runs."""
