"""What a client reads of a run: its steps with their attempts, its undos, its events, what it waits for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from durable import (
    Client,
    Context,
    HistoryEvent,
    Request,
    Retry,
    RunNotFound,
    Worker,
    days,
    step,
    workflow,
)
from durable.client.steps import compensations_of, steps_of
from durable.model import history
from durable.model.failure import encode_failure, failure_of
from durable.model.payload import ANY
from durable.model.wire import encode_event
from durable_testing.faults import FaultyStorage

RESULT = ANY.encode(1, "a result")
FAILURE = encode_failure(failure_of(OSError("no")))
SECOND = 1_000_000


def failed(at: int, attempt: int, retry_at: int | None) -> history.StepFailed:
    return history.StepFailed(at, 1, "flaky", FAILURE, 0, SECOND, 7, "x:1", attempt, retry_at)


def undo_failed(at: int, attempt: int, retry_at: int | None) -> history.CompensationFailed:
    return history.CompensationFailed(
        at, 2, "refund", FAILURE, 0, SECOND, 7, "x:1", "charge", attempt, retry_at
    )


def rows(*events: history.Event) -> list[Any]:
    return [encode_event(seq, event) for seq, event in enumerate(events, 1)]


def test_a_step_is_one_record_with_all_its_attempts():
    done = history.StepCompleted(9 * SECOND, 1, "flaky", RESULT, 0, SECOND, 8, "x:1", 2)
    (step,) = steps_of(rows(failed(2 * SECOND, 1, 5 * SECOND), done), {8: "w-b"})
    assert (step.status, step.attempts, step.result, step.error) == ("completed", 2, 1, None)
    assert (step.started_at.timestamp(), step.worker) == (1, "w-b")


def test_a_step_that_waits_for_its_next_attempt_is_retrying():
    (step,) = steps_of(rows(failed(2, 1, 5)), {})
    assert (step.status, step.finished_at) == ("retrying", None)
    assert step.error is not None


@pytest.mark.parametrize(
    "end",
    [
        history.RunFailed(9, FAILURE),
        history.RunTerminated(9),
        history.ContinuedAsNew(9, "r", RESULT, 1, b""),
    ],
)
def test_a_step_whose_next_attempt_never_comes_is_cancelled(end: history.Event):
    """The run went on, or ended, without it."""
    (step,) = steps_of(rows(failed(2, 1, 50), end), {})
    assert step.status == "cancelled"
    assert step.finished_at is not None


def test_an_undo_that_will_be_tried_again_is_running_until_the_run_is_terminated():
    (undo,) = compensations_of(rows(undo_failed(2, 1, 50)))
    assert (undo.status, undo.step, undo.finished_at) == ("running", "charge", None)
    (undo,) = compensations_of(rows(undo_failed(2, 1, 50), history.RunTerminated(9)))
    assert undo.status == "failed"


# -- against a real worker


@step
def cancel_flight(flight: str) -> None: ...


@step(retry=Retry(max_attempts=2, initial=0.01))
def cancel_hotel(hotel: str) -> None:
    raise OSError("nobody answers")


@step(compensate=cancel_flight)
def book_flight() -> str:
    return "F1"


@step(compensate=cancel_hotel)
def book_hotel() -> str:
    return "H1"


@workflow
async def trip(ctx: Context) -> None:
    await ctx.step(book_flight)
    await ctx.step(book_hotel)
    raise ValueError("sold out")


@workflow
async def leaf(ctx: Context) -> None:
    await ctx.wait_for_event("never")


@workflow
async def waits(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.wait_for_event("paid", key="o, 1"))
        group.create_task(ctx.wait_for_all(["a", "b"]))
        asked = ctx.wait_for_choice(
            "which", {"x": "X"}, to=["ann", "bob"], prompt="Which?", timeout=days(1)
        )
        group.create_task(asked)
        group.create_task(ctx.call(leaf, id="the-leaf"))


@workflow
async def crowd(ctx: Context) -> None:
    await asyncio.gather(*(ctx.wait_for_event(f"e{n}") for n in range(100)))


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client("sqlite://") as client, Worker(client, workflows=[trip, waits, leaf, crowd]):
        yield client


async def waiting_for(client: Client, run_id: str) -> Sequence[str]:
    async with asyncio.timeout(10):
        while not (await client.get(run_id, steps=False)).waiting_for:
            await asyncio.sleep(0.01)
    return (await client.get(run_id, steps=False)).waiting_for


async def test_undos_are_read_as_compensations_and_not_as_steps(client: Client):
    """Which step, by which, with how many attempts, and why it failed; the last completed first."""
    handle = await client.start(trip, id="t")
    with pytest.raises(ValueError, match="sold out"):
        await handle.result(timeout=10)
    run = await client.get("t")
    assert run.status == "compensation_failed"
    assert [(s.name, s.status) for s in run.steps] == [
        ("book_flight", "completed"),
        ("book_hotel", "completed"),
    ]
    hotel, flight = run.compensations
    assert (hotel.step, hotel.name, hotel.status, hotel.attempts) == (
        "book_hotel",
        "cancel_hotel",
        "failed",
        2,
    )
    assert hotel.error is not None
    assert hotel.error.message == "nobody answers"
    assert (flight.step, flight.status) == ("book_flight", "completed")


async def test_a_waiting_run_says_what_it_waits_for_and_until_when(client: Client):
    """Each thing on its own, whatever its name has in it."""
    await client.start(waits, id="w")
    paid, both, which, child = await waiting_for(client, "w")
    assert paid == "event paid under key o, 1"
    assert both == "events a and b"
    assert which.startswith("input which from ann, bob until 2")
    assert child == "child the-leaf"


async def test_of_many_things_it_says_how_many_more(client: Client):
    await client.start(crowd, id="c")
    words = await waiting_for(client, "c")
    assert len(words) == 10
    assert words[-1] == "91 more"


async def test_a_history_holds_what_was_asked_as_plain_data(client: Client):
    await client.start(waits, id="w")
    await waiting_for(client, "w")
    events: list[HistoryEvent] = [event async for event in client.history("w")]
    (asked,) = [event for event in events if event.type == "InputRequested"]
    assert asked.data["prompt"] == "Which?"
    assert asked.data["choices"] == [["x", "X"]]
    assert asked.data["to"] == ["ann", "bob"]


# -- what is asked for


@pytest.fixture
async def deaf() -> AsyncIterator[Any]:
    """A client whose database must not be asked."""
    async with Client("sqlite://") as client:
        client.storage = FaultyStorage(client.storage, _must_not_be_asked)
        yield client


def _must_not_be_asked(operation: Any) -> None:
    raise AssertionError("the database was asked")


_CALLS: dict[str, Any] = {
    "get": lambda client, run_id: client.get(run_id),
    "history": lambda client, run_id: client.history(run_id),
    "export_history": lambda client, run_id: client.export_history(run_id),
    "state": lambda client, run_id: client.state(run_id),
    "result": lambda client, run_id: client.handle(run_id).result(),
    "result at once": lambda client, run_id: client.handle(run_id).result(timeout=0),
    "status": lambda client, run_id: client.handle(run_id).status(),
    "cancel": lambda client, run_id: client.cancel(run_id),
    "terminate": lambda client, run_id: client.terminate(run_id),
    "pause": lambda client, run_id: client.pause(run_id),
    "resume": lambda client, run_id: client.resume(run_id),
    "send_event": lambda client, run_id: client.send_event(run_id, "go"),
    "send_events": lambda client, run_id: client.send_events([(run_id, "go")]),
    "cancel_wait": lambda client, run_id: client.cancel_wait(run_id, "go"),
    "provide_input": lambda client, run_id: client.provide_input(run_id, "q", 1),
    "request": lambda client, run_id: client.request(run_id, Request("q", int, int), 1),
}
_FILTERS: dict[str, Any] = {
    "children": lambda client, run_id: client.children(run_id),
    "list": lambda client, run_id: client.list(parent_id=run_id),
    "pending_inputs": lambda client, run_id: client.pending_inputs(run_id=run_id),
    "pending_events": lambda client, run_id: client.pending_events(run_id=run_id),
    "find": lambda client, run_id: client.find(run_id),
}


@pytest.mark.parametrize("call", [*_CALLS.values(), *_FILTERS.values()], ids=[*_CALLS, *_FILTERS])
async def test_an_id_that_is_no_string_is_refused_at_the_door(deaf: Any, call: Any) -> None:
    """A `UUID` is the usual one: it is not "the database is away" after half a minute."""
    with pytest.raises(TypeError, match="must be a string, not UUID"):
        await call(deaf, uuid.uuid4())


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
async def test_an_id_that_no_run_can_have_is_not_found(deaf: Any, call: Any) -> None:
    """No database is asked what it cannot even read; and the message can be printed."""
    for odd in ("a\0b", "\ud800"):
        with pytest.raises(RunNotFound) as caught:
            await call(deaf, odd)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("call", _FILTERS.values(), ids=_FILTERS)
async def test_an_id_that_no_run_can_have_lists_nothing(deaf: Any, call: Any) -> None:
    for odd in ("a\0b", "\ud800"):
        assert list(await call(deaf, odd)) == []


@pytest.mark.parametrize(
    "says, call",
    [
        ("list\\(workflow=\\)", lambda client: client.list(workflow=5)),
        ("count\\(workflow=\\)", lambda client: client.count(workflow=5)),
        ("pending_inputs\\(workflow=\\)", lambda client: client.pending_inputs(workflow=5)),
        ("list\\(tags=\\)", lambda client: client.list(tags={"n": 5})),
        ("count\\(tags=\\)", lambda client: client.count(tags={"n": 5})),
        ("list\\(queue=\\)", lambda client: client.list(queue=5)),
        ("pending_inputs\\(name=\\)", lambda client: client.pending_inputs(name=5)),
        ("pending_inputs\\(to=\\)", lambda client: client.pending_inputs(to=5)),
        ("pending_events\\(name=\\)", lambda client: client.pending_events(name=5)),
        ("pending_events\\(key=\\)", lambda client: client.pending_events(key=5)),
        ("the name of an input", lambda client: client.provide_input("a", 5, 1)),
        ("provide_input\\(by=\\)", lambda client: client.provide_input("a", "q", 1, by=5)),
        ("cancel\\(reason=\\)", lambda client: client.cancel("a", reason=5)),
        ("terminate\\(reason=\\)", lambda client: client.terminate("a", reason=5)),
    ],
)
async def test_what_has_the_wrong_type_is_named(deaf: Any, says: str, call: Any) -> None:
    with pytest.raises(TypeError, match=says):
        await call(deaf)


async def test_a_list_of_no_status_is_empty(deaf: Any) -> None:
    """No status at all is not any status."""
    for none in ([], ()):
        assert list(await deaf.list(status=none)) == []
        assert [run async for run in deaf.list(status=none)] == []


async def test_a_cursor_that_no_page_has_given_is_refused(deaf: Any) -> None:
    """Whatever its database makes of large numbers."""
    for cursor in ("9" * 30, "-1", "", "x"):
        with pytest.raises(ValueError, match="is not the `next` of a page"):
            await deaf.list(after=cursor)


async def test_questions_are_listed_by_the_workflow_itself_or_its_name() -> None:
    """As runs are."""
    async with Client("sqlite://") as client, Worker(client, workflows=[asks_one]):
        await client.start(asks_one, id="a")
        async with asyncio.timeout(20):
            while not await client.pending_inputs(workflow=asks_one):
                await asyncio.sleep(0.01)
        assert len(await client.pending_inputs(workflow="asks_one")) == 1
        assert not await client.pending_inputs(workflow="other")


@workflow
async def asks_one(ctx: Context) -> str:
    return await ctx.wait_for_text("q")
