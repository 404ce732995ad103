"""What is known of each mutant: `verdicts.json`, which goes with the code."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.mutants.bank import ROOT, Mutant, digest_of_file

PLACE: Final = Path(__file__).with_name("verdicts.json")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a mutant as it is, in its file as that is."""

    mutant: str
    """Digest of the mutant."""
    file: str
    """Digest of its file."""
    killer: str
    killed: bool | None = None
    """By its own killer; None: not tried yet."""
    said: str = ""
    seconds: float = 0.0
    seeds: int | None = None
    """Seeds until its killer found it, where that is the simulator."""
    simulated: int = 0
    """Seeds of the simulator that were tried, from 0 on."""
    seeds_to_kill: int | None = None
    """Of these those that it took to find it; None: they did not."""
    broke: str = ""
    """What the simulator said."""

    def is_of(self, mutant: Mutant, root: Path = ROOT) -> bool:
        """Neither the mutant nor its file has changed since."""
        return (self.mutant, self.file) == (mutant.digest(), digest_of_file(mutant, root))


def nothing_of(mutant: Mutant) -> Known:
    """Before anything was tried."""
    return Known(mutant.digest(), digest_of_file(mutant), mutant.killer)


class Book:
    """Verdicts by mutant, written down after each."""

    def __init__(self, place: Path = PLACE) -> None:
        self._place = place
        raw: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
        self._known = {id: Known(**entry) for id, entry in raw.items()}

    def get(self, id: str) -> Known | None:
        """What was written down, of whatever mutant of that id."""
        return self._known.get(id)

    def ids(self) -> list[str]:
        """Mutants of which something was written down."""
        return list(self._known)

    def of(self, mutant: Mutant) -> Known:
        """What holds for the mutant as it is now."""
        known = self._known.get(mutant.id)
        return known if known is not None and known.is_of(mutant) else nothing_of(mutant)

    def write(self, mutant: Mutant, **changed: Any) -> None:
        """More is known of it."""
        self._known[mutant.id] = replace(self.of(mutant), **changed)
        self._save()

    def keep(self, ids: set[str]) -> None:
        """Forget the mutants that are not in the bank any more."""
        self._known = {id: known for id, known in self._known.items() if id in ids}
        self._save()

    def _save(self) -> None:
        entries = {id: asdict(known) for id, known in sorted(self._known.items())}
        self._place.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
