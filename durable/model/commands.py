"""What a workflow asks of its worker. An instance answers each event with a list of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from durable.model.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from durable.model.steps import Step


@value
class Site:
    """A place in the user's code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return _site_text(self.code, self.line)


_MOST_TEXTS = 10_000
_texts: dict[tuple[int, int], tuple[CodeType, str]] = {}
"""By identity: to hash a code object costs more than to write the text anew."""


def _site_text(code: CodeType, line: int) -> str:
    found = _texts.get((id(code), line))
    if found is not None:
        return found[1]
    if len(_texts) >= _MOST_TEXTS:
        _texts.clear()
    text = f"{code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{line}"
    _texts[id(code), line] = code, text
    return text


@dataclass(slots=True)
class RunStep:
    """Run an attempt of a step. `args` and `kwargs` are None where every attempt needs its own decoded copy."""

    cmd: int
    step: Step[..., Any]
    arguments: bytes
    args: tuple[Any, ...] | None
    kwargs: Mapping[str, Any] | None
    fingerprint: int
    site: Site
    attempt: int = 1
    not_before: int | None = None
    first_at: int | None = None
    """When the first attempt was asked for; `Retry.max_elapsed` counts from here."""


@value
class CancelStep:
    """Nobody waits for this step any more: tell its attempt to stop, drop what it brings."""

    cmd: int


@value
class StartTimer:
    """Report back with `TimerFired` at `due`."""

    cmd: int
    name: str
    due: int
    site: Site


@value
class CancelTimer:
    """The timer is not needed any more."""

    cmd: int


@value
class WriteLog:
    """A line of `ctx.log`, to be written once what led to it is durable."""

    level: int
    message: object
    args: tuple[object, ...]
    options: Mapping[str, Any]


@value
class CompleteRun:
    """The workflow function returned; `result` is an encoded payload."""

    result: bytes


@value
class FailRun:
    """An exception left the workflow function; `failure` is an encoded `Failure`."""

    failure: bytes


Command: TypeAlias = (
    RunStep | CancelStep | StartTimer | CancelTimer | WriteLog | CompleteRun | FailRun
)
