"""When a schedule is due: `Cron` and `Every`, checked when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Final, Literal, TypeAlias

from durable.model.duration import Duration, seconds_of
from durable.model.walltime import zone_of

Overlap: TypeAlias = Literal["skip", "queue", "allow", "cancel"]
"""What a firing does while the last run goes on: nothing, wait, run beside it, or cancel it."""

_OVERLAPS: Final = ("skip", "queue", "allow", "cancel")
_FIELDS: Final = 5
# What croniter reads beyond this is random, or means something else ("15W" is read as 15).
_FIELD: Final = re.compile(r"(?:[*?]|\d+|[a-z]{3}|l\d?)(?:[-/#,](?:[*?]|\d+|[a-z]{3}|l\d?))*")
_WORDS: Final = ("@hourly", "@midnight", "@daily", "@weekly", "@monthly", "@yearly", "@annually")


@dataclass(frozen=True, slots=True)
class Cron:
    """Due by the five fields of a crontab: minute, hour, day of month, month, day of week.

    `expression` may also be a word such as `@daily`. `catch_up` is how late a firing may still
    happen and `jitter` by how much it may be put off at random (both seconds or a timedelta);
    nothing is due before `start` or after `end`; `max_failures` failed runs in a row switch the
    schedule off. Raises `ValueError` for an expression that is none, an unknown time zone or a
    naive datetime.
    """

    expression: str
    tz: str | tzinfo = field(default="UTC", kw_only=True)
    input: object = field(default=None, kw_only=True)
    overlap: Overlap = field(default="skip", kw_only=True)
    catch_up: Duration = field(default=60, kw_only=True)
    jitter: Duration = field(default=0, kw_only=True)
    start: datetime | None = field(default=None, kw_only=True)
    end: datetime | None = field(default=None, kw_only=True)
    max_failures: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_expression(self.expression)
        zone_of(self.tz)
        _check_overlap(self.overlap)
        seconds_of(self.catch_up, "Cron(catch_up=)")
        seconds_of(self.jitter, "Cron(jitter=)")
        _check_span(self.start, self.end)
        _check_failures(self.max_failures)

    @property
    def zone(self) -> tzinfo:
        """The time zone whose clocks the expression is read by."""
        return zone_of(self.tz)


@dataclass(frozen=True, slots=True)
class Every:
    """Due every `interval` (seconds or a timedelta), counted from the epoch, or from `start`.

    Raises `ValueError` for an interval that is not positive or a naive datetime.
    """

    interval: Duration
    input: object = field(default=None, kw_only=True)
    overlap: Overlap = field(default="skip", kw_only=True)
    start: datetime | None = field(default=None, kw_only=True)
    end: datetime | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if seconds_of(self.interval, "Every(interval)") == 0:
            message = "Every(interval) must be longer than nothing"
            raise ValueError(message)
        _check_overlap(self.overlap)
        _check_span(self.start, self.end)


Schedule: TypeAlias = Cron | Every
"""When a workflow is started by itself."""


def _check_expression(expression: object) -> None:
    if not isinstance(expression, str):
        message = f"Cron(expression) must be a string, not {type(expression).__name__}"
        raise TypeError(message)
    if expression in _WORDS:
        return
    fields = expression.lower().split()
    if len(fields) != _FIELDS:
        message = (
            f"Cron({expression!r}) has {len(fields)} fields, not minute, hour, day of month, month "
            f"and day of week; nor is it one of {' '.join(_WORDS)}"
        )
        raise ValueError(message)
    for text in fields:
        if _FIELD.fullmatch(text) is None:
            message = f"Cron({expression!r}): {text!r} is not a field of a crontab"
            raise ValueError(message)
    # A day that its month never has is an error, unless days of the week make it due as well.
    _check_meaning(expression, strict=fields[-1] in ("*", "?"))


def _check_meaning(expression: str, *, strict: bool) -> None:
    # Imported here: few programs have schedules, and `import durable` must be quick.
    from croniter import CroniterError, croniter  # noqa: PLC0415

    try:
        croniter.expand(expression, strict=strict)
    except CroniterError as error:
        message = f"Cron({expression!r}): {error}"
        raise ValueError(message) from None


def _check_overlap(overlap: str) -> None:
    if overlap not in _OVERLAPS:
        message = f"overlap= must be one of {', '.join(_OVERLAPS)}, not {overlap!r}"
        raise ValueError(message)


def _check_span(start: datetime | None, end: datetime | None) -> None:
    for option, when in (("start", start), ("end", end)):
        if when is not None and when.utcoffset() is None:
            message = f"{option}= is naive: it needs a time zone, e.g. datetime(..., tzinfo=UTC)"
            raise ValueError(message)
    if start is not None and end is not None and end <= start:
        message = "end= must be later than start="
        raise ValueError(message)


def _check_failures(number: int | None) -> None:
    if number is not None and number < 1:
        message = f"max_failures= must be at least 1, not {number}"
        raise ValueError(message)
