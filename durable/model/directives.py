"""`# durable: ignore[DUR101]`: a comment by which people say that they know better, to the linter and to the guard."""

from __future__ import annotations

import re
from typing import NamedTuple

_IGNORE = re.compile(r"#\s*durable:\s*ignore(?:\[([\w\s,]*)\])?(?![\w\[-])")


class Directive(NamedTuple):
    """Where it stands in the text that was searched, and the codes that it names; None: every one."""

    start: int
    end: int
    codes: frozenset[str] | None


def directive_in(text: str) -> Directive | None:
    """The first one in a line or comment."""
    found = _IGNORE.search(text)
    if found is None:
        return None
    named: str | None = found[1]
    codes = None if named is None else frozenset(re.findall(r"\w+", named))
    return Directive(found.start(), found.end(), codes)
