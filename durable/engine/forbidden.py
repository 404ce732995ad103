"""What of asyncio's loop cannot be replayed, and what to write instead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Any

from durable.errors import NotAllowedInWorkflow

_ADVICE = {
    "run_in_executor": "threads cannot be replayed: make it a step, a sync step runs in a thread",
    "call_soon_threadsafe": "other threads cannot reach into a workflow: send it an event",
    "subprocess_exec": "a subprocess belongs into a step",
    "subprocess_shell": "a subprocess belongs into a step",
    "add_signal_handler": "signals belong to the worker's process",
    "run_forever": "the worker drives the workflow",
    "run_until_complete": "await it",
    "stop": "return from the workflow function",
    "close": "return from the workflow function",
}


def refusals(known: Container[str]) -> dict[str, Callable[..., Any]]:
    """For every method of a loop that is not `known`: a function that raises `NotAllowedInWorkflow`."""
    return {
        name: _refusal(name)
        for name, member in vars(asyncio.AbstractEventLoop).items()
        if callable(member) and not name.startswith("__") and name not in known
    }


def _refusal(name: str) -> Callable[..., Any]:
    advice = _ADVICE.get(name, "input and output belong into a step")

    def refuse(_loop: object, *_args: object, **_kwargs: object) -> Any:
        message = f"{name}() in a workflow: {advice}"
        raise NotAllowedInWorkflow(message)

    refuse.__name__ = name
    return refuse
