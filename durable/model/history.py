"""The facts of a run's history: one frozen class per event type.

`at` is the time that the workflow saw (microseconds since the epoch). Events that answer a command
carry its number, and the kind and name that they expect to find under it. `CODES` gives every type its
number on disk; a number is never used for anything else. New fields go to the end and have defaults, so
that old histories stay readable.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeAlias

from durable.model.value import value

Kind: TypeAlias = Literal["step", "timer"]
"""What a command asks for."""

CODES: Final[dict[str, int]] = {
    "RunStarted": 1,
    "RunCompleted": 2,
    "RunFailed": 3,
    "RunCancelled": 4,
    "RunTerminated": 5,
    "RunRetried": 6,
    "ContinuedAsNew": 7,
    "StepScheduled": 10,
    "StepCompleted": 11,
    "StepFailed": 12,
    "LateCompletion": 13,
    "TimerStarted": 20,
    "TimerFired": 21,
    "WaitStarted": 30,
    "WaitTimedOut": 31,
    "WaitCancelled": 32,
    "EventReceived": 33,
    "InputRequested": 40,
    "InputProvided": 41,
    "RequestReceived": 42,
    "RequestAnswered": 43,
    "ChildStarted": 50,
    "ChildCompleted": 51,
    "ChildFailed": 52,
    "StateSet": 60,
    "Patched": 61,
    "CancelRequested": 70,
    "CompensationStarted": 80,
    "CompensationCompleted": 81,
    "CompensationFailed": 82,
    "Recovered": 90,
    "Paused": 91,
    "Resumed": 92,
    "Blocked": 93,
    "Unblocked": 94,
}
NAMES: Final[dict[int, str]] = {code: name for name, code in CODES.items()}


@value
class RunStarted:
    """The run exists. `name` is its workflow; `input` an encoded payload."""

    code: ClassVar[int] = CODES["RunStarted"]
    at: int
    name: str
    input: bytes
    version: int = 1
    queue: str = "default"
    parent_id: str | None = None
    root_id: str | None = None
    deadline: int | None = None
    tags: dict[str, str] | None = None


@value
class RunCompleted:
    """The workflow function returned; `result` is an encoded payload."""

    code: ClassVar[int] = CODES["RunCompleted"]
    at: int
    result: bytes


@value
class RunFailed:
    """An exception left the workflow function; `failure` is an encoded `Failure`."""

    code: ClassVar[int] = CODES["RunFailed"]
    at: int
    failure: bytes


@value
class RunCancelled:
    """The run was cancelled and has cleaned up."""

    code: ClassVar[int] = CODES["RunCancelled"]
    at: int
    reason: str | None = None


@value
class RunTerminated:
    """The run was ended from outside, at once."""

    code: ClassVar[int] = CODES["RunTerminated"]
    at: int
    reason: str | None = None


@value
class StepCompleted:
    """An attempt of a step returned. `took` is its length in microseconds, `worker` who ran it."""

    code: ClassVar[int] = CODES["StepCompleted"]
    kind: ClassVar[Kind] = "step"
    at: int
    cmd: int
    name: str
    result: bytes
    fingerprint: int
    took: int
    worker: int
    site: str
    attempt: int = 1


@value
class StepFailed:
    """An attempt of a step failed; `retry_at` is when the next one is due, None when it was the last."""

    code: ClassVar[int] = CODES["StepFailed"]
    kind: ClassVar[Kind] = "step"
    at: int
    cmd: int
    name: str
    failure: bytes
    fingerprint: int
    took: int
    worker: int
    site: str
    attempt: int = 1
    retry_at: int | None = None


@value
class TimerStarted:
    """A timer that is still running when its run parks; what it says wins over the code."""

    code: ClassVar[int] = CODES["TimerStarted"]
    kind: ClassVar[Kind] = "timer"
    at: int
    cmd: int
    name: str
    due: int
    site: str


@value
class TimerFired:
    """A timer fell due."""

    code: ClassVar[int] = CODES["TimerFired"]
    kind: ClassVar[Kind] = "timer"
    at: int
    cmd: int
    name: str
    due: int


@value
class EventReceived:
    """A message from outside entered the history. `number` is its place in the inbox."""

    code: ClassVar[int] = CODES["EventReceived"]
    at: int
    name: str
    payload: bytes
    number: int


@value
class Recovered:
    """Another worker took over from one that was lost; written with the first event that follows."""

    code: ClassVar[int] = CODES["Recovered"]
    at: int
    lost: int
    worker: int


@value
class Blocked:
    """The run cannot go on with this code; it stays open. `by` is the code's fingerprint."""

    code: ClassVar[int] = CODES["Blocked"]
    at: int
    reason: str
    by: str = ""


@value
class Unblocked:
    """A worker with other code, `by`, tries the run again."""

    code: ClassVar[int] = CODES["Unblocked"]
    at: int
    by: str = ""


Event: TypeAlias = (
    RunStarted
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTerminated
    | StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | EventReceived
    | Recovered
    | Blocked
    | Unblocked
)

CommandEvent: TypeAlias = StepCompleted | StepFailed | TimerStarted | TimerFired
"""Events that belong to a command."""

EVENT_CLASSES: Final[tuple[type[Event], ...]] = (
    RunStarted,
    RunCompleted,
    RunFailed,
    RunCancelled,
    RunTerminated,
    StepCompleted,
    StepFailed,
    TimerStarted,
    TimerFired,
    EventReceived,
    Recovered,
    Blocked,
    Unblocked,
)
FINAL_CODES: Final = frozenset(
    cls.code for cls in (RunCompleted, RunFailed, RunCancelled, RunTerminated)
)
