"""Ids of runs as users give them."""

from __future__ import annotations

MAX_ID = 255
"""Characters in a run id."""


def checked_id(run_id: object) -> str:
    """The id if it may be one: 1 to 255 characters that a database can keep; else `ValueError`."""
    if not isinstance(run_id, str):
        message = f"a run id must be a string, not {type(run_id).__name__}"
        raise TypeError(message)
    if not 1 <= len(run_id) <= MAX_ID:
        message = f"a run id has 1 to {MAX_ID} characters, this one has {len(run_id)}"
        raise ValueError(message)
    if "\x00" in run_id or not _encodable(run_id):
        message = f"run id {run_id!r} has a NUL or a lone surrogate, which no database keeps"
        raise ValueError(message)
    return run_id


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
