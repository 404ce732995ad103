"""Verbs for what surrounds code: sagas, shields, and the run itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.engine.host import Host


class ScopeVerbs:
    """Verbs for what surrounds code: sagas, shields, and the run itself."""

    _instance: Host
