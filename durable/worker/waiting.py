"""What a parked run waits for, in words: kept with the run, so that a list of runs can show it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from durable.clock import to_datetime
from durable.model.commands import RunStep, StartChild, StartTimer, StartWait
from durable.model.rows import SEPARATOR
from durable.worker.timetable import Timed

MAX_WORDS: Final = 10
"""So many things that a run waits for are told; of more it is told how many."""

_JOINED: Final[Mapping[str, str]] = {"one": "", "any": " or ", "all": " and "}


def in_words(
    timed: Collection[Timed], waits: Iterable[StartWait], children: Collection[StartChild]
) -> list[str]:
    """Timers, waits and children, the oldest first of each kind."""
    words = [_timer(one) for one in timed if isinstance(one, StartTimer)]
    words += [_WAIT_WORDS[wait.kind](wait) for wait in waits]
    if len(children) == 1:
        words += [f"child {child.child_id}{_until(child.due)}" for child in children]
    elif children:
        words.append(f"{len(children)} children")
    return words


def retry_in_words(command: RunStep) -> str:
    """The next attempt of a step."""
    return f"retry of {command.step.name}{_moment(' at', command.not_before)}"


def joined(words: Iterable[str]) -> str | None:
    """As they are stored: None for nothing."""
    told = list(dict.fromkeys(word.replace(SEPARATOR, " ") for word in words))
    if len(told) > MAX_WORDS:
        left = len(told) - MAX_WORDS + 1
        told = [*told[: MAX_WORDS - 1], f"{left} more"]
    return SEPARATOR.join(told) or None


def _until(due: int | None) -> str:
    """When it is over at the latest; nothing where it has no end."""
    return _moment(" until", due)


def _moment(word: str, at: int | None) -> str:
    return "" if at is None else f"{word} {to_datetime(at):%Y-%m-%d %H:%M:%S} UTC"


def _timer(timer: StartTimer) -> str:
    return timer.name + _moment(" until" if timer.name == "sleep" else " at", timer.due)


def _event(wait: StartWait) -> str:
    what = "events" if wait.mode == "all" else "event"
    key = "" if wait.key is None else f" under key {wait.key}"
    return f"{what} {_JOINED[wait.mode].join(wait.names)}{key}{_until(wait.due)}"


def _input(wait: StartWait) -> str:
    whom = f" from {', '.join(wait.to)}" if wait.to else ""
    return f"input {wait.name}{whom}{_until(wait.due)}"


_WAIT_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "event": _event,
    "input": _input,
    "request": lambda wait: f"request {wait.name}{_until(wait.due)}",
}
