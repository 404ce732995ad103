"""What tests of durable programs need: whole environments on a virtual clock, and databases.

`Environment` runs workflows as they are, in memory and in no time; `env.mock` stands in for their steps
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_testing.environment import Environment
    from durable_testing.mocks import Mock, MockedCall
    from durable_testing.strict import ArgumentChanged
    from durable_testing.stuck import Stuck

__all__ = ["ArgumentChanged", "Environment", "Mock", "MockedCall", "Stuck"]

# Every test run of every project that has durable installed loads this module for its pytest plugin.
_LATER = {
    "ArgumentChanged": "durable_testing.strict",
    "Environment": "durable_testing.environment",
    "Mock": "durable_testing.mocks",
    "MockedCall": "durable_testing.mocks",
    "Stuck": "durable_testing.stuck",
}

if not TYPE_CHECKING:  # a checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        module = _LATER.get(name)
        if module is None:
            message = f"module 'durable_testing' has no attribute {name!r}"
            raise AttributeError(message)
        value = globals()[name] = getattr(import_module(module), name)
        return value
