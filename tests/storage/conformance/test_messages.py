from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from durable.model.messages import CANCEL as ORDER_TO_CANCEL
from durable.model.rows import MAX_UNREAD, Act, Code, Delivery
from tests.storage.conformance.world import CANCEL, TERMINATED, World, appending


async def test_messages_are_numbered_in_the_order_of_acceptance(world: World):
    started = await world.start("r")
    assert [(await world.deliver("r", name)).number for name in "abc"] == [1, 2, 3]
    assert await world.mail(started.key) == [(1, "a"), (2, "b"), (3, "c")]
    assert await world.mail(started.key, 2) == [(3, "c")]
    assert await world.mail(started.key, 3) == []


async def test_deliveries_of_one_call_are_answered_in_order(world: World):
    one, two = await world.start("one"), await world.start("two")
    answers = await world.store.deliver(
        [Delivery(id, id, b"") for id in ["two", "one", "nobody", "two", "one", "two"]]
    )
    assert [(answer.number, answer.known) for answer in answers] == [
        (1, True),
        (1, True),
        (None, False),
        (2, True),
        (2, True),
        (3, True),
    ]
    messages = await world.store.inbox([(two.key, 1), (one.key, 0)])
    assert [(m.key, m.number) for m in messages] == [
        (one.key, 1),
        (one.key, 2),
        (two.key, 2),
        (two.key, 3),
    ]
    assert await world.store.deliver([]) == []


async def test_the_same_idempotency_key_gets_the_same_number(world: World):
    """Accepted once, for as long as the run is kept, also when it has ended; and per run."""
    worker = await world.worker()
    started, other = await world.start("r"), await world.start("other")
    await world.deliver("r", "first")
    assert (await world.deliver("r", "ping", "key")).number == 2
    assert (await world.deliver("r", "ping", "key")).number == 2
    assert (await world.deliver("r", "different", "key")).number == 2
    assert (await world.deliver("other", "ping", "key")).number == 1
    assert (await world.deliver("r", "ping", "key-2")).number == 3
    assert len(await world.mail(started.key)) == 3
    claims = {claim.key: claim for claim in await world.claim(worker)}
    await world.finish(worker, claims[started.key], consumed=3)
    assert (await world.deliver("r", "ping", "key")).number == 2
    assert len(await world.mail(other.key)) == 1


async def test_the_same_idempotency_key_twice_in_one_call(world: World):
    started = await world.start("r")
    answers = await world.store.deliver(
        [Delivery("r", name, b"", key) for name, key in [("a", "k"), ("b", None), ("c", "k")]]
    )
    assert [answer.number for answer in answers] == [1, 2, 1]
    assert await world.mail(started.key) == [(1, "a"), (2, "b")]


async def test_a_run_that_has_ended_takes_no_message(world: World):
    await world.start("r")
    await world.store.terminate("r", TERMINATED, CANCEL)
    answer = await world.deliver("r")
    assert (answer.number, answer.known) == (None, True)
    assert await world.mail((await world.run("r")).key) == []


async def test_a_run_that_does_not_read_takes_a_limited_number_of_messages(world: World):
    """Those that it did take keep their numbers; an order, a cancel say, has room; reading makes room."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    many = [Delivery("r", "x", b"") for _ in range(MAX_UNREAD - 2)]
    assert (await world.store.deliver(many))[-1].number == MAX_UNREAD - 2
    last = [Delivery("r", "x", b"", key) for key in ("k1", None, "k2", "k1", "k2")]
    cancel = Delivery("r", ORDER_TO_CANCEL, b"", control=True)
    answers = await world.store.deliver([*last, cancel, Delivery("r", "y", b"")])
    numbers = [MAX_UNREAD - 1, MAX_UNREAD, None, MAX_UNREAD - 1, None, MAX_UNREAD + 1, None]
    assert [answer.number for answer in answers] == numbers
    assert all(answer.known and answer.is_open for answer in answers)
    assert (await world.deliver("r", "x", "k2")).number is None
    assert (await world.deliver("r", "x", "k1")).number == MAX_UNREAD - 1
    [answer] = await world.store.deliver([cancel])
    assert answer.number == MAX_UNREAD + 2
    await world.commit(worker, claim, consumed=5)
    assert (await world.deliver("r", "x", "k2")).number == MAX_UNREAD + 3


async def test_a_message_makes_a_sleeping_run_ready(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, wake_at=world.now.after(1000))
    await world.deliver("r")
    assert (await world.run("r")).wake_at == world.now()
    (again,) = await world.claim(worker)
    assert (again.consumed, again.inbox_head) == (0, 1)


async def test_a_message_does_not_make_a_run_younger(world: World):
    """It keeps its place in the queue."""
    worker = await world.worker(ttl=1000)
    await world.start("old")
    world.now.passes(5)
    await world.start("young")
    world.now.passes(5)
    await world.deliver("old")
    assert [claim.id for claim in await world.claim(worker)] == ["old", "young"]


async def test_an_owner_learns_of_messages_for_what_it_holds(world: World):
    worker = await world.worker(ttl=1000)
    claim = await world.claimed(worker, "r")
    await world.commit(worker, claim)
    assert await world.store.owned(worker) == []
    await world.deliver("r")
    (held,) = await world.store.owned(worker)
    assert (held.key, held.seq, held.consumed, held.inbox_head) == (claim.key, 2, 0, 1)
    answer = await world.commit(worker, replace(claim, seq=2))
    assert (answer.code, answer.inbox_head) == (Code.APPLIED, 1)
    assert len(await world.store.owned(worker)) == 1
    answer = await world.commit(worker, replace(claim, seq=3), consumed=1)
    assert answer.code is Code.APPLIED
    assert await world.store.owned(worker) == []
    assert await world.mail(claim.key, 1) == []


async def test_a_run_does_not_sleep_through_a_message_that_came_before_it_parked(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.deliver("r")
    answer = await world.park(worker, claim, wake_at=world.now.after(1000))
    assert (answer.code, answer.inbox_head) == (Code.APPLIED, 1)
    (again,) = await world.claim(worker)
    assert (again.seq, again.consumed, again.inbox_head) == (2, 0, 1)
    await world.park(worker, again, consumed=1)
    assert await world.claim(worker) == []


async def test_consumed_messages_are_not_handed_out_again(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    for name in "abcd":
        await world.deliver("r", name)
    await world.commit(worker, claim, 2, consumed=2)
    assert await world.mail(claim.key, 2) == [(3, "c"), (4, "d")]
    await world.park(worker, replace(claim, seq=3), consumed=4)
    assert await world.mail(claim.key, 4) == []
    assert (await world.deliver("r")).number == 5


async def test_no_wake_up_is_lost_while_senders_and_owner_race(
    worlds: Callable[[int], list[World]],
):
    """An owner that parks after every look, senders in other processes: every message is seen, in order."""
    here, *senders = worlds(3)
    worker = await here.worker(ttl=10_000)
    await here.start("r")
    total = 40
    seen: list[str] = []

    async def send(world: World, sender: int) -> None:
        for n in range(total):
            assert (await world.deliver("r", f"{sender}-{n}")).number is not None
            if n % 5 == 0:
                await asyncio.sleep(0.001)

    async def own() -> None:
        while len(seen) < total * len(senders):
            claims = await here.claim(worker)
            if not claims:
                await asyncio.sleep(0.001)
                continue
            (claim,) = claims
            messages = await here.store.inbox([(claim.key, claim.consumed)])
            consumed = claim.consumed + len(messages)
            assert [m.number for m in messages] == list(range(claim.consumed + 1, consumed + 1))
            commit = appending(claim, len(messages), act=Act.PARK, status="waiting")
            while True:
                (answer,) = await here.store.commit(
                    worker, [replace(commit, consumed=consumed)], wait=True
                )
                if answer.code is not Code.BUSY:
                    break
            assert answer.code is Code.APPLIED
            seen.extend(m.name for m in messages)

    sending = [send(world, n) for n, world in enumerate(senders)]
    await asyncio.wait_for(asyncio.gather(own(), *sending), 60)
    for sender in range(len(senders)):
        mine = [name for name in seen if name.startswith(f"{sender}-")]
        assert mine == [f"{sender}-{n}" for n in range(total)]


@pytest.mark.parametrize("count", [1, 50])
async def test_concurrent_deliveries_leave_no_holes(
    worlds: Callable[[int], list[World]], count: int
):
    all_worlds = worlds(3)
    started = await all_worlds[0].start("r")
    answers = await asyncio.gather(
        *(all_worlds[n % 3].deliver("r", "m", f"key-{n // 2}") for n in range(2 * count))
    )
    numbers = [answer.number for answer in answers]
    assert numbers[::2] == numbers[1::2]
    assert sorted({number for number in numbers if number}) == list(range(1, count + 1))
    assert len(await all_worlds[0].mail(started.key)) == count
