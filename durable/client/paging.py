"""What a list is asked with: how many, and after what."""

from __future__ import annotations


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
    if not cursor.isdecimal():
        message = f"after={cursor!r} is not the `next` of a page"
        raise ValueError(message)
    return int(cursor)
