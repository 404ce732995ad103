"""Verbs for child runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.engine.host import Host


class ChildVerbs:
    """Verbs for child runs."""

    _instance: Host
