"""The bank of mutants: failures that other systems really had, as small changes that bring them into this one.

Each file of `bank/` holds a group of them:

    [[mutant]]
    id = "leases-renewed-from-the-dead"
    case = "LF-10"                  # its row in the catalogue of failures
    seen = "rails/solid_queue#761"  # where it happened
    what = "..."                    # what goes wrong, in one sentence
    file = "durable/..."
    old = '''...'''                 # stands in the file exactly once
    new = '''...'''
    test = "tests/...::test_..."    # what must fail then; or `seeds = 200`: so many of the simulator
    hangs = true                    # where it may also be found out by never ending
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BANK: Final = Path(__file__).parent / "bank"
MOST_SEEDS: Final = 200
"""Seeds of the simulator, from 0 on, in which a mutant must have been found."""

_SIMULATED: Final = ("durable/engine/", "durable/worker/", "durable/storage/sqlite/")
"""Where a mutant may show in the simulator: it has no PostgreSQL, and hardly anything of the rest."""


class Misfit(Exception):
    """A mutant does not fit its file any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A failure, and what finds it."""

    id: str
    case: str
    seen: str
    what: str
    file: str
    old: str
    new: str
    test: str | None = None
    seeds: int = 0
    hangs: bool = False

    @property
    def killer(self) -> str:
        """What must find it, in words."""
        return self.test or f"{self.seeds} seeds"

    @property
    def is_simulated(self) -> bool:
        """Whether the simulator runs the code that it changes."""
        return self.file.startswith(_SIMULATED)

    def of(self, text: str) -> str:
        """The text of its file with the failure in it."""
        found = text.count(self.old)
        if found != 1 or self.old == self.new:
            message = f"{self.id}: its text stands {found} times in {self.file}"
            raise Misfit(message)
        mutated = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            compile(mutated, self.file, "exec")  # no failure that any import would show
        return mutated

    def digest(self) -> str:
        """Another one where the mutant or its killer has changed."""
        return _digest(repr([(each.name, getattr(self, each.name)) for each in fields(self)]))


def load(folder: Path = BANK) -> list[Mutant]:
    """All mutants, group by group."""
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        found += [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]
    return found


def text_of(mutant: Mutant, root: Path = ROOT) -> str:
    """The file that a mutant changes."""
    return (root / mutant.file).read_text(encoding="utf-8")


def digest_of_file(mutant: Mutant, root: Path = ROOT) -> str:
    """Another one where the file has changed."""
    return _digest(text_of(mutant, root))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
