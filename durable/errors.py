"""Every error that `durable` raises, as one tree under `DurableError`.

Each message is one line: what happened, to which run and step, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of an exception: data, never pickle."""

    type: str
    """`module:qualified name` of the exception's class."""
    message: str
    traceback: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`args` and the part of the exception's `__dict__` that could be encoded."""
    cause: Failure | None = None
    exceptions: Sequence[Failure] = ()
    """The members of an exception group."""


class DurableError(Exception):
    """Base of every error that durable raises on its own account."""


class DefinitionError(DurableError, TypeError):
    """A workflow, step or job is defined in a way that cannot work."""


class FlowDefinitionError(DefinitionError):
    """A flow's graph has a cycle, a missing dependency or types that do not fit."""


class InvalidInput(DurableError, ValueError):
    """Input given to a run, or to something that it asked for, does not fit its type."""

    errors: Sequence[Mapping[str, Any]]

    def __init__(self, message: str, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class UnknownWorkflow(DurableError):
    """Nobody knows a workflow, job or flow of this name."""


class ResourceMissing(DurableError, LookupError):
    """No resource of the wanted type, or more than one, was given to the worker."""


class RunNotFound(DurableError):
    """There is no run with this id."""


class RunAlreadyExists(DurableError):
    """The id belongs to a run that the caller must not take for its own."""


class IllegalTransition(DurableError):
    """The run's status does not allow what was asked."""


class WaitTimeout(DurableError, TimeoutError):
    """A wait passed its timeout and had no default."""


class Failed(DurableError):
    """Base of `StepFailed`, `ChildFailed` and `RunFailed`.

    What is raised is also an instance of the original exception's class, when that class is
    known in this process; `failure` holds the data in every case.
    """

    failure: Failure


class StepFailed(Failed):
    """A step failed for good."""

    step: str
    attempts: int


class StepTimeout(StepFailed, TimeoutError):
    """The last attempt of a step took longer than its `timeout`."""


class ChildFailed(Failed):
    """A child run failed."""

    run_id: str


class ChildCancelled(ChildFailed):
    """A child run was cancelled or terminated."""


class RunFailed(Failed):
    """A run failed; raised to whoever waits for its result."""

    run_id: str


class RunTimeout(RunFailed, TimeoutError):
    """A run passed its deadline."""


class RunCancelled(DurableError):
    """A run was cancelled; raised to whoever waits for its result."""

    run_id: str
    reason: str | None

    def __init__(self, message: str, *, run_id: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.reason = reason


class RunTerminated(RunCancelled):
    """A run was terminated."""


class InputNotPending(DurableError):
    """The run does not ask for an input of this name."""


class InputAlreadyProvided(DurableError):
    """Somebody else answered first."""

    by: str | None
    at: datetime

    def __init__(self, message: str, *, by: str | None, at: datetime) -> None:
        super().__init__(message)
        self.by = by
        self.at = at


class RequestRejected(DurableError):
    """The workflow rejected a request."""


class RequestNotAnswered(DurableError):
    """The run ended before it answered a request."""


class PayloadError(DurableError):
    """A value cannot be stored, or what is stored cannot be read as the wanted type."""


class PayloadTooLarge(PayloadError):
    """A value's encoded form is larger than `Client(max_payload=)` allows."""


class NondeterminismError(DurableError):
    """The code no longer asks for what its history says it asked for. The run is blocked, not failed.

    `command` is the number of the call at which both part, where there is one.
    """

    def __init__(self, message: str, *, command: int | None = None) -> None:
        super().__init__(message)
        self.command = command


class NotAllowedInWorkflow(DurableError, RuntimeError):
    """Workflow code did something that cannot be replayed."""


class NotAwaited(DurableError, RuntimeError):
    """A workflow returned with calls that it created and never awaited."""


class MigrationNeeded(DurableError):
    """The database's schema is older than this version of durable."""


class StoreUnavailable(DurableError):
    """The database cannot be reached, or refuses to work."""


class NonRetryable(DurableError):
    """Raised by a step to fail at once, whatever its retry policy says."""

    def __init__(self, message: str = "", /) -> None:
        super().__init__(message)


class RetryAfter(DurableError):
    """Raised by a step to be tried again after `delay` (seconds or a timedelta); counts as an attempt."""

    delay: timedelta | float

    def __init__(self, delay: timedelta | float, message: str = "", /) -> None:
        super().__init__(message)
        self.delay = delay
