"""What a run has under way besides steps: waits, children, patches, and the rows that go with their events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from durable import Context, step, workflow
from durable.model import history
from durable.model.messages import CANCEL, PAUSE, RESUME
from durable.model.rows import Act, Commit, Message
from durable.model.wire import encode_event
from durable.worker.effects import CancelLate, Follow, LookForChildren, RestartChild, Subscribe
from durable.worker.execution import Execution
from tests.worker.one_run import Host, apply, begin, cancel, event, report, types


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def names(host: Host) -> list[str]:
    return [type(effect).__name__ for effect in host.effects]


def rows(execution: Execution) -> list[Any]:
    """The history that an execution has written and a later one reads."""
    commit = execution.next_commit()
    assert commit is not None
    return list(commit.events)


def carried_out(execution: Execution, host: Host) -> None:
    effect = host.effects.pop(0)
    execution.carried_out(effect)


@step
async def add(n: int) -> int:
    return n + 1


@workflow
async def steps_again(ctx: Context) -> None:
    await ctx.step(add, 1)
    await ctx.continue_as_new()


@workflow
async def steps_once(ctx: Context) -> int:
    return await ctx.step(add, 1)


@workflow
async def child(ctx: Context) -> int:
    return 1


@workflow
async def two_at_once(ctx: Context) -> None:
    async def one_after_the_other() -> None:
        await ctx.step(add, await ctx.step(add, 2))

    await ctx.parallel([ctx.step(add, 1), one_after_the_other()])


@workflow
async def restarts_and_goes_on(ctx: Context) -> None:
    await ctx.start(child, id="kid", on_conflict="restart", on_parent_close="abandon")
    await ctx.continue_as_new()


@workflow
async def starts_or_asks(ctx: Context) -> None:
    started = ctx.start(child, on_parent_close="abandon")
    await ctx.race(started=started, asked=ctx.wait_for_input("q", int))
    await ctx.sleep(100)


@workflow
async def starts_or_asks_or_adds(ctx: Context) -> int:
    await ctx.step(add, 1)
    started = ctx.start(child, on_parent_close="abandon")
    await ctx.race(added=ctx.step(add, 2), started=started, asked=ctx.wait_for_input("q", int))
    return await ctx.step(add, 3)


@workflow
async def asks_in_vain(ctx: Context) -> int:
    await ctx.race(asked=ctx.wait_for_input("q", int), other=quick(ctx))
    await ctx.sleep(100)
    return 1


async def quick(ctx: Context) -> None:
    """Ends at once."""


@workflow
async def keyed(ctx: Context) -> int:
    return await ctx.wait_for_event("paid", key="k")


@workflow
async def calls(ctx: Context) -> int:
    return await ctx.call(child, id="kid")


@workflow
async def joins(ctx: Context) -> int:
    return await ctx.call(child, id="kid", on_conflict="return_existing")


@workflow
async def restarts_and_ends(ctx: Context) -> int:
    await ctx.start(child, id="kid", on_conflict="restart")
    return 1


@workflow(retry=2)
async def restarts_and_fails(ctx: Context) -> int:
    await ctx.start(child, id="kid", on_conflict="restart")
    await ctx.step(add, 1)
    raise ValueError("no")


@workflow
async def adds_then_patched(ctx: Context) -> int:
    n = await ctx.step(add, 1)
    return await ctx.step(add, n + 1 if ctx.patched("p") else n)


@step
async def take_away(n: int) -> None: ...


@step(compensate=take_away)
async def put(n: int) -> int:
    return n


@workflow
async def puts_while_asking(ctx: Context) -> None:
    async def asks() -> None:
        await ctx.step(add, 1)
        await ctx.wait_for_input("q", int)

    await asyncio.gather(ctx.step(put, 1), asks())


@workflow
async def gives_up_a_call_at_once(ctx: Context) -> None:
    await ctx.race(called=ctx.call(child, id="kid"), other=quick(ctx))
    await ctx.sleep(100)


@workflow
async def gives_up_a_call_and_a_question(ctx: Context) -> None:
    await ctx.race(
        called=ctx.call(child, id="kid"),
        asked=ctx.wait_for_input("q", int),
        added=ctx.step(add, 1),
    )
    if IS_FORBIDDEN:
        time.time()
    await ctx.sleep(100)


IS_FORBIDDEN: list[bool] = []


@workflow
async def patched_again(ctx: Context) -> None:
    ctx.patched("p")
    await ctx.wait_for_event("note")
    await ctx.continue_as_new()


async def test_a_wait_that_ends_before_it_was_written_down_was_never_there(host: Host) -> None:
    """An input that is asked for and given up in the same moment leaves no trace."""
    execution = begin(host, asks_in_vain)
    assert execution.blocked is None
    commit = execution.next_commit()
    assert types(commit) == ["TimerStarted"]
    assert commit is not None
    assert commit.waits == ()


async def test_such_a_wait_is_not_written_down_after_a_replay(host: Host) -> None:
    """What had ended by the end of the history is not written down by whoever reads it."""
    history = rows(begin(host, asks_in_vain))
    execution = begin(host, asks_in_vain, *history)
    assert execution.blocked is None
    assert execution.pending == []


async def test_a_wait_with_a_key_is_listed_and_asked_for_once_it_is_durable(host: Host) -> None:
    """What was published before a wait is fetched when whoever publishes later can find the wait."""
    execution = begin(host, keyed)
    commit = execution.next_commit()
    assert types(commit) == ["WaitStarted"]
    assert commit is not None
    assert [wait.cmd for wait in commit.waits] == [1]
    assert host.effects == []
    apply_in_flight(execution, commit)
    assert host.effects == [Subscribe(1, ("paid",), "k")]
    assert execution.busy
    carried_out(execution, host)
    assert not execution.busy


async def test_after_a_replay_what_may_not_have_been_done_is_done_again(host: Host) -> None:
    """Whoever takes a run over asks again for what was published, and looks for its children."""
    begin(host, keyed, *rows(begin(host, keyed)))
    begin(host, calls, *rows(begin(host, calls)))
    assert host.effects == [Subscribe(1, ("paid",), "k"), LookForChildren((1,))]


async def test_a_child_goes_with_the_event_that_starts_it(host: Host) -> None:
    """A child exists if and only if its start is in its parent's history."""
    execution = begin(host, calls)
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    assert [(run.id, run.parent_cmd) for run in commit.children] == [("kid", 1)]
    assert commit.act is Act.KEEP


@pytest.mark.parametrize("wf, wanted", [(calls, "ChildRefused"), (joins, None)])
async def test_a_child_whose_id_is_taken(host: Host, wf: Any, wanted: str | None) -> None:
    """A taken id is refused, or that run is followed, as the call says."""
    execution = begin(host, wf)
    commit = execution.next_commit()
    assert commit is not None
    children = settle(execution, commit)
    execution.children_started(children, ())
    if wanted is None:
        assert host.effects == [Follow(1, "kid")]
        assert execution.pending == []
    else:
        assert types(execution.next_commit()) == [wanted, "RunFailed"]


async def test_a_child_that_is_given_up_at_once_is_told_together_with_its_start(host: Host) -> None:
    """Nobody would tell it later: the event that led to both was not written by a worker."""
    execution = begin(host, gives_up_a_call_at_once)
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    assert [run.id for run in commit.children] == ["kid"]
    assert [(message.to, message.name) for message in commit.messages] == [("kid", CANCEL)]
    again = begin(host, gives_up_a_call_at_once, *commit.events)
    assert host.effects == [LookForChildren((1,))]
    assert again.pending == []


async def test_what_code_gave_up_where_it_was_blocked_hears_of_it_from_fitting_code(
    host: Host,
) -> None:
    """What the last event before led to was not carried out by whoever was blocked at it."""
    before = begin(host, gives_up_a_call_and_a_question)
    written = apply(before)
    assert written is not None
    IS_FORBIDDEN.append(True)
    try:
        report(before, host, cmd=3)
    finally:
        IS_FORBIDDEN.clear()
    blocked = before.next_commit()
    assert types(blocked) == ["StepCompleted", "Blocked"]
    assert blocked is not None
    assert (list(blocked.messages), list(blocked.ended_waits)) == ([], [])
    length = blocked.seq + len(blocked.events)
    freed = encode_event(length + 1, history.Unblocked(host.now(), "code"))
    host.effects.clear()
    after = begin(
        host, gives_up_a_call_and_a_question, *written.events, *blocked.events, freed, epoch=2
    )
    assert names(host) == ["LookForChildren", "CancelLate"]
    while host.effects:
        carried_out(after, host)
    last = after.next_commit()
    assert last is not None
    assert (last.act, last.ended_waits) == (Act.PARK, (2,))


async def test_after_a_lost_answer_its_children_are_looked_for(host: Host) -> None:
    """Whether the children of a commit without an answer came to life is not known."""
    execution = begin(host, calls)
    commit = execution.next_commit()
    assert commit is not None
    execution.children_started(settle(execution, commit), None)
    assert host.effects == [LookForChildren((1,))]
    carried_out(execution, host)
    execution.children_missing([])
    assert execution.pending == []


async def test_a_run_does_not_end_before_its_child_has_taken_the_place_of_another(
    host: Host,
) -> None:
    """A restart is no part of the parent's transaction: the end waits for it, and the cancel comes after it."""
    execution = begin(host, restarts_and_ends)
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    assert CANCEL not in [message.name for message in commit.messages]
    apply_in_flight(execution, commit)
    assert names(host) == ["RestartChild"]
    assert execution.next_commit() is None
    carried_out(execution, host)
    assert [type(effect) for effect in host.effects] == [CancelLate]
    assert execution.next_commit() is None
    carried_out(execution, host)
    last = execution.next_commit()
    assert types(last) == ["RunCompleted"]
    assert last is not None
    assert last.act is Act.FINISH


def taken_over_before_the_restart(host: Host, wf: Any) -> Execution:
    """Its child is not there yet, and takes the place of another first of all."""
    history = rows(begin(host, wf))
    execution = begin(host, wf, *history)
    assert names(host) == ["LookForChildren"]
    assert execution.next_commit() is None
    carried_out(execution, host)
    execution.children_missing([1])
    assert [type(effect) for effect in host.effects] == [RestartChild]
    return execution


async def test_the_same_after_a_crash_between_the_two(host: Host) -> None:
    """Whoever takes over such a run sees to the child first."""
    execution = taken_over_before_the_restart(host, restarts_and_ends)
    carried_out(execution, host)
    carried_out(execution, host)
    assert types(execution.next_commit()) == ["RunCompleted"]


async def test_a_generation_does_not_end_before_its_child_has_taken_the_place_of_another(
    host: Host,
) -> None:
    """Nobody would start the child after it: a new generation knows nothing of what the old one owes."""
    execution = begin(host, restarts_and_goes_on)
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    apply_in_flight(execution, commit)
    assert names(host) == ["RestartChild"]
    execution.receive([event(1)])
    assert execution.next_commit() is None
    carried_out(execution, host)
    assert types(execution.next_commit()) == ["ContinuedAsNew", "ChildStarted"]


async def test_a_generation_that_fails_ends_such_a_child_and_then_begins_anew(host: Host) -> None:
    """The new generation waits for the cancel, so the cancel must not wait for the new generation."""
    execution = begin(host, restarts_and_fails)
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    apply_in_flight(execution, commit)
    carried_out(execution, host)
    report(execution, host, cmd=2)
    commit = execution.next_commit()
    assert types(commit) == ["StepCompleted"]
    assert commit is not None
    apply_in_flight(execution, commit)
    assert [type(effect) for effect in host.effects] == [CancelLate]
    assert execution.next_commit() is None
    carried_out(execution, host)
    assert types(execution.next_commit()) == ["RunRetried"]


async def test_whoever_takes_over_such_a_generation_sees_to_the_child_first(host: Host) -> None:
    execution = taken_over_before_the_restart(host, restarts_and_goes_on)
    carried_out(execution, host)
    assert types(execution.next_commit()) == ["ContinuedAsNew", "ChildStarted"]


async def test_a_run_that_is_lost_on_the_way_to_its_end_wants_to_know_nothing_of_its_children(
    host: Host,
) -> None:
    """The answer of the database may come when somebody else has the run already."""
    history = rows(begin(host, restarts_and_ends))
    execution = begin(host, restarts_and_ends, *history)
    assert names(host) == ["LookForChildren"]
    execution.discard()
    execution.children_missing([1])
    assert names(host) == ["LookForChildren"]


async def test_what_is_taken_again_is_not_earlier_than_what_was_read_before_it(host: Host) -> None:
    """A run that was about to end reads what has come first; what its step had brought follows on that."""
    execution = begin(host, steps_once)
    apply(execution)
    report(execution, host)
    brought = execution.unwritten()
    host.clock.advance(1)
    execution = begin(host, steps_once, messages=[event(1)], again=brought)
    commit = execution.next_commit()
    assert types(commit) == ["EventReceived", "StepCompleted", "RunCompleted"]
    assert commit is not None
    assert [row.at for row in commit.events] == [host.now()] * 3


async def test_a_question_that_is_over_before_it_was_written_down_is_not_written_down(
    host: Host,
) -> None:
    """Of what a run asks for at its start, the first part to be recorded may bring others to their end."""
    execution = begin(host, starts_or_asks)
    assert execution.blocked is None
    commit = execution.next_commit()
    assert types(commit) == ["ChildStarted"]
    assert commit is not None
    assert not commit.waits


async def test_a_step_does_not_wait_for_what_was_never_written_down(host: Host) -> None:
    """A step that was given up with a question, before either began, keeps no later one from its turn."""
    execution = begin(host, starts_or_asks_or_adds)
    report(execution, host)
    assert types(apply(execution)) == ["StepCompleted", "ChildStarted"]
    assert [command.args for command in host.ran] == [(1,), (3,)]


async def test_a_patch_is_written_down_in_every_generation(host: Host) -> None:
    """A generation is replayed alone: what the one before has taken is not in its history."""
    first = begin(host, patched_again)
    assert types(apply(first)) == ["Patched", "WaitStarted"]
    history = rows(begin(host, patched_again))
    execution = begin(host, patched_again, *history, messages=[event(1)])
    commit = execution.next_commit()
    assert types(commit) == ["EventReceived", "ContinuedAsNew", "Patched", "WaitStarted"]


async def test_a_paused_run_lets_go_whoever_takes_it_over(host: Host) -> None:
    """A run whose worker died after it had read the pause is held by the next one."""
    paused = begin(host, asks_in_vain, messages=[Message(1, 1, PAUSE, b"")])
    again = begin(host, asks_in_vain, *paused.pending)
    again.consumed = 1
    commit = again.next_commit()
    assert commit is not None
    assert (commit.act, commit.hold) == (Act.PARK, 1)


async def test_what_waited_for_the_end_of_a_pause_begins_then_though_the_run_was_never_let_go(
    host: Host,
) -> None:
    """A pause and its end both come while another step is still running."""
    execution = begin(host, two_at_once)
    execution.receive([Message(1, 1, PAUSE, b"")])
    report(execution, host, 2)
    apply(execution)
    assert [command.cmd for command in host.ran] == [1, 2]
    execution.receive([Message(1, 2, RESUME, b"")])
    assert [command.cmd for command in host.ran] == [1, 2, 3]


async def test_a_pause_goes_on_in_a_new_generation_for_whoever_takes_the_run_over(
    host: Host,
) -> None:
    """A generation is replayed alone: what holds it must stand in it. It is no message of the inbox."""
    first = begin(host, steps_again)
    first.receive([Message(1, 1, PAUSE, b"")])
    report(first, host)
    commit = first.next_commit()
    assert commit is not None
    assert types(commit) == ["Paused", "StepCompleted", "ContinuedAsNew", "Paused"]
    assert (commit.act, commit.consumed) == (Act.KEEP, 1)
    second = Execution(host, steps_again, 1, "run", 2, "default")
    host.begun.append(second)
    second.replay(commit.events[2:])
    second.consumed = 1
    second.begin()
    assert second.paused
    assert len(host.ran) == 1
    letting_go = second.next_commit()
    assert letting_go is not None
    assert (types(letting_go), letting_go.act, letting_go.hold) == ([], Act.PARK, 1)
    second.poisoned("for a reason")
    assert second.consumed == 1


async def test_a_cancel_of_a_run_with_an_open_wait_ends_the_wait_with_it(host: Host) -> None:
    """The end of a run ends all of its waits."""
    commit = begin(host, keyed, messages=[cancel()]).next_commit()
    assert types(commit)[-1] == "RunCancelled"


def settle(execution: Execution, commit: Commit) -> Any:
    execution.in_flight = None
    return execution.advance(commit.seq + len(commit.events))


def apply_in_flight(execution: Execution, commit: Commit) -> None:
    settle(execution, commit)
    execution.release()


async def test_a_step_that_a_patch_decided_on_waits_for_the_patch_after_a_takeover(
    host: Host,
) -> None:
    """Had it begun, and the worker died, an older one would begin it with other arguments."""
    first = begin(host, adds_then_patched)
    report(first, host)
    done = [row for row in rows(first) if row.cmd == 1]
    host.ran.clear()
    execution = begin(host, adds_then_patched, *done)
    assert host.ran == []
    assert types(apply(execution)) == ["Patched"]
    assert [command.cmd for command in host.ran] == [2]


async def test_what_a_dead_owner_was_at_is_undone_though_something_is_written_down_first(
    host: Host,
) -> None:
    """A cancel that comes in between must not take the step for one that never began."""
    first = begin(host, puts_while_asking)
    adding = next(command.cmd for command in host.ran if command.step is add)
    report(first, host, adding)
    added = [row for row in rows(first) if row.cmd == adding]
    host.ran.clear()
    execution = begin(host, puts_while_asking, *added, epoch=2)
    asked = execution.next_commit()
    assert types(asked) == ["InputRequested"]
    assert asked is not None
    execution.receive([cancel()])
    apply_in_flight(execution, asked)
    assert [command.step for command in host.ran] == [put]
    report(execution, host, host.ran[0].cmd)
    assert types(apply(execution)) == ["CancelRequested", "CompensationStarted", "StepCompleted"]
    assert [command.step for command in host.ran] == [put, take_away]
