"""Time: points are whole microseconds in UTC, waits are seconds; the virtual clock moves by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.clock import SECOND, SystemClock, TimeLimit, VirtualClock, to_datetime, to_micros

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS)
def test_datetimes_survive_to_the_microsecond(when: datetime) -> None:
    assert to_datetime(to_micros(when)) == when


def test_offsets_count_and_naive_datetimes_are_refused() -> None:
    """Naive datetimes are refused wherever durable itself needs a time."""
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert to_datetime(to_micros(noon)) == datetime(2026, 1, 1, 10, tzinfo=UTC)
    with pytest.raises(ValueError, match="naive"):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001


def test_it_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(datetime(2030, 5, 6, tzinfo=UTC))
    assert to_datetime(clock.now()) == datetime(2030, 5, 6, tzinfo=UTC)
    assert clock.monotonic() == 0
    clock.advance(1.5)
    clock.advance(timedelta(minutes=1))
    assert clock.monotonic() == 61.5
    assert clock.now() == to_micros(datetime(2030, 5, 6, 0, 1, 1, 500_000, tzinfo=UTC))


@given(st.lists(st.integers(0, 50), max_size=30), st.lists(st.integers(0, 60), max_size=8))
def test_callbacks_run_in_the_order_of_their_due_times_at_their_own_time(
    delays: list[int], moves: list[int]
) -> None:
    """Equal ones in the order in which they were asked for; never before their time, never late."""
    clock = VirtualClock()
    rung: list[tuple[float, int]] = []
    for number, delay in enumerate(delays):
        clock.call_later(delay, lambda n=number: rung.append((clock.monotonic(), n)))
    for move in moves:
        clock.advance(move)
    passed = sum(moves)
    expected = sorted((float(delay), n) for n, delay in enumerate(delays) if delay <= passed)
    assert rung == (expected if moves else [])


def test_a_callback_may_ask_for_more_and_cancel_others() -> None:
    clock = VirtualClock()
    rung: list[str] = []
    later = clock.call_later(2, lambda: rung.append("never"))

    def first() -> None:
        rung.append("first")
        later.cancel()
        later.cancel()
        clock.call_later(1, lambda: rung.append("second"))

    clock.call_later(1, first)
    clock.advance(5)
    assert rung == ["first", "second"]
    assert clock.next_due is None


def test_it_never_goes_back() -> None:
    clock = VirtualClock()
    clock.advance(10)
    now = clock.now()
    clock.jump(now - 5 * SECOND)
    assert clock.now() == now
    rung: list[int] = []
    clock.call_later(-3, lambda: rung.append(clock.now()))
    clock.jump(now - SECOND)
    assert rung == []
    clock.jump(now)
    assert rung == [now]


def test_what_is_due_next() -> None:
    clock = VirtualClock()
    assert clock.next_due is None
    timer = clock.call_later(1, lambda: None)
    clock.call_later(2, lambda: None)
    timer.cancel()
    assert clock.next_due == clock.now() + 2 * SECOND


async def test_sleepers_wake_in_order_and_a_cancelled_one_leaves_nothing() -> None:
    clock = VirtualClock()
    woken: list[int] = []

    async def sleeper(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(n)) for n in (3, 1, 2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    clock.advance(10)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert woken == [1, 2]
    assert clock.next_due is None


async def test_the_system_s_clock() -> None:
    """Seconds that never jump, and the running loop."""
    clock = SystemClock()
    before, now = clock.monotonic(), clock.now()
    await clock.sleep(0.001)
    rung = asyncio.Event()
    clock.call_later(0.001, rung.set)
    async with asyncio.timeout(5):
        await rung.wait()
    assert clock.monotonic() - before >= 0.0015
    assert clock.now() > now
    clock.call_later(0.001, rung.clear).cancel()
    await clock.sleep(0.01)
    assert rung.is_set()


def test_seconds_do_not_jump_with_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.monotonic()
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert clock.now() == 0
    assert clock.monotonic() >= before


async def test_a_limit_goes_by_its_clock() -> None:
    clock = VirtualClock()
    limit = TimeLimit(clock, 5)

    async def limited() -> None:
        async with limit:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(limited())
    await asyncio.sleep(0)
    clock.advance(4.9)
    await asyncio.sleep(0)
    assert not task.done()
    clock.advance(0.1)
    with pytest.raises(TimeoutError):
        await task
    assert limit.expired()


async def test_a_limit_that_is_kept_leaves_nothing_behind() -> None:
    clock = VirtualClock()
    async with TimeLimit(clock, 5) as limit:
        pass
    assert clock.next_due is None
    assert not limit.expired()


async def test_a_time_out_of_the_code_itself_is_not_that_of_the_limit() -> None:
    limit = TimeLimit(VirtualClock(), 5)
    with pytest.raises(TimeoutError, match="own"):
        async with limit:
            raise TimeoutError("own")
    assert not limit.expired()
