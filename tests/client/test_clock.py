"""The database's clock as a client without a worker knows it: read at the opening, and again when it may have changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from durable import Client, Context, workflow
from durable.clock import SECOND, VirtualClock
from durable_testing.faults import ERROR_BEFORE, FaultyStorage

HOUR = 3600


class Machine(VirtualClock):
    """Its own clock can be set, and it can sleep: then time passes that it does not count."""

    slept = 0

    def now(self) -> int:
        return super().now() + self.slept


@workflow
async def nothing(ctx: Context) -> None:
    """Is never driven here."""


class Scene:
    """A client on a machine, and a database whose clock is some hours off."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.ahead = 0.0
        self.client = Client("sqlite://")
        self.client.clock = self.machine
        self.client.storage = self.store = FaultyStorage(self.client.storage)
        self.store.time = self.time

    def time(self) -> int:
        return self.machine.now() + round(self.ahead * SECOND)

    def passes(self, seconds: float) -> None:
        self.machine.advance(seconds)

    async def due_in(self) -> float:
        """When a run that is put off by an hour begins, in seconds from now."""
        handle = await self.client.start(nothing, delay=HOUR)
        row = await self.store.run(handle.id)
        assert row is not None
        assert row.wake_at is not None
        return (row.wake_at - self.time()) / SECOND


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with scene.client:
        yield scene


async def test_a_clock_that_was_set_is_noticed_within_a_minute(scene: Scene) -> None:
    """Once for all calls of that minute."""
    scene.ahead = 8 * HOUR
    scene.passes(61)
    assert await scene.due_in() == HOUR
    assert await scene.due_in() == HOUR
    assert scene.store.calls["now"] == 2  # the first at the opening


async def test_a_machine_that_has_slept_asks_at_once(scene: Scene) -> None:
    """Its clock for waits may not have gone on meanwhile, but the one on the wall has."""
    scene.machine.slept = 8 * HOUR * SECOND
    assert await scene.due_in() == HOUR
    assert scene.store.calls["now"] == 2


async def test_a_reading_that_fails_does_not_keep_a_start_from_being_tried(scene: Scene) -> None:
    """It goes by what it knows, and asks again a minute later."""
    scene.store._fault_of = lambda op: ERROR_BEFORE if (op.verb, op.nth) == ("now", 2) else None
    scene.passes(61)
    assert await scene.due_in() == HOUR
    scene.ahead = HOUR
    scene.passes(61)
    assert await scene.due_in() == HOUR
    assert scene.store.calls["now"] == 3


async def test_what_is_published_is_kept_by_the_newest_reading(scene: Scene) -> None:
    """It would be gone before its time."""
    scene.ahead = 8 * HOUR
    scene.passes(61)
    await scene.client.publish("n", 1, key="k")
    (operation,) = [op for op in scene.store.log if op.verb == "publish"]
    (publication,) = operation.arguments[0]  # type: ignore[misc]
    assert publication.until == scene.time() + timedelta(days=7) // timedelta(microseconds=1)
