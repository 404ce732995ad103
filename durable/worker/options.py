"""What a `Worker` is asked to do, checked before it does anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from durable.errors import DefinitionError
from durable.model import checks
from durable.model.runnable import Workflow
from durable.model.steps import Step
from durable.worker.guard import MODES, GuardMode

if TYPE_CHECKING:
    from durable.model.runnable import Runnable

DEFAULT_SLOTS = 100
"""Steps that run at once for a queue that names no number."""


def by_lane(runnables: Iterable[Runnable[Any, Any]]) -> dict[tuple[str, int], Workflow[Any, Any]]:
    """By name and pinned version (0: any code of that name)."""
    found: dict[tuple[str, int], Workflow[Any, Any]] = {}
    for runnable in runnables:
        if not isinstance(runnable, Workflow):
            message = f"{runnable!r} cannot be run by a worker: only workflows can, for now"
            raise NotImplementedError(message)
        checks.usable("workflow", runnable)
        version = runnable.lane().version
        if (runnable.name, version) in found:
            which = f" version {version}" if version else ""
            message = f"two workflows are called {runnable.name}{which}: give one of them a name="
            raise DefinitionError(message)
        found[runnable.name, version] = runnable
    return found


def check_names(steps: Iterable[Step[..., Any]]) -> None:
    """Others find a step of a worker by its name alone: it must say which."""
    found: dict[str, Step[..., Any]] = {}
    for step in steps:
        if not isinstance(cast(object, step), Step):
            message = f"{step!r} is not a step: Worker(steps=) takes what @step has made"
            raise DefinitionError(message)
        if found.setdefault(step.name, step) is not step:
            message = f"two steps are called {step.name}: give one of them a name="
            raise DefinitionError(message)
        checks.usable("step", step)


def mode_of(guard: str) -> GuardMode:
    """`Worker(guard=)`; `ValueError` where it is none of the modes."""
    for mode in MODES:
        if mode == guard:
            return mode
    message = f"Worker(guard=) is one of {', '.join(map(repr, MODES))}, not {guard!r}"
    raise ValueError(message)


def slots_of(queues: Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    """`Worker(queues=)`: steps that run at once, by queue."""
    if isinstance(queues, str):
        message = f"Worker(queues=) takes a sequence of names, not the string {queues!r}"
        raise TypeError(message)
    slots = dict(queues) if isinstance(queues, Mapping) else dict.fromkeys(queues, DEFAULT_SLOTS)
    for queue, number in slots.items():
        if type(number) is not int or number < 1:
            message = (
                f"queue {queue} needs a whole number of steps that run at once, not {number!r}"
            )
            raise ValueError(message)
    return slots
