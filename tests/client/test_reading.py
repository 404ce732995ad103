"""What a client reads of a run: its steps with their attempts, its undos, its events, what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from durable import Client, Context, HistoryEvent, Retry, Worker, days, step, workflow
from durable.client.steps import compensations_of, steps_of
from durable.model import history
from durable.model.failure import encode_failure, failure_of
from durable.model.payload import ANY
from durable.model.wire import encode_event

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
