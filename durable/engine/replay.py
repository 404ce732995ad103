"""Matching what the code asked for with what history says."""

from __future__ import annotations

from durable.engine.child import ChildOperation
from durable.engine.operations import Operation, StepOperation
from durable.errors import NondeterminismError
from durable.model.history import CommandEvent, Kind


def check(
    run_id: str, event: CommandEvent, found: Operation | None, issued: int, warnings: list[str]
) -> Operation:
    """The operation that `event` belongs to; `NondeterminismError` when the code asked for something else.

    `issued` is how many commands the code has issued so far. `warnings` gets what does not stop the run.
    """
    if found is None:
        code = (
            "asks for nothing here"
            if event.cmd > issued
            else "has dropped what it asked for, or that has ended already"
        )
        raise _mismatch(run_id, event, code)
    kind = event.kind
    if found.kind != kind or not _same_name(kind, event, found):
        raise _mismatch(run_id, event, f"asks for {_describe(found)}")
    recorded = getattr(event, "fingerprint", None)
    if (
        recorded is not None
        and isinstance(found, StepOperation | ChildOperation)
        and recorded != found.command.fingerprint
    ):
        mode = found.command.step.fingerprint if isinstance(found, StepOperation) else "strict"
        _other_arguments(run_id, event, found, mode, warnings)
    return found


def _same_name(kind: Kind, event: CommandEvent, found: Operation) -> bool:
    """Timers are named by what asyncio wants them for, and reports of children by nothing."""
    if kind == "timer":
        return True
    name = getattr(event, "name", None)
    return name is None or name == found.name


def _other_arguments(
    run_id: str, event: CommandEvent, found: Operation, mode: str, warnings: list[str]
) -> None:
    """A step has other arguments than its history: do what it wants to be done about that."""
    code = f"{_describe(found)} with other arguments"
    if mode == "strict":
        raise _mismatch(run_id, event, f"asks for {code}")
    if mode == "warn":
        warnings.append(
            f"run {run_id}: at command {event.cmd} the code asks for {code} than its history has; "
            "the recorded result is used"
        )


def _describe(operation: Operation) -> str:
    return f"{operation.kind} {operation.name} ({operation.site})"


def _mismatch(run_id: str, event: CommandEvent, code: str) -> NondeterminismError:
    recorded = f"{event.kind} {getattr(event, 'name', '')}".rstrip()
    site = getattr(event, "site", "")
    message = (
        f"run {run_id} cannot go on: the code no longer matches its history at command {event.cmd}: "
        f"history has {recorded}{f' ({site})' if site else ''}, the code {code}"
    )
    return NondeterminismError(message, command=event.cmd)
