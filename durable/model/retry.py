"""When a failed attempt is tried again: a pure decision from the exception, its number and the time spent."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from durable.errors import NonRetryable, PayloadError, RetryAfter
from durable.model.duration import Duration, seconds_of

Backoff: TypeAlias = Literal["exponential", "linear", "constant"]
"""How the delay grows with the attempts."""

Exceptions: TypeAlias = tuple[type[Exception], ...]

PROGRAMMING_ERRORS: Final[Exceptions] = (
    TypeError,
    NameError,
    AttributeError,
    ImportError,
    SyntaxError,
    NotImplementedError,
    AssertionError,
    PayloadError,
    NonRetryable,
)
"""Not retried unless `retry_on` names one of their classes: trying again does not mend code."""

_BACKOFFS: Final = ("exponential", "linear", "constant")
_ANYTHING: Final[Exceptions] = (Exception,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When to try again. `retry=3` is short for `Retry(max_attempts=3)`.

    `max_attempts` counts the first one; None means no limit. Attempt n+1 begins after
    `initial * factor ** (n-1)` seconds (exponential), `initial * n` (linear) or `initial` (constant), at
    most `max_interval`, spread by plus or minus `jitter` of itself. No attempt begins more than
    `max_elapsed` after the first one began. Raises `TypeError` or `ValueError` for what makes no sense.
    """

    max_attempts: int | None = 5
    backoff: Backoff = "exponential"
    initial: Duration = 1
    factor: float = 2
    max_interval: Duration = 300
    jitter: float = 0.25
    max_elapsed: Duration | None = None
    retry_on: Exceptions = _ANYTHING
    give_up_on: Exceptions = ()
    # The durations in seconds, worked out once.
    _initial: float = field(init=False, repr=False, compare=False)
    _most: float = field(init=False, repr=False, compare=False)
    _budget: float | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        if self.backoff not in _BACKOFFS:
            message = f"Retry(backoff=) must be one of {', '.join(_BACKOFFS)}, not {self.backoff!r}"
            raise ValueError(message)
        set_field = object.__setattr__
        set_field(self, "_initial", seconds_of(self.initial, "Retry(initial=)"))
        set_field(self, "_most", seconds_of(self.max_interval, "Retry(max_interval=)"))
        budget = self.max_elapsed
        set_field(
            self, "_budget", None if budget is None else seconds_of(budget, "Retry(max_elapsed=)")
        )
        _check_number(self.factor, "factor", least=1)
        _check_number(self.jitter, "jitter", least=0, most=1)
        set_field(self, "retry_on", _exceptions(self.retry_on, "retry_on"))
        set_field(self, "give_up_on", _exceptions(self.give_up_on, "give_up_on"))

    @classmethod
    def of(cls, value: Retry | int | None) -> Retry | None:
        """What `retry=` means: a policy, a number of attempts, or None for no retry at all."""
        if value is None or isinstance(value, Retry):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            message = f"retry= must be a Retry or a number of attempts, not {type(value).__name__}"
            raise TypeError(message)
        return cls(max_attempts=value)

    def delay(self, attempt: int, random: random.Random) -> float:
        """Seconds between the end of attempt number `attempt` (from 1) and the next one."""
        base = min(self._grown(attempt), self._most)
        if self.jitter == 0 or base == 0:
            return base
        return base * (1 + self.jitter * (2 * random.random() - 1))

    def _grown(self, attempt: int) -> float:
        if self.backoff == "constant":
            return self._initial
        if self.backoff == "linear":
            return self._initial * attempt
        try:
            return self._initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            return self._most if self._initial else 0.0

    def decide(
        self, error: BaseException, attempt: int, elapsed: float, random: random.Random
    ) -> float | None:
        """Seconds until the next attempt, or None to give up.

        `error` ended attempt number `attempt` (from 1), `elapsed` seconds after the first one began.
        """
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        if not self.wants(error):
            return None
        delay = self._asked(error)
        if delay is None:
            delay = self.delay(attempt, random)
        if self._budget is not None and elapsed + delay > self._budget:
            return None
        return delay

    def decide_alike(
        self, error: BaseException, attempt: int, elapsed: float, seed: str
    ) -> float | None:
        """As `decide`, with a jitter that follows from `seed`: the same on every replay."""
        return self.decide(error, attempt, elapsed, random.Random(seed))

    def wants(self, error: BaseException) -> bool:
        """Whether an exception of this kind is worth another attempt at all."""
        if not isinstance(error, Exception) or isinstance(error, self.give_up_on):
            return False
        if isinstance(error, RetryAfter):
            return True
        if isinstance(error, PROGRAMMING_ERRORS):
            return isinstance(error, self._named)
        return isinstance(error, self.retry_on)

    @property
    def _named(self) -> Exceptions:
        """The classes of `retry_on` that say more than "anything"."""
        return tuple(cls for cls in self.retry_on if cls is not Exception)

    @staticmethod
    def _asked(error: BaseException) -> float | None:
        """The delay that a `RetryAfter` asks for; None if it makes no sense, or for other exceptions."""
        if not isinstance(error, RetryAfter):
            return None
        try:
            return seconds_of(error.delay, "RetryAfter(delay)")
        except (TypeError, ValueError, AttributeError):
            return None


def _check_attempts(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"Retry(max_attempts=) must be a whole number or None, not {type(value).__name__}"
        raise TypeError(message)
    if value < 1:
        message = "Retry(max_attempts=) must be at least 1: it counts the first attempt"
        raise ValueError(message)


def _check_number(value: object, name: str, *, least: float, most: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"Retry({name}=) must be a number, not {type(value).__name__}"
        raise TypeError(message)
    limits = f"between {least} and {most}" if most is not None else f"at least {least}"
    top = float("inf") if most is None else most
    # Written so that NaN and infinity fall through to the error.
    if not (least <= value <= top and value != float("inf")):
        message = f"Retry({name}=) must be {limits} and finite"
        raise ValueError(message)


def _exceptions(value: object, name: str) -> Exceptions:
    """A tuple of exception classes, from one class or several."""
    if isinstance(value, str) or not isinstance(value, type | Iterable):
        message = f"Retry({name}=) must be exception classes, not {type(value).__name__}"
        raise TypeError(message)
    found: list[type[Exception]] = []
    for cls in (value,) if isinstance(value, type) else cast("Iterable[object]", value):
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            message = f"Retry({name}=) must be exception classes, but holds {cls!r}"
            raise TypeError(message)
        found.append(cls)
    return tuple(found)
