"""How values read: durations and ages for people, JSON for programs."""

from __future__ import annotations

import base64
import dataclasses
import json
import unicodedata
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """Say how long, in one unit: `40 ms`, `6.1 s`, `12 min`, `3 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            amount = seconds / size
            return (
                f"{amount:.1f} {unit}"
                if amount < 10 and amount % 1 >= 0.05
                else f"{amount:.0f} {unit}"
            )
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def between(start: datetime | None, end: datetime | None) -> str:
    """Say how long it was from `start` to `end` (None: until now); empty before the start."""
    if start is None:
        return ""
    return duration(max(0.0, ((end or datetime.now(UTC)) - start).total_seconds()))


def moment(at: datetime) -> str:
    """A point in time, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def count(number: int, thing: str, things: str | None = None) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def clean(text: object) -> str:
    """One line without control characters: what a user stored must not steer anybody's terminal."""
    return "".join(
        character if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else " "
        for character in str(text)
    ).strip()


def short(value: object, limit: int = 60) -> str:
    """A value on one line, cut to `limit` characters."""
    text = clean(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: records become objects, times ISO strings, bytes base64."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = (field.name for field in dataclasses.fields(value) if field.repr)
            return {name: plain(getattr(value, name)) for name in names if name[0] != "_"}
        case Collection():
            return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            pass
    dump = getattr(value, "model_dump", None)  # a model of pydantic
    return plain(dump()) if callable(dump) else str(value)
