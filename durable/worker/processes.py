"""The other side of `executor="process"`: runs in a child process, which is given bytes and gives bytes."""

from __future__ import annotations

import importlib
from typing import Any

from durable.model.steps import as_step


def run_in_process(module: str, name: str, arguments: bytes) -> bytes:
    """Run a module-level step by its name; arguments and result are encoded payloads."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    step = as_step(found)
    args, kwargs = step.arguments.decode(arguments, f"step {step.name}")
    return step.result.encode(step.fn(*args, **kwargs), f"result of step {step.name}")
