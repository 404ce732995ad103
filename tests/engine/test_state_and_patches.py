"""What a run publishes about itself, and changes of its code while it is under way."""

from __future__ import annotations

import pytest

from durable.engine.context import Context
from durable.engine.instance import Instance
from durable.errors import NondeterminismError
from durable.model import history
from durable.model.definition import workflow
from durable.model.payload import ANY
from tests.engine.driver import decode_event, replay, tell
from tests.engine.ledger import plain
from tests.engine.scoped import ended, kinds, scoped


def test_a_state_is_in_the_history_at_once():
    """`set_state` keeps a snapshot (encoded), commits with the next commit, is not awaited."""

    @workflow
    async def publishes(ctx: Context) -> None:
        stage = {"at": ["first"]}
        ctx.set_state("stage", stage)
        stage["at"].append("changed")
        await ctx.step(plain, "a")
        ctx.set_state("stage", stage)
        ctx.set_state("other", (1, None))

    recording = ended(publishes, noise=0, park=0)
    assert kinds(recording) == [
        "RunStarted",
        "StateSet",
        "StepCompleted",
        "StateSet",
        "StateSet",
        "RunCompleted",
    ]
    states = [decode_event(row) for row in recording.rows if row.type == history.StateSet.code]
    assert [(state.cmd, state.name, ANY.decode(state.payload, "state")) for state in states] == [
        (1, "stage", {"at": ["first"]}),
        (3, "stage", {"at": ["first", "changed"]}),
        (4, "other", (1, None)),
    ]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", 3])
def test_a_key_is_a_name(key):
    """1 to 255 printable characters."""

    @workflow
    async def publishes(ctx: Context) -> None:
        ctx.set_state(key, 1)

    assert ended(publishes).outcome.type in ("builtins:ValueError", "builtins:TypeError")


def test_a_state_that_cannot_be_stored():
    """`PayloadError`, where it is set."""

    @workflow
    async def publishes(ctx: Context) -> None:
        ctx.set_state("stage", Context)

    assert ended(publishes).outcome.type == "durable.errors:PayloadError"


def test_another_state_than_history_has():
    """A different name under a number is `NondeterminismError`, with both sides and the line."""

    @workflow(name="w")
    async def old(ctx: Context) -> None:
        ctx.set_state("old", 1)
        await ctx.step(plain, "a")

    @workflow(name="w")
    async def new(ctx: Context) -> None:
        ctx.set_state("new", 1)
        await ctx.step(plain, "a")

    recording = scoped(old, noise=0, park=0)
    with pytest.raises(NondeterminismError, match=r"has state old, .* state new \(test_state_and"):
        replay(new, recording.rows)


# -- patches


@workflow(name="w")
async def before(ctx: Context, count: int) -> list[str]:
    return [await ctx.step(plain, f"old {number}") for number in range(count)]


@workflow(name="w")
async def after(ctx: Context, count: int) -> list[str]:
    seen = []
    for number in range(count):
        if ctx.patched("new way"):
            seen.append(await ctx.step(plain, f"new {number}"))
        else:
            seen.append(await ctx.step(plain, f"old {number}"))
    return seen


def go_on(workflow, rows):
    """What the code asks for at the end of a history that it takes over, by a worker's rules."""
    instance = Instance(workflow, "run")
    instance.patches = frozenset(row.name for row in rows if row.type == history.Patched.code)
    commands = []
    for place, row in enumerate(rows):
        instance.live = place == len(rows) - 1
        commands = [tell(command) for command in instance.apply(decode_event(row))]
    instance.discard()
    return commands


def test_a_new_run_takes_the_new_way_and_says_so_once():
    """`Patched` enters the history right after what led to it, exactly once."""
    recording = ended(after, 3, noise=0, park=0)
    assert recording.outcome == ["new 0", "new 1", "new 2"]
    assert kinds(recording)[:3] == ["RunStarted", "Patched", "StepCompleted"]
    assert kinds(recording).count("Patched") == 1


def test_a_run_that_has_gone_the_old_way_stays_on_it():
    """Wherever the old code left off, the new code goes on the old way, for the rest of the run."""
    rows = scoped(before, 3, noise=0, park=0).rows
    for length in range(2, 4):
        asked = go_on(after, rows[:length])
        assert [told[0] for told in asked] == ["step"]
        assert replay(before, rows[:length])[-1] == asked
    assert replay(after, rows[:4]) == replay(before, rows[:4])


def test_a_run_that_has_only_begun_may_take_the_new_way():
    """Nothing in its history speaks against it."""
    rows = scoped(before, 3, noise=0, park=0).rows[:1]
    assert [told[0] for told in go_on(after, rows)] == ["patched", "step"]


def test_a_patch_is_recorded_again_only_where_it_was_lost():
    """A worker that died before `Patched` was written asks for it anew; afterwards nobody does."""
    rows = scoped(after, 3, noise=0, park=0).rows
    assert [told[0] for told in go_on(after, rows[:1])] == ["patched", "step"]
    for length in range(2, 5):
        assert "patched" not in [told[0] for told in go_on(after, rows[:length])]


def test_the_old_branch_can_go_once_all_runs_have_the_patch():
    """`if ctx.patched(...)` round the new way alone is what is left of it."""

    @workflow(name="w")
    async def later(ctx: Context, count: int) -> list[str]:
        ctx.patched("new way")
        return [await ctx.step(plain, f"new {number}") for number in range(count)]

    rows = scoped(after, 3, noise=0, park=0).rows
    assert go_on(later, rows[:3]) == go_on(after, rows[:3])


def test_the_first_answer_holds():
    """Asked twice, in a loop or after an eviction, it is the same."""

    @workflow
    async def asks(ctx: Context) -> list[bool]:
        answers = [ctx.patched("a")]
        await ctx.step(plain, "x")
        answers += [ctx.patched("a"), ctx.patched("b")]
        return answers

    assert ended(asks).outcome == [True, True, True]


def test_each_generation_decides_anew():
    """A run that continues as new goes on with the newest code."""

    @workflow(name="w")
    async def continues(ctx: Context, number: int) -> str:
        way = "new" if ctx.patched("a") else "old"
        await ctx.step(plain, way)
        if number:
            await ctx.continue_as_new(number - 1)
        return way

    recording = ended(continues, 2, noise=0, park=0)
    assert kinds(recording).count("Patched") == 3
