"""The comments of a module that ask the linter to ignore a line, and whether they were needed."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field

from durable.model.directives import directive_in


@dataclass(slots=True)
class Ignore:
    """One such comment: the codes that it names (None: every one), and those that it did suppress."""

    line: int
    column: int
    end_column: int
    codes: frozenset[str] | None
    used: set[str] = field(default_factory=set[str])

    def suppresses(self, code: str) -> bool:
        """Whether it speaks of a code; if so it is noted as used."""
        if self.codes is not None and code not in self.codes:
            return False
        self.used.add(code)
        return True

    @property
    def unused(self) -> str | None:
        """What of it suppresses nothing, as it would be written; None: it is all in use."""
        if self.codes is None:
            return None if self.used else "durable: ignore"
        idle = sorted(self.codes - self.used)
        return f"durable: ignore[{', '.join(idle)}]" if idle or not self.codes else None


def ignores_in(source: str) -> dict[int, Ignore]:
    """The comments of a module by their line; of a text in quotes none is taken."""
    return {found.line: found for found in _read(source)}


def _read(source: str) -> Iterator[Ignore]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found = directive_in(token.string) if token.type == tokenize.COMMENT else None
        if found is not None:
            line, column = token.start
            yield Ignore(line, column + found.start, column + found.end, found.codes)
