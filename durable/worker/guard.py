"""The guard: sees workflow code call what no replay can repeat, and says so at the line that does it.

It is a profile function of the interpreter that is set while an activation runs, so it sees every call however
the name came there (`from datetime import datetime`), and no module is changed or imported anew. That costs
several times the activation, so a worker in production looks at the first activations of each workflow
and then at one of some, at random; in tests at every one.
"""

from __future__ import annotations

import gc
import linecache
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, get_args

from durable.engine.instance import Instance
from durable.errors import NotAllowedInWorkflow
from durable.model.commands import Site
from durable.model.directives import directive_in
from durable.worker.unrepeatable import (
    BY_MODULE,
    LOG,
    RANDOM,
    SEEDING,
    Kind,
    is_given_a_time,
    kind_of_call,
)

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
GuardMode: TypeAlias = Literal["off", "warn", "raise"]
MODES: Final[tuple[GuardMode, ...]] = get_args(GuardMode)

FIRST: Final = 100
"""Activations of a workflow that are all watched."""
EVERY: Final = 32
"""After them, one of so many on average."""

_OURS: Final = frozenset({"durable", "durable_testing"})
_HARMLESS: Final = frozenset(
    [
        "linecache",
        "tokenize",
        "traceback",
        "warnings",
        "inspect",
        "zoneinfo",
        "pkgutil",
        "encodings",
    ]
)
"""Modules that read files which are the same on every replay: code, and the data that belongs to it."""
_IMPORTING: Final = frozenset({"importlib", "_frozen_importlib", "_frozen_importlib_external"})
"""What they run is run once in a process, for whoever is the first: it is nothing that a workflow does."""
_WRITES_LOGS: Final = frozenset({"logging", "structlog"})
"""They call formatters and handlers, which belong to the log whoever wrote them."""
_DRIVES: Final = Instance.apply.__code__
_SHOWN: Final = {
    "posix": "os",
    "_io": "io",
    "pathlib._local": "pathlib",
    "genericpath": "os.path",
    "posixpath": "os.path",
}


Place: TypeAlias = "tuple[str, int, str]"
"""A file, a line in it, and what is called there."""
Line: TypeAlias = "tuple[Site, dict[str, Any]]"
"""A line that runs, and the names of its module."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A call that no replay can repeat, and the line of the user's that made it."""

    kind: Kind
    what: str
    site: Site

    @property
    def place(self) -> Place:
        """What makes it the same as another one."""
        return self.site.code.co_filename, self.site.line, self.what

    def __str__(self) -> str:
        return (
            f"{self.what} at {self.site} in a workflow {self.kind.happens}: {self.kind.write}"
            f" ({self.kind.code})"
        )


class Guard:
    """What is done in one worker about calls that no replay can repeat.

    `warn` gets each line once. `raise` raises `NotAllowedInWorkflow` there and, should the code catch it,
    again when the activation ends: the run is blocked until other code drives it, and nothing is lost.
    """

    def __init__(self, mode: GuardMode, warn: Callable[[str], object]) -> None:
        self.mode = mode
        self._warn = warn
        self._random = Random()  # the same one of every `EVERY` might always miss the same line
        self._watches: dict[str, Watch] = {}
        self._is_blind = False

    def watch(self, workflow: str) -> Watch:
        """The watch over the activations of a workflow."""
        found = self._watches.get(workflow)
        if found is None:
            found = self._watches[workflow] = Watch(self, workflow)
        return found

    def gap(self) -> float:
        """How many activations pass before the next one is watched."""
        return 0 if self.mode == "raise" else self._random.randrange(2 * EVERY - 1)

    def blinded(self) -> None:
        """Another profiler has the place: told once, and where lines are errors, as a warning of Python too.

        Not an error: whoever measures workflows needs both.
        """
        if self._is_blind:
            return
        self._is_blind = True
        message = (
            f"the guard of workflow code (guard={self.mode!r}) is off: another profiler is set with sys.setprofile, "
            "which has room for one; what no replay can repeat is not seen until that one is gone"
        )
        self._warn(message)
        if self.mode == "raise":
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def tell(self, workflow: str, sighting: Sighting) -> None:
        """A line was seen for the first time."""
        self._warn(f"workflow {workflow}: {sighting}")


class Watch:
    """The guard over one workflow; `seen` are the lines that it found, each once."""

    __slots__ = ("_first", "_guard", "_pass", "_workflow", "seen")

    def __init__(self, guard: Guard, workflow: str) -> None:
        self._guard = guard
        self._workflow = workflow
        self._first = FIRST
        self._pass: float = math.inf if guard.mode == "off" else 0
        """Activations that are not looked at, before the next one that is."""
        self.seen: dict[Place, Sighting] = {}

    def run(self, activate: Callable[[Any], T], event: Any) -> T:
        """Run an activation, and look at it when it is its turn."""
        if self._pass:
            self._pass -= 1
            return activate(event)
        if sys.getprofile() is not None:
            self._guard.blinded()
            return activate(event)
        if self._first:
            self._first -= 1
        else:
            self._pass = self._guard.gap()
        look = Look(raises=self._guard.mode == "raise")
        try:
            return look.over(lambda: activate(event))
        finally:
            for place in look.seen.keys() - self.seen.keys():
                self.seen[place] = look.seen[place]
                self._guard.tell(self._workflow, self.seen[place])


class Look:
    """One look at code that runs: what it calls that no replay can repeat."""

    def __init__(self, *, raises: bool) -> None:
        self.seen: dict[Place, Sighting] = {}
        self._raises = raises
        self._refused: NotAllowedInWorkflow | None = None

    def over(self, act: Callable[[], T]) -> T:
        """Run `act` and look; `NotAllowedInWorkflow` where it `raises`. Another profiler is left alone."""
        if sys.getprofile() is not None:
            return act()
        sys.setprofile(self._see)
        try:
            result = act()
        finally:
            sys.setprofile(None)
        if self._refused is not None:
            raise self._refused
        return result

    def _see(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call":
            kind = kind_of_call(function)
            if kind is not None and not is_given_a_time(function, frame):
                self._found(_sighting(kind, _name(function), frame))
        elif event == "call" and frame.f_code is SEEDING and frame.f_locals.get("a") is None:
            self._found(_sighting(RANDOM, "random.Random", frame))

    def _found(self, sighting: Sighting | None) -> None:
        if sighting is None:
            return
        self.seen.setdefault(sighting.place, sighting)
        if self._raises and sighting.kind is not LOG:
            self._refused = NotAllowedInWorkflow(str(sighting))
            raise self._refused


def _sighting(kind: Kind, called: str, frame: FrameType) -> Sighting | None:
    """Who called it, on which line; None where that is nobody's code but ours, or is meant to be.

    Everything from the call down to our code is looked at: what an import runs, or the collector, is not the
    workflow's, and what a formatter of a log does is part of the log, though it is the user's own code.
    """
    instance = _instance_below(frame)
    home = None if instance is None else instance.workflow.fn
    user: FrameType | None = None
    found = False  # `user` is of the user's own code, not of a package that he uses
    above: FrameType | None = frame
    while above is not None:
        module, top = _module_of(above)
        if top in _OURS:
            break
        if top in _IMPORTING or _is_collecting(above.f_code, top):
            return None
        if found and top in _WRITES_LOGS:
            kind = LOG
            user, found, called = None, False, _full_name(module, above.f_code.co_qualname)
        if not found:
            if top in _HARMLESS:
                return None
            kind = BY_MODULE.get(top, kind)
            if top not in sys.stdlib_module_names:
                user, found = above, _is_own(above, home)
            elif user is None:
                called = _full_name(module, above.f_code.co_qualname)
        above = above.f_back
    if user is None:
        return None
    site, names = _line(user) if found or instance is None else _asking(above, instance)
    return None if _is_meant(site, names, kind) else Sighting(kind, f"{called}()", site)


def _module_of(frame: FrameType) -> tuple[str, str]:
    """The name of the module whose code runs, and of the package that it belongs to."""
    module: str = frame.f_globals.get("__name__") or ""
    return module, module.partition(".")[0]


def _is_collecting(code: CodeType, top: str) -> bool:
    """Called by the garbage collector, whatever happens to run at that time."""
    return (
        code.co_name == "__del__"
        or top == "weakref"
        or any(getattr(callback, "__code__", None) is code for callback in gc.callbacks)
    )


# -- whose line it is


def _is_own(frame: FrameType, home: Callable[..., Any] | None) -> bool:
    """Code that the user wrote, as that of the workflow `home`: not of other packages, and not generated."""
    _, top = _module_of(frame)
    if top in _OURS or top in sys.stdlib_module_names:
        return False
    file = frame.f_code.co_filename
    if home is not None and file == home.__code__.co_filename:
        return True
    is_at_home = home is not None and top == home.__module__.partition(".")[0]
    return not file.startswith("<") and (is_at_home or not is_installed(file))


def is_installed(file: str) -> bool:
    """Code of a package that others wrote: the line that called it says more."""
    return "site-packages" in file or "dist-packages" in file


def _instance_below(frame: FrameType) -> Instance | None:
    """The run that is being driven."""
    below: FrameType | None = frame
    while below is not None:
        if below.f_code is _DRIVES:
            return below.f_locals["self"]  # type: ignore[no-any-return]
        below = below.f_back
    return None


def _line(frame: FrameType) -> Line:
    return Site(frame.f_code, frame.f_lineno), frame.f_globals


def _asking(frame: FrameType | None, instance: Instance) -> Line:
    """The line of the user's for which others' code was called, such as the model of an event.

    Where it was called while nobody's code ran, that is where the workflow waits, or else where it begins.
    """
    home = instance.workflow.fn
    while frame is not None and frame.f_code is not _DRIVES:
        if _is_own(frame, home):
            return _line(frame)
        frame = frame.f_back
    own = [each for each in _waiting(instance.function.main) if _is_own(each, home)]
    if own:
        return _line(own[-1])
    return Site(home.__code__, home.__code__.co_firstlineno), home.__globals__


def _waiting(task: asyncio.Task[Any] | None) -> Iterator[FrameType]:
    """Where a task waits: its own function, what that has called, and so on."""
    awaited: Any = task and task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


# -- as people read it


def _name(function: Any) -> str:
    owner = function.__self__
    if isinstance(owner, type):
        return f"{owner.__name__}.{function.__name__}"
    if isinstance(owner, Random):
        return f"random.{function.__name__}"
    return _full_name(function.__module__, function.__qualname__)


def _full_name(module: str | None, name: str) -> str:
    """As people write it: `random.choice` is a method, `os.listdir` is at home in another module."""
    if name == "Random.__init__":
        return "random.Random"
    shown = _SHOWN.get(module or "", module)
    name = name.removeprefix("Random.").removeprefix("SystemRandom.")
    return f"{shown}.{name}" if shown else name


def _is_meant(site: Site, names: dict[str, Any], kind: Kind) -> bool:
    """Whether a comment on the line says `# durable: ignore`, as to the linter."""
    line = linecache.getline(site.code.co_filename, site.line, names)
    found = directive_in(line)
    return found is not None and (found.codes is None or kind.code in found.codes)
