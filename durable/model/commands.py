"""What a workflow asks of its worker. An instance answers each event with a list of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from durable.model.steps import Step


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the user's code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{self.line}"


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


@dataclass(frozen=True, slots=True)
class CancelStep:
    """Nobody waits for this step any more: tell its attempt to stop, drop what it brings."""

    cmd: int


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Report back with `TimerFired` at `due`."""

    cmd: int
    name: str
    due: int
    site: Site


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """The timer is not needed any more."""

    cmd: int


@dataclass(frozen=True, slots=True)
class WriteLog:
    """A line of `ctx.log`, to be written once what led to it is durable."""

    level: int
    message: object
    args: tuple[object, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """The workflow function returned; `result` is an encoded payload."""

    result: bytes


@dataclass(frozen=True, slots=True)
class FailRun:
    """An exception left the workflow function; `failure` is an encoded `Failure`."""

    failure: bytes


Command: TypeAlias = (
    RunStep | CancelStep | StartTimer | CancelTimer | WriteLog | CompleteRun | FailRun
)
