"""Events: which wait takes which one, what stays, and what a wait does that is too late or too early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from durable.clock import SECOND
from durable.engine.context import Context
from durable.engine.mailbox import Mailbox
from durable.errors import WaitTimeout
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.commands import ContinueRun
from durable.model.definition import Workflow, workflow
from durable.model.events import Event, awaited, sent
from durable.model.payload import ANY, JSON
from tests.engine.cost import processor_seconds
from tests.engine.driver import (
    ENDED,
    UNKNOWN,
    Driver,
    EndedWait,
    Recording,
    Sent,
    failure,
    live,
    result,
    same_on_replay,
)
from tests.engine.workflows import note

EARLY, LATE = SECOND // 2, 100 * SECOND


class Paid(BaseModel):
    amount: int


class Withdrawn(BaseModel):
    why: str


PAID = Event("paid", Paid)


def of(body: Callable[[Context], Any]) -> Workflow[None, Any]:
    @workflow(name="events")
    async def events(ctx: Context) -> Any:
        return await body(ctx)

    return events


def run(body: Callable[[Context], Any], *sends: Sent, **options: Any) -> Any:
    """What a body returns; every replay must be alike, and it must be so with and without parking."""
    found = [result(of(body), sends=sends, park=park, **options) for park in (0, 1)]
    assert found[0] == found[1]
    return found[0]


# -- one event


@pytest.mark.parametrize("wait_from", [0.0, 10.0], ids=["early", "late"])
def test_an_event_is_taken_whether_it_comes_before_or_after_the_wait(wait_from: float):
    """An event that comes before its wait lies in the inbox until the wait begins."""

    async def body(ctx: Context) -> int:
        await ctx.sleep(wait_from)
        return (await ctx.wait_for_event(Paid)).amount

    assert run(body, Sent(SECOND, "Paid", {"amount": 3})) == 3


@pytest.mark.parametrize(
    "wait",
    [
        lambda ctx: ctx.wait_for_event(Paid),
        lambda ctx: ctx.wait_for_event(Event("Paid", Paid)),
        lambda ctx: ctx.wait_for_event("Paid", Paid),
    ],
)
def test_an_event_has_the_name_of_its_class_its_own_or_a_given_one(wait):
    """39. A `str` is a name; an `Event` its name and type; a class has its `__name__`."""

    async def body(ctx: Context) -> int:
        return (await wait(ctx)).amount

    assert run(body, Sent(0, "Paid", {"amount": 3})) == 3


def test_without_a_type_any_payload_comes_as_it_was():
    """`wait_for_event(name)` gives plain data."""
    assert run(lambda ctx: ctx.wait_for_event("n"), Sent(0, "n", (1, {2}))) == (1, {2})


def test_a_foreign_client_writes_json():
    """21. JSON of a foreign client is read by the annotation."""

    async def body(ctx: Context) -> int:
        return (await ctx.wait_for_event(Paid)).amount

    assert run(body, Sent(0, "Paid", JSON + b'{"amount": "3"}')) == 3


def test_events_are_taken_in_the_order_of_their_arrival():
    """A wait takes the oldest unconsumed match."""

    async def body(ctx: Context) -> list[int]:
        await ctx.sleep(5)
        return [await ctx.wait_for_event("n", int) for _ in range(4)]

    sends = [Sent(after * SECOND, "n", after) for after in (1, 2, 3, 9)]
    assert run(body, *sends) == [1, 2, 3, 9]


def test_of_two_waits_the_older_one_gets_the_event():
    """Each event goes to the oldest wait that it fits."""

    async def body(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.wait_for_event("n", int) for _ in range(3)))

    assert run(body, *(Sent(n, "n", n) for n in range(3))) == [0, 1, 2]


def test_a_payload_that_does_not_fit_stays_and_is_told_of():
    """40. It is left in the inbox, logged, and the wait goes on."""

    async def body(ctx: Context) -> list[Any]:
        taken = await ctx.wait_for_event("n", int)
        return [taken, await ctx.wait_for_event("n")]

    recording = live(of(body), sends=[Sent(1, "n", "x"), Sent(2, "n", 5)])
    assert recording.outcome == [5, "x"]
    assert "event n stays unread" in recording.logs[0]
    assert same_on_replay(of(body), recording)


def test_where_sees_decoded_payloads_and_what_it_refuses_stays():
    """41. `where` is called on decoded payloads; refused ones stay for others."""

    async def body(ctx: Context) -> list[int]:
        big = await ctx.wait_for_event(Paid, where=lambda paid: paid.amount > 10)
        return [big.amount, (await ctx.wait_for_event(Paid)).amount]

    assert run(body, Sent(1, "Paid", {"amount": 1}), Sent(2, "Paid", {"amount": 11})) == [11, 1]


@pytest.mark.parametrize("wait_from", [0.0, 10.0], ids=["later", "at once"])
def test_where_that_raises_fails_its_own_wait_and_the_event_stays(wait_from: float):
    """A predicate that fails is the workflow's own error; the event is there for others."""

    async def body(ctx: Context) -> list[str]:
        await ctx.sleep(wait_from)
        waits = [
            ctx.wait_for_event("n", int, where=lambda n: 1 // n > 5),
            ctx.wait_for_event("n", int),
        ]
        return [repr(found) for found in await asyncio.gather(*waits, return_exceptions=True)]

    found = run(body, Sent(SECOND, "n", 0))
    assert found == ["ZeroDivisionError('integer division or modulo by zero')", "0"]


def test_with_a_key_a_wait_takes_from_the_inbox_and_from_what_was_published_under_it():
    """42. With `key=` a wait takes from the run's inbox and from what was published under that key."""

    async def body(ctx: Context) -> list[int]:
        await ctx.sleep(5)
        keyed = [await ctx.wait_for_event("n", int, key="a") for _ in range(2)]
        other = await ctx.wait_for_event("n", int, key="b")
        return [*keyed, other]

    sends = [Sent(1, "n", 1, "b"), Sent(2, "n", 2, "a"), Sent(3, "n", 3)]
    assert run(body, *sends) == [2, 3, 1]


def test_without_a_key_what_was_published_is_not_for_this_wait():
    """A wait without a key takes what was sent to the run, nothing else."""

    async def body(ctx: Context) -> int:
        return await ctx.wait_for_event("n", int)

    assert run(body, Sent(1, "n", 1, "a"), Sent(2, "n", 2)) == 2


# -- time-outs


def test_a_wait_that_times_out_raises_or_gives_its_default():
    """After `timeout` a wait raises `WaitTimeout`, a `TimeoutError`, or gives `default`, None too."""

    async def body(ctx: Context) -> list[Any]:
        found: list[Any] = [await ctx.wait_for_event("n", timeout=3, default=None)]
        found.append(await ctx.wait_for_event("n", timeout=3, default=7))
        try:
            await ctx.wait_for_event("n", timeout=3)
        except WaitTimeout as error:
            assert isinstance(error, TimeoutError)
            assert str(error) == "run run: no event n came in time"
            found.append("too late")
        return [*found, await ctx.wait_for_event("n")]

    assert run(body, Sent(LATE, "n", "late")) == [None, 7, "too late", "late"]


@pytest.mark.parametrize("there", [True, False])
def test_a_timeout_of_nothing_takes_what_is_there(there: bool):
    """`timeout=0` gives an event that has come, else the default."""

    async def body(ctx: Context) -> Any:
        await ctx.sleep(1)
        return await ctx.wait_for_event("n", int, timeout=0, default="none")

    assert run(body, Sent(EARLY if there else LATE, "n", 5)) == (5 if there else "none")


def test_a_wait_that_finds_its_event_at_once_asks_for_nothing():
    """It takes a command number, as any call, and leaves no trace in the history."""

    async def body(ctx: Context) -> list[Any]:
        await ctx.sleep(5)
        return [await ctx.wait_for_event("n", int), await ctx.step(note, "after")]

    recording = live(of(body), sends=[Sent(1, "n", 1)])
    assert recording.outcome == [1, "after"]
    assert recording.commands("wait") == recording.commands("end wait") == []
    assert recording.commands("step")[0][1] == 3
    assert same_on_replay(of(body), recording)


def test_what_was_promised_when_the_run_parked_wins_over_the_code():
    """The time-out that stands in the history holds, whatever the code says now."""
    seconds = [5.0]

    async def body(ctx: Context) -> str:
        return await ctx.wait_for_event("n", str, timeout=seconds[0], default="none")

    driver = Driver(of(body), park=1, noise=0)
    driver.park_now()
    rows = list(driver.recording.rows)
    driver.finish()
    seconds[0] = 50.0
    again = Driver(of(body), park=0, noise=0)
    for row in rows[1:]:
        again.record(history.WaitStarted(row.at, 1, "n", "event", ["n"], "one", None, START_5, ""))
    assert again.waits[1].due == START_5
    assert again.finish().outcome == "none"


START_5 = 1_767_225_605 * SECOND


@pytest.mark.parametrize("verb", ["wait_for_event", "wait_for_any", "wait_for_all"])
def test_a_default_without_a_timeout_is_a_mistake(verb: str):
    """`default` without `timeout` is `TypeError`: it would never be given."""

    async def body(ctx: Context) -> None:
        await getattr(ctx, verb)(["n"] if verb != "wait_for_event" else "n", default=None)

    assert failure(of(body)).type == "builtins:TypeError"


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1"])
def test_a_timeout_is_a_length_of_time(timeout: Any):
    """NaN, negative numbers, bools and strings are refused."""

    async def body(ctx: Context) -> None:
        await ctx.wait_for_event("n", timeout=timeout)

    assert failure(of(body)).type in ("builtins:ValueError", "builtins:TypeError")


def test_a_very_long_timeout_is_no_error():
    """No wait is due after the year 9999."""

    async def body(ctx: Context) -> int:
        return await ctx.wait_for_event("n", int, timeout=1e300)

    assert run(body, Sent(1, "n", 1)) == 1


@pytest.mark.parametrize(
    "wrong", ["", "~x", "x" * 256, "a\nb", 3, None, ["a", "b"], Event], ids=repr
)
def test_what_is_no_event(wrong: Any):
    """Names have 1 to 255 printable characters and do not begin with "~"."""

    async def body(ctx: Context) -> None:
        await (ctx.wait_for_event(wrong) if wrong is not Event else ctx.wait_for_any([]))

    assert failure(of(body)).type in ("builtins:ValueError", "builtins:TypeError")


def test_a_predicate_must_not_be_a_coroutine():
    """A coroutine is always true: it would be no predicate at all."""

    async def body(ctx: Context) -> None:
        async def where(_: Any) -> bool:
            return False

        await ctx.wait_for_event("n", where=where)  # type: ignore[arg-type]

    assert failure(of(body)).type == "builtins:TypeError"


def test_somebody_may_end_a_wait_from_outside():
    """`cancel_wait`: the oldest wait of this name times out."""

    async def body(ctx: Context) -> list[Any]:
        waits = [ctx.wait_for_event("n", timeout=LATE, default=tag) for tag in "ab"]
        return await asyncio.gather(*waits)

    assert run(body, EndedWait(1, "n"), Sent(2, "n", 5), EndedWait(3, "n")) == ["a", 5]


# -- several


def test_any_gives_name_and_payload_of_the_first():
    """`wait_for_any(events)` gives `(name, payload)`."""

    async def body(ctx: Context) -> list[Any]:
        name, paid = await ctx.wait_for_any([Paid, Withdrawn, Paid])
        assert paid == Paid(amount=1)
        await ctx.sleep(5)
        return [name, await ctx.wait_for_any(["x", "y", "Withdrawn"])]

    sends = [Sent(1, "Paid", {"amount": 1}), Sent(2, "y", 2), Sent(3, "Withdrawn", 4)]
    assert run(body, *sends) == ["Paid", ("y", 2)]


def test_all_gives_one_of_each():
    """`wait_for_all(events)` gives `{name: payload}`, in the order asked; what is too many stays."""

    async def body(ctx: Context) -> list[Any]:
        found = await ctx.wait_for_all(["b", "a", "b"])
        assert list(found) == ["b", "a"]
        return [found, await ctx.wait_for_event("b")]

    assert run(body, Sent(1, "b", 1), Sent(2, "b", 2), Sent(3, "a", 3)) == [{"b": 1, "a": 3}, 2]


def test_all_finds_what_came_before():
    """A wait for all that begins late has what was there."""

    async def body(ctx: Context) -> Any:
        await ctx.sleep(5)
        return await ctx.wait_for_all(["a", "b"])

    assert run(body, Sent(1, "b", 1), Sent(LATE, "a", 3)) == {"a": 3, "b": 1}


@pytest.mark.parametrize("end", ["timeout", "cancel", "outside"])
def test_what_a_wait_for_all_had_taken_goes_to_a_wait_that_is_open(end: str):
    """It goes back in its old place, and at once to the oldest wait that it fits."""

    async def body(ctx: Context) -> list[Any]:
        both = asyncio.create_task(ctx.wait_for_all(["a", "b"], timeout=5, default="none"))
        await asyncio.sleep(0)
        one = asyncio.create_task(ctx.wait_for_event("a"))
        await ctx.sleep(4)
        if end == "cancel":
            both.cancel()
        found = await asyncio.gather(both, return_exceptions=True)
        return [str(found[0]), await one]

    sends = [Sent(1, "a", 1)] + ([EndedWait(2, "b")] if end == "outside" else [])
    assert run(body, *sends) == ["" if end == "cancel" else "none", 1]


def test_what_goes_back_goes_to_its_old_place():
    """Order of arrival, not of return."""

    async def body(ctx: Context) -> list[Any]:
        await ctx.wait_for_all(["n", "never"], timeout=5, default=None)
        return [await ctx.wait_for_event("n") for _ in range(3)]

    assert run(body, *(Sent(n, "n", n) for n in (1, 2, 3))) == [1, 2, 3]


def test_a_loser_leaves_its_event_in_the_inbox():
    """33. Losers are cancelled; an event that a loser waited for stays in the inbox."""

    async def body(ctx: Context) -> list[Any]:
        lost = asyncio.create_task(ctx.wait_for_all(["a", "b"]))
        won = await ctx.wait_for_event("c")
        lost.cancel()
        return [won, await ctx.wait_for_event("a")]

    assert run(body, Sent(1, "a", 1), Sent(2, "c", 3)) == [3, 1]


def test_a_wait_that_was_given_up_takes_nothing_more():
    async def body(ctx: Context) -> list[Any]:
        lost = asyncio.create_task(ctx.wait_for_event("a"))
        won = await ctx.wait_for_event("c")
        lost.cancel()
        return [won, await ctx.wait_for_event("a")]

    assert run(body, Sent(1, "c", 3), Sent(2, "a", 1)) == [3, 1]


def test_an_awaiter_that_is_cancelled_before_it_sees_its_event_gives_it_back():
    """Cancelled between being given and running: nothing that came for the run is lost on the way."""

    async def body(ctx: Context) -> Any:
        async def loses() -> None:
            try:
                await ctx.wait_for_all(["a", "b"], timeout=5)
            except TimeoutError:
                taker.cancel()  # which has just been given what this wait had taken

        loser = asyncio.create_task(loses())
        await asyncio.sleep(0)
        taker = asyncio.create_task(ctx.wait_for_event("a"))
        await asyncio.wait([loser, taker])
        assert taker.cancelled()
        return await ctx.wait_for_event("a", timeout=0, default="lost")

    assert run(body, Sent(1, "a", 1)) == 1


def test_what_is_on_its_way_to_an_awaiter_moves_on():
    """`continue_as_new` in the same turn carries over what an awaiter was given and has not seen."""

    async def body(ctx: Context) -> None:
        async def loses() -> None:
            with contextlib.suppress(TimeoutError):
                await ctx.wait_for_all(["a", "b"], timeout=5)
            ctx._instance.continue_as_new(b"")
            await asyncio.get_running_loop().create_future()

        loser = asyncio.create_task(loses())
        await asyncio.sleep(0)
        await asyncio.gather(loser, ctx.wait_for_event("a"))

    recording = live(of(body), sends=[Sent(1, "a", 1)], noise=0)
    assert [event.name for event in unpack_carried(recording.outcome.carried).unread] == ["a"]
    assert same_on_replay(of(body), recording)


# -- to others


def test_sending_is_an_effect_that_reports_back():
    """`send_event` is done when the event lies in the other run's inbox."""

    async def body(ctx: Context) -> str:
        await ctx.send_event("other", PAID, Paid(amount=1))
        await ctx.send_event("other", Paid(amount=2))
        await ctx.send_event("other", "paid", {"amount": 3})
        await ctx.send_event("other", "go")
        await ctx.publish(Paid(amount=4), key="k")
        return "sent"

    recording = live(of(body))
    assert recording.outcome == "sent"
    assert same_on_replay(of(body), recording)
    told = [(name, target, key) for _, _, name, _, target, key in recording.commands("send")]
    assert told == [
        ("paid", "other", None),
        ("Paid", "other", None),
        ("paid", "other", None),
        ("go", "other", None),
        ("Paid", None, "k"),
    ]
    assert ANY.decode(bytes.fromhex(recording.commands("send")[0][3]), "") == {"amount": 1}


def test_an_event_for_nobody_is_an_error_of_the_sender():
    """`RunNotFound` for an unknown run, `IllegalTransition` for one that has ended."""

    async def body(ctx: Context) -> list[str]:
        sends = [ctx.send_event(target, "n", 1) for target in (UNKNOWN, ENDED, "fine")]
        found = await asyncio.gather(*sends, return_exceptions=True)
        return [type(one).__name__ for one in found]

    assert run(body) == ["RunNotFound", "IllegalTransition", "NoneType"]


def test_a_send_whose_awaiter_is_gone_goes_on():
    """It may be there already: it is not called back."""

    async def body(ctx: Context) -> str:
        sending = asyncio.create_task(ctx.send_event("other", "n", 1))
        await asyncio.sleep(0)
        sending.cancel()
        await ctx.sleep(5)
        return "done"

    assert run(body) == "done"


@pytest.mark.parametrize(
    "event, payload",
    [
        (PAID, {"amount": "x"}),
        (Paid, None),
        (Paid(amount=1), 3),
        ("", 1),
        ("~cancel", None),
        ("n", object()),
    ],
)
def test_what_cannot_be_sent(event: Any, payload: Any):
    """A payload must fit its event; a name must be one; a class is not an event that happened."""

    async def body(ctx: Context) -> None:
        await ctx.send_event("other", event, payload)

    told = failure(of(body))
    assert told.type.rpartition(":")[2] in ("PayloadError", "TypeError", "ValueError")


def test_sender_and_waiter_agree_on_the_name():
    """39. What is sent as an object is awaited by its class."""
    assert sent(Paid(amount=1), *_nothing())[0] == awaited(Paid)[0] == "Paid"


def _nothing() -> list[Any]:
    from durable.model.events import NO_PAYLOAD

    return [NO_PAYLOAD]


# -- generations


def test_what_nobody_took_moves_on():
    """31. With `continue_as_new` the inbox stays, what an open wait had taken included."""

    async def body(ctx: Context) -> None:
        waiting = asyncio.create_task(ctx.wait_for_all(["a", "b"]))
        await ctx.wait_for_event("n")
        await ctx.wait_for_event("go")
        assert not waiting.done()
        ctx._instance.continue_as_new(b"")
        await asyncio.get_running_loop().create_future()

    sends = [Sent(1, "n", 1), Sent(2, "a", 2), Sent(3, "n", 3), Sent(4, "b~", 4), Sent(5, "go")]
    recording = live(of(body), sends=sends, noise=0)
    assert isinstance(recording.outcome, ContinueRun)
    carried = unpack_carried(recording.outcome.carried)
    assert [event.name for event in carried.unread] == ["a", "n", "b~"]
    assert same_on_replay(of(body), recording)


def test_an_event_of_an_earlier_generation_is_taken_first():
    """What is carried over keeps its order."""

    async def body(ctx: Context) -> list[int]:
        return [await ctx.wait_for_event("n", int) for _ in range(3)]

    driver = Driver(of(body), noise=0, park=0)
    driver.instance.mailbox.take_over(
        tuple(history.EventReceived(0, "n", ANY.encode(n, ""), n) for n in (7, 8))
    )
    driver.record(history.EventReceived(driver.now, "n", ANY.encode(9, ""), 9))
    # The waits began before; the first arrival went to the oldest of them.
    assert driver.finish().outcome == [9, 7, 8]


# -- cost


def cost(events: int, waits: bool) -> float:
    """Seconds to take so many events one by one."""

    async def body(ctx: Context) -> int:
        if waits:
            tasks = [asyncio.create_task(ctx.wait_for_event("n", int)) for _ in range(events)]
            return sum([await task for task in tasks])
        await ctx.wait_for_event("go")
        return sum([await ctx.wait_for_event("n", int) for _ in range(events)])

    def take() -> None:
        driver = Driver(of(body), noise=0, park=0)
        for number in range(events):
            event = history.EventReceived(driver.now, "n", ANY.encode(number, ""), number)
            driver.record(event)
        driver.record(history.EventReceived(driver.now, "go", ANY.encode(None, ""), events))
        assert driver.ending is not None

    return processor_seconds(take)


@pytest.mark.parametrize("waits", [False, True], ids=["unread", "waiting"])
def test_ten_thousand_events_are_taken_in_linear_time(waits: bool):
    """Five times as many events take about five times as long, not twenty-five times."""
    few, many = cost(2_000, waits), cost(10_000, waits)
    assert many < few * 12


def test_a_discarded_run_leaves_no_circle():
    """A mailbox that is forgotten holds no wait."""

    async def body(ctx: Context) -> None:
        await ctx.wait_for_event("n")

    driver = Driver(of(body), noise=0, park=0)
    box: Mailbox = driver.instance.mailbox
    assert box._waiting
    driver.instance.discard()
    assert not box._waiting
    driver.made.remove(driver)


def test_recordings_tell_of_waits():
    """The command says what is waited for, until when, and under which key."""
    recording: Recording = live(
        of(lambda ctx: ctx.wait_for_event(PAID, key="k", timeout=5, default=None)), noise=0, park=0
    )
    kind, _, what, names, mode, key, due, form, to = recording.commands("wait")[0]
    assert (kind, what, names, mode, key, form, to) == (
        "wait",
        "event",
        ("paid",),
        "one",
        "k",
        None,
        (),
    )
    assert due == START_5
