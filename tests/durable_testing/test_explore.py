"""`explore` finds what is wrong with a workflow, says how to see it again, and leaves those alone that are right."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable import Context, Handle, Retry, Run, current_step, step, workflow
from durable.clock import SECOND, VirtualClock
from durable.model.history import CompensationCompleted
from durable_testing import Environment, Exploration, explore
from durable_testing.explored import MAX_PAUSES, SwiftClock
from durable_testing.judging import Ended, problems_of_runs
from tests.durable_testing.planted import (
    BOOKED,
    BUGS,
    ENTRIES,
    book_or_free,
    counts_its_calls,
    look_up,
    nothing_is_left,
    pays_once,
    pays_twice,
    takes_a,
    takes_the_first_for_a,
    trip,
    waits_on,
)

ROOT = Path(__file__).parent.parent.parent


def session(folder: Path, source: str, *options: str) -> tuple[int, str]:
    """How a test session of this source ends, and what it says."""
    (folder / "test_found.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


# -- planted bugs


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_and_the_test_for_it_fails_alike(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    report = explore(bug.broken, bug.input, **bug.options)
    assert not report.ok
    assert report.schedule == bug.at
    assert bug.says in report.explanation
    assert report.test is not None
    assert report.test in report.explanation
    assert report.problem is not None
    code, said = session(tmp_path, report.test)
    assert code == 1, said
    assert f"{bug.broken.name} breaks at {bug.at[0]}" in said
    assert report.problem.splitlines()[0] in said
    assert "1 failed" in said


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_nothing_is_found(name: str) -> None:
    bug = BUGS[name]
    report = explore(bug.mended, bug.input, max_cases=60, **{**bug.options, **bug.mended_options})
    assert report.ok, report.explanation
    assert report.tried == 60
    assert report.schedule is report.problem is report.test is None


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_nothing_is_found_however_long_it_is_looked_for(name: str) -> None:
    bug = BUGS[name]
    for seed in (1, 2):
        options = {**bug.options, **bug.mended_options, "seed": seed}
        report = explore(bug.mended, bug.input, max_cases=1000, **options)
        assert report.ok, report.explanation


def test_a_mended_workflow_passes_the_test_for_its_bug() -> None:
    schedule = ["commit 1: crash before"]
    assert not explore(pays_twice, 500, ledger=ENTRIES, only=schedule).ok
    assert explore(pays_once, 500, ledger=ENTRIES, only=schedule).ok


def test_code_that_depends_on_what_came_before_is_found() -> None:
    report = explore(counts_its_calls, "x")
    assert not report.ok
    assert "another way" in report.explanation or "Nondeterminism" in report.explanation


# -- what is asked of every case


@step
async def undo_nothing(_word: str) -> None:
    raise RuntimeError("it cannot be undone")


@step(compensate=undo_nothing)
async def act(word: str) -> str:
    return word


@workflow
async def cannot_go_back(ctx: Context, word: str) -> str:
    await ctx.step(act, word)
    return await ctx.step(look_up, word)


def test_an_undo_that_fails_is_found() -> None:
    report = explore(cannot_go_back, "x")
    assert report.schedule == ("turn 1: cancel after act/1",)
    assert report.problem == "a cancel makes it end as compensation_failed"


@workflow
async def keeps_the_first(ctx: Context, word: str) -> str:
    await ctx.step(book_or_free.options(compensate=None), word)
    await ctx.step(book_or_free, word)
    raise LookupError(word)


def test_a_call_without_an_undo_is_not_missed_where_another_has_one() -> None:
    report = explore(keeps_the_first, "x", max_cases=60)
    assert report.ok, report.explanation


async def test_a_call_that_was_not_undone_is_missed() -> None:
    """By run and number of the call, not by the name of the step."""
    async with Environment(workflows=[keeps_the_first]) as env:
        with pytest.raises(LookupError):
            await env.run(keeps_the_first, "x", id="r")
        rows = [event.row async for event in env.client.history("r")]
    kept = [row for row in rows if row.type != CompensationCompleted.code]
    assert len(kept) == len(rows) - 1
    told = "run r is compensated, and book_or_free has not been undone"
    assert list(problems_of_runs([Ended("r", None, kept)], {("r", 2)})) == [told]
    assert list(problems_of_runs([Ended("r", None, rows)], {("r", 2)})) == []
    assert list(problems_of_runs([Ended("r", None, kept)], {("other", 2)})) == []


@workflow
async def waits_for_ever(ctx: Context, word: str) -> str:
    return word + await ctx.wait_for_event("never", str)


def test_a_run_that_never_ends_is_found_undisturbed() -> None:
    report = explore(waits_for_ever, "x")
    assert report.schedule == ()
    assert report.tried == 1
    assert "waits_for_ever breaks undisturbed" in report.explanation
    assert "event never" in report.explanation


@workflow
async def fails_by_a_cancel(ctx: Context, word: str) -> str:
    try:
        return await ctx.step(look_up, word)
    except BaseException as error:
        raise LookupError(word) from error


def test_a_cancel_that_ends_in_an_error_is_found() -> None:
    report = explore(fails_by_a_cancel, "x")
    assert report.problem == "a cancel makes it end as failed with LookupError"


def test_a_check_may_look_at_the_whole_run() -> None:
    seen: list[Run] = []
    report = explore(trip, "blue", check=seen.append, max_cases=60)
    assert report.ok
    assert {run.status for run in seen} == {"completed", "cancelled"}
    assert any(run.recoveries for run in seen)
    assert any(getattr(run, "compensations", ()) for run in seen)
    assert len(seen) == report.tried


def test_results_may_depend_on_the_order_where_that_is_meant() -> None:
    given = ["a", "b"]
    assert not explore(takes_the_first_for_a, given, max_cases=60).ok
    assert explore(takes_the_first_for_a, given, max_cases=60, same_result=False).ok


@step(retry=Retry(max_attempts=3, initial=10, jitter=0.5))
async def flaky(word: str) -> str:
    return word


@workflow
async def asks(ctx: Context, word: str) -> str:
    said = await ctx.step(flaky, word)
    decision = await ctx.wait_for_approval("manager", timeout=60, default=None)
    return f"{said} {bool(decision)}"


async def approves(handle: Handle[Any]) -> None:
    await handle.provide_input("manager", True)


@workflow
async def has_a_child(ctx: Context, word: str) -> str:
    return await ctx.call(asks, word, timeout=3600, default="nobody")


@pytest.mark.parametrize("outcome", ["mocked", OSError("away"), lambda word: f"{word}!"])
def test_steps_and_children_may_be_mocked(outcome: Any) -> None:
    endings: list[str] = []
    report = explore(
        asks,
        "x",
        mocks={flaky: outcome},
        user=approves,
        check=lambda run: endings.append(run.status),
        max_cases=40,
    )
    assert report.ok, report.explanation
    assert {"cancelled", "failed" if isinstance(outcome, OSError) else "completed"} <= {*endings}


def test_an_exception_class_is_raised_as_an_exception_is() -> None:
    ended: list[Run] = []
    report = explore(
        asks, "x", mocks={flaky: OSError}, user=approves, check=ended.append, max_cases=1
    )
    assert report.ok, report.explanation
    [run] = ended
    assert run.error is not None
    assert run.error.type == "builtins:OSError"


def test_children_are_explored_with_their_parent() -> None:
    report = explore(has_a_child, "x", workflows=[asks], mocks={flaky: "m"}, max_cases=60)
    assert report.ok, report.explanation
    mocked = explore(has_a_child, "x", workflows=[asks], mocks={asks: "m"}, max_cases=40)
    assert mocked.ok, mocked.explanation


@workflow(name="says", version=1)
async def says_before(ctx: Context, word: str) -> str:
    await ctx.sleep(1)
    return word


@workflow(name="says", version=2)
async def says_now(ctx: Context, word: str) -> str:
    return await ctx.step(look_up, word)


@workflow
async def asks_for_both(ctx: Context, word: str) -> str:
    return await ctx.call(says_before, word) + await ctx.call(says_now, word)


def test_each_run_is_replayed_against_the_code_of_its_version() -> None:
    report = explore(asks_for_both, "x", workflows=[says_before, says_now], max_cases=20)
    assert report.ok, report.explanation


@workflow
async def sends_someone(ctx: Context, room: str) -> str:
    return await ctx.call(trip, room)


def test_children_may_undo_what_they_did_before_anything_is_checked() -> None:
    report = explore(
        sends_someone,
        "blue",
        workflows=[trip],
        ledger=BOOKED,
        check=nothing_is_left,
        max_cases=60,
    )
    assert report.ok, report.explanation


# -- time, which no fault may move


@workflow
async def tells_the_time(ctx: Context, word: str) -> str:
    await ctx.step(look_up, word)
    return ctx.now().isoformat()


@workflow
async def tells_the_time_after_retries(ctx: Context, word: str) -> str:
    await asyncio.gather(ctx.step(flaky, word), ctx.step(flaky, word))
    return ctx.now().isoformat()


@workflow
async def is_in_time(ctx: Context, word: str) -> str:
    await ctx.wait_for_event("paid", str)
    try:
        async with asyncio.timeout(1):
            await ctx.step(look_up, word)
            return await ctx.step(look_up, word)
    except TimeoutError:
        return "too late"


def fails_at_first(word: str) -> str:
    if current_step().attempt == 1:
        raise OSError(word)
    return word


@pytest.mark.parametrize(
    "explored, options",
    [
        (tells_the_time, {}),
        (tells_the_time_after_retries, {"mocks": {flaky: fails_at_first}}),
        (is_in_time, {"user": BUGS["event lost to a time-out"].options["user"]}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_no_fault_makes_it_later(explored: Any, options: dict[str, Any]) -> None:
    """A worker tries again at once, and pauses between attempts are as they are undisturbed."""
    report = explore(explored, "x", max_cases=120, **options)
    assert report.ok, report.explanation


async def test_what_is_tried_again_without_end_takes_its_time() -> None:
    clock = VirtualClock()
    swift = SwiftClock(clock)
    for _ in range(MAX_PAUSES):
        pause = asyncio.ensure_future(swift.sleep(0.5))
        await asyncio.sleep(0)
        clock.jump(clock.now())
        await pause
    begun = clock.now()
    for seconds in (0.5, 3.0):
        pause = asyncio.ensure_future(swift.sleep(seconds))
        await asyncio.sleep(0)
        assert clock.next_due == clock.now() + seconds * SECOND
        clock.jump(clock.now() + round(seconds * SECOND))
        await pause
    assert swift.now() - begun == 3.5 * SECOND


# -- the same again, and no more than asked for


def test_the_same_seed_gives_the_same_report() -> None:
    reports: set[Exploration] = set()
    for _ in range(3):
        reports.add(explore(takes_a, ["a", "b", "c"], max_cases=60, seed=5))
    assert len(reports) == 1
    assert explore(takes_a, ["a", "b", "c"], max_cases=2, seed=6).seed == 6


def test_the_seed_of_the_session_is_used_where_none_is_given(tmp_path: Path) -> None:
    source = """
from durable_testing import explore
from tests.durable_testing.planted import pays_once

def test_seed():
    print("the seed is", explore(pays_once, 1, max_cases=2).seed)
"""
    code, said = session(tmp_path, source, "-s", "--durable-seed=11")
    assert code == 0
    assert "the seed is 11" in said


def test_no_more_schedules_are_tried_than_asked_for() -> None:
    for number in (1, 2, 7, 40):
        report = explore(
            waits_on, "x", user=BUGS["event lost to a time-out"].options["user"], max_cases=number
        )
        assert report.tried == number
        assert f"{number} schedule" in report.explanation


@workflow
async def does_nothing(ctx: Context) -> str:
    return ctx.run_id


def test_everything_is_tried_where_there_is_room() -> None:
    report = explore(does_nothing, None, max_cases=5000)
    assert report.ok, report.explanation
    assert report.left == 0
    assert report.tried + report.pruned < 5000
    assert report.pruned > 0


# -- how it is called


def test_a_marked_test_fails_with_what_is_found(tmp_path: Path) -> None:
    source = """
import pytest
from tests.durable_testing.planted import ENTRIES, pays_once, pays_twice

@pytest.mark.durable_explore(max_cases=30, ledger=ENTRIES)
def test_twice(durable_explore):
    durable_explore(pays_twice, 500)

@pytest.mark.durable_explore(max_cases=30)
def test_once(durable_explore):
    assert durable_explore(pays_once, 500).tried == 30

@pytest.mark.durable_explore(max_cases=30)
def test_fewer(durable_explore):
    assert durable_explore(pays_once, 500, max_cases=3).tried == 3
"""
    code, said = session(tmp_path, source, "--strict-markers")
    assert code == 1
    assert "1 failed, 2 passed" in said
    assert "pays_twice breaks at commit 1: crash before" in said


async def test_a_coroutine_may_explore() -> None:
    report = explore(pays_twice, 500, ledger=ENTRIES)
    assert report.schedule == ("commit 1: crash before",)


def test_a_schedule_that_does_not_come_about_is_refused() -> None:
    with pytest.raises(ValueError, match="no moment for 'commit 99: crash before' in pays_once"):
        explore(pays_once, 500, only=["commit 99: crash before"])
    with pytest.raises(ValueError, match="max_cases"):
        explore(pays_once, 500, max_cases=0)


class Bank:
    """A fake of which nobody can see what it holds."""

    def clear(self) -> None: ...


@pytest.mark.parametrize(
    "ledger, told",
    [
        (Bank(), "Bank has no __iter__()"),
        ((), "tuple has no clear()"),
        (5, "no clear() and no __it"),
    ],
)
def test_a_ledger_that_nobody_can_look_through_is_refused(ledger: Any, told: str) -> None:
    with pytest.raises(TypeError, match=re.escape(told)):
        explore(pays_once, 500, ledger=ledger)


def test_whoever_cannot_play_its_part_undisturbed_is_told() -> None:
    async def sends_to_the_wrong_run(handle: Handle[Any]) -> None:
        await handle._client.send_event("other", "paid", "x")

    report = explore(waits_on, "x", user=sends_to_the_wrong_run)
    assert report.schedule == ()
    assert "user= fails: RunNotFound" in report.explanation


def test_what_has_no_name_in_a_module_is_told_in_the_test() -> None:
    report = explore(
        pays_twice, 500, ledger=(ledger := list[str]()), check=lambda _run: 1 / len(ledger)
    )
    assert report.test is not None
    assert "check=...," in report.test
    assert "# put check in place of `...`" in report.test
