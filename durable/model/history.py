"""The facts of a run's history: one frozen class per event type.

`at` is the time that the workflow saw (microseconds since the epoch). Events that answer a command
carry its number, and the kind and name that they expect to find under it. `CODES` gives every type its
number on disk; a number is never used for anything else. New fields go to the end and have defaults, so
that old histories stay readable.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypeAlias, get_args

from durable.model.value import value

Kind: TypeAlias = Literal[
    "step", "timer", "event", "input", "request", "child", "message", "undo", "state"
]
"""What a command asks for."""

WaitMode: TypeAlias = Literal["one", "any", "all"]
"""How many of the names of a wait must come."""

ChildEnd: TypeAlias = Literal[
    "failed", "cancelled", "terminated", "compensated", "compensation_failed"
]
"""How a child ended that brought no result."""

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
    "MessageSent": 34,
    "InputRequested": 40,
    "InputProvided": 41,
    "RequestReceived": 42,
    "RequestAnswered": 43,
    "ChildStarted": 50,
    "ChildCompleted": 51,
    "ChildFailed": 52,
    "FollowerAdded": 53,
    "ChildRefused": 54,
    "StateSet": 60,
    "Patched": 61,
    "CancelRequested": 70,
    "DeadlinePassed": 71,
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
    parent_key: int | None = None
    """With `parent_cmd`: where its end is reported to."""
    parent_cmd: int | None = None
    seed: str = ""
    """What tells this run from an older one of the same id, in what it derives from its id."""


@value
class RunCompleted:
    """The workflow function returned; `result` is an encoded payload."""

    code: ClassVar[int] = CODES["RunCompleted"]
    at: int
    result: bytes


@value
class RunFailed:
    """An exception left the workflow function; `failure` is an encoded `Failure`.

    `status` is `compensated` where what was done has been undone, `compensation_failed` where an undo failed.
    """

    code: ClassVar[int] = CODES["RunFailed"]
    at: int
    failure: bytes
    status: Literal["failed", "compensated", "compensation_failed"] = "failed"


@value
class RunCancelled:
    """The run was cancelled and has cleaned up; `compensation_failed` where an undo failed."""

    code: ClassVar[int] = CODES["RunCancelled"]
    at: int
    reason: str | None = None
    status: Literal["cancelled", "compensation_failed"] = "cancelled"


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
class WaitStarted:
    """A wait for an event or a request that is open when its run parks, or that others must find at once."""

    code: ClassVar[int] = CODES["WaitStarted"]
    at: int
    cmd: int
    name: str
    """Its names, with commas between them."""
    kind: Literal["event", "request"]
    names: list[str]
    mode: WaitMode
    key: str | None
    due: int | None
    site: str


@value
class WaitTimedOut:
    """A wait for an event, an input, a request or a child passed its time-out."""

    code: ClassVar[int] = CODES["WaitTimedOut"]
    at: int
    cmd: int
    name: str
    kind: Literal["event", "input", "request", "child"] = "event"


@value
class WaitCancelled:
    """Somebody ended a wait from outside: the oldest one of this name times out."""

    code: ClassVar[int] = CODES["WaitCancelled"]
    at: int
    name: str
    number: int


@value
class EventReceived:
    """A message from outside entered the history. `number` is its place in the inbox.

    With `key`: it was published under that key, as number `topic_number` of its name and key.
    """

    code: ClassVar[int] = CODES["EventReceived"]
    at: int
    name: str
    payload: bytes
    number: int
    key: str | None = None
    topic_number: int | None = None


@value
class MessageSent:
    """An event was sent to another run (`target`), or published (`key`); `refused` says why it was not."""

    code: ClassVar[int] = CODES["MessageSent"]
    kind: ClassVar[Kind] = "message"
    at: int
    cmd: int
    name: str
    site: str
    target: str | None = None
    key: str | None = None
    refused: str | None = None


@value
class InputRequested:
    """A person is asked for something; `form` is the packed `InputForm`."""

    code: ClassVar[int] = CODES["InputRequested"]
    kind: ClassVar[Kind] = "input"
    at: int
    cmd: int
    name: str
    form: bytes
    due: int | None
    site: str


@value
class InputProvided:
    """A person answered command `cmd`; `by` says who."""

    code: ClassVar[int] = CODES["InputProvided"]
    kind: ClassVar[Kind] = "input"
    at: int
    cmd: int
    name: str
    payload: bytes
    by: str | None
    number: int


@value
class RequestReceived:
    """A request that wants an answer entered the history; `number` is its place in the inbox."""

    code: ClassVar[int] = CODES["RequestReceived"]
    at: int
    name: str
    payload: bytes
    number: int


@value
class RequestAnswered:
    """The workflow answered request number `cmd`: with a payload, or with the reason why not."""

    code: ClassVar[int] = CODES["RequestAnswered"]
    at: int
    cmd: int
    name: str
    answer: bytes | None
    rejected: str | None = None


@value
class ChildStarted:
    """A child run was started, in the same transaction."""

    code: ClassVar[int] = CODES["ChildStarted"]
    kind: ClassVar[Kind] = "child"
    at: int
    cmd: int
    name: str
    """Its workflow."""
    child_id: str
    fingerprint: int
    site: str
    abandoned: bool = False
    """It goes on when its parent ends."""


@value
class ChildCompleted:
    """A child's result has arrived."""

    code: ClassVar[int] = CODES["ChildCompleted"]
    kind: ClassVar[Kind] = "child"
    at: int
    cmd: int
    result: bytes
    number: int


@value
class ChildFailed:
    """A child ended without a result: an encoded failure, or the reason of its cancellation."""

    code: ClassVar[int] = CODES["ChildFailed"]
    kind: ClassVar[Kind] = "child"
    at: int
    cmd: int
    status: ChildEnd
    failure: bytes | None
    reason: str | None
    number: int


@value
class ChildRefused:
    """A child could not be started: its id belongs to another run."""

    code: ClassVar[int] = CODES["ChildRefused"]
    kind: ClassVar[Kind] = "child"
    at: int
    cmd: int
    child_id: str


@value
class FollowerAdded:
    """Another run waits for the end of this one. `name` is its key and command, as in `17:3`."""

    code: ClassVar[int] = CODES["FollowerAdded"]
    at: int
    name: str
    number: int


@value
class StateSet:
    """The workflow published something about itself, under a name."""

    code: ClassVar[int] = CODES["StateSet"]
    kind: ClassVar[Kind] = "state"
    at: int
    cmd: int
    name: str
    payload: bytes


@value
class Patched:
    """The code has taken the new way of a patch, and does so for the rest of the run."""

    code: ClassVar[int] = CODES["Patched"]
    at: int
    name: str


@value
class CancelRequested:
    """Somebody asked the run to stop."""

    code: ClassVar[int] = CODES["CancelRequested"]
    at: int
    reason: str | None
    number: int


@value
class DeadlinePassed:
    """The time-out of the whole run has passed: it is cancelled, and ends as failed."""

    code: ClassVar[int] = CODES["DeadlinePassed"]
    at: int


@value
class CompensationStarted:
    """The run is over, and what it did is undone from here on."""

    code: ClassVar[int] = CODES["CompensationStarted"]
    at: int


@value
class CompensationCompleted:
    """An undo returned. `step` is what it undid."""

    code: ClassVar[int] = CODES["CompensationCompleted"]
    kind: ClassVar[Kind] = "undo"
    at: int
    cmd: int
    name: str
    result: bytes
    fingerprint: int
    took: int
    worker: int
    site: str
    step: str
    attempt: int = 1


@value
class CompensationFailed:
    """An attempt of an undo failed; fields as of `StepFailed`."""

    code: ClassVar[int] = CODES["CompensationFailed"]
    kind: ClassVar[Kind] = "undo"
    at: int
    cmd: int
    name: str
    failure: bytes
    fingerprint: int
    took: int
    worker: int
    site: str
    step: str
    attempt: int = 1
    retry_at: int | None = None


@value
class ContinuedAsNew:
    """A new generation of the run begins: the function starts again with another input.

    `base` is the newest command number so far; `carried` is a packed `Carried`: what lives on from the
    generation before.
    """

    code: ClassVar[int] = CODES["ContinuedAsNew"]
    at: int
    name: str
    input: bytes
    base: int
    carried: bytes


@value
class RunRetried:
    """The run failed and is tried again as a whole, at `due`; otherwise as `ContinuedAsNew`."""

    code: ClassVar[int] = CODES["RunRetried"]
    at: int
    name: str
    input: bytes
    base: int
    carried: bytes
    failure: bytes
    attempt: int
    """The number of the attempt that begins here: 2 for the first retry."""
    due: int


@value
class Paused:
    """The run is held; nothing new is started. `number` is 0 where it was held at once."""

    code: ClassVar[int] = CODES["Paused"]
    at: int
    number: int = 0


@value
class Resumed:
    """A paused run goes on."""

    code: ClassVar[int] = CODES["Resumed"]
    at: int
    number: int = 0


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
    | RunRetried
    | ContinuedAsNew
    | StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | WaitStarted
    | WaitTimedOut
    | WaitCancelled
    | EventReceived
    | MessageSent
    | InputRequested
    | InputProvided
    | RequestReceived
    | RequestAnswered
    | ChildStarted
    | ChildCompleted
    | ChildFailed
    | ChildRefused
    | FollowerAdded
    | StateSet
    | Patched
    | CancelRequested
    | DeadlinePassed
    | CompensationStarted
    | CompensationCompleted
    | CompensationFailed
    | Recovered
    | Paused
    | Resumed
    | Blocked
    | Unblocked
)

CommandEvent: TypeAlias = (
    StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | WaitStarted
    | WaitTimedOut
    | MessageSent
    | InputRequested
    | InputProvided
    | ChildStarted
    | ChildCompleted
    | ChildFailed
    | ChildRefused
    | StateSet
    | CompensationCompleted
    | CompensationFailed
)
"""Events that belong to a command."""

EVENT_CLASSES: Final[tuple[type[Event], ...]] = get_args(Event)
FINAL_CODES: Final = frozenset(
    cls.code for cls in (RunCompleted, RunFailed, RunCancelled, RunTerminated)
)
FROM_INBOX: Final = frozenset(
    cls.code
    for cls in (
        WaitCancelled,
        EventReceived,
        InputProvided,
        RequestReceived,
        ChildCompleted,
        ChildFailed,
        FollowerAdded,
        CancelRequested,
        Paused,
        Resumed,
    )
)
"""Events that each are one message of the inbox, in what a worker writes."""
