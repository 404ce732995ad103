"""Events under a key: kept, given once to whoever waits, and gone when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from durable.model.messages import event_of, published_message
from durable.model.rows import Claim, NewWait, Publication, Subscription, WaitKind
from tests.storage.conformance.world import CANCEL, TERMINATED, World, appending


def told(world: World, key: str, name: str = "paid", **more: object) -> Publication:
    data = more.pop("data", b"\x01told")
    until = more.pop("until", world.now.after(60))
    return Publication(name, key, data, until, **more)  # type: ignore[arg-type]


def waits(key: str, *names: str, cmd: int = 1) -> NewWait:
    return NewWait(cmd, WaitKind.EVENT, names or ("paid",), 2, key=key)


async def waiting(world: World, worker: int, id: str, *keys: str) -> Claim:
    """A run that is parked and waits under these keys."""
    claim = await world.owned(worker, id)
    waits_ = [waits(key, cmd=n) for n, key in enumerate(keys, 1)]
    await world.park(worker, claim, waits=waits_)
    return claim


async def names(world: World, key: int) -> list[str]:
    return [name for _, name in await world.mail(key)]


def subscription(claim: Claim, key: str, *names_: str) -> Subscription:
    return Subscription(claim.key, names_ or ("paid",), key)


async def test_a_publication_reaches_every_open_run_that_waits(world: World):
    """Under its key and name: the runs are due at once, and the message says number, key and name."""
    worker = await world.worker()
    one, two, other = [
        await waiting(world, worker, id, key) for id, key in [("a", "k"), ("b", "k"), ("c", "x")]
    ]
    publication = told(world, "k", data=b"\x01money")
    assert await world.store.publish([publication]) == [2]
    (message,) = await world.store.inbox([(one.key, 0)])
    assert (message.name, message.data) == (published_message(1, "k", "paid"), b"\x01money")
    assert await names(world, two.key) == [message.name]
    assert await names(world, other.key) == []
    assert {claim.id for claim in await world.claim(worker)} == {"a", "b"}
    received = event_of(message, 5)
    assert (received.name, received.key, received.topic_number) == ("paid", "k", 1)  # type: ignore[union-attr]


async def test_only_waits_for_this_name_are_reached(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.park(worker, claim, waits=(waits("k", "paid", "late: ö"),))
    answers = await world.store.publish(
        [told(world, "k", "late: ö"), told(world, "k", "other"), told(world, "ö", "paid")]
    )
    assert answers == [1, 0, 0]
    assert await names(world, claim.key) == [published_message(1, "k", "late: ö")]


async def test_nobody_waits_and_nothing_is_published(world: World):
    assert await world.store.publish([]) == []
    await world.store.subscribe([])
    assert await world.store.publish([told(world, "k")]) == [0]


async def test_a_wait_that_begins_later_gets_what_is_kept(world: World):
    """In the order of the publications, each once; repeating it is harmless."""
    worker = await world.worker()
    await world.store.publish([told(world, "k"), told(world, "k", "refused"), told(world, "k")])
    claim = await waiting(world, worker, "r", "k")
    assert await names(world, claim.key) == []
    for _ in range(2):
        await world.store.subscribe([subscription(claim, "k", "paid", "refused")])
    expected = [(1, "paid"), (2, "refused"), (3, "paid")]
    assert await names(world, claim.key) == [published_message(n, "k", x) for n, x in expected]
    assert [claim.inbox_head for claim in await world.claim(worker)] == [3]


async def test_what_a_run_has_had_it_does_not_get_again(world: World):
    """Neither by a second wait of its own nor by looking again."""
    worker = await world.worker()
    claim = await waiting(world, worker, "r", "k", "k")
    await world.store.publish([told(world, "k")])
    await world.store.subscribe([subscription(claim, "k"), subscription(claim, "k")])
    assert len(await names(world, claim.key)) == 1
    (again,) = await world.claim(worker)
    await world.commit(worker, again, consumed=1, ended_waits=(1, 2), waits=(waits("k", cmd=3),))
    await world.store.subscribe([subscription(claim, "k")])
    assert await world.mail(claim.key, 1) == []


async def test_the_answer_counts_the_runs_reached_so_far(world: World):
    """The same idempotency key, per name and key, is kept once; others are others."""
    worker = await world.worker()
    one = await waiting(world, worker, "a", "k")
    first = told(world, "k", idempotency_key="i")
    assert await world.store.publish([first, first]) == [1, 1]
    two = await waiting(world, worker, "b", "k")
    await world.store.subscribe([subscription(two, "k")])
    assert await world.store.publish([first]) == [2]
    assert len(await names(world, one.key)) == 1
    others = [
        told(world, "k", idempotency_key="j"),
        told(world, "x", idempotency_key="i"),
        told(world, "k", "refused", idempotency_key="i"),
    ]
    assert await world.store.publish(others) == [2, 0, 0]
    assert len(await names(world, one.key)) == 2


async def test_a_publication_that_is_over_reaches_no_later_wait(world: World):
    """At its last moment it still does. Its idempotency key is free again then."""
    worker = await world.worker(ttl=1000)
    until = world.now.after(10)
    short = told(world, "k", until=until, idempotency_key="i")
    await world.store.publish([short, told(world, "k", until=world.now.after(100))])
    world.now.passes(10)
    one = await waiting(world, worker, "a", "k")
    await world.store.subscribe([subscription(one, "k")])
    assert len(await names(world, one.key)) == 2
    world.now.passes(1)
    two = await waiting(world, worker, "b", "k")
    await world.store.subscribe([subscription(two, "k")])
    assert len(await names(world, two.key)) == 1
    again = told(world, "k", idempotency_key="i")
    assert await world.store.publish([again]) == [2]


async def test_old_publications_are_swept_out(world: World):
    """By whoever publishes, and by the reaper: a wait of the past does not find them either."""
    worker = await world.worker(ttl=1000)
    claim = await waiting(world, worker, "r", "k")
    before = world.now.micros
    for n in range(3):
        await world.store.publish([told(world, f"k{n}", until=world.now.after(1))])
    world.now.passes(5)
    await world.store.publish([told(world, "x")])
    await world.store.publish([told(world, "k3", until=world.now.after(1))])
    world.now.passes(5)
    await world.reap()
    world.now.micros = before  # who looks from there would still see what is there
    await world.store.subscribe([subscription(claim, f"k{n}") for n in range(4)])
    assert await names(world, claim.key) == []


async def test_runs_that_have_ended_get_nothing(world: World):
    worker = await world.worker()
    claim = await waiting(world, worker, "r", "k")
    await world.store.terminate("r", TERMINATED, CANCEL)
    assert await world.store.publish([told(world, "k")]) == [0]
    await world.store.subscribe([subscription(claim, "k")])
    assert await names(world, claim.key) == []


async def test_a_run_that_is_planned_for_later_stays_so(world: World):
    worker = await world.worker(ttl=1000)
    started = await world.start("r", not_before=world.now.after(30))
    await world.store.publish([told(world, "k")])
    await world.store.subscribe([Subscription(started.key, ("paid",), "k")])
    assert await world.claim(worker) == []
    world.now.passes(30)
    assert [claim.inbox_head for claim in await world.claim(worker)] == [1]


async def test_many_are_published_at_once(world: World):
    """One run gets them in the order asked, beside its other messages."""
    worker = await world.worker()
    claim = await waiting(world, worker, "r", *[f"k{n}" for n in range(5)])
    await world.deliver("r", "before")
    batch = [told(world, f"k{n % 5}", data=b"%d" % n) for n in range(50)]
    assert await world.store.publish(batch) == [1] * 50
    await world.deliver("r", "after")
    messages = await world.store.inbox([(claim.key, 0)])
    assert [message.number for message in messages] == list(range(1, 53))
    assert [message.data for message in messages[1:-1]] == [b"%d" % n for n in range(50)]


async def test_no_event_is_missed_between_publishing_and_waiting(
    worlds: Callable[[int], list[World]],
):
    """A wait is committed, and looked after, while others publish: each event reaches the run once."""
    here, there, third = worlds(3)
    worker = await here.worker(ttl=1000)

    async def wait(claim: Claim, key: str) -> None:
        await here.store.commit(worker, [appending(claim, waits=(waits(key),))], wait=True)
        await here.store.subscribe([subscription(claim, key)])

    async def publish(world: World, key: str) -> Sequence[int]:
        return await world.store.publish([told(world, key), told(world, key, "refused")])

    for n in range(15):
        claim = await here.claimed(worker, f"r{n}")
        key = f"k{n}"
        await asyncio.gather(wait(claim, key), publish(there, key), publish(third, key))
        assert len(await names(here, claim.key)) == 2
