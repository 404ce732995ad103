"""Ids of runs as users give them."""

from __future__ import annotations

import re

MAX_ID = 255
"""Characters in a run id."""
_NUMBER = re.compile("[0-9]{1,9}")


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


def replaced_id(run_id: str, number: int) -> str:
    """What a run is called when it is the `number`-th that was replaced by a new one of its id: `<id>~<number>`.

    An id that is too long for that loses its end.
    """
    mark = f"~{number}"
    return run_id[: MAX_ID - len(mark)] + mark


def times_replaced(run_id: str, predecessor: str | None) -> int:
    """The number that its predecessor got, whose id this run has now; 0 when there is none."""
    number = (predecessor or "").rpartition("~")[2]
    if not _NUMBER.fullmatch(number) or replaced_id(run_id, int(number)) != predecessor:
        return 0
    return int(number)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
