"""Verbs that ask people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.engine.host import Host


class InputVerbs:
    """Verbs that ask people."""

    _instance: Host
