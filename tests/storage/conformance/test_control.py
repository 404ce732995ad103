"""Messages that must be read before the end, and messages between runs by id."""

from __future__ import annotations

from dataclasses import replace

import pytest

from durable.model.messages import CANCEL, follow_message
from durable.model.rows import Code, Delivery, OutMessage
from tests.storage.conformance.world import TERMINATED, World, appending, finishing, new, to


def control(id: str, key: str | None = None) -> Delivery:
    return Delivery(id, CANCEL, b"\x01x", key, control=True)


async def test_a_run_cannot_end_before_a_control_message_is_in_its_history(world: World):
    """The commit answers UNSEEN and how many messages there are; once it is read, the end is accepted."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.deliver([control("r")])
    (answer,) = await world.store.commit(worker, [finishing(claim)])
    assert (answer.code, answer.seq, answer.inbox_head) == (Code.UNSEEN, 1, 1)
    assert len(await world.types("r")) == 1
    (patient,) = await world.store.commit(worker, [finishing(claim)], wait=True)
    assert patient.code is Code.UNSEEN
    (held,) = await world.store.owned(worker)
    assert held.inbox_head == 1
    await world.finish(worker, claim, consumed=1)
    assert (await world.run("r")).status == "completed"


async def test_plain_messages_do_not_keep_a_run_from_its_end(world: World):
    """Neither before the control message that was read nor after it."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.deliver("r")
    await world.store.deliver([control("r"), Delivery("r", "plain", b"\x01")])
    (answer,) = await world.store.commit(worker, [finishing(claim, consumed=1)])
    assert (answer.code, answer.inbox_head) == (Code.UNSEEN, 3)
    await world.finish(worker, claim, consumed=2)


async def test_a_control_message_lets_everything_else_pass(world: World):
    """The run may go on and park; it is due at once."""
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    await world.store.deliver([control("r")])
    assert (await world.commit(worker, claim)).code is Code.APPLIED
    claim = replace(claim, seq=2)
    assert (await world.park(worker, claim)).code is Code.APPLIED
    (again,) = await world.claim(worker)
    assert again.inbox_head == 1
    (answer,) = await world.store.commit(worker, [finishing(again)])
    assert answer.code is Code.UNSEEN


async def test_a_repeated_control_message_is_the_same(world: World):
    worker = await world.worker()
    claim = await world.claimed(worker, "r")
    answers = await world.store.deliver([control("r", "k"), control("r", "k")])
    answers += await world.store.deliver([control("r", "k")])
    assert [answer.number for answer in answers] == [1, 1, 1]
    await world.finish(worker, claim, consumed=1)


async def test_of_a_batch_only_the_run_that_has_not_listened_waits(world: World):
    worker = await world.worker()
    runs = [await world.claimed(worker, id) for id in "abc"]
    await world.store.deliver([control("b")])
    answers = await world.store.commit(worker, [finishing(claim) for claim in runs])
    assert [answer.code for answer in answers] == [Code.APPLIED, Code.UNSEEN, Code.APPLIED]


@pytest.mark.parametrize("name", [CANCEL, follow_message(7, 1)])
async def test_runs_that_cancel_or_follow_another_one_are_heard(world: World, name: str):
    """From a run's own commit these messages are control messages."""
    worker = await world.worker()
    one, two = [await world.claimed(worker, id) for id in "ab"]
    await world.commit(worker, one, messages=(OutMessage(two.key, name, b"\x01"),))
    (answer,) = await world.store.commit(worker, [finishing(two)])
    assert (answer.code, answer.inbox_head) == (Code.UNSEEN, 1)
    await world.finish(worker, two, consumed=1)


async def test_nothing_reaches_a_run_that_ends_in_the_same_batch(world: World):
    """What nobody would read is dropped, as for a run that has ended before."""
    worker = await world.worker()
    one, two = [await world.claimed(worker, id) for id in "ab"]
    following = OutMessage("b", follow_message(one.key, 3), b"\x01")
    batch = [finishing(two), appending(one, messages=(following,))]
    answers = await world.store.commit(worker, batch)
    assert [answer.code for answer in answers] == [Code.APPLIED, Code.APPLIED]
    assert answers[0].inbox_head == 0
    assert await world.mail(two.key) == []


# -- to a run by its id


async def test_a_message_to_an_id_wakes_that_run(world: World):
    worker = await world.worker()
    one, two = [await world.claimed(worker, id) for id in "ab"]
    await world.park(worker, two)
    sent = (
        OutMessage("b", "first", b"\x01x"),
        *to(two.key, "second"),
        OutMessage("b", "third", b""),
    )
    (answer,) = await world.store.commit(worker, [appending(one, messages=sent)])
    assert answer.code is Code.APPLIED
    assert await world.mail(two.key) == [(1, "first"), (2, "second"), (3, "third")]
    assert [claim.id for claim in await world.claim(worker)] == ["b"]


async def test_a_message_to_nobody_is_dropped(world: World):
    """To an unknown id and to a run that has ended; the commit is applied all the same."""
    worker = await world.worker()
    one, two = [await world.claimed(worker, id) for id in "ab"]
    await world.finish(worker, two)
    sent = (OutMessage("unknown", "m", b""), OutMessage("b", "m", b""), OutMessage("a", "me", b""))
    answer = await world.commit(worker, one, messages=sent)
    assert (answer.code, answer.inbox_head) == (Code.APPLIED, 1)
    assert await world.mail(two.key) == []
    assert await world.mail(one.key) == [(1, "me")]


async def test_a_child_can_be_told_something_by_the_commit_that_starts_it(world: World):
    """It finds the message in its inbox, and does not end before it has read a cancel."""
    worker = await world.worker()
    parent = await world.claimed(worker, "parent")
    kid = new("kid", parent_key=parent.key, parent_cmd=1)
    sent = (OutMessage("kid", "hello", b"\x01"), OutMessage("kid", CANCEL, b"\x01"))
    answer = await world.commit(worker, parent, children=(kid,), messages=sent)
    assert list(answer.children) == ["kid"]
    (claim,) = await world.claim(worker)
    assert (claim.id, claim.inbox_head) == ("kid", 2)
    assert await world.mail(claim.key) == [(1, "hello"), (2, CANCEL)]
    (answer,) = await world.store.commit(worker, [finishing(claim)])
    assert answer.code is Code.UNSEEN


async def test_a_message_goes_to_the_run_that_has_the_id_now(world: World):
    """After a restart the older run has another id."""
    worker = await world.worker()
    one = await world.claimed(worker, "a")
    await world.start("b")
    fresh = await world.store.restart(new("b", data=b"\x01new"), TERMINATED, b"\x01")
    await world.commit(worker, one, messages=(OutMessage("b", "m", b""),))
    assert await world.mail(fresh.key) == [(1, "m")]
