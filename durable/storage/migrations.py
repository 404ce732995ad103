"""The steps of a schema: where they are, what they say, and which ones a database still needs.

Each step is one file `schema/<dialect>/NNNN_<name>.sql`. The numbers begin at 1 and have no holes;
a step that was ever released is never edited. The version of a database is the number of its
newest step, 0 for a database that has none. How a step is run, and where the version is kept, is
each store's own business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from durable.errors import MigrationNeeded
from durable.model.rows import MigrationStep

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_PLACES: Final = (_PACKAGE / "schema", _PACKAGE.parent / "schema")
"""In an installed wheel, and in a checkout."""
_FILE: Final = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Step:
    """One step, as it stands in its file."""

    number: int
    name: str
    text: str

    def sql(self, names: Mapping[str, str] | None = None) -> str:
        """The text with each `{placeholder}` of `names` filled in; values must be safe SQL."""
        text = self.text
        for name, value in (names or {}).items():
            text = text.replace("{" + name + "}", value)
        return text


@cache
def steps(dialect: Literal["postgres", "sqlite"]) -> tuple[Step, ...]:
    """All steps of a dialect in the order in which they run."""
    files = filter(None, map(_step, _folder(dialect).iterdir()))
    found = sorted(files, key=lambda step: step.number)
    numbers = [step.number for step in found]
    if numbers != list(range(1, len(found) + 1)):
        message = f"the {dialect} schema steps are not numbered 1, 2, 3, ...: {numbers}"
        raise RuntimeError(message)
    return tuple(found)


def _step(file: Path) -> Step | None:
    match = _FILE.fullmatch(file.name)
    if match is None:
        return None
    return Step(int(match["number"]), match["name"], file.read_text(encoding="utf-8"))


def _folder(dialect: str) -> Path:
    for place in _PLACES:
        if (place / dialect).is_dir():
            return place / dialect
    message = f"durable's {dialect} schema files are missing: reinstall the package"
    raise RuntimeError(message)


def newest(known: Sequence[Step]) -> int:
    """The version that a database has after all steps."""
    return known[-1].number if known else 0


def pending(known: Sequence[Step], version: int, to: int | None = None) -> Sequence[Step]:
    """The steps that bring a database from `version` to step `to` (None: the newest)."""
    last = newest(known) if to is None else to
    if not 0 <= last <= newest(known):
        message = f"there is no schema step {last}: this durable knows 1 to {newest(known)}"
        raise ValueError(message)
    return [step for step in known if version < step.number <= last]


def report(known: Sequence[Step], version: int) -> list[MigrationStep]:
    """What `durable migrations` shows."""
    return [MigrationStep(step.number, step.name, step.number <= version) for step in known]


def check_version(known: Sequence[Step], version: int, where: str) -> None:
    """`MigrationNeeded` unless a database at `version` is one that this code can work with.

    `where` names the database in the message; it must hold no password.
    """
    wanted = newest(known)
    if version < wanted:
        message = (
            f"{where} has schema version {version}, this durable needs {wanted}: "
            "run `durable migrate`"
        )
        raise MigrationNeeded(message)
    if version > wanted:
        message = (
            f"{where} has schema version {version}, this durable knows only {wanted}: "
            "upgrade the durable package"
        )
        raise MigrationNeeded(message)
