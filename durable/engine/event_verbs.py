"""Verbs for events and requests: waiting for them, and sending them to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.engine.host import Host


class EventVerbs:
    """Verbs for events and requests: waiting for them, and sending them to others."""

    _instance: Host
