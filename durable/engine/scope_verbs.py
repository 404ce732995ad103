"""Verbs for what surrounds code: sagas, shields, and the run itself."""

from __future__ import annotations

from durable.engine.verbs import Verbs


class ScopeVerbs(Verbs):
    """Verbs for what surrounds code: sagas, shields, and the run itself."""
