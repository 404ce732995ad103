"""Commands that enter the history as soon as they are asked for, each as an event of its own.

On a replay such a command is asked for again, and its event follows; where the history ends before it does,
the command was never written down, and is now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from durable.model import history
from durable.model.commands import (
    AnswerRequest,
    BeginCompensation,
    MarkPatched,
    SetState,
    StartChild,
    StartWait,
)
from durable.worker.timetable import listing

Recorded: TypeAlias = (
    StartChild | StartWait | SetState | MarkPatched | AnswerRequest | BeginCompensation
)


def is_recorded_at_once(wait: StartWait) -> bool:
    """Others must find it now: people who are asked, and whoever publishes under its key."""
    return wait.kind == "input" or wait.key is not None


def event_of(command: Recorded, at: int) -> history.Event:
    """The event that a command becomes."""
    return _EVENTS[type(command)](command, at)


def _child_started(command: StartChild, at: int) -> history.Event:
    return history.ChildStarted(
        at,
        command.cmd,
        command.name,
        command.child_id,
        command.fingerprint,
        str(command.site),
        command.abandoned,
    )


_EVENTS: Final[Mapping[type[Recorded], Callable[[Any, int], history.Event]]] = {
    StartChild: _child_started,
    StartWait: listing,
    SetState: lambda c, at: history.StateSet(at, c.cmd, c.name, c.payload),
    MarkPatched: lambda c, at: history.Patched(at, c.name),
    AnswerRequest: lambda c, at: history.RequestAnswered(
        at, c.number, c.name, c.answer, c.rejected
    ),
    BeginCompensation: lambda _, at: history.CompensationStarted(at),
}


def key_of(command: Recorded) -> object:
    """What a command has in common with the event that it became."""
    return _COMMAND_KEYS[type(command)](command)


def key_of_event(event: history.Event) -> object | None:
    """The same of an event; None where no command is written down by it."""
    key = _EVENT_KEYS.get(type(event))
    return None if key is None else key(event)


_COMMAND_KEYS: Final[Mapping[type[Recorded], Callable[[Any], object]]] = {
    StartChild: lambda c: c.cmd,
    StartWait: lambda c: c.cmd,
    SetState: lambda c: c.cmd,
    MarkPatched: lambda c: c.name,
    AnswerRequest: lambda c: ("answer", c.number),
    BeginCompensation: lambda _: "compensation",
}
_EVENT_KEYS: Final[Mapping[type[history.Event], Callable[[Any], object]]] = {
    history.ChildStarted: lambda e: e.cmd,
    history.WaitStarted: lambda e: e.cmd,
    history.InputRequested: lambda e: e.cmd,
    history.StateSet: lambda e: e.cmd,
    history.Patched: lambda e: e.name,
    history.RequestAnswered: lambda e: ("answer", e.cmd),
    history.CompensationStarted: lambda _: "compensation",
}
