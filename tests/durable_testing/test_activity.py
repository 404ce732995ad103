"""When nothing is left to do: known, not guessed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from durable_testing.activity import Activity, Quiet


async def test_it_is_quiet_when_every_callback_has_run() -> None:
    seen = []

    async def chain(length: int) -> None:
        for number in range(length):
            await asyncio.sleep(0)
            seen.append(number)

    task = asyncio.ensure_future(chain(1000))
    await Quiet(Activity()).reached()
    assert len(seen) == 1000
    assert task.done()


async def test_what_a_thread_does_is_waited_for() -> None:
    activity, loop, done = Activity(), asyncio.get_running_loop(), []

    def work() -> None:
        done.append(1)
        loop.call_soon_threadsafe(activity.end)

    activity.begin()
    threading.Thread(target=work).start()
    await Quiet(activity).reached()
    assert done


async def test_who_waits_is_not_waited_for() -> None:
    """However deep."""
    activity, who = Activity(), object()
    quiet = Quiet(activity)
    with activity.going_on(who):
        assert activity.any
        assert activity.knows(who)
        with activity.waiting(who), activity.waiting(who):
            assert not activity.any
            await quiet.reached()
        assert activity.any
    assert quiet.now is True
    assert not activity.knows(who)


async def test_who_is_not_at_work_waits_without_being_counted() -> None:
    activity = Activity()
    with activity.going_on(), activity.waiting(object()), activity.waiting(None):
        assert activity.any
    assert not activity.any


async def test_a_loop_that_does_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "get_running_loop", object)
    with pytest.raises(RuntimeError, match=r"need asyncio's own event loop, not builtins\.object"):
        Quiet(Activity())
