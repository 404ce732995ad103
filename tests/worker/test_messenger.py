"""The messenger: what runs ask of the database besides commits, in batches, until it has come through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from durable import Context, workflow
from durable.clock import VirtualClock
from durable.errors import StoreUnavailable
from durable.model import history
from durable.model.commands import Send, Site
from durable.model.rows import Delivered
from durable.model.wire import EventRow
from durable.worker.effects import CancelLate, Effect, Follow, LookForChildren, Subscribe
from durable.worker.messenger import Messenger
from durable_testing.faults import ERROR_BEFORE
from tests.worker.world import world_with

HERE = Site((lambda: None).__code__, 1)


def send(cmd: int, target: str = "b", key: str | None = None) -> Send:
    return Send(cmd, "note", b"\x01", None if key else target, key, HERE)


class Run:
    """What the messenger sees of an execution."""

    def __init__(self, key: int = 1) -> None:
        self.key = key
        self.id = f"run-{key}"
        self.dead = False
        self.open: list[Effect] = []
        self.events: list[history.Event] = []
        self.missing: list[int] = []

    def asks_for(self, effect: Effect) -> bool:
        return not self.dead and any(effect is one for one in self.open)

    def carried_out(self, effect: Effect, *events: history.Event) -> None:
        self.open = [one for one in self.open if one is not effect]
        self.events += events

    def may_run_out(self, effect: Effect) -> bool:
        return False

    def children_missing(self, cmds: list[int]) -> None:
        self.missing += cmds

    def at(self) -> int:
        return 1


class Store:
    """Answers what it was told to; a name in `fails` fails that many times."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails: dict[str, list[Exception]] = {}
        self.refuses: dict[str, Delivered] = {}
        self.locked: set[str] = set()
        self.has_children: dict[int, dict[int, str]] = {}
        self.ended: dict[str, Any] = {}

    def _note(self, verb: str, what: Any) -> None:
        self.calls.append((verb, what))
        if self.fails.get(verb):
            raise self.fails[verb].pop(0)

    async def deliver(self, deliveries: Any, *, wait: bool = False) -> list[Delivered]:
        self._note("deliver", [(d.run_id, d.name, d.idempotency_key) for d in deliveries])
        return [
            Delivered(None, busy=True)
            if d.run_id in self.locked
            else self.refuses.get(d.run_id, Delivered(1))
            for d in deliveries
        ]

    async def publish(self, publications: Any) -> list[int]:
        self._note("publish", [(p.name, p.key, p.idempotency_key) for p in publications])
        return [0 for _ in publications]

    async def subscribe(self, subscriptions: Any) -> None:
        self._note("subscribe", [(s.run, s.key) for s in subscriptions])

    async def children(self, parent: int, commands: Any) -> dict[int, str]:
        self._note("children", parent)
        return self.has_children.get(parent, {})

    async def finished(self, run_ids: Any) -> dict[str, Any]:
        self._note("finished", list(run_ids))
        return {run_id: self.ended[run_id] for run_id in run_ids if run_id in self.ended}


class Host:
    stirs = 0

    def now(self) -> int:
        return 1

    def stirred(self) -> None:
        self.stirs += 1


class Room:
    def __init__(self) -> None:
        self.store = Store()
        self.clock = VirtualClock()
        self.host = Host()
        self.messenger = Messenger(self.store, self.host, self.clock)  # type: ignore[arg-type]

    def submit(self, run: Run, *effects: Effect) -> None:
        for effect in effects:
            run.open.append(effect)
            self.messenger.submit(run, effect)  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(200):
            await asyncio.sleep(0)
            if condition():
                return
            if self.clock.next_due is not None:
                self.clock.jump(self.clock.next_due)
        raise AssertionError(self.store.calls)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    task = asyncio.ensure_future(room.messenger.run())
    yield room
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_was_asked_for_in_order_is_sent_in_order_in_one_batch(room: Room) -> None:
    """Events from one run to another arrive in the order in which they were sent."""
    run = Run()
    room.submit(run, send(1), send(2), send(3))
    await room.until(lambda: len(run.events) == 3)
    assert room.store.calls == [("deliver", [("b", "note", f"~sent:1:{cmd}") for cmd in (1, 2, 3)])]
    assert [event.cmd for event in run.events] == [1, 2, 3]  # type: ignore[union-attr]


async def test_a_send_goes_on_while_the_database_is_away(room: Room) -> None:
    """A send is tried again, under the same key, until it has come through."""
    run = Run()
    room.store.fails["deliver"] = [StoreUnavailable("away")] * 7
    room.submit(run, send(1))
    await room.until(lambda: room.messenger.trouble is not None)
    await room.until(lambda: run.events)
    assert len(room.store.calls) == 8
    assert {str(call) for call in room.store.calls} == {str(room.store.calls[0])}
    assert room.messenger.trouble is None


@workflow
async def tells(ctx: Context) -> None:
    await ctx.publish("news", 1, key="k")


async def test_a_worker_whose_messages_do_not_get_through_says_so() -> None:
    """It is not ready, and why."""
    async with world_with(tells) as (world, process):
        process.storage._fault_of = lambda operation: (
            ERROR_BEFORE if operation.verb == "publish" else None
        )
        handle = await world.run(process.client.start(tells, id="a"))
        await world.until(lambda: "messages" in process.worker.health().details["trouble"])
        assert not process.worker.health().ready
        process.storage._fault_of = lambda operation: None
        await world.result(handle)
        assert process.worker.health().ready


async def test_order_is_kept_when_the_database_comes_back(room: Room) -> None:
    """What is sent while the database is away comes after what was sent before."""
    run = Run()
    room.store.fails["deliver"] = [StoreUnavailable("away")]
    room.submit(run, send(1))
    await room.until(lambda: room.store.calls)
    room.submit(run, send(2))
    await room.until(lambda: len(run.events) == 2)
    assert [len(orders) for _, orders in room.store.calls] == [1, 1, 1]
    assert [event.cmd for event in run.events] == [1, 2]  # type: ignore[union-attr]


async def test_a_locked_run_holds_up_what_is_sent_to_it_and_nothing_else(room: Room) -> None:
    """What goes to it arrives when the lock is gone, in its order; all else is sent at once."""
    run = Run()
    room.store.locked = {"locked"}
    room.submit(run, send(1, "locked"), send(2, "free"), CancelLate(3, "locked", b""))
    await room.until(lambda: run.events)
    assert [event.cmd for event in run.events] == [2]  # type: ignore[union-attr]
    room.submit(run, send(4, "locked"), send(5, "free"))
    await room.until(lambda: len(run.events) == 2)
    assert [event.cmd for event in run.events] == [2, 5]  # type: ignore[union-attr]
    room.store.locked = set()
    await room.until(lambda: not run.open)
    assert [event.cmd for event in run.events] == [2, 5, 1, 4]  # type: ignore[union-attr]
    verb, last = room.store.calls[-1]
    keys = [key for _, _, key in last]
    assert (verb, keys) == ("deliver", ["~sent:1:1", "~cancel:1:3", "~sent:1:4"])
    assert room.host.stirs


async def test_a_run_that_ends_while_it_is_locked_is_reported_to_who_follows_it(room: Room) -> None:
    """Its end comes as if it had been followed, also when the follower is locked by then."""
    run = Run()
    room.store.locked = {"b", run.id}
    room.submit(run, Follow(3, "b"))
    await room.until(lambda: len(room.store.calls) > 3)
    room.store.refuses["b"] = Delivered(None, is_open=False)
    room.store.ended["b"] = ("completed", EventRow(9, 2, 1, None, None, b"end"))
    room.store.locked = {run.id}
    await room.until(lambda: any(call[1][0][0] == run.id for call in room.store.calls))
    assert run.open
    room.store.locked = set()
    await room.until(lambda: not run.open)
    assert room.store.calls[-1] == ("deliver", [(run.id, "~child:3:2", "~child:3")])


async def test_what_is_refused_when_the_lock_is_gone_comes_back(room: Room) -> None:
    """As an error to its sender."""
    run = Run()
    room.store.locked = {"b"}
    room.submit(run, send(1))
    await room.until(lambda: room.store.calls)
    room.store.fails["deliver"] = [ValueError("bad")]
    await room.until(lambda: run.events)
    assert run.events[0].refused == "refused by the database"  # type: ignore[union-attr]


UNKNOWN = Delivered(None, known=False, is_open=False)


@pytest.mark.parametrize(
    "answer, refused",
    [(UNKNOWN, "unknown"), (Delivered(None, is_open=False), "ended"), (Delivered(None), "full")],
)
async def test_a_send_to_nobody_comes_back(room: Room, answer: Delivered, refused: str) -> None:
    """An event to a run that has ended, that nobody knows, or that does not read comes back as an error."""
    room.store.refuses["b"] = answer
    run = Run()
    room.submit(run, send(1))
    await room.until(lambda: run.events)
    (event,) = run.events
    assert isinstance(event, history.MessageSent)
    assert event.refused == refused


async def test_one_order_that_the_database_does_not_take_harms_no_other(room: Room) -> None:
    """Where a batch is refused, each of its orders is tried alone."""
    run, other = Run(1), Run(2)
    room.store.fails["deliver"] = [ValueError("bad"), ValueError("bad")]
    room.submit(run, send(1))
    room.submit(other, send(1))
    await room.until(lambda: run.events and other.events)
    refused = [event.refused for event in (*run.events, *other.events)]  # type: ignore[union-attr]
    assert refused == ["refused by the database", None]


async def test_publications_are_numbered_by_their_command(room: Room) -> None:
    """A run publishes each event once, however often it is tried."""
    run = Run()
    room.store.fails["publish"] = [StoreUnavailable("away")]
    room.submit(run, send(4, key="order-1"))
    await room.until(lambda: run.events)
    assert room.store.calls == [("publish", [("note", "order-1", "~sent:1:4")])] * 2


async def test_nothing_is_done_for_a_run_that_is_gone(room: Room) -> None:
    """A run that is driven elsewhere is asked for there."""
    run = Run()
    run.dead = True
    room.submit(run, send(1), Subscribe(2, ("paid",), "order-1"))
    await room.until(lambda: not room.messenger._queue)
    assert room.store.calls == []


async def test_a_batch_that_fails_half_way_repeats_nothing_that_is_done(room: Room) -> None:
    """A child that does not exist is reported once, even if looking for others has failed after it."""
    run, other = Run(1), Run(2)
    room.store.has_children[2] = {1: "kid"}
    room.submit(run, LookForChildren((1,)))
    room.submit(other, LookForChildren((1,)))
    children, looked = room.store.children, []

    async def fails_once(parent: int, commands: Any) -> dict[int, str]:
        looked.append(parent)
        if looked == [1, 2]:
            raise StoreUnavailable("away")
        return await children(parent, commands)

    room.store.children = fails_once  # type: ignore[method-assign]
    await room.until(lambda: not run.open and not other.open)
    assert looked == [1, 2, 2]
    assert (run.missing, other.missing) == ([1], [])


async def test_the_end_of_a_run_that_has_gone_since_is_looked_for_anew(room: Room) -> None:
    """Of a run that was to be followed and that is not there any more, nothing can be reported."""
    room.store.refuses["b"] = UNKNOWN
    run = Run()
    room.submit(run, Follow(3, "b"))
    await room.until(lambda: not run.open)
    assert run.missing == [3]
    assert ("deliver", [("b", "~follow:1:3", "~follow:1:3")]) in room.store.calls
