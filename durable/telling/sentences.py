"""Every event of a history as a person would say it; what each does not say stands in `--json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from durable.telling.story import Story
from durable.telling.words import clean, count, duration, moment, short

if TYPE_CHECKING:
    from durable.model.records import HistoryEvent

Teller: TypeAlias = Callable[["HistoryEvent", Story], str]

_DULL = {"fingerprint", "site", "version", "number"}
"""Parts of an event of which nobody says anything."""


def told(event: HistoryEvent, story: Story) -> str:
    """What the event says beyond its type, its command and its name; on one line."""
    teller = _TELLERS.get(event.type)
    return clean(_facts(event) if teller is None else teller(event, story))


def failure_in_words(failure: Mapping[str, Any] | None) -> str:
    """`CardDeclined: no funds`."""
    if failure is None:
        return ""
    name, message = str(failure.get("type", "")).rpartition(":")[2], failure.get("message")
    return f"{name}: {short(message)}" if message else name


def _facts(event: HistoryEvent) -> str:
    """Of a type from a newer version."""
    return ", ".join(f"{k}={short(v)}" for k, v in event.data.items() if k not in _DULL)


def _sentence(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _until(event: HistoryEvent, word: str = "until") -> str:
    """A time that lies after the event, and how far."""
    due = event.data.get("due")
    if not isinstance(due, datetime):
        return ""
    return f"{word} {moment(due)} ({duration(max(0.0, (due - event.at).total_seconds()))})"


def _reason(event: HistoryEvent) -> str:
    return f"reason: {event.data['reason']}" if event.data.get("reason") else ""


def _payload(event: HistoryEvent, name: str = "payload") -> str:
    value = event.data.get(name)
    return "" if value is None else short(value)


# -- the run


def _run_started(event: HistoryEvent, _: Story) -> str:
    data = event.data
    deadline: datetime | None = data.get("deadline")
    tags: Mapping[str, str] = data.get("tags") or {}
    return _sentence(
        f"input {_payload(event, 'input')}" if data.get("input") is not None else "",
        f"version {data['version']}" if data.get("version", 1) != 1 else "",
        f"on queue {data['queue']}" if data.get("queue", "default") != "default" else "",
        f"child of {data['parent_id']}" if data.get("parent_id") else "",
        f"must end by {moment(deadline)}" if deadline is not None else "",
        *(f"{key}={value}" for key, value in tags.items()),
    )


_UNDONE = {
    "compensated": "what it did is undone",
    "compensation_failed": "not everything could be undone",
}


def _run_failed(event: HistoryEvent, _: Story) -> str:
    return _sentence(
        failure_in_words(event.data.get("failure")), _UNDONE.get(str(event.data.get("status")), "")
    )


def _run_cancelled(event: HistoryEvent, _: Story) -> str:
    return _sentence(_reason(event), _UNDONE.get(str(event.data.get("status")), ""))


def _continued(event: HistoryEvent, story: Story) -> str:
    return _sentence(
        f"generation {story.generations.get(event.seq, '')} begins".replace("  ", " "),
        f"with {_payload(event, 'input')}" if event.data.get("input") is not None else "",
        *_taken_along(event),
    )


def _retried(event: HistoryEvent, _: Story) -> str:
    return _sentence(
        f"attempt {event.data.get('attempt')} of the whole run {_until(event, 'at')}",
        f"after {failure_in_words(event.data.get('failure'))}",
        *_taken_along(event),
    )


def _taken_along(event: HistoryEvent) -> list[str]:
    unread, children = event.data.get("unread") or (), event.data.get("children") or ()
    return [
        f"takes along {count(len(unread), 'unread event')}" if unread else "",
        f"{count(len(children), 'child', 'children')} still running" if children else "",
    ]


# -- steps, and what undoes them


def _attempt(event: HistoryEvent) -> str:
    number = event.data.get("attempt", 1)
    took = event.data.get("took")
    return _sentence(
        f"attempt {number}" if number > 1 or event.type.endswith("Failed") else "",
        f"took {duration(took / 1e6)}" if isinstance(took, int) else "",
    )


def _again(event: HistoryEvent) -> str:
    at = event.data.get("retry_at")
    if not isinstance(at, datetime):
        return "no further attempt"
    return f"again in {duration(max(0.0, (at - event.at).total_seconds()))}"


def _step_completed(event: HistoryEvent, _: Story) -> str:
    result = _payload(event, "result")
    return _sentence(f"result {result}" if result else "", _attempt(event))


def _step_failed(event: HistoryEvent, _: Story) -> str:
    return _sentence(failure_in_words(event.data.get("failure")), _attempt(event), _again(event))


def _undone(event: HistoryEvent, _: Story) -> str:
    result = _payload(event, "result")
    return _sentence(
        f"undid {event.data.get('step')}", f"result {result}" if result else "", _attempt(event)
    )


def _not_undone(event: HistoryEvent, story: Story) -> str:
    return _sentence(f"could not undo {event.data.get('step')}", _step_failed(event, story))


# -- waits, and what they wait for


_BETWEEN = {"any": " or ", "all": " and "}


def _wait_started(event: HistoryEvent, _: Story) -> str:
    data = event.data
    names = _BETWEEN.get(str(data.get("mode")), ", ").join(data.get("names", ()))
    return _sentence(
        f"waits for {data.get('kind')} {names}",
        f"under key {data['key']}" if data.get("key") is not None else "",
        _until(event),
    )


def _wait_timed_out(event: HistoryEvent, story: Story) -> str:
    if event.data.get("kind") != "child":
        return "nothing came in time"
    return f"child {_child(event, story)} did not end in time"


def _event_received(event: HistoryEvent, story: Story) -> str:
    key, taker = event.data.get("key"), story.takers.get(event.seq)
    return _sentence(
        _payload(event),
        f"published under key {key}" if key is not None else "",
        "kept for a wait to come" if taker is None else f"taken by wait {taker}",
    )


def _request_received(event: HistoryEvent, story: Story) -> str:
    taker = story.takers.get(event.seq)
    whom = "kept for a wait to come" if taker is None else f"taken by wait {taker}"
    return _sentence(f"request {event.data.get('number')} asks {_payload(event)}", whom)


def _request_answered(event: HistoryEvent, _: Story) -> str:
    rejected = event.data.get("rejected")
    if rejected is not None:
        return f"request {event.command} is rejected: {rejected}"
    return f"request {event.command} is answered: {short(event.data.get('answer'))}"


def _sent(event: HistoryEvent, _: Story) -> str:
    target, key = event.data.get("target"), event.data.get("key")
    refused = event.data.get("refused")
    if refused is not None:
        return f"run {target} {'has ended' if refused == 'ended' else 'does not exist'}: not sent"
    return f"published under key {key}" if target is None else f"sent to run {target}"


def _input_requested(event: HistoryEvent, _: Story) -> str:
    data = event.data
    labels = [str(choice[1]) for choice in data.get("choices") or ()]
    return _sentence(
        f"asks {', '.join(data['to'])}" if data.get("to") else "asks",
        f"for {data.get('kind')}",
        f"“{short(data['prompt'])}”" if data.get("prompt") else "",
        f"offers {' | '.join(labels)}" if labels else "",
        _until(event),
    ).replace(", for", " for", 1)


def _input_provided(event: HistoryEvent, _: Story) -> str:
    return f"{event.data.get('by') or 'somebody'} answered {short(event.data.get('payload'))}"


# -- children


def _child(event: HistoryEvent, story: Story) -> str:
    return story.children.get(event.command or 0, f"of command {event.command}")


def _child_started(event: HistoryEvent, _: Story) -> str:
    return _sentence(
        f"child {event.data.get('child_id')}",
        "goes on when this run ends" if event.data.get("abandoned") else "",
    )


def _child_completed(event: HistoryEvent, story: Story) -> str:
    result = _payload(event, "result")
    return _sentence(f"child {_child(event, story)} completed", result and f"result {result}")


_CHILD_ENDS = {
    "cancelled": "was cancelled",
    "terminated": "was terminated",
    "compensated": "failed, and what it did is undone",
    "compensation_failed": "failed, and not everything could be undone",
}


def _child_failed(event: HistoryEvent, story: Story) -> str:
    status = str(event.data.get("status"))
    return _sentence(
        f"child {_child(event, story)} {_CHILD_ENDS.get(status, status)}",
        failure_in_words(event.data.get("failure")),
        _reason(event),
    )


# -- from outside, and the rest


def _recovered(event: HistoryEvent, _: Story) -> str:
    return (
        f"worker {event.data.get('worker')} took over from {event.data.get('lost')}, which was lost"
    )


_SENTENCES: Final[Mapping[str, str]] = {
    "TimerFired": "is over",
    "WaitCancelled": "somebody ended the oldest wait of this name",
    "FollowerAdded": "another run waits for the end of this one",
    "Patched": "goes the new way",
    "DeadlinePassed": "its time-out has passed: it is cancelled",
    "CompensationStarted": "undoes what it has done",
    "Paused": "nothing new begins",
    "Resumed": "goes on",
    "Unblocked": "tried again with other code",
}
"""Events of which all is said by what they are."""

_TELLERS: Final[Mapping[str, Teller]] = {
    **dict.fromkeys(_SENTENCES, lambda event, _: _SENTENCES[event.type]),
    "RunStarted": _run_started,
    "RunCompleted": lambda event, _: f"result {short(event.data.get('result'))}",
    "RunFailed": _run_failed,
    "RunCancelled": _run_cancelled,
    "RunTerminated": lambda event, _: _reason(event),
    "RunRetried": _retried,
    "ContinuedAsNew": _continued,
    "StepCompleted": _step_completed,
    "StepFailed": _step_failed,
    "TimerStarted": lambda event, _: _until(event),
    "WaitStarted": _wait_started,
    "WaitTimedOut": _wait_timed_out,
    "EventReceived": _event_received,
    "MessageSent": _sent,
    "InputRequested": _input_requested,
    "InputProvided": _input_provided,
    "RequestReceived": _request_received,
    "RequestAnswered": _request_answered,
    "ChildStarted": _child_started,
    "ChildCompleted": _child_completed,
    "ChildFailed": _child_failed,
    "ChildRefused": lambda event, story: (
        f"run {_child(event, story)} is no child: its id was taken"
    ),
    "StateSet": lambda event, _: f"is {short(event.data.get('payload'))}",
    "CancelRequested": lambda event, _: _reason(event),
    "CompensationCompleted": _undone,
    "CompensationFailed": _not_undone,
    "Recovered": _recovered,
    "Blocked": lambda event, _: str(event.data.get("reason", "")).partition("\n")[0],
}
