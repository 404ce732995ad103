"""When a failed attempt is tried again, and what lengths of time are."""

from __future__ import annotations

import dataclasses
import math
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import NonRetryable, PayloadError, RetryAfter, StepTimeout
from durable.model.duration import days, hours, minutes, seconds, seconds_of
from durable.model.retry import PROGRAMMING_ERRORS, Retry

EXACT = {"jitter": 0}


def delays(attempts: int, **options: Any) -> list[float]:
    policy = Retry(**EXACT, **options)
    return [policy.delay(attempt, Random(1)) for attempt in range(1, attempts + 1)]


def test_back_offs():
    assert delays(4) == [1, 2, 4, 8]
    assert delays(4, factor=3, initial=timedelta(seconds=2)) == [2, 6, 18, 54]
    assert delays(4, backoff="linear", initial=5) == [5, 10, 15, 20]
    assert delays(3, backoff="constant", initial=0.5) == [0.5, 0.5, 0.5]
    assert delays(3, initial=0) == [0, 0, 0]
    assert delays(12)[-1] == 300
    assert delays(4, max_interval=minutes(0.05)) == [1, 2, 3, 3]


@pytest.mark.parametrize("backoff", ["exponential", "linear", "constant"])
def test_large_numbers_overflow_nothing(backoff):
    policy = Retry(
        max_attempts=None, backoff=backoff, initial=1e300, factor=1e300, max_interval=1e308
    )
    for attempt in (1, 2, 10_000, 10**9):
        assert 0 < policy.delay(attempt, Random(1)) < math.inf
    assert Retry(initial=0, factor=10).delay(10_000, Random(1)) == 0
    assert 225 <= Retry(max_attempts=None, factor=10**400).delay(3, Random(1)) <= 375


@given(st.integers(1, 50), st.integers())
def test_jitter_spreads_by_a_quarter(attempt, seed):
    base = delays(attempt)[-1]
    assert 0.75 * base <= Retry().delay(attempt, Random(seed)) <= 1.25 * base
    assert Retry().delay(attempt, Random(seed)) == Retry().delay(attempt, Random(seed))


def decide(
    policy: Retry, error: BaseException, attempt: int = 1, elapsed: float = 0
) -> float | None:
    return policy.decide(error, attempt, elapsed, Random(1))


def test_attempts_are_counted_with_the_first_one():
    policy = Retry(max_attempts=3, **EXACT)
    assert [decide(policy, OSError(), attempt) for attempt in (1, 2, 3, 4)] == [1, 2, None, None]
    assert decide(Retry(max_attempts=1), OSError()) is None
    assert decide(Retry(max_attempts=None, **EXACT), OSError(), 10_000) == 300


@pytest.mark.parametrize("cls", PROGRAMMING_ERRORS)
def test_programming_errors_are_not_retried_unless_named(cls):
    assert decide(Retry(), cls("x")) is None
    assert decide(Retry(retry_on=(Exception,)), cls("x")) is None
    assert decide(Retry(retry_on=(OSError,)), cls("x")) is None
    assert decide(Retry(retry_on=(cls,)), cls("x")) is not None


def test_subclasses_of_programming_errors():
    assert decide(Retry(), ModuleNotFoundError()) is None
    assert decide(Retry(retry_on=(ImportError,)), ModuleNotFoundError()) is not None
    assert decide(Retry(retry_on=(ModuleNotFoundError,)), ImportError()) is None
    assert decide(Retry(), StepTimeout("t")) is not None
    assert decide(Retry(), PayloadError("p")) is None


def test_retry_on_and_give_up_on():
    policy = Retry(retry_on=(OSError,), give_up_on=(FileNotFoundError,), **EXACT)
    assert decide(policy, ConnectionError()) == 1
    assert decide(policy, FileNotFoundError()) is None
    assert decide(policy, ValueError()) is None
    for error in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        assert decide(Retry(), error) is None


def test_retry_after_overrides_the_back_off_and_counts():
    policy = Retry(max_attempts=2, retry_on=(OSError,), max_interval=1)
    assert decide(policy, RetryAfter(timedelta(hours=2), "later")) == 7200
    assert decide(policy, RetryAfter(0)) == 0
    assert decide(policy, RetryAfter(5), 2) is None
    assert decide(Retry(give_up_on=(RetryAfter,)), RetryAfter(5)) is None
    for nonsense in (math.nan, -1, "soon", None):
        assert decide(Retry(**EXACT), RetryAfter(nonsense)) == 1  # type: ignore[arg-type]
    assert decide(Retry(), NonRetryable("no")) is None


def test_max_elapsed_limits_the_start_of_the_next_attempt():
    policy = Retry(max_elapsed=10, **EXACT)
    assert decide(policy, OSError(), 1, 9) == 1
    assert decide(policy, OSError(), 1, 9.5) is None
    assert decide(policy, RetryAfter(11)) is None


def test_short_form():
    assert Retry.of(None) is None
    assert Retry.of(3) == Retry(max_attempts=3)
    policy = Retry()
    assert Retry.of(policy) is policy
    for wrong in (True, "3", 3.0, 0):
        with pytest.raises((TypeError, ValueError)):
            Retry.of(wrong)  # type: ignore[arg-type]


def test_is_a_frozen_value_given_by_keyword():
    policy = Retry(initial=timedelta(seconds=1), max_interval=minutes(5))
    assert dataclasses.replace(policy, max_attempts=2).max_attempts == 2
    assert len({Retry(), Retry(), Retry(factor=3)}) == 2
    with pytest.raises(TypeError):
        Retry(3)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.factor = 3  # type: ignore[misc]
    assert "_initial" not in repr(policy)


BAD_NUMBERS = [math.nan, math.inf, -math.inf, -1, True, "1", None]


@pytest.mark.parametrize("option", ["initial", "max_interval", "factor", "jitter", "max_elapsed"])
@pytest.mark.parametrize("value", BAD_NUMBERS, ids=repr)
def test_bad_numbers_are_refused_by_name(option, value):
    if option == "max_elapsed" and value is None:
        return
    with pytest.raises((TypeError, ValueError), match=rf"Retry\({option}=\)") as caught:
        Retry(**{option: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": -1},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"max_attempts": "2"},
        {"backoff": "quadratic"},
        {"backoff": None},
        {"factor": 0.5},
        {"jitter": 1.1},
        {"retry_on": ("OSError",)},
        {"retry_on": "OSError"},
        {"retry_on": (KeyboardInterrupt,)},
        {"give_up_on": 5},
        {"give_up_on": (int,)},
    ],
    ids=repr,
)
def test_bad_options_are_refused(options):
    with pytest.raises((TypeError, ValueError), match=r"Retry\("):
        Retry(**options)


def test_one_class_or_a_list_of_them_is_understood():
    assert Retry(retry_on=OSError).retry_on == (OSError,)  # type: ignore[arg-type]
    assert Retry(give_up_on=[OSError]).give_up_on == (OSError,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given, length",
    [
        (0, 0),
        (1, 1),
        (1.5, 1.5),
        (timedelta(days=1), 86_400),
        (1e308, 1e308),
        (timedelta.max, None),
    ],
)
def test_lengths_of_time(given, length):
    assert seconds_of(given, "x") == (timedelta.max.total_seconds() if length is None else length)


def test_minus_zero_is_zero():
    assert math.copysign(1, seconds_of(-0.0, "x")) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9, timedelta(-1), 10**400])
def test_lengths_that_make_no_sense(value):
    with pytest.raises(ValueError, match="sleep"):
        seconds_of(value, "sleep")


@pytest.mark.parametrize("value", [True, "1", None, [1], 1j, b"1"])
def test_what_is_no_length_of_time(value):
    with pytest.raises(TypeError, match=r"ctx.sleep\(\) must be seconds or a timedelta, not"):
        seconds_of(value, "ctx.sleep()")


def test_words_for_lengths_of_time():
    assert (seconds(90), minutes(1.5)) == (timedelta(seconds=90), timedelta(seconds=90))
    assert (hours(24), days(2)) == (timedelta(days=1), timedelta(hours=48))
