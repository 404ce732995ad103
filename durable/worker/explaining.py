"""Says how the code of a run no longer fits its history: both side by side, what is likely to have happened, what to do.

The run is replayed once more for that, with everything that the code asks for written down and the guard looking.
"""

from __future__ import annotations

import difflib
import linecache
import logging
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from durable.engine.instance import Instance
from durable.errors import Failure, NondeterminismError, RunTimeout
from durable.model.commands import (
    Command,
    ContinueRun,
    FailRun,
    RunStep,
    Send,
    SetState,
    Site,
    StartChild,
    StartTimer,
    StartWait,
)
from durable.model.failure import decode_failure
from durable.model.wire import EventRow, decode_event
from durable.worker.guard import Look, Sighting, is_installed
from durable.worker.unrepeatable import LOG

if TYPE_CHECKING:
    from durable.model.runnable import Workflow

_log = logging.getLogger("durable.worker")
_BEFORE: Final = 3
"""Calls that are shown before the one that does not fit."""
_AFTER: Final = 4
_MOST_SEEN: Final = 5
_MOST_LOOKED_AT: Final = 2_000
"""Events of a history that is replayed with the guard looking, which makes it several times as slow."""
_WIDEST: Final = 48
"""Characters of a call."""
_LONGEST: Final = 120
"""Characters of an exception's message."""
_TIMED_OUT: Final = f"{RunTimeout.__module__}:{RunTimeout.__qualname__}"
"""Not raised by the code: the time of the run was up."""
_LIBRARIES: Final = (__file__.rpartition("worker")[0], sysconfig.get_path("stdlib"), "<")
"""How files begin that are not the user's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call: what history says was asked for, or what the code asks for."""

    kind: str
    name: str
    place: str
    site: Site | None = None
    """Of what the code asks for."""

    @property
    def what(self) -> str:
        """What makes it the same as another one, as far as it can be told by looking."""
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that left the code while it was replayed, and the user's line that it came from."""

    name: str
    message: str
    place: str

    def __str__(self) -> str:
        what = f"{self.name}: {self.message}" if self.message else self.name
        return f"{what} at {self.place}" if self.place else what


def explained(
    error: NondeterminismError,
    workflow: Workflow[Any, Any],
    run_id: str,
    rows: Sequence[EventRow],
) -> NondeterminismError:
    """The same error, with all that can be said about it; `rows` are what was replayed when it was raised.

    Raises nothing: who cannot be explained is blocked all the same.
    """
    if error.command is None:
        return error
    try:
        text = _explanation(error.command, workflow, run_id, rows)
    except Exception:
        _log.exception("run %s: why it cannot go on could not be explained", run_id)
        return error
    return NondeterminismError(text, command=error.command)


def _explanation(
    command: int, workflow: Workflow[Any, Any], run_id: str, rows: Sequence[EventRow]
) -> str:
    code = _Replayed(workflow, run_id, rows)
    told = _Told(command, _asked_by_history(rows), code.asked, code.raised, _mentioned(workflow.fn))
    unrepeatable = [sighting for sighting in code.seen if sighting.kind is not LOG]
    lines = [
        f"run {run_id} cannot go on: the code no longer matches its history at command {command}",
        "",
        *told.columns(),
        "",
        f"  likely  {told.cause()}",
        *(f"  seen    {sighting}" for sighting in unrepeatable[:_MOST_SEEN]),
        "  mend    " + told.mend().replace("\n", "\n          "),
        "The run stays open and is tried again by a worker with other code.",
    ]
    return "\n".join(lines)


# -- what was asked for


def _asked_by_history(rows: Sequence[EventRow]) -> dict[int, Asked]:
    """By number. What was awaited and answered without a word before is not there."""
    found: dict[int, Asked] = {}
    for row in rows:
        event = decode_event(row)
        kind, cmd = getattr(event, "kind", None), getattr(event, "cmd", None)
        if kind is None or cmd is None:
            continue
        known = found.get(cmd)
        name, place = getattr(event, "name", ""), getattr(event, "site", "")
        if known is None:
            found[cmd] = Asked(kind, name, place)
        elif not known.place or not known.name:
            found[cmd] = Asked(kind, known.name or name, known.place or place)
    return found


class _Replayed:
    """What the code asks for, by number; what the guard saw meanwhile; and with what exception the code ended."""

    def __init__(self, workflow: Workflow[Any, Any], run_id: str, rows: Sequence[EventRow]) -> None:
        self.asked: dict[int, Asked] = {}
        self.raised: Raised | None = None
        self._file = workflow.fn.__code__.co_filename
        look = Look(raises=False)
        instance = Instance(workflow, run_id)
        instance.expect(rows)
        try:
            if len(rows) <= _MOST_LOOKED_AT:
                look.over(lambda: instance.replay(lambda: self._apply(instance, rows)))
            else:
                instance.replay(lambda: self._apply(instance, rows))
        except Exception:  # noqa: S110  it is what is being explained
            pass
        finally:
            instance.discard()
        self.seen: Sequence[Sighting] = tuple(look.seen.values())

    def _apply(self, instance: Instance, rows: Sequence[EventRow]) -> None:
        for row in rows:
            instance.live = row is rows[-1]
            for command in instance.apply(decode_event(row)):
                self._note(command)

    def _note(self, command: Command) -> None:
        asked = _asked(command)
        if asked is not None:
            self.asked.setdefault(command.cmd, asked)  # type: ignore[union-attr]
        elif isinstance(command, FailRun | ContinueRun) and command.failure is not None:
            failure = decode_failure(command.failure)
            if failure.type != _TIMED_OUT:
                self.raised = _raised(failure, self._file)


def _raised(failure: Failure, file: str) -> Raised:
    """Of a group, its first member: that is what went wrong."""
    while failure.exceptions:
        failure = failure.exceptions[0]
    message = failure.message.partition("\n")[0]
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 3] + "..."
    name = re.split(r"[:.]", failure.type)[-1]
    return Raised(name, message, _place_in(failure.traceback, file))


def _place_in(traceback: str, file: str) -> str:
    """The innermost line in it that is the user's, whose workflow is in `file`."""
    lines: list[tuple[str, str]] = re.findall(
        r'^  File "(.+)", line (\d+)', traceback, re.MULTILINE
    )
    for path, line in reversed(lines):
        if path == file or not (path.startswith(_LIBRARIES) or is_installed(path)):
            return f"{path.replace(chr(92), '/').rpartition('/')[2]}:{line}"
    return ""


def _asked(command: Command) -> Asked | None:
    match command:
        case RunStep():
            kind = "step" if command.undoes is None else "undo"
            return Asked(kind, command.step.name, str(command.site), command.site)
        case StartTimer() | StartWait() | Send() | StartChild() | SetState():
            return Asked(_kind(command), command.name, str(command.site), command.site)
        case _:
            return None


def _kind(command: StartTimer | StartWait | Send | StartChild | SetState) -> str:
    if isinstance(command, StartWait):
        return command.kind
    kinds: Mapping[type, str] = {
        StartTimer: "timer",
        Send: "message",
        StartChild: "child",
        SetState: "state",
    }
    return kinds[type(command)]


def _mentioned(fn: Any) -> frozenset[str]:
    """Names in the code of a function and of those of its module that it may call, and of what they stand for."""
    found: set[str] = set()
    done: set[CodeType] = set()
    waiting: list[tuple[CodeType, Mapping[str, Any]]] = [(fn.__code__, _surroundings(fn))]
    while waiting:
        code, known = waiting.pop()
        if code in done:
            continue
        done.add(code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                waiting.append((constant, known))
            elif isinstance(constant, str):
                found.add(constant)
        for name in (*code.co_names, *code.co_freevars):
            found.add(name)
            value = known.get(name)
            if isinstance(value, FunctionType) and value.__module__ == fn.__module__:
                waiting.append((value.__code__, _surroundings(value)))
            elif isinstance(getattr(value, "name", None), str):
                found.add(value.name)  # type: ignore[union-attr]
    return frozenset(found)


def _surroundings(fn: FunctionType) -> Mapping[str, Any]:
    """What the names in a function stand for."""
    cells: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:  # it is not bound yet
            continue
    return {**fn.__globals__, **cells}


# -- what is said of it


class _Told:
    """The place where both part, and what is to be seen around it."""

    def __init__(
        self,
        place: int,
        recorded: Mapping[int, Asked],
        code: Mapping[int, Asked],
        raised: Raised | None,
        mentioned: frozenset[str],
    ) -> None:
        self._place = place
        self._before = [
            (number, recorded.get(number), code.get(number))
            for number in sorted({*recorded, *code})
            if number < place
        ][-_BEFORE:]
        self._recorded = [(n, recorded[n]) for n in sorted(recorded) if n >= place]
        self._code = [(n, code[n]) for n in sorted(code) if n >= place]
        self._old = recorded[place]
        self._new = code.get(place)
        self._mentioned = mentioned
        asks_for_other = self._new is not None and self._new.what != self._old.what
        has_failed = self._old.kind == "undo"  # the run failed in its history, too
        self._raised = None if asks_for_other or has_failed else raised
        """Because of which the code does not come to what history has next, or gives it up."""

    # - side by side

    def columns(self) -> list[str]:
        """History to the left, the code to the right; what does not fit is marked."""
        table = [("", "", "history", "code")]
        table += [("", str(n), _shown(left), _shown(right)) for n, left, right in self._before]
        marked = False
        for number, left, right in self._aligned():
            mark = "" if marked else ">"
            marked = True
            table.append((mark, str(number), _shown(left), _shown(right)))
        width = max(len(left) for _, _, left, _ in table)
        return [
            f"{mark:1} {number:>4}  {left:{width}}  {right}".rstrip()
            for mark, number, left, right in table
        ]

    def _aligned(self) -> Iterator[tuple[int | str, Asked | None, Asked | None]]:
        left, right = self._recorded[:_AFTER], self._code[:_AFTER]
        matcher = difflib.SequenceMatcher(
            None, [one.what for _, one in left], [one.what for _, one in right], autojunk=False
        )
        for verb, i1, i2, j1, j2 in matcher.get_opcodes():
            size = max(i2 - i1, j2 - j1) if verb != "equal" else i2 - i1
            for offset in range(size):
                old = left[i1 + offset] if i1 + offset < i2 else None
                new = right[j1 + offset] if j1 + offset < j2 else None
                number = old[0] if old else ""
                yield number, old and old[1], new and new[1]

    # - why, and what to do

    @property
    def _is_still_there(self) -> bool:
        """What history has next is asked for later, or can be from what the code looks like."""
        later = any(one.what == self._old.what for _, one in self._code[1:])
        return later or self._old.name in self._mentioned

    @property
    def _comes_later(self) -> bool:
        """What the code asks for is what history has later."""
        return self._new is not None and any(
            one.what == self._new.what for _, one in self._recorded[1:]
        )

    def cause(self) -> str:
        """What is likely to have happened."""
        old, new = self._old.what, self._new and self._new.what
        if self._raised is not None:
            return f"the code raises {self._raised}, where history goes on with {old}"
        if new is None:
            if self._is_still_there:
                return f"{old} is not come to any more, or was given up at once"
            return f"{old} was removed"
        if new == old:
            return f"{old} gets other arguments, or calls of it were swapped"
        if self._comes_later:
            if self._is_still_there:
                return f"calls were reordered: {new} comes before {old} now"
            return f"{old} was removed"
        if self._is_still_there:
            return f"{new} was added before {old}"
        if self._new is not None and self._new.kind == self._old.kind:
            return f"{self._old.kind} {self._old.name} was renamed to {self._new.name}, or replaced by it"
        return f"{old} was replaced by {new}"

    def mend(self) -> str:
        """Code with which runs that are open go the way that they began."""
        old, new = self._old, self._new
        if self._raised is not None:
            return f"the line that raises; or, if it is meant to\n{self._either()}"
        if new is not None and old.what != new.what and not self._comes_later:
            if self._is_still_there:
                return f'if ctx.patched("add {new.name}"):\n    {self._source(new)}'
            if old.kind == new.kind == "step":
                return f'@step(name="{old.name}"), if it does the same; or else\n{self._either()}'
            return self._either()
        if new is not None and old.what == new.what and old.kind == "step":
            return (
                f'@step(fingerprint="warn"), if the old result will do; or else\n{self._either()}'
            )
        if not self._is_still_there:
            return f'if not ctx.patched("remove {old.name}"):\n    ...  # as it was: {_shown(old)}'
        return self._either()

    def _source(self, asked: Asked) -> str:
        """The line that asks for it, where that is all of it and asks for nothing else."""
        alone = sum(one.place == asked.place for _, one in self._code) == 1
        if alone and asked.site is not None:
            line = linecache.getline(asked.site.code.co_filename, asked.site.line).strip()
            if line.count("(") == line.count(")") and "await" in line:
                return line
        return f"...  # {_shown(asked)}"

    def _either(self) -> str:
        what = "the end" if self._new is None else _shown(self._new)
        if self._raised is not None:
            what = f"raise {self._raised.name}  {self._raised.place}".rstrip()
        return (
            f'if ctx.patched("change {self._old.name}"):\n    ...  # as it is: {what}\n'
            f"else:\n    ...  # as it was: {_shown(self._old)}"
        )


def _shown(asked: Asked | None) -> str:
    if asked is None:
        return ""
    what = asked.what if len(asked.what) <= _WIDEST else asked.what[: _WIDEST - 3] + "..."
    return f"{what}  {asked.place}".rstrip()
