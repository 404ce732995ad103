"""An engine without a database: drives an instance as a worker would, on virtual time, by a seed.

`live` runs a workflow and keeps its history and, event for event, the commands that it asked for.
`replay` asks a history for the same; `same_on_replay` says whether live, replayed in one go and evicted at
every event are all alike. `tests.engine.witness` does it in another process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, TypeAlias

from durable.clock import SECOND
from durable.engine import mailbox
from durable.engine.instance import Instance
from durable.errors import DurableError
from durable.model import history
from durable.model.commands import (
    AnswerRequest,
    BeginCompensation,
    CancelChild,
    CancelRun,
    CancelStep,
    CancelTimer,
    Command,
    CompleteRun,
    ContinueRun,
    EndChildWait,
    EndWait,
    FailRun,
    MarkPatched,
    RunStep,
    Send,
    SetState,
    SettleStep,
    StartChild,
    StartTimer,
    StartWait,
    WriteLog,
)
from durable.model.failure import decode_failure, encode_failure, failure_of
from durable.model.payload import ANY
from durable.model.runnable import Workflow
from durable.model.wire import EventRow, decode_event, encode_event

START = 1_767_225_600 * SECOND
"""When every run begins."""
MOST_EVENTS = 5_000
LATENCIES = (0, 0, 1, SECOND // 2, SECOND, 2 * SECOND)
"""Microseconds that an attempt takes; round ones, so that many things happen at the same time."""

Told: TypeAlias = tuple[Any, ...]
"""A command as plain data, without what differs from process to process."""
Trace: TypeAlias = list[list[Told]]
"""Per event, the commands that it led to."""


UnderWay: TypeAlias = RunStep | StartTimer | StartWait | Send
"""What ends by itself."""
FAR = START * 100
UNKNOWN, ENDED = mailbox.UNKNOWN, mailbox.ENDED
"""Ids of runs to which nothing can be sent, because there is none, or because it has ended."""


class Stuck(DurableError):
    """Nothing is under way and the workflow has not ended."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Something that is sent to the run, `after` so many microseconds. `payload` is encoded as plain data."""

    after: int
    name: str
    payload: Any = None
    key: str | None = None

    def event(self, driver: Driver, at: int, number: int) -> history.Event | None:
        """What the history says of it."""
        data = self.data
        topic = None if self.key is None else number
        return history.EventReceived(at, self.name, data, number, self.key, topic)

    @property
    def data(self) -> bytes:
        """Bytes are a payload already."""
        return self.payload if isinstance(self.payload, bytes) else ANY.encode(self.payload, "sent")


class Asked(Sent):
    """A request."""

    def event(self, driver: Driver, at: int, number: int) -> history.Event | None:
        return history.RequestReceived(at, self.name, self.data, number)


@dataclass(frozen=True, slots=True)
class Answered(Sent):
    """The answer of a person to the oldest open input of this name, if there is one."""

    by: str | None = "ann"

    def event(self, driver: Driver, at: int, number: int) -> history.Event | None:
        open_inputs = [
            wait.cmd
            for wait in driver.waits.values()
            if wait.kind == "input" and wait.name == self.name
        ]
        if not open_inputs:
            return None
        cmd = min(open_inputs)
        return history.InputProvided(at, cmd, self.name, self.data, self.by, number)


class EndedWait(Sent):
    """Somebody ends the oldest wait of this name."""

    def event(self, driver: Driver, at: int, number: int) -> history.Event | None:
        return history.WaitCancelled(at, self.name, number)


@dataclass(slots=True)
class Recording:
    """A run as it went: its history and what it asked for."""

    run_id: str
    rows: list[EventRow]
    trace: Trace
    outcome: Any = None
    """What the function returned; the `Failure` when the run failed."""
    failed: bool = False
    logs: list[str] = field(default_factory=list)
    instance: Instance | None = None
    inseparable: set[int] = field(default_factory=set)
    """Lengths of the history at which no commit ends: an event goes with what it led to."""

    def commands(self, kind: str) -> list[Told]:
        """All commands of a kind, in the order in which they were asked for."""
        return [told for commands in self.trace for told in commands if told[0] == kind]

    @property
    def names(self) -> list[str]:
        """The steps asked for, in order, every attempt."""
        return [told[2] for told in self.commands("step")]


def tell(command: Command) -> Told:
    """A command as plain data."""
    return _TELLERS[type(command)](command)


def _tell_failure(command: FailRun) -> Told:
    failure = decode_failure(command.failure)
    return "fail", failure.type, failure.message


_TELLERS: dict[type, Callable[[Any], Told]] = {
    RunStep: lambda c: ("step", c.cmd, c.step.name, c.fingerprint, c.attempt, c.not_before),
    CancelStep: lambda c: ("cancel step", c.cmd),
    StartTimer: lambda c: ("timer", c.cmd, c.name, c.due),
    CancelTimer: lambda c: ("cancel timer", c.cmd),
    WriteLog: lambda c: ("log", c.level, str(c.message) % c.args if c.args else str(c.message)),
    StartWait: lambda c: ("wait", c.cmd, c.kind, c.names, c.mode, c.key, c.due, c.form, c.to),
    EndWait: lambda c: ("end wait", c.cmd),
    Send: lambda c: ("send", c.cmd, c.name, c.payload.hex(), c.target, c.key),
    AnswerRequest: lambda c: ("answer", c.number, c.name, c.answer, c.rejected),
    CompleteRun: lambda c: ("complete", c.result.hex()),
    ContinueRun: lambda c: ("continue", c.input, c.base, c.carried),
    FailRun: _tell_failure,
}


def _tell_child(command: StartChild) -> Told:
    started = encode_event(1, command.started)
    lane = command.lane
    told = (command.child_id, lane.queue, lane.workflow, lane.version, started.at, started.data)
    return "child", command.cmd, *told, command.conflict, command.abandoned, command.due


# What belongs to children, scopes and generations.
_TELLERS |= {
    SettleStep: lambda c: ("settle step", c.cmd),
    StartChild: _tell_child,
    EndChildWait: lambda c: ("end child wait", c.cmd),
    CancelChild: lambda c: ("cancel child", c.child_id, c.reason),
    SetState: lambda c: ("state", c.cmd, c.name, c.payload.hex()),
    MarkPatched: lambda c: ("patched", c.name),
    BeginCompensation: lambda _: ("compensate",),
    CancelRun: lambda c: ("cancelled", c.reason, c.status),
    ContinueRun: lambda c: ("continue", c.input, c.base, c.carried, c.failure, c.attempt, c.due),
    FailRun: lambda c: (*_tell_failure(c), c.status),
}


def run_now(call: Any) -> Any:
    """The value of a step function's call; a coroutine must not wait for anything."""
    if not isinstance(call, Coroutine):
        return call
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    message = "a step of these tests must not wait"
    raise AssertionError(message)


class Driver:
    """One live run.

    `park` and `noise` are the chances, per event, that the run is parked, and that something happens in its
    history which the workflow does not see.
    """

    made: ClassVar[list[Driver]] = []
    """Those that are not finished."""

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        input: Any = None,
        *,
        seed: int = 0,
        run_id: str = "run",
        latencies: Sequence[int] = LATENCIES,
        park: float = 0.2,
        noise: float = 0.1,
        sends: Sequence[Sent] = (),
    ) -> None:
        self.made.append(self)
        self.workflow = workflow
        self.random = Random(seed)
        self.latencies = latencies
        self.park = park
        self.noise = noise
        self.now = START
        self.instance = Instance(workflow, run_id)
        self.recording = Recording(run_id, [], [], instance=self.instance)
        self.under_way: dict[int, tuple[int, UnderWay]] = {}
        """By command number: when it ends."""
        self.waits: dict[int, StartWait] = {}
        """Waits that are open; those that time out are under way too."""
        self.promised: set[int] = set()
        """Timers and waits whose TimerStarted or WaitStarted is in the history."""
        self.ending: CompleteRun | FailRun | ContinueRun | None = None
        self.sends = list(sends)
        """What somebody will send, and when."""
        self.answers: dict[int, AnswerRequest] = {}
        """What the run answered, by the number of the request."""
        self._messages = 0
        self._asked: list[int] = []
        payload = workflow.input.encode(input, "input") if workflow.takes_input else b""
        self.record(history.RunStarted(START, workflow.name, payload))

    # -- events

    def record(self, event: history.Event) -> list[Command]:
        """Write an event into the history, read it back, and let the instance see it."""
        rows = self.recording.rows
        row = encode_event(len(rows) + 1, event)
        rows.append(row)
        commands = self.instance.apply(decode_event(row))
        told = [tell(command) for command in commands]
        self.recording.trace.append(told)
        self.recording.logs += [entry[2] for entry in told if entry[0] == "log"]
        for command in commands:
            self.take(command)
        return commands

    def take(self, command: Command) -> None:
        """Begin what a command asks for."""
        match command:
            case RunStep():
                begin = max(self.now, command.not_before or 0)
                ends = begin + self.random.choice(self.latencies)
                self.under_way[command.cmd] = ends, command
            case StartTimer():
                self.under_way[command.cmd] = command.due, command
            case CancelStep() | CancelTimer():
                del self.under_way[command.cmd]
                self.promised.discard(command.cmd)
            case StartWait():
                self.waits[command.cmd] = command
                if command.due is not None:
                    self.under_way[command.cmd] = command.due, command
                if command.kind == "input":
                    self._asked.append(command.cmd)
            case EndWait():
                del self.waits[command.cmd]
                self.under_way.pop(command.cmd, None)
                self.promised.discard(command.cmd)
            case Send():
                self.under_way[command.cmd] = self.now + self.random.choice(self.latencies), command
            case AnswerRequest():
                assert command.number not in self.answers
                self.answers[command.number] = command
            case CompleteRun() | FailRun() | ContinueRun():
                self.ending = command
            case WriteLog():
                pass

    # -- driving it

    def step_forward(self) -> bool:
        """Let the next thing happen; False when the run has ended."""
        self.write_what_is_asked()
        if self.ending is not None or not (self.under_way or self.sends):
            return False
        if self.random.random() < self.noise:
            self.record(self.something_else())
        if self.random.random() < self.park:
            self.park_now()
        soonest = max(self.now, min([at for at, _ in self.under_way.values()], default=FAR))
        if self.sends and START + self.sends[0].after <= soonest:
            self.send(self.sends.pop(0))
            return True
        due = [cmd for cmd, (ends, _) in self.under_way.items() if ends <= soonest]
        self.happen(self.random.choice(due))
        return True

    def send(self, sent: Sent) -> list[Command]:
        """Somebody sends something: it becomes an event of the history at once."""
        self.now = max(self.now, START + sent.after)
        self._messages += 1
        event = sent.event(self, self.now, self._messages)
        return [] if event is None else self.record(event)

    def write_what_is_asked(self) -> None:
        """Questions to people are in the history before anything else happens."""
        while self._asked:
            cmd = self._asked.pop(0)
            command = self.waits.get(cmd)
            if command is not None:
                assert command.form is not None
                site = str(command.site)
                event = history.InputRequested(
                    self.now, cmd, command.name, command.form, command.due, site
                )
                self.record(event)

    def happen(self, cmd: int) -> list[Command]:
        """End what is under way under this command number."""
        ends, command = self.under_way.pop(cmd)
        self.now = max(self.now, ends)
        if isinstance(command, RunStep):
            return self.record(self.attempt(command))
        self.promised.discard(cmd)
        match command:
            case StartWait():
                event = history.WaitTimedOut(self.now, cmd, command.name, command.kind)
                return self.record(event)
            case Send():
                refused = self.refuses(command)
                return self.record(
                    history.MessageSent(
                        self.now,
                        cmd,
                        command.name,
                        str(command.site),
                        command.target,
                        command.key,
                        refused,
                    )
                )
            case StartTimer():
                return self.record(history.TimerFired(self.now, cmd, command.name, command.due))

    def refuses(self, command: Send) -> str | None:
        """Why an event cannot be sent, by the id of its target."""
        return command.target if command.target in (UNKNOWN, ENDED) else None

    def attempt(self, command: RunStep) -> history.Event:
        """Run the function of a step; the event that says what came of it."""
        step = command.step
        args, kwargs = command.args, command.kwargs
        if args is None or kwargs is None:
            args, kwargs = step.arguments.decode(command.arguments, step.name)
        site = str(command.site)
        try:
            value = run_now(step.fn(*args, **kwargs))
            result = step.result.encode(value, f"result of step {step.name}")
        except Exception as error:
            delay = None
            if step.retry is not None:
                elapsed = (self.now - (command.first_at or self.now)) / SECOND
                delay = step.retry.decide(error, command.attempt, elapsed, self.random)
            return history.StepFailed(
                self.now,
                command.cmd,
                step.name,
                encode_failure(failure_of(error)),
                command.fingerprint,
                0,
                1,
                site,
                command.attempt,
                None if delay is None else self.now + round(delay * SECOND),
            )
        return history.StepCompleted(
            self.now,
            command.cmd,
            step.name,
            result,
            command.fingerprint,
            0,
            1,
            site,
            command.attempt,
        )

    def park_now(self) -> None:
        """A run that goes to sleep writes down what it sleeps for."""
        for cmd, (_, command) in sorted(self.under_way.items()):
            if isinstance(command, StartTimer) and cmd not in self.promised:
                self.promised.add(cmd)
                event = history.TimerStarted(
                    self.now, cmd, command.name, command.due, str(command.site)
                )
                self.record(event)
        for cmd, wait in sorted(self.waits.items()):
            if wait.kind != "input" and cmd not in self.promised:
                self.promised.add(cmd)
                self.record(
                    history.WaitStarted(
                        self.now,
                        cmd,
                        wait.name,
                        wait.kind,
                        list(wait.names),
                        wait.mode,
                        wait.key,
                        wait.due,
                        str(wait.site),
                    )
                )

    def something_else(self) -> history.Event:
        """What the engine has no use for, at a time that may be later than the last event's."""
        self.now += self.random.choice((0, 1))
        if self.random.random() < 0.5:
            return history.Recovered(self.now, 1, 2)
        self._messages += 1
        return history.EventReceived(self.now, "noise", ANY.encode(None, ""), self._messages)

    def finish(self) -> Recording:
        """Drive the run to its end, and let it go."""
        while self.step_forward():
            if len(self.recording.rows) > MOST_EVENTS:
                message = f"more than {MOST_EVENTS} events"
                raise Stuck(message)
        ending, recording = self.ending, self.recording
        if isinstance(ending, CompleteRun):
            recording.outcome = self.workflow.result.decode(ending.result, "result")
            self.record(history.RunCompleted(self.now, ending.result))
        elif isinstance(ending, ContinueRun):
            recording.outcome = ending
        elif ending is not None:
            recording.failed = True
            recording.outcome = decode_failure(ending.failure)
            self.record(history.RunFailed(self.now, ending.failure))
        else:
            recording.outcome = Stuck("nothing is under way")
        self.instance.discard()
        self.made.remove(self)
        return recording


def live(workflow: Workflow[Any, Any], input: Any = None, **options: Any) -> Recording:
    """Run a workflow to its end; see `Driver`."""
    return Driver(workflow, input, **options).finish()


def result(workflow: Workflow[Any, Any], input: Any = None, **options: Any) -> Any:
    """What a workflow returns; every replay must be alike."""
    recording = live(workflow, input, **options)
    assert not recording.failed, recording.outcome
    assert not isinstance(recording.outcome, Stuck), recording.outcome
    assert same_on_replay(workflow, recording)
    return recording.outcome


def failure(workflow: Workflow[Any, Any], input: Any = None, **options: Any) -> Any:
    """The `Failure` with which a workflow ends; every replay must be alike."""
    recording = live(workflow, input, **options)
    assert recording.failed, recording.outcome
    assert same_on_replay(workflow, recording)
    return recording.outcome


# -- replaying


def replay(
    workflow: Workflow[Any, Any],
    rows: Sequence[EventRow],
    *,
    run_id: str = "run",
    evict_at: int | None = None,
    goes_on: bool = False,
) -> Trace:
    """The commands that a history leads to, or its first `evict_at` events, after which the run is evicted.

    A patch is told only where it is taken live: see `without_patches`. With `goes_on` it is known there what
    comes after `evict_at`, so that a run which has gone the old way of a patch still does.
    """
    known, rows = rows, rows[:evict_at]
    last = len(known if goes_on else rows) - 1
    instance, trace = Instance(workflow, run_id), []
    try:
        for place, row in enumerate(rows):
            if row.type in BEGINNINGS:
                instance.discard()
                instance = Instance(workflow, run_id)
                instance.patches = _patches(known if goes_on else rows, place)
            instance.live = place == last
            trace.append([tell(command) for command in instance.apply(decode_event(row))])
    finally:
        instance.discard()
    return trace


BEGINNINGS = {
    history.RunStarted.code,
    history.ContinuedAsNew.code,
    history.RunRetried.code,
}
"""The first events of generations."""


def _patches(rows: Sequence[EventRow], first: int) -> frozenset[str]:
    """Patches that the generation which begins with row number `first` has taken."""
    found = set()
    for row in rows[first + 1 :]:
        if row.type in BEGINNINGS:
            break
        if row.type == history.Patched.code:
            found.add(row.name or "")
    return frozenset(found)


def without_patches(trace: Trace) -> Trace:
    """A trace without what only a live run asks for."""
    return [[told for told in commands if told[0] != "patched"] for commands in trace]


def same_on_replay(workflow: Workflow[Any, Any], recording: Recording) -> bool:
    """Whether a replay in one go and an eviction at every event lead to the same commands as the live run."""
    return difference(workflow, recording) is None


def difference(workflow: Workflow[Any, Any], recording: Recording) -> str | None:
    """The first difference between the live run and a replay of any prefix, or None."""
    rows, told = recording.rows, without_patches(recording.trace)
    whole = without_patches(replay(workflow, rows, run_id=recording.run_id))
    if whole != told:
        return f"replayed: {first_difference(told, whole)}"
    for length in range(1, len(rows)):
        if length in recording.inseparable:
            continue
        again = replay(workflow, rows, run_id=recording.run_id, evict_at=length)
        again = without_patches(again)
        if again != told[:length]:
            return f"evicted after {length} events: {first_difference(told[:length], again)}"
    return None


def first_difference(expected: Trace, found: Trace) -> str:
    """Where two traces part."""
    for number, (one, other) in enumerate(zip(expected, found, strict=False), 1):
        if one != other:
            return f"at event {number}\n  live   {one}\n  replay {other}"
    return f"{len(expected)} events live, {len(found)} on replay"


def digest(trace: Trace) -> str:
    """A trace in sixteen characters, the same in every process."""
    return hashlib.blake2b(repr(without_patches(trace)).encode(), digest_size=8).hexdigest()
