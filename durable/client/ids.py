"""Ids of runs that have none from their user: UUIDv7s, made before the first attempt to start."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """A UUIDv7: ordered by time, so that indexes grow at their end (RFC 9562)."""
    return id_of(time.time_ns() // 1_000_000, os.urandom(10))


def id_of(milliseconds: int, chance: bytes) -> str:
    """The UUIDv7 of a time since the Unix epoch and ten random bytes."""
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(chance, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    # Not by way of `uuid.UUID`, which takes as long as the rest of it three times over.
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
