"""Lengths of time as users give them: a `timedelta`, or a number of seconds."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

Duration: TypeAlias = timedelta | float
"""A length of time: a `timedelta`, or seconds."""


def seconds_of(duration: Duration, what: str) -> float:
    """`duration` in seconds, finite and not negative.

    `what` names the option in errors: `TypeError` for anything but a number or a `timedelta` (a bool
    is no number here), `ValueError` for NaN, infinity, a negative length or one too long for a float.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        message = f"{what} must be seconds or a timedelta, not {type(duration).__name__}"
        raise TypeError(message)
    else:
        seconds = _as_float(duration, what)
    if not math.isfinite(seconds):
        message = f"{what} must be a finite number of seconds, not {seconds}"
        raise ValueError(message)
    if seconds < 0:
        message = f"{what} must not be negative, but is {seconds} seconds"
        raise ValueError(message)
    return seconds + 0.0  # -0.0 becomes 0.0


def _as_float(number: float, what: str) -> float:
    try:
        return float(number)
    except OverflowError:
        message = f"{what} is too long: it does not fit a float of seconds"
        raise ValueError(message) from None


def seconds(n: float, /) -> timedelta:
    """`n` seconds as a `timedelta`."""
    return timedelta(seconds=n)


def minutes(n: float, /) -> timedelta:
    """`n` minutes as a `timedelta`."""
    return timedelta(minutes=n)


def hours(n: float, /) -> timedelta:
    """`n` hours as a `timedelta`."""
    return timedelta(hours=n)


def days(n: float, /) -> timedelta:
    """`n` days of 24 hours as a `timedelta`."""
    return timedelta(days=n)
