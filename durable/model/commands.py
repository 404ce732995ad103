"""What a workflow asks of its worker. An instance answers each event with a list of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from durable.model.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from durable.model.history import RunStarted, WaitMode
    from durable.model.rows import Lane
    from durable.model.steps import Step


OnConflict: TypeAlias = Literal["return_existing", "raise", "restart"]
"""What starting an id does that a run has already."""


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
    undoes: str | None = None
    """The step that it undoes, where it is a compensation."""


@value
class CancelStep:
    """Nobody waits for this step any more: tell its attempt to stop, drop what it brings."""

    cmd: int


@value
class SettleStep:
    """Nobody waits for this step, but what became of it must be known, to undo it.

    An attempt that has not begun is not begun any more: it is reported as failed.
    """

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
class StartWait:
    """The workflow waits for events, a request, or the input of a person."""

    cmd: int
    kind: Literal["event", "input", "request"]
    names: tuple[str, ...]
    mode: WaitMode
    key: str | None
    due: int | None
    site: Site
    form: bytes | None = None
    """Of an input: what is asked, packed."""
    to: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """All names in one."""
        return ", ".join(self.names)


@value
class EndWait:
    """The wait is over, or nobody waits any more."""

    cmd: int


@value
class Send:
    """Send an event to a run (`target`), or publish it under `key`; `MessageSent` reports back."""

    cmd: int
    name: str
    payload: bytes
    target: str | None
    key: str | None
    site: Site


@value
class StartChild:
    """Start a child run, in the transaction that writes `ChildStarted`."""

    cmd: int
    child_id: str
    lane: Lane
    started: RunStarted
    """How the child begins; who drives the parent adds its key."""
    conflict: OnConflict
    abandoned: bool
    """It goes on when its parent ends."""
    fingerprint: int
    site: Site
    due: int | None = None
    """When the wait for it times out (`ctx.call(timeout=)`)."""

    @property
    def name(self) -> str:
        """The child's workflow."""
        return self.lane.workflow


@value
class EndChildWait:
    """Nobody waits for the child any more, or it has reported: its time-out is void."""

    cmd: int


@value
class CancelChild:
    """Tell a child to stop, in the same transaction as what led to it."""

    child_id: str
    reason: str | None


@value
class SetState:
    """Publish a value of the workflow; `StateSet` enters the history at once."""

    cmd: int
    name: str
    payload: bytes
    site: Site


@value
class MarkPatched:
    """The code took the new way of a patch; `Patched` enters the history at once."""

    name: str


@value
class AnswerRequest:
    """Answer request `number`: `RequestAnswered` enters the history at once."""

    number: int
    name: str
    answer: bytes | None
    rejected: str | None


@value
class BeginCompensation:
    """From here on the run undoes what it did."""


@value
class CompleteRun:
    """The workflow function returned; `result` is an encoded payload."""

    result: bytes


@value
class FailRun:
    """An exception left the workflow function; `failure` is an encoded `Failure`."""

    failure: bytes
    status: Literal["failed", "compensated", "compensation_failed"] = "failed"


@value
class CancelRun:
    """The run was cancelled and has cleaned up."""

    reason: str | None
    status: Literal["cancelled", "compensation_failed"] = "cancelled"


@value
class ContinueRun:
    """Begin a new generation: `ContinuedAsNew` (or `RunRetried`, with what failed) is the next event."""

    input: bytes
    base: int
    carried: bytes
    failure: bytes | None = None
    attempt: int = 1
    due: int = 0


Ending: TypeAlias = CompleteRun | FailRun | CancelRun | ContinueRun
ENDINGS = (CompleteRun, FailRun, CancelRun, ContinueRun)
"""What ends an instance."""

Command: TypeAlias = (
    RunStep
    | CancelStep
    | SettleStep
    | StartTimer
    | CancelTimer
    | StartWait
    | EndWait
    | Send
    | StartChild
    | EndChildWait
    | CancelChild
    | SetState
    | MarkPatched
    | AnswerRequest
    | BeginCompensation
    | WriteLog
    | Ending
)
