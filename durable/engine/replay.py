"""Matching what the code asked for with what history says, and explaining where they part."""

from __future__ import annotations

from typing import Protocol

from durable.engine.operations import Operation, StepOperation
from durable.errors import NondeterminismError
from durable.model.commands import Site
from durable.model.history import Kind
from durable.model.steps import Fingerprint


class Recorded(Protocol):
    """An event that belongs to a command."""

    @property
    def kind(self) -> Kind: ...
    @property
    def cmd(self) -> int: ...
    @property
    def name(self) -> str: ...


def check(run_id: str, event: Recorded, found: Operation | None, issued: int) -> Operation:
    """The operation that `event` belongs to; `NondeterminismError` when the code asked for something else.

    `issued` is how many commands the code has issued so far.
    """
    if found is None:
        code = (
            "asks for nothing here"
            if event.cmd > issued
            else "asked for something that it has dropped or that has ended already"
        )
        raise _mismatch(run_id, event, code, "a call was removed, or its order changed")
    if found.kind != event.kind or (event.kind == "step" and found.name != event.name):
        cause = (
            "a step was renamed (keep its old name with @step(name=...)), or calls were inserted, "
            "removed or swapped"
        )
        raise _mismatch(run_id, event, _describe(found), cause)
    if _fingerprint_mode(event, found) == "strict":
        code = f"{_describe(found)} with other arguments"
        raise _mismatch(run_id, event, code, "an argument changed, or calls were swapped")
    return found


def other_arguments(run_id: str, event: Recorded, found: Operation) -> str | None:
    """The warning that a step with `fingerprint="warn"` asks for when its arguments are not the recorded ones."""
    if _fingerprint_mode(event, found) != "warn":
        return None
    return (
        f"run {run_id}: at command {event.cmd} the code asks for {_describe(found)} with other arguments "
        "than its history has; the recorded result is used"
    )


def _fingerprint_mode(event: Recorded, found: Operation) -> Fingerprint:
    """What the step wants to be done about its arguments; "ignore" where they are the recorded ones."""
    if not isinstance(found, StepOperation):
        return "ignore"
    recorded = getattr(event, "fingerprint", None)
    if recorded is None or recorded == found.command.fingerprint:
        return "ignore"
    return found.command.step.fingerprint


def _describe(operation: Operation) -> str:
    return f"{operation.kind} {operation.name}  {operation.site}"


def _mismatch(run_id: str, event: Recorded, code: str, cause: str) -> NondeterminismError:
    site: Site | str = getattr(event, "site", "")
    history = f"{event.kind} {event.name}"
    message = (
        f"run {run_id} cannot go on: the code no longer matches its history at command {event.cmd}\n"
        f"  history  {history}  {site}".rstrip()
        + "\n"
        f"  code     {code}\n"
        f"  likely   {cause}\n"
        "The run stays open and is tried again by a worker with other code."
    )
    return NondeterminismError(message)
