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
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from types import CodeType, FrameType
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from durable.errors import NotAllowedInWorkflow
from durable.model.commands import Site
from durable.model.directives import directive_in
from durable.worker.unrepeatable import BY_MODULE, LOG, RANDOM, SEEDING, Kind, kind_of_call

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
        "importlib",
        "_frozen_importlib",
        "_frozen_importlib_external",
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
_SHOWN: Final = {
    "posix": "os",
    "_io": "io",
    "pathlib._local": "pathlib",
    "genericpath": "os.path",
    "posixpath": "os.path",
}


Place: TypeAlias = "tuple[str, int, str]"
"""A file, a line in it, and what is called there."""


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

    def watch(self, workflow: str) -> Watch:
        """The watch over the activations of a workflow."""
        found = self._watches.get(workflow)
        if found is None:
            found = self._watches[workflow] = Watch(self, workflow)
        return found

    def gap(self) -> float:
        """How many activations pass before the next one is watched."""
        return 0 if self.mode == "raise" else self._random.randrange(2 * EVERY - 1)

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
            if kind is not None:
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
    """Who called it, on which line; None where that is nobody's code but ours, or is meant to be."""
    user: FrameType | None = None
    above: FrameType | None = frame
    while above is not None:
        module: str = above.f_globals.get("__name__") or ""
        top = module.partition(".")[0]
        if top in _OURS:
            break
        if top in _HARMLESS or _is_collecting(above.f_code):
            return None
        kind = BY_MODULE.get(top, kind)
        if top not in sys.stdlib_module_names:
            user = above
            if not _is_installed(above):
                break
        elif user is None:
            called = _full_name(module, above.f_code.co_qualname)
        above = above.f_back
    if user is None or _is_meant(user, kind):
        return None
    return Sighting(kind, f"{called}()", Site(user.f_code, user.f_lineno))


def _is_collecting(code: CodeType) -> bool:
    """Called by the garbage collector, whatever happens to run at that time."""
    return code.co_name == "__del__" or any(
        getattr(callback, "__code__", None) is code for callback in gc.callbacks
    )


def _is_installed(frame: FrameType) -> bool:
    """Code of a package that others wrote: the line that called it says more."""
    return "site-packages" in frame.f_code.co_filename


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


def _is_meant(frame: FrameType, kind: Kind) -> bool:
    """Whether a comment on the line says `# durable: ignore`, as to the linter."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
    found = directive_in(line)
    return found is not None and (found.codes is None or kind.code in found.codes)
