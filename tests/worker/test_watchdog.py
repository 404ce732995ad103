"""What blocks the loop is told with its stack; one timer serves many points in time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from durable.clock import SECOND, VirtualClock
from durable.worker.alarm import Alarm
from durable.worker.watchdog import Watchdog


def a_blocking_function(until: threading.Event) -> None:
    until.wait(10)


async def test_a_stall_is_reported_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """User code that blocks the event loop is reported with its stack, once per stall."""
    watchdog = Watchdog(limit=0.05)
    watchdog.start()
    try:
        for stalls in (1, 2):
            reported = threading.Event()
            threading.Thread(target=until_reported, args=(watchdog, stalls, reported)).start()
            a_blocking_function(reported)
            async with asyncio.timeout(5):
                seen = watchdog._seen
                while watchdog._seen == seen:
                    await asyncio.sleep(0.01)
        assert watchdog.stalls == 2
        assert "a_blocking_function" in watchdog.last_stack
        errors = [record for record in caplog.records if "has been blocked" in record.getMessage()]
        assert len(errors) == 2
    finally:
        watchdog.stop()


def until_reported(watchdog: Watchdog, stalls: int, done: threading.Event) -> None:
    """Keep the loop blocked until the report, and for another few looks of the watchdog."""
    end = time.monotonic() + 8
    while watchdog.stalls < stalls and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(0.1)
    done.set()


async def test_a_loop_that_lives_is_not_reported() -> None:
    watchdog = Watchdog(limit=1.0)
    watchdog.start()
    for _ in range(100):
        await asyncio.sleep(0)
    watchdog.stop()
    assert watchdog.stalls == 0


def alarm_on(clock: VirtualClock) -> tuple[Any, list[float]]:
    rings: list[float] = []

    def call_at(due: int, callback: Any) -> Any:
        return clock.call_later(max(0.0, (due - clock.now()) / SECOND), callback)

    return Alarm(clock.now, call_at, lambda: rings.append(clock.monotonic())), rings


def test_it_rings_at_each_time_that_it_was_given() -> None:
    clock = VirtualClock()
    alarm, rings = alarm_on(clock)
    start = clock.now()
    for seconds in (5, 2, 9, 2, 5):
        alarm.at(start + seconds * SECOND)
    clock.advance(20)
    assert rings == [2, 5, 9]


def test_a_million_times_need_one_timer() -> None:
    clock = VirtualClock()
    alarm, rings = alarm_on(clock)
    for n in range(10_000):
        alarm.at(clock.now() + (10_000 - n) * SECOND)
    live = [timer for _, _, timer in clock._heap if timer.callback is not None]
    assert len(live) == 1
    alarm.stop()
    clock.advance(20_000)
    assert rings == []


def test_times_that_have_passed_ring_at_once() -> None:
    clock = VirtualClock()
    alarm, rings = alarm_on(clock)
    alarm.at(clock.now() - SECOND)
    clock.advance(0)
    assert rings == [0]
