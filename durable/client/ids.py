"""Ids of runs: the user's, checked, or a UUIDv7 made before the first attempt to start."""

from __future__ import annotations

import os
import time

MAX_ID = 255
"""Characters in a run id."""


def new_id() -> str:
    """A UUIDv7: ordered by time, so that indexes grow at their end (RFC 9562)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    # Not by way of `uuid.UUID`, which takes as long as the rest of it three times over.
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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
