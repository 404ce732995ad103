"""Messages to a run that somebody has locked: they wait by themselves, in their order, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from durable.clock import VirtualClock
from durable.errors import DurableError, PayloadError, StoreUnavailable
from durable.model.rows import Delivered, Delivery
from durable.storage.held_back import HeldBack


def letter(run_id: str, name: str = "m") -> Delivery:
    return Delivery(run_id, name, b"")


class Store:
    """Numbers what it gets; a locked run gets nothing."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.locked = {"locked"}
        self.bad: set[str] = set()
        self.away = 0
        self.calls: list[tuple[list[str], bool]] = []
        self.kept: list[tuple[str, str]] = []

    async def deliver(self, deliveries: Sequence[Delivery], wait: bool) -> list[Delivered]:
        self.calls.append(([one.name for one in deliveries], wait))
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        if any(one.name in self.bad for one in deliveries):
            raise PayloadError("bad")
        return [self._take(one) for one in deliveries]

    def _take(self, delivery: Delivery) -> Delivered:
        if delivery.run_id in self.locked:
            return Delivered(None, busy=True)
        self.kept.append((delivery.run_id, delivery.name))
        return Delivered(len(self.kept))

    async def passes(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.clock.now() + round(seconds * 1_000_000)
        for _ in range(1000):
            for _ in range(10):
                await asyncio.sleep(0)
            due = self.clock.next_due
            if due is None or due > end:
                return
            self.clock.jump(due)


async def answered(later: object) -> Delivered:
    assert isinstance(later, asyncio.Future)
    return await later  # type: ignore[no-any-return]


async def test_what_comes_while_others_wait_goes_behind_them() -> None:
    store = Store()
    held = HeldBack(store.deliver, store.clock)
    first, free = await held.deliver([letter("locked", "one"), letter("free", "two")])
    assert free == Delivered(1)
    store.locked = set()
    # The lock is gone, but who waits has not tried again yet.
    second, third = await held.deliver([letter("locked", "three"), letter("free", "four")])
    assert third == Delivered(2)
    await store.passes(1)
    assert [await answered(first), await answered(second)] == [Delivered(3), Delivered(4)]
    assert [name for run_id, name in store.kept if run_id == "locked"] == ["one", "three"]
    assert held.tasks == ()
    assert await held.deliver([letter("locked", "five")]) == [Delivered(5)]


async def test_a_lock_that_lasts_is_waited_for() -> None:
    """For as long as it lasts, in tries that become rare."""
    store = Store()
    held = HeldBack(store.deliver, store.clock)
    [later] = await held.deliver([letter("locked")])
    await store.passes(60)
    assert [wait for _, wait in store.calls][:3] == [False, True, True]
    assert 50 < len(store.calls) < 80
    store.locked = set()
    await store.passes(2)
    assert await answered(later) == Delivered(1)


async def test_patience_ends_for_each_message_by_itself() -> None:
    store = Store()
    held = HeldBack(store.deliver, store.clock, 30)
    [first] = await held.deliver([letter("locked", "one")])
    await store.passes(20)
    [second] = await held.deliver([letter("locked", "two")])
    await store.passes(12)
    with pytest.raises(StoreUnavailable, match="run locked is locked by a transaction"):
        await answered(first)
    store.locked = set()
    await store.passes(2)
    assert await answered(second) == Delivered(1)
    assert store.kept == [("locked", "two")]


async def test_a_database_that_goes_away_meanwhile_is_waited_for_too() -> None:
    store = Store()
    held = HeldBack(store.deliver, store.clock, 30)
    [later] = await held.deliver([letter("locked")])
    store.locked, store.away = set(), 5
    await store.passes(10)
    assert await answered(later) == Delivered(1)
    store.away = 1
    with pytest.raises(StoreUnavailable, match="away"):
        await held.deliver([letter("locked")])
    assert held.tasks == ()


async def test_one_that_is_refused_harms_no_other() -> None:
    store = Store()
    held = HeldBack(store.deliver, store.clock)
    answers = await held.deliver([letter("locked", name) for name in ("one", "two", "three")])
    store.locked, store.bad = set(), {"two"}
    await store.passes(1)
    assert await answered(answers[0]) == Delivered(1)
    with pytest.raises(PayloadError):
        await answered(answers[1])
    assert await answered(answers[2]) == Delivered(2)


async def test_who_gave_up_waiting_does_not_stop_the_others() -> None:
    store = Store()
    held = HeldBack(store.deliver, store.clock)
    first, second = await held.deliver([letter("locked", "one"), letter("locked", "two")])
    assert isinstance(first, asyncio.Future)
    first.cancel()
    store.locked = set()
    await store.passes(1)
    assert await answered(second) == Delivered(2)


@pytest.mark.parametrize("error", [DurableError("closed"), None])
async def test_closing_ends_the_waits(error: DurableError | None) -> None:
    """Also of what has just begun to wait."""
    store = Store()
    held = HeldBack(store.deliver, store.clock)
    [first] = await held.deliver([letter("locked", "one")])
    await store.passes(1)
    [second] = await held.deliver([letter("other", "two")])
    assert isinstance(second, Delivered)
    store.locked.add("other")
    [third] = await held.deliver([letter("other", "three")])
    held.close(error)
    for later in (first, third):
        with pytest.raises(DurableError if error else asyncio.CancelledError):
            await answered(later)
    await asyncio.gather(*held.tasks, return_exceptions=True)
    store.locked = set()
    [fourth] = await held.deliver([letter("other", "four")])
    assert isinstance(fourth, Delivered)
