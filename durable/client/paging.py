"""What a list is asked with: how many, and after what."""

from __future__ import annotations

import re
from typing import cast

_CURSOR = re.compile("[0-9]{1,18}")
"""A number that every database can hold."""


def checked_limit(limit: int) -> int:
    """A page has 1 to 1,000 items; else `ValueError`."""
    if type(limit) is not int or not 1 <= limit <= 1000:
        message = f"limit must be a whole number from 1 to 1,000, not {limit!r}"
        raise ValueError(message)
    return limit


def checked_cursor(cursor: str | None) -> int | None:
    """The `next` of a page, as a number; `ValueError` for anything else."""
    if cursor is None:
        return None
    if not isinstance(cast("object", cursor), str) or not _CURSOR.fullmatch(cursor):
        message = f"after={cursor!r} is not the `next` of a page"
        raise ValueError(message)
    return int(cursor)
