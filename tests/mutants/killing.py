"""Runs what must find a mutant, in a copy of the tree that has it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.bank import ROOT, Mutant

TEST_SECONDS: Final = 120
"""How long a test may take."""
SEED_SECONDS: Final = 20
"""How long the next seed may be awaited, on average over a campaign; most are played in a twentieth of one."""

_LEFT_OUT: Final = shutil.ignore_patterns(
    ".*", "__pycache__", "dist", "build", "*.egg-info", "verdicts.json"
)
_FOUND: Final = re.compile(r"^(?:FAILED|ERROR) \S+(?: - (?P<why>.*))?$", re.MULTILINE)
_BROKE: Final = re.compile(r"^seed (?P<seed>\d+) broke: (?P<why>.*)$", re.MULTILINE)
_FAILED: Final = 1
"""Pytest's exit code for tests that failed; others are of tests that could not be run."""


class Unrunnable(Exception):
    """A killer that does not exist, or cannot even begin: it finds nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a killer said."""

    killed: bool
    said: str
    """In its words, in one line."""
    seconds: float
    seed: int | None = None
    """Of the simulator: the first one that found it."""


class Tree:
    """A copy of the tree, in which one file at a time is another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writes = 0

    @contextmanager
    def with_(self, mutant: Mutant) -> Generator[None]:
        """The mutant is in it."""
        path = self.root / mutant.file
        original = path.read_text(encoding="utf-8")
        self._write(path, mutant.of(original))
        try:
            yield
        finally:
            self._write(path, original)

    def _write(self, path: Path, text: str) -> None:
        """Each time with a time of its own: by that and by the size, compiled files are told from stale ones."""
        path.write_text(text, encoding="utf-8")
        self._writes += 1
        moment = 1_000_000_000 + 10 * self._writes
        os.utime(path, (moment, moment))

    def judge(self, mutant: Mutant) -> Verdict:
        """Let the mutant's own killer judge this tree."""
        if mutant.test is not None:
            return self.test(mutant.test, hangs=mutant.hangs)
        return self.simulate(range(mutant.seeds), hangs=mutant.hangs)

    def judge_with(self, mutant: Mutant) -> Verdict:
        """The same, with the mutant in it."""
        with self.with_(mutant):
            return self.judge(mutant)

    def simulate_with(self, mutant: Mutant, *, seeds: Sequence[int]) -> Verdict:
        """Let the simulator look for it."""
        with self.with_(mutant):
            return self.simulate(seeds, hangs=True)

    def test(self, name: str, *, hangs: bool = False) -> Verdict:
        """Run one test. One that cannot be run finds nothing."""
        command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", name]
        done = self._run(command, TEST_SECONDS)
        if done.code is None:
            return Verdict(hangs, "it does not end", done.seconds)
        if done.code not in (0, _FAILED):
            raise Unrunnable(_in_a_line(done.output[-160:]))
        found = _FOUND.search(done.output)
        said = (found["why"] or "failed") if found else ""
        return Verdict(done.code == _FAILED, _in_a_line(said), done.seconds)

    def simulate(self, seeds: Sequence[int], *, hangs: bool = False) -> Verdict:
        """Play seeds of the simulator until one breaks an invariant."""
        command = ["-m", "tests.mutants.seeds", str(seeds[0]), str(len(seeds))]
        done = self._run(command, 60 + SEED_SECONDS * len(seeds) // 10)
        if done.code is None:
            return Verdict(hangs, "it does not end", done.seconds)
        found = _BROKE.search(done.output)
        if done.code and not found:
            raise Unrunnable(_in_a_line(done.output[-160:]))
        if found is None:
            return Verdict(killed=False, said="", seconds=done.seconds)
        return Verdict(
            killed=True,
            said=_in_a_line(found["why"]),
            seconds=done.seconds,
            seed=int(found["seed"]),
        )

    def _run(self, command: Sequence[str], limit: float) -> _Done:
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONHASHSEED": "0"}
        environment |= {"COLUMNS": "1000", "PYTHONPYCACHEPREFIX": str(self.root / ".compiled")}
        start = time.monotonic()
        with subprocess.Popen(
            [sys.executable, *command],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return _Done(None, "", time.monotonic() - start)
        return _Done(process.returncode, output, time.monotonic() - start)


@dataclass(frozen=True, slots=True)
class _Done:
    code: int | None
    """None: it had to be stopped."""
    output: str
    seconds: float


def _in_a_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:160] + "..."


@contextmanager
def copies(count: int) -> Iterator[list[Tree]]:
    """So many copies of the tree, while it lasts."""
    with tempfile.TemporaryDirectory(prefix="durable-mutants-") as place:
        trees: list[Tree] = []
        for number in range(count):
            root = Path(place) / str(number)
            shutil.copytree(ROOT, root, ignore=_LEFT_OUT)
            trees.append(Tree(root))
        yield trees
