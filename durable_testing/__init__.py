"""What tests of durable programs need: whole environments on a virtual clock, and databases.

`Environment`   runs workflows as they are, in memory and in no time; `env.mock` stands in for steps
`step_context`  lets a test call a step by itself; `resources` gives it what it asks for
`replay`        says whether code goes the way of a recorded history; `assert_replays` insists
`check`         does so for all open runs of a database, as `durable check` does
`explore`       tries a workflow under every crash, order, duplicate, delay and cancel
`Stuck`         is raised where a test would wait for ever
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_testing.checking import Broken, Checked, Sampled, check
    from durable_testing.environment import Environment
    from durable_testing.exploring import Exploration, explore
    from durable_testing.mocks import Mock, MockedCall
    from durable_testing.replaying import Report, assert_replays, replay
    from durable_testing.standalone import resources, step_context
    from durable_testing.strict import ArgumentChanged
    from durable_testing.stuck import Stuck

__all__ = [
    "ArgumentChanged",
    "Broken",
    "Checked",
    "Environment",
    "Exploration",
    "Mock",
    "MockedCall",
    "Report",
    "Sampled",
    "Stuck",
    "assert_replays",
    "check",
    "explore",
    "replay",
    "resources",
    "step_context",
]

# Every test run of every project that has durable installed loads this module for its pytest plugin.
_LATER = {
    "ArgumentChanged": "durable_testing.strict",
    "Broken": "durable_testing.checking",
    "Checked": "durable_testing.checking",
    "Environment": "durable_testing.environment",
    "Exploration": "durable_testing.exploring",
    "Mock": "durable_testing.mocks",
    "MockedCall": "durable_testing.mocks",
    "Report": "durable_testing.replaying",
    "Sampled": "durable_testing.checking",
    "Stuck": "durable_testing.stuck",
    "assert_replays": "durable_testing.replaying",
    "check": "durable_testing.checking",
    "explore": "durable_testing.exploring",
    "replay": "durable_testing.replaying",
    "resources": "durable_testing.standalone",
    "step_context": "durable_testing.standalone",
}

if not TYPE_CHECKING:  # a checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        module = _LATER.get(name)
        if module is None:
            message = f"module 'durable_testing' has no attribute {name!r}"
            raise AttributeError(message)
        value = globals()[name] = getattr(import_module(module), name)
        return value
