"""`replay` tells whether the code of a workflow asks for what a recorded history says, event for event.

The engine is the one that workers use. A new generation (`continue_as_new`, a retry of the whole run) is
replayed by itself, as a worker would, and its end is compared with what history says of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from durable.engine.instance import Instance
from durable.errors import DurableError, NondeterminismError, PayloadError
from durable.model import history
from durable.model.commands import ENDINGS, CancelRun, CompleteRun, ContinueRun, Ending, FailRun
from durable.model.failure import decode_failure
from durable.model.history import NAMES
from durable.model.history_file import HistoryFile, load_history
from durable.model.payload import ANY
from durable.model.records import HistoryEvent
from durable.model.runnable import Runnable, Workflow
from durable.model.wire import EventRow, decode_event
from durable.worker.explaining import explained

History: TypeAlias = "Sequence[HistoryEvent] | HistoryFile | str | Path"
"""What `client.history` gives (all of it), the text of a history file, or where the file is."""

_GENERATIONS: Final = frozenset({history.ContinuedAsNew.code, history.RunRetried.code})
_ENDS: Final = frozenset(
    {history.RunCompleted.code, history.RunFailed.code, history.RunCancelled.code}
)

_BOM: Final = "\ufeff"
"""What some editors put in front of a text."""
_SHOWN: Final = 200
"""Characters of a value in an explanation."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a replay."""

    ok: bool
    explanation: str
    """For people: what was replayed, or where the code and history part, and what to do."""

    def __bool__(self) -> bool:
        return self.ok


def replay(workflow: Runnable[Any, Any], history: History, /) -> Report:
    """Whether the code of `workflow` goes the way of a recorded history, and if not, where they part.

    A history of another workflow, or of another version of it, is none that the code goes on with. No step runs,
    nothing is sent. `PayloadError` when the history is none, or cannot be read.
    """
    file = read_history(history)
    if not isinstance(workflow, Workflow):
        message = f"{workflow.name} has no code that is replayed: only workflows have"
        raise DurableError(message)
    stranger = _of_another(workflow, file)
    if stranger is not None:
        return Report(ok=False, explanation=stranger)
    parting = part(workflow, file)
    if parting is not None:
        return Report(ok=False, explanation=parting.explain())
    return Report(ok=True, explanation=f"run {file.run_id}: {len(file.rows)} events replayed alike")


def _of_another(workflow: Workflow[Any, Any], file: HistoryFile) -> str | None:
    """Why no worker with this code would take the run up; None: one would."""
    begun, run = _begun(file), f"run {file.run_id}"
    if begun.name != workflow.name:
        return (
            f"{run} cannot go on: it is of workflow {begun.name}, and this code of workflow {workflow.name}: "
            f'keep the name, @workflow(name="{begun.name}")'
        )
    if begun.version != workflow.version:
        return (
            f"{run} cannot go on: it is of version {begun.version} of workflow {begun.name}, and this is "
            f"{_version(workflow)}: "
            f"keep @workflow(version={begun.version}) beside it for as long as runs of that are open"
        )
    return None


def _version(workflow: Workflow[Any, Any]) -> str:
    return f"version {workflow.version}" if workflow.pinned else "code without a version"


@dataclass(frozen=True, slots=True)
class Parting:
    """Code and history go different ways."""

    workflow: Workflow[Any, Any]
    run_id: str
    rows: Sequence[EventRow]
    error: NondeterminismError

    def explain(self) -> str:
        """Say where, and what is likely to have happened: the generation is replayed once more for that."""
        return str(explained(self.error, self.workflow, self.run_id, self.rows))


def part(workflow: Workflow[Any, Any], file: HistoryFile) -> Parting | None:
    """Where the code of `workflow` leaves the way of a history; None: nowhere."""
    workflow.resolve()
    for rows, follows in _generations(file.rows):
        try:
            _replay_one(workflow, file.run_id, rows, follows)
        except NondeterminismError as error:
            return Parting(workflow, file.run_id, rows, error)
    return None


def assert_replays(workflow: Runnable[Any, Any], history: History, /) -> None:
    """`AssertionError` with the explanation where `replay` finds that code and history part."""
    report = replay(workflow, history)
    if not report.ok:
        raise AssertionError(report.explanation)


def read_history(history: History) -> HistoryFile:
    """A history from wherever it is, from its start. `PayloadError` when it is none."""
    if isinstance(history, HistoryFile):
        file = history
    elif isinstance(history, Path):
        file = load_history(_text(history))
    elif isinstance(history, str):
        text = history.removeprefix(_BOM)
        if not text.lstrip().startswith("{"):
            return read_history(Path(history))
        file = load_history(text)
    else:
        file = _told_by_client(history)
    _begun(file)
    return file


def _text(path: Path) -> str:
    """What a file holds, also one that was edited and saved with a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path} is no history: it is not text in UTF-8 ({error}), save it as such"
        raise PayloadError(message) from error


def _told_by_client(events: Sequence[HistoryEvent]) -> HistoryFile:
    rows = [event.row for event in events if isinstance(event.row, EventRow)]
    if not rows or len(rows) < len(events) or rows[0].seq != 1:
        message = (
            "a history to be replayed is what client.history(id) gives, from its first event on"
        )
        raise DurableError(message)
    return HistoryFile(rows[0].name or "", "replayed", rows)


def _begun(file: HistoryFile) -> history.RunStarted:
    """The first event. `PayloadError` when it is another one, or there is none."""
    first = decode_event(file.rows[0]) if file.rows else None
    if isinstance(first, history.RunStarted):
        return first
    found = "it has no events" if first is None else f"it begins with {type(first).__name__}"
    message = (
        f"the history of run {file.run_id} cannot be replayed: {found}, and not with RunStarted: "
        "export it again, all of it"
    )
    raise PayloadError(message)


def workflow_of(file: HistoryFile, modules: Sequence[str]) -> Workflow[Any, Any]:
    """The workflow of a history: `module:name` stands in the file, or its module in the configuration.

    `DurableError` where it is in neither, or its module cannot be imported.
    """
    named, _, attribute = file.workflow.rpartition(":")
    if named:
        found = getattr(_imported(named), attribute, None)
        if isinstance(found, Workflow):
            return found  # pyright: ignore[reportUnknownVariableType]
        message = f"the history of run {file.run_id} is of {file.workflow}, which is no workflow"
        raise DurableError(message)
    version = _begun(file).version
    known = [each for module in modules for each in _workflows(module) if each.name == attribute]
    for workflow in known:
        if workflow.version == version:
            return workflow
    told = f"the history of run {file.run_id} is of"
    if known:
        has = ", ".join(dict.fromkeys(map(_version, known)))
        message = (
            f"{told} version {version} of workflow {attribute}, of which {list(modules)} have {has}: "
            f"keep @workflow(version={version}) there, or remove the history when no run of that is open any more"
        )
    else:
        message = (
            f"{told} workflow {attribute}, which is not in {list(modules)}: "
            "name its module in durable_workflows of pytest's configuration"
        )
    raise DurableError(message)


def _workflows(module: str) -> Iterator[Workflow[Any, Any]]:
    for found in vars(_imported(module)).values():
        if isinstance(found, Workflow):
            yield found


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception as error:
        message = (
            f"the workflows of module {module} are wanted for the replay of histories, but it cannot be imported "
            f"({type(error).__name__}: {error}): its folder must be on the path, see `pythonpath` in pytest's configuration"
        )
        raise DurableError(message) from error


def _generations(
    rows: Sequence[EventRow],
) -> Iterator[tuple[Sequence[EventRow], EventRow | None]]:
    """Each with the event that follows on its end, if one does."""
    starts = [0, *(place for place, row in enumerate(rows) if row.type in _GENERATIONS and place)]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        last = rows[end - 1]
        if end < len(rows):
            yield rows[start:end], rows[end]
        elif last.type in _ENDS:
            yield rows[start : end - 1], last
        else:
            yield rows[start:end], None


def _replay_one(
    workflow: Workflow[Any, Any], run_id: str, rows: Sequence[EventRow], follows: EventRow | None
) -> None:
    instance = Instance(workflow, run_id)
    instance.expect(rows)
    try:
        ending = instance.replay(lambda: _apply(instance, rows, is_open=follows is None))
        if follows is not None:
            _compare(run_id, ending, follows)
    finally:
        instance.discard()


def _apply(instance: Instance, rows: Iterable[EventRow], *, is_open: bool) -> Ending | None:
    """Apply the events; how the code has ended by then."""
    rows = list(rows)
    ending: Ending | None = None
    for row in rows:
        if is_open and row is rows[-1]:
            instance.live = True
        for command in instance.apply(decode_event(row)):
            if isinstance(command, ENDINGS):
                ending = command
    return ending


def _compare(run_id: str, ending: Ending | None, follows: EventRow) -> None:
    """The end that the code came to, and the one that history has."""
    recorded = decode_event(follows)
    if ending is not None and _told(ending) == _recorded(recorded):
        return
    raise NondeterminismError(
        f"run {run_id} ends otherwise: the code no longer matches its history at event {follows.seq}\n"
        f"  history  {NAMES[follows.type]} {_shown(_recorded(recorded))}\n"
        f"  code     {'goes on' if ending is None else _shown(_told(ending))}\n"
        "  likely   what comes after the last recorded call has changed"
    )


def _told(ending: Ending) -> tuple[object, ...]:
    match ending:
        case CompleteRun():
            return "completed", ending.result
        case FailRun():
            return ending.status, decode_failure(ending.failure).type
        case CancelRun():
            return ending.status, None
        case ContinueRun():
            return "continued", ending.input


def _recorded(event: history.Event) -> tuple[object, ...]:
    match event:
        case history.RunCompleted():
            return "completed", event.result
        case history.RunFailed():
            return event.status, decode_failure(event.failure).type
        case history.RunCancelled():
            return event.status, None
        case history.ContinuedAsNew() | history.RunRetried():
            return "continued", event.input
        case _:
            raise AssertionError(event)


def _shown(end: tuple[object, ...]) -> str:
    what, detail = end
    if isinstance(detail, bytes):
        detail = repr(ANY.decode(detail, "the end of a run"))
        return f"{what} with {detail if len(detail) <= _SHOWN else detail[:_SHOWN] + '...'}"
    return str(what) if detail is None else f"{what} with {detail}"
