"""One run in the hands of a worker: journal before instance, what is held back, when it parks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from durable import Context, days, step, workflow
from durable.clock import SECOND, to_datetime
from durable.model import history
from durable.model.payload import ANY
from durable.model.rows import Act, Message
from durable.model.wire import encode_event
from durable.worker import chronicle, drafts
from durable.worker.execution import Execution
from tests.worker.one_run import (
    Host,
    apply,
    begin,
    cancel,
    event,
    report,
    types,
)


@step
async def add(n: int) -> int:
    return n + 1


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@workflow
async def two_steps(ctx: Context) -> int:
    ctx.log.info("begins")
    n = await ctx.step(add, 1)
    ctx.log.info("between")
    return await ctx.step(add, n)


async def test_effects_wait_until_their_cause_is_durable(host: Host) -> None:
    """Commands, logs and answers that an event causes are held back until it is durable."""
    execution = begin(host, two_steps)
    assert [command.cmd for command in host.ran] == [1]
    assert host.lines == ["begins"]
    report(execution, host)
    assert [command.cmd for command in host.ran] == [1]
    assert host.lines == ["begins"]
    commit = apply(execution)
    assert types(commit) == ["StepCompleted"]
    assert [command.cmd for command in host.ran] == [1, 2]
    assert host.lines == ["begins", "between"]


async def test_the_last_step_and_the_end_go_together(host: Host) -> None:
    """Speculation: the last step and the completion are one commit."""
    execution = begin(host, two_steps)
    report(execution, host)
    apply(execution)
    report(execution, host, 2, 3)
    commit = execution.next_commit()
    assert types(commit) == ["StepCompleted", "RunCompleted"]
    assert commit is not None
    assert (commit.act, commit.status) == (Act.FINISH, "completed")


async def test_lines_of_a_replay_are_not_written_again(host: Host) -> None:
    """ctx.log is silent on replay."""
    probe = begin(host, two_steps)
    fingerprint = host.ran[0].fingerprint
    probe.discard()
    host.ran.clear()
    host.lines.clear()
    at = host.now()
    done = history.StepCompleted(at, 1, "add", ANY.encode(2, ""), fingerprint, 1, 7, "here")
    begin(host, two_steps, encode_event(2, done))
    assert host.lines == []
    assert [command.cmd for command in host.ran] == [2]


async def test_a_run_with_a_step_under_way_keeps_its_owner(host: Host) -> None:
    execution = begin(host, two_steps)
    assert execution.next_commit() is None
    assert execution.busy


@workflow
async def sleeper(ctx: Context) -> str:
    await ctx.sleep(60)
    return "awake"


@workflow
async def napper(ctx: Context) -> str:
    await ctx.sleep(drafts.KEEP_SECONDS / 2)
    return "awake"


def said(host: Host, seconds: int) -> str:
    """The time in so many seconds, as a list of runs shows it."""
    return f"{to_datetime(host.now() + seconds * SECOND):%Y-%m-%d %H:%M:%S} UTC"


async def test_a_long_sleep_parks_and_says_for_what(host: Host) -> None:
    """A run that parks says in its history what it sleeps for, and when it is due."""
    execution = begin(host, sleeper)
    commit = execution.next_commit()
    assert types(commit) == ["TimerStarted"]
    assert commit is not None
    assert (commit.act, commit.status) == (Act.PARK, "waiting")
    assert commit.waiting_for == f"sleep until {said(host, 60)}"
    assert commit.wake_at == host.now() + 60 * SECOND


async def test_a_short_sleep_stays_in_memory(host: Host) -> None:
    execution = begin(host, napper)
    assert execution.next_commit() is None
    host.clock.advance(drafts.KEEP_SECONDS)
    assert types(execution.next_commit()) == ["TimerFired", "RunCompleted"]


async def test_nothing_happens_while_a_park_is_under_way_or_done(host: Host) -> None:
    """A commit that parks the run is under way: nothing may happen to it until the answer."""
    execution = begin(host, sleeper)
    execution.next_commit()
    host.clock.advance(100)
    assert types(execution.in_flight) == ["TimerStarted"]
    assert len(execution.pending) == 1


async def test_what_fell_due_during_a_park_that_failed_fires_after_it(host: Host) -> None:
    """The database was away while the run wanted to park: its timer fires all the same."""
    execution = begin(host, sleeper)
    execution.next_commit()
    host.clock.advance(100)
    execution.in_flight = None  # the answer: nothing was written
    execution.advance(1)
    execution.release()
    execution.resume()
    assert types(execution.next_commit()) == ["TimerStarted", "TimerFired", "RunCompleted"]


async def test_a_parked_run_comes_back_under_its_next_epoch(host: Host) -> None:
    execution = begin(host, sleeper)
    apply(execution)
    execution.park()
    host.clock.advance(61)
    assert execution.next_commit() is None
    execution.reclaim(2)
    commit = execution.next_commit()
    assert types(commit) == ["TimerFired", "RunCompleted"]
    assert commit is not None
    assert commit.epoch == 2


@step(retry=3)
async def flaky() -> None: ...


@workflow
async def retrying(ctx: Context) -> None:
    await ctx.step(flaky)


def failed(execution: Execution, host: Host, retry_in: float | None) -> None:
    from durable.model.failure import encode_failure, failure_of

    command = host.ran[-1]
    assert execution.finished_step(command.cmd)
    at = host.now()
    failure = encode_failure(failure_of(OSError("no")))
    retry_at = None if retry_in is None else at + round(retry_in * SECOND)
    print_of = command.fingerprint
    execution.record(
        history.StepFailed(
            at, command.cmd, "flaky", failure, print_of, 1, 7, "here", command.attempt, retry_at
        )
    )


async def test_a_long_back_off_parks_the_run_and_holds_no_slot(host: Host) -> None:
    """Retries with a long back-off: nobody owns the run meanwhile."""
    execution = begin(host, retrying)
    failed(execution, host, 3600)
    assert types(apply(execution)) == ["StepFailed"]
    commit = execution.next_commit()
    assert commit is not None
    assert (commit.act, commit.waiting_for) == (Act.PARK, f"retry of flaky at {said(host, 3600)}")
    assert commit.wake_at == host.now() + 3600 * SECOND
    assert not execution.busy
    execution.in_flight = None
    execution.park()
    host.clock.advance(3601)
    assert len(host.ran) == 1
    execution.reclaim(2)
    assert [command.attempt for command in host.ran] == [2, 2]  # one command, told twice


async def test_a_short_back_off_is_waited_for_in_memory(host: Host) -> None:
    execution = begin(host, retrying)
    failed(execution, host, 0.5)
    apply(execution)
    assert execution.next_commit() is None
    host.clock.advance(0.6)
    assert len(host.ran) == 2


async def test_whoever_takes_a_run_over_waits_for_its_next_attempt_too(host: Host) -> None:
    first = begin(host, retrying)
    failed(first, host, 30)
    commit = apply(first)
    assert commit is not None
    first.discard()
    host.ran.clear()
    begin(host, retrying, *commit.events, epoch=2)
    assert host.ran == []
    host.clock.advance(31)
    assert [command.attempt for command in host.ran] == [2]


@workflow
async def gives_up(ctx: Context) -> str:
    try:
        async with asyncio.timeout(5):
            await ctx.step(add, 1)
    except TimeoutError:
        return "gave up"
    return "no"


async def test_a_step_that_nobody_waits_for_is_told_to_stop_and_its_result_dropped(
    host: Host,
) -> None:
    """A cancelled call: the attempt is told to stop; a result that comes later never enters history."""
    execution = begin(host, gives_up)
    host.clock.advance(5)
    (command,) = host.ran
    assert host.cancelled == [command.cmd]
    assert not execution.finished_step(command.cmd)
    assert types(execution.next_commit()) == ["TimerFired", "RunCompleted"]


@workflow
async def changes_its_mind(ctx: Context) -> int:
    first = asyncio.create_task(ctx.step(add, 1))
    await ctx.step(add, 2)
    second = asyncio.create_task(ctx.step(add, 3))
    await asyncio.sleep(0)
    second.cancel()
    return await first


async def test_a_step_cancelled_while_it_was_held_back_never_starts(host: Host) -> None:
    """Cancelled while the command is held back: a step not yet released is dropped."""
    execution = begin(host, changes_its_mind)
    report(execution, host, 1)  # that of the main task, which came first
    apply(execution)
    assert [command.cmd for command in host.ran] == [1, 2]
    report(execution, host, 2)
    assert types(execution.next_commit()) == ["StepCompleted", "RunCompleted"]


def message(number: int, name: str = "event") -> Message:
    return Message(1, number, name, ANY.encode(number, "event"))


async def test_messages_become_history_and_are_consumed(host: Host) -> None:
    """Messages that a worker reads become EventReceived at once and advance `consumed`."""
    execution = begin(host, two_steps)
    execution.receive([message(1), message(2)])
    commit = apply(execution)
    assert types(commit) == ["EventReceived", "EventReceived"]
    assert commit is not None
    assert commit.consumed == 2
    execution.receive([message(2), message(3)])  # read again: it was on its way
    assert types(apply(execution)) == ["EventReceived"]


async def test_a_hole_means_that_this_owner_is_stale(host: Host) -> None:
    """First inbox number <> consumed+1: discard."""
    execution = begin(host, two_steps)
    execution.receive([message(2)])
    assert host.gone == [execution]
    assert execution.consumed == 0


async def test_messages_leave_the_inbox_only_with_their_events(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that is cut off at its limit consumes no message whose event is not in it."""
    monkeypatch.setattr(drafts, "MAX_EVENTS_PER_COMMIT", 2)
    execution = begin(host, two_steps)
    execution.receive([message(n) for n in range(1, 6)])
    consumed = []
    while (commit := apply(execution)) is not None:
        consumed.append(commit.consumed)
    assert consumed == [2, 4, 5]


class Odd:
    pass


@workflow
async def endless(ctx: Context) -> None:
    await asyncio.Event().wait()


async def test_a_blocked_run_leaves_its_messages_in_the_inbox(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that comes after the event that blocked a run is consumed without a trace."""
    execution = begin(host, endless)
    apply_event = execution.instance.apply

    def second_is_bad(event: Any) -> Any:
        if isinstance(event, history.EventReceived) and event.number == 2:
            raise ValueError("cannot be applied")
        return apply_event(event)

    monkeypatch.setattr(execution.instance, "apply", second_is_bad)
    execution.receive([message(1), message(2), message(3), message(4)])
    commit = execution.next_commit()
    assert types(commit) == ["EventReceived", "EventReceived", "Blocked"]
    assert commit is not None
    assert (commit.consumed, commit.act, commit.hold) == (2, Act.PARK, 2)


async def test_a_poisoned_run_keeps_its_unread_messages(host: Host) -> None:
    """What the database refuses is dropped from the journal; its messages are read again some day."""
    execution = begin(host, two_steps)
    execution.receive([message(1)])
    apply(execution)
    execution.receive([message(2), message(3)])
    execution.next_commit()
    execution.in_flight = None
    execution.poisoned("refused")
    commit = execution.next_commit()
    assert types(commit) == ["Blocked"]
    assert commit is not None
    assert (commit.consumed, commit.seq) == (1, 2)


async def test_recovered_is_written_with_the_first_event_that_follows(host: Host) -> None:
    """`Recovered` is no progress by itself."""
    execution = begin(host, two_steps, lost=3)
    assert execution.next_commit() is None
    report(execution, host)
    assert types(apply(execution)) == ["Recovered", "StepCompleted"]


async def test_a_long_history_warns_once_and_fails_in_the_end(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50,000 events per generation, warning at 10,000; every limit has a clear error."""
    monkeypatch.setattr(chronicle, "WARN_HISTORY", 3)
    monkeypatch.setattr(chronicle, "MAX_HISTORY", 6)
    execution = begin(host, endless)
    execution.receive([message(n) for n in range(1, 20)])
    assert len(host.warnings) == 1
    commit = execution.next_commit()
    assert types(commit) == ["EventReceived"] * 5 + ["RunFailed"]
    assert commit is not None
    assert (commit.act, commit.consumed) == (Act.FINISH, 5)


async def test_the_limit_may_be_reached_by_recovering(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chronicle, "WARN_HISTORY", 1)
    monkeypatch.setattr(chronicle, "MAX_HISTORY", 2)
    execution = begin(host, two_steps, lost=3)
    report(execution, host)
    assert types(execution.next_commit()) == ["Recovered", "RunFailed"]


async def test_the_limit_may_be_reached_by_parking(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails while it parks ends; it does not park with its end in its history."""
    monkeypatch.setattr(chronicle, "WARN_HISTORY", 1)
    monkeypatch.setattr(chronicle, "MAX_HISTORY", 2)
    commit = begin(host, sleeper).next_commit()
    assert types(commit) == ["TimerStarted", "RunFailed"]
    assert commit is not None
    assert (commit.act, commit.status) == (Act.FINISH, "failed")


async def test_time_never_goes_back_within_a_run(host: Host) -> None:
    """`at` is never earlier than that of the event before."""
    execution = begin(host, two_steps)
    host.now = lambda: host.clock.now() - 5 * SECOND  # type: ignore[method-assign]
    execution.receive([message(1)])
    commit = execution.next_commit()
    assert commit is not None
    assert commit.events[0].at == host.clock.now()


async def test_a_discarded_run_has_no_voice(host: Host) -> None:
    """A discarded instance is cut off before it is closed; what runs in `finally` reaches nothing."""

    @workflow(name="stubborn")
    async def stubborn(ctx: Context) -> None:
        try:
            await ctx.sleep(days(1))
        finally:
            ctx.log.error("from the grave")
            await ctx.step(add, 1)

    execution = begin(host, stubborn)
    execution.discard()
    assert host.lines == []
    assert host.ran == []
    execution.receive([message(1)])
    assert execution.pending == []


@workflow
async def waits(ctx: Context) -> int:
    return await ctx.wait_for_event("note")


@workflow
async def swallows(ctx: Context) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await ctx.sleep(100)
    await ctx.sleep(100)


@workflow
async def hardly_begins(ctx: Context) -> None:
    await ctx.step(add, 1)


async def test_a_run_that_a_message_ends_reads_what_else_has_come(host: Host) -> None:
    """A run that is cancelled twice ends: its end says that it has read both; events that nobody awaits stay."""
    execution = begin(host, waits, messages=[cancel(1), event(2), cancel(3), event(4)])
    commit = execution.next_commit()
    assert types(commit) == ["CancelRequested", "EventReceived", "CancelRequested", "RunCancelled"]
    assert commit is not None
    assert (commit.act, commit.consumed) == (Act.FINISH, 3)


async def test_a_run_at_its_limit_reads_what_it_must(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is too long fails, however many cancels have come."""
    monkeypatch.setattr(chronicle, "WARN_HISTORY", 1)
    monkeypatch.setattr(chronicle, "MAX_HISTORY", 2)
    messages = [event(1), *(cancel(number) for number in range(2, 400))]
    commit = begin(host, swallows, messages=messages).next_commit()
    assert types(commit)[-2:] == ["CancelRequested", "RunFailed"]
    assert commit is not None
    assert commit.consumed == 399


async def test_an_end_that_is_found_on_replay_comes_after_what_has_come(host: Host) -> None:
    """A run whose history lacks only its end reads its inbox before it ends."""
    first = begin(host, hardly_begins)
    report(first, host)
    commit = first.next_commit()
    assert types(commit) == ["StepCompleted", "RunCompleted"]
    assert commit is not None
    execution = begin(host, hardly_begins, commit.events[0], messages=[cancel(1)])
    commit = execution.next_commit()
    assert types(commit) == ["CancelRequested", "RunCompleted"]
    assert commit is not None
    assert commit.consumed == 1


async def test_a_run_that_was_cancelled_before_its_first_claim_starts_no_step(host: Host) -> None:
    """What has come for a run is read before anything of it begins."""
    execution = begin(host, hardly_begins, messages=[cancel()])
    assert host.ran == []
    assert types(execution.next_commit()) == ["CancelRequested", "RunCancelled"]


@workflow
async def patched_later(ctx: Context) -> int:
    n = await ctx.step(add, 1)
    if ctx.patched("twice"):
        return await ctx.step(add, n)
    return n


async def test_what_follows_a_patch_waits_until_the_patch_is_durable(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit may carry the event that led to it without the patch: no step of the new way has begun then."""
    execution = begin(host, patched_later)
    report(execution, host)
    monkeypatch.setattr(drafts, "MAX_EVENTS_PER_COMMIT", 1)
    assert types(apply(execution)) == ["StepCompleted"]
    assert [command.cmd for command in host.ran] == [1]
    assert types(apply(execution)) == ["Patched"]
    assert [command.cmd for command in host.ran] == [1, 2]
