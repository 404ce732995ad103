"""How each history is made: a workflow, and what happens to its run.

The name of a scenario is the id of the run whose history is kept, and the name of its file. Unlike the workflows,
scenarios may change: they make histories that are new.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias
from uuid import UUID

from durable import (
    InvalidInput,
    NonRetryable,
    RequestRejected,
    RunFailed,
    Workflow,
    current_step,
    days,
    hours,
    minutes,
)
from durable.errors import DurableError
from durable_testing import Environment
from tests.golden.workflows import (
    MODULES,
    children,
    events,
    groups,
    lives,
    mixtures,
    people,
    sagas,
    steps,
    times,
    values,
)

Play: TypeAlias = Callable[[Environment, str], Awaitable[object]]
"""What happens in an environment; the run of this id is the one that is kept."""

ALL: list[Workflow[Any, Any]] = [
    found
    for module in MODULES
    for found in vars(import_module(module)).values()
    if isinstance(found, Workflow) and found.fn.__module__ == module
]
_BEFORE = (lives.before_the_patch, lives.on_the_way_to_the_patch)
TODAY = [workflow for workflow in ALL if workflow not in _BEFORE]
"""Without what ran before a patch."""


@dataclass(frozen=True)
class Scenario:
    """How a history is made."""

    play: Play
    workflows: Sequence[Workflow[Any, Any]]


SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Play) -> Play:
    """Under the name of a function, what it does."""
    SCENARIOS[getattr(play, "__name__", "")] = Scenario(play, TODAY)
    return play


def runs(workflow: Workflow[Any, Any], *input: Any, gives: Any) -> None:
    """A workflow that needs nothing but itself, and what it gives."""

    async def play(env: Environment, id: str) -> None:
        found = await env.run(workflow, *input, id=id)
        assert found == gives, found

    SCENARIOS[workflow.name] = Scenario(play, TODAY)


def fails(workflow: Workflow[Any, Any], *input: Any, message: str) -> None:
    """One that fails by itself."""
    SCENARIOS[workflow.name] = Scenario(partial(_fails, workflow, input, message), TODAY)


async def _fails(
    workflow: Workflow[Any, Any], input: Sequence[Any], message: str, env: Environment, id: str
) -> None:
    try:
        found = await env.run(workflow, *input, id=id)
    except RunFailed as error:
        assert message in str(error), error
    else:
        raise AssertionError(found)


async def ends(env: Environment, id: str, *, as_: str) -> None:
    """Let a run end, with this status."""
    with contextlib.suppress(DurableError):
        await env.client.handle(id).result()
    assert await env.client.handle(id).status() == as_


def failing(times: int, error: Exception, value: Any) -> list[Any]:
    """Outcomes of a step that fails some times."""
    return [error] * times + [value]


# -- steps

runs(steps.step_without_anything, gives=None)
runs(steps.step_async_and_sync, 21, gives=["a", 42])
runs(steps.step_arguments, gives=["1 lamp", "2 lamp", "3 lamp as a gift"])
runs(steps.step_plain_function, gives="plain function")
runs(steps.step_of_a_method, gives="sent to ann")
runs(steps.step_options, gives=["patient", "plain named"])
fails(steps.step_failed, message="declined with 51")
runs(steps.step_failed_and_caught, gives=[51, "First", f"{steps.__name__}:CardDeclinedError"])
runs(steps.step_with_a_loose_fingerprint, gives="as recorded")
runs(steps.step_after_local_values, ["cc", "a", "bbb"], gives={"a": 2, "cc": 4})


@scenario
async def step_retried(env: Environment, id: str) -> None:
    env.mock(steps.flaky, outcomes=failing(2, ConnectionError("away"), "there"))
    assert await env.run(steps.step_retried, id=id) == "there"


@scenario
async def step_retried_in_vain(env: Environment, id: str) -> None:
    env.mock(steps.flaky, raises=OSError(28, "no space"))
    assert "no space" in await env.run(steps.step_retried_in_vain, id=id)


@scenario
async def step_retried_with_jitter(env: Environment, id: str) -> None:
    env.mock(steps.jittery, outcomes=failing(3, ConnectionError("away"), "there"))
    assert await env.run(steps.step_retried_with_jitter, id=id) == "there"


@scenario
async def step_retried_linearly(env: Environment, id: str) -> None:
    env.mock(steps.linear, outcomes=failing(3, ConnectionError("away"), "there"))
    assert await env.run(steps.step_retried_linearly, id=id) == "there"


@scenario
async def step_retried_when_it_says(env: Environment, id: str) -> None:
    env.mock(steps.flaky, outcomes=[steps.RETRY_LATER, "there"])
    assert await env.run(steps.step_retried_when_it_says, id=id) == "there"


@scenario
async def step_not_retried(env: Environment, id: str) -> None:
    env.mock(steps.flaky, raises=NonRetryable("never again"))
    assert "never again" in await env.run(steps.step_not_retried, id=id)


@scenario
async def step_timed_out(env: Environment, id: str) -> None:
    async def slow(what: str) -> str:
        if current_step().attempt == 1:
            await env.advance(hours(1))
        return what

    env.mock(steps.slow, using=slow)
    assert await env.run(steps.step_timed_out, id=id) == "second time"


@scenario
async def step_timed_out_for_good(env: Environment, id: str) -> None:
    async def slow(what: str) -> str:
        await env.advance(hours(1))
        return what

    env.mock(steps.slow, using=slow)
    assert await env.run(steps.step_timed_out_for_good, id=id) == "gave up"


@scenario
async def step_that_was_mocked(env: Environment, id: str) -> None:
    env.mock(steps.flaky, returns="a mock")
    assert await env.run(steps.step_that_was_mocked, id=id) == ["real", "a mock"]


@scenario
async def step_whose_worker_died(env: Environment, id: str) -> None:
    async def dying(what: str) -> str:
        if len(dead.calls) == 1:
            await env.crash()
        return what

    dead = env.mock(steps.flaky, using=dying)
    assert (await env.run(steps.step_whose_worker_died, id=id))[1] == "died in"


@scenario
async def step_given_up_by_its_caller(env: Environment, id: str) -> None:
    async def slow(what: str) -> str:
        await env.advance(hours(1))
        return what

    env.mock(steps.flaky, using=slow)
    assert await env.run(steps.step_given_up_by_its_caller, id=id) == "went on"


# -- values

_ID = UUID("12345678-1234-5678-1234-567812345678")
_AT = datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)

runs(values.value_decimal, Decimal("1.10"), gives=Decimal("2.201"))
runs(
    values.value_datetimes,
    _AT,
    gives=[
        datetime(2026, 3, 2, 0, 0, 0, 6, tzinfo=UTC) - days(0),
        date(2026, 3, 1),
        _AT.time(),
        days(2) + (minutes(0) + 2 * (datetime.resolution * 7)),
    ],
)


@scenario
async def value_datetime_of_a_zone(env: Environment, id: str) -> None:
    [lord_howe, kathmandu] = await env.run(values.value_datetime_of_a_zone, id=id)
    assert lord_howe.isoformat() == "2026-04-05T03:45:00+11:00"
    assert kathmandu.utcoffset() == hours(5) + minutes(45)


runs(values.value_enums, values.Size.SMALL, gives=(values.Size.SMALL, values.Level.HIGH))
runs(values.value_tuples, (1, "a"), gives=values.Point(4, 8.0))
runs(values.value_sets, {"b", "a"}, gives={"a", "b", "1", "2", "3"})
runs(values.value_mappings, gives={1: {"text": "a", "size": 3}, 2: {"text": "b", "size": 3}})
runs(
    values.value_dataclasses,
    values.Money(Decimal("9.99"), "USD"),
    gives=values.Parcel(
        1.5,
        [
            values.Money(Decimal("9.99"), "USD"),
            values.Money(Decimal("0.10")),
            values.Money(Decimal("9.99"), "USD"),
        ],
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    ),
)
_LINES = [
    values.Line(item="lamp", price=Decimal("19.90")),
    values.Line(item="table", price=Decimal(120), size=values.Size.LARGE),
]
_ORDER = values.Order(id=_ID, lines=_LINES, placed=_AT)
runs(
    values.value_models,
    _ORDER,
    gives=_ORDER.model_copy(update={"note": "139.90", "labels": {"lines": 2}}),
)
runs(
    values.value_unions,
    values.Card(number="1"),
    gives=[values.Cash(given=5), values.Card(number="4")],
)
runs(
    values.value_raw,
    gives=[b"\xfe\x01\x00", 2**71, -0.1, None, True, "é\N{SNOWMAN}", b"\x00\xff"],
)


@scenario
async def value_of_any_type(env: Environment, id: str) -> None:
    found = await env.run(values.value_of_any_type, {"x": [1, None]}, id=id)
    assert found["got"]["got"]["deep"] == {"er": {"x": [1, None]}}


@scenario
async def value_paths_and_ids(env: Environment, id: str) -> None:
    assert str(await env.run(values.value_paths_and_ids, _ID, id=id)) == f"/orders/{_ID}"


# -- time, chance, identity

runs(
    times.time_sleeps,
    gives=[2592000.0, 2595600.0, 2595602.5, 2595602.5, 2595609.5],
)
runs(
    times.time_sleeps_until,
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    gives=[datetime(2026, 10, 25, 1, 30, tzinfo=UTC)] * 2,
)


@scenario
async def time_of_the_calendar(env: Environment, id: str) -> None:
    found = await env.run(times.time_of_the_calendar, id=id)
    assert found[0] == datetime(2026, 1, 1, 8, tzinfo=UTC)


@scenario
async def time_limits(env: Environment, id: str) -> None:
    async def slow(what: str) -> str:
        await env.advance(hours(1))
        return what

    env.mock(steps.flaky, using=slow)
    found = await env.run(times.time_limits, id=id)
    assert found == ["ctx.timeout", "asyncio.timeout", "in time"]


runs(times.time_limits_in_one_another, gives=["inner", "outer", "after"])


@scenario
async def time_is_told_by_history(env: Environment, id: str) -> None:
    assert (await env.run(times.time_is_told_by_history, id=id))[-1] == "0.370368"


@scenario
async def chance_is_repeatable(env: Environment, id: str) -> None:
    assert len(await env.run(times.chance_is_repeatable, id=id)) == 6


@scenario
async def ids_are_repeatable(env: Environment, id: str) -> None:
    assert len(set(await env.run(times.ids_are_repeatable, id=id))) == 3


@scenario
async def run_knows_itself(env: Environment, id: str) -> None:
    handle = await env.client.start(times.run_knows_itself, id=id, tags={"shop": "a", "of": "b"})
    assert (await handle.result())[:2] == [id, id]


# -- events and requests


@scenario
async def event_found(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_found, id=id)
    await env.advance(days(1))
    await handle.send_event("go", "now")
    assert await handle.result() == "now"


@scenario
async def event_that_came_early(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_that_came_early, id=id)
    for payload in ("first", "second"):
        await handle.send_event("go", payload)
        await env.settle()
    assert await handle.result() == ["first", "second"]


@scenario
async def event_of_a_class(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_of_a_class, id=id)
    await handle.send_event(events.DELIVERED, "Ann")
    await handle.send_event(events.Withdrawn("too dear"))
    await env.settle()
    await handle.send_event(events.Paid(amount=3))
    assert await handle.result() == (events.Paid(amount=3), events.Withdrawn("too dear"), "Ann")


@scenario
async def event_chosen_by_where(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_chosen_by_where, id=id)
    for amount in (3, 30):
        await handle.send_event(events.Paid(amount=amount))
        await env.settle()
    assert await handle.result() == [30, 3]


@scenario
async def event_of_the_wrong_type_stays(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_of_the_wrong_type_stays, id=id)
    await handle.send_event("count", "many")
    await env.settle()
    await handle.send_event("count", 5)
    assert await handle.result() == [5, "many"]


runs(events.event_timed_out, gives="WaitTimeout")


@scenario
async def event_default(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_default, id=id)
    await env.advance(days(1))
    await handle.send_event("go", "somebody")
    assert await handle.result() == [None, "somebody"]


@scenario
async def event_any_of_several(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_any_of_several, id=id)
    await handle.send_event("withdrawn", "why")
    await env.settle()
    await handle.send_event(events.Withdrawn("again"))
    assert await handle.result() == [("withdrawn", "why"), "Withdrawn", ("none", 0)]


@scenario
async def event_all_of_several(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_all_of_several, id=id)
    for name, payload in (("identity", "p-7"), ("income", 3000), ("income", 4000)):
        await handle.send_event(name, payload)
        await env.settle()
    found = await handle.result()
    assert found == {"identity": "p-7", "income": 3000, "late": {}, "left": 4000}


@scenario
async def event_by_key(env: Environment, id: str) -> None:
    await env.client.publish(events.Paid(amount=1), key="o-1")
    handle = await env.client.start(events.event_by_key, "o-1", id=id)
    await env.settle()
    await env.client.publish(events.Paid(amount=9), key="o-2")
    await env.client.publish(events.Paid(amount=2), key="o-1")
    assert await handle.result() == [1, 2]


@scenario
async def event_withdrawn(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_withdrawn, id=id)
    await env.settle()
    await env.client.cancel_wait(id, "go")
    await handle.result()


@scenario
async def events_awaited_side_by_side(env: Environment, id: str) -> None:
    handle = await env.client.start(events.events_awaited_side_by_side, id=id)
    for payload in "abc":
        await handle.send_event("go", payload)
        await env.settle()
    assert await handle.result() == ["a", "b", "c"]


@scenario
async def event_taken_by_loops(env: Environment, id: str) -> None:
    handle = await env.client.start(events.event_taken_by_loops, id=id)
    for payload in "abc":
        await handle.send_event("order", payload)
    await env.settle()
    await handle.send_event("stop")
    assert await handle.result() == ["a", "b", "c"]


@scenario
async def event_sent_to_another(env: Environment, id: str) -> None:
    await env.client.start(events.event_found, id="another")
    await env.client.start(events.event_by_key, "nothing", id="not-read")
    assert await env.run(events.event_sent_to_another, "another", id=id) == "RunNotFound"


runs(events.event_published, gives="published")


@scenario
async def request_answered(env: Environment, id: str) -> None:
    handle = await env.client.start(events.request_answered, id=id)
    assert await handle.request(events.ADD, 4) == 4
    with contextlib.suppress(RequestRejected):
        await handle.request(events.ADD, -1)
    assert [await handle.request(events.ADD, 6), await handle.result()] == [10, 10]


runs(events.request_that_never_came, gives="None and none")


# -- people


@scenario
async def input_approved(env: Environment, id: str) -> None:
    handle = await env.client.start(people.input_approved, id=id)
    await env.settle()
    await handle.provide_input("manager", {"approved": True, "comment": "fine"}, by="ann")
    assert await handle.result() == [True, "ann", "fine", True]


@scenario
async def input_escalated(env: Environment, id: str) -> None:
    handle = await env.client.start(people.input_escalated, id=id)
    await env.advance(days(4))
    await handle.provide_input("manager", {"approved": False, "comment": "late"}, by="boss")
    assert await handle.result() == "no: late"


@scenario
async def input_of_every_kind(env: Environment, id: str) -> None:
    handle = await env.client.start(people.input_of_every_kind, id=id)
    for name, answer in (
        ("count", 4),
        ("address", {"street": "Main", "number": 7}),
        ("carrier", "van"),
        ("colour", "blue"),
        ("extras", [2, 1]),
        ("words", "thanks"),
    ):
        with contextlib.suppress(InvalidInput):
            await handle.provide_input(name, {"no": "answer"}, wait=10)
        await handle.provide_input(name, answer, wait=10)
    assert await handle.result() == [4, 7, "van", "blue", [1, 2], "thanks"]


runs(people.input_timed_out, gives="nobody said a word")


@scenario
async def input_of_two_people(env: Environment, id: str) -> None:
    handle = await env.client.start(people.input_of_two_people, id=id)
    await handle.provide_input("bob", False, wait=10)
    await handle.provide_input("ann", True, wait=10)
    assert await handle.result() == [True, False]


@scenario
async def input_withdrawn_by_the_run(env: Environment, id: str) -> None:
    handle = await env.client.start(people.input_withdrawn_by_the_run, id=id)
    await env.settle()
    await handle.send_event("done")
    assert await handle.result() == "event"


# -- children

runs(children.child_called, gives="leaf a")
runs(children.child_called_by_name, gives=["leaf a", "leaf b"])
runs(children.child_started, gives=[None, "slept a"])
runs(children.child_left_behind, gives="parent ends")
runs(children.child_failed, gives=[51, "caught"])
fails(children.child_failed_and_so_did_the_parent, message="declined with 7")
runs(children.child_timed_out, gives=["none yet", "timed out"])
runs(children.child_of_child, gives=[["leaf a0", "leaf a1"], ["leaf b0", "leaf b1"]])
runs(
    children.children_side_by_side,
    gives=["leaf a", "leaf b", "leaf c", "slept d", "declined with 1"],
)


@scenario
async def child_cancelled(env: Environment, id: str) -> None:
    handle = await env.client.start(children.child_cancelled, id=id)
    await env.settle()
    await env.client.cancel("to_be_cancelled", reason="by somebody else")
    assert "by somebody else" in await handle.result()


@scenario
async def child_cancelled_by_its_parent(env: Environment, id: str) -> None:
    assert "no longer needed" in await env.run(children.child_cancelled_by_its_parent, id=id)


@scenario
async def child_whose_id_is_taken(env: Environment, id: str) -> None:
    await env.run(children.leaf, "a", id="taken")
    found = await env.run(children.child_whose_id_is_taken, id=id)
    assert found == ["taken", "leaf a", "leaf anew"]


@scenario
async def child_gets_an_event(env: Environment, id: str) -> None:
    assert await env.run(children.child_gets_an_event, id=id) == "from the parent"


@scenario
async def child_that_was_mocked(env: Environment, id: str) -> None:
    env.mock(children.leaf, returns="a mock")
    assert await env.run(children.child_that_was_mocked, id=id) == ["a mock", "after"]


@scenario
async def leaf_b(env: Environment, id: str) -> None:
    """The history of a child, and not that of its parent."""
    await env.run(children.child_called_by_name)
    assert id == "leaf_b"


@scenario
async def to_be_cancelled(env: Environment, id: str) -> None:
    """The history of a child that somebody cancels."""
    await child_cancelled(env, "parent")
    assert await env.client.handle(id).status() == "cancelled"


# -- groups

runs(
    groups.group_parallel,
    gives=[["a", 4, "c"], {"x": "x", "y": None}, [6, "z"]],
)
runs(groups.group_with_a_limit, gives=[0, 2, 4, 6, 8, 10, 12])
runs(groups.group_that_fails_fast, gives=["clean a", "clean b", "declined with 5"])
runs(groups.group_that_completes_all, gives=["ok a", "error declined with 5", "ok c"])
runs(groups.group_race, gives=[("quick", None), ("step", "step")])
runs(groups.group_gather, gives=["a", "b", "c", "d"])
runs(groups.group_task_group, gives=["a", "b", "c", "call"])
runs(
    groups.group_task_group_that_fails,
    gives=["clean a", "clean b", "clean c", "declined with 5", "after"],
)
runs(groups.group_as_completed_with_a_timeout, gives=["1", "2", "timed out"])
runs(groups.group_wait_with_a_timeout, gives=[2, 1, 9, 1, 2])
runs(groups.group_wait_for, gives=["in time", "timed out", "no limit"])
runs(groups.group_wait_for_side_by_side, gives=["a", "b", "c", "d", "e", "f"])
runs(groups.group_generators, gives=["a closed", "a0", "a1", "a2", "b0", "last"])


@scenario
async def group_gather_with_failures(env: Environment, id: str) -> None:
    env.mock(steps.flaky, outcomes=failing(1, ConnectionError("away"), "there"))
    found = await env.run(groups.group_gather_with_failures, id=id)
    assert found == ["a", "declined with 1", "there"]


@scenario
async def group_as_completed(env: Environment, id: str) -> None:
    assert min(await env.run(groups.group_as_completed, id=id)) == "after a"


@scenario
async def group_wait(env: Environment, id: str) -> None:
    assert len(await env.run(groups.group_wait, id=id)) == 5


@scenario
async def group_shield(env: Environment, id: str) -> None:
    async def slow(what: str) -> str:
        await env.advance(minutes(1))
        return what

    env.mock(steps.flaky, using=slow)
    assert await env.run(groups.group_shield, id=id) == ["timed out", "kept"]


@scenario
async def group_queue(env: Environment, id: str) -> None:
    assert len(await env.run(groups.group_queue, id=id)) == 6


@scenario
async def group_locks(env: Environment, id: str) -> None:
    assert (await env.run(groups.group_locks, id=id))[-1] == "all"


# -- sagas

runs(sagas.saga_completed, gives=["flight-Lisbon"])
runs(sagas.saga_undone_and_caught, gives="by train")
runs(sagas.saga_side_by_side, gives=["declined with 1"])
runs(sagas.saga_in_a_saga, gives=["inner undone", "outer undone"])
runs(sagas.saga_of_tasks, gives=["declined with 4"])


@scenario
async def saga_undone(env: Environment, id: str) -> None:
    await env.client.start(sagas.saga_undone, id=id)
    await ends(env, id, as_="compensated")


@scenario
async def saga_whose_undo_is_retried(env: Environment, id: str) -> None:
    env.mock(sagas.cancel_flight, outcomes=failing(1, ConnectionError("away"), "cancelled"))
    await env.client.start(sagas.saga_whose_undo_is_retried, id=id)
    await ends(env, id, as_="compensated")


@scenario
async def saga_whose_undo_fails(env: Environment, id: str) -> None:
    env.mock(sagas.cancel_flight, raises=ConnectionError("away"))
    await env.client.start(sagas.saga_whose_undo_fails, id=id)
    await ends(env, id, as_="compensation_failed")


@scenario
async def saga_cancelled(env: Environment, id: str) -> None:
    handle = await env.client.start(sagas.saga_cancelled, id=id)
    await env.advance(days(1))
    await handle.cancel(reason="it rains")
    await ends(env, id, as_="cancelled")


# -- lives


def cancels(workflow: Workflow[Any, Any], *, as_: str, after: float = 3600) -> None:
    """A run that is cancelled after a while."""

    async def play(env: Environment, id: str) -> None:
        handle = await env.client.start(workflow, id=id)
        await env.advance(after)
        await handle.cancel(reason="enough")
        await ends(env, id, as_=as_)

    SCENARIOS[workflow.name] = Scenario(play, TODAY)


cancels(lives.cancelled, as_="cancelled")
cancels(lives.cancelled_and_cleans_up, as_="cancelled")
cancels(lives.cancelled_in_vain, as_="completed")
cancels(lives.cancelled_under_a_shield, as_="cancelled", after=60)
cancels(lives.cancelled_with_groups, as_="cancelled")
cancels(mixtures.mixed_cancel_in_the_middle, as_="cancelled")


@scenario
async def cancelled_while_it_retries(env: Environment, id: str) -> None:
    env.mock(steps.flaky, raises=ConnectionError("away"))
    handle = await env.client.start(lives.cancelled_while_it_retries, id=id)
    await env.advance(minutes(1))
    await handle.cancel()
    await ends(env, id, as_="cancelled")


@scenario
async def deadline_passed(env: Environment, id: str) -> None:
    await env.client.start(lives.deadline_passed, id=id)
    await ends(env, id, as_="compensated")


runs(lives.deadline_kept, gives="2026-01-01T01:00:00+00:00")


@scenario
async def deadline_and_cleanup(env: Environment, id: str) -> None:
    await env.client.start(lives.deadline_and_cleanup, id=id)
    await ends(env, id, as_="failed")


@scenario
async def paused_and_resumed(env: Environment, id: str) -> None:
    handle = await env.client.start(lives.paused_and_resumed, id=id)
    await env.settle()
    await env.client.pause(id)
    await env.advance(hours(5))
    await env.client.resume(id)
    await handle.result()


@scenario
async def generations(env: Environment, id: str) -> None:
    handle = await env.client.start(lives.generations, 1, id=id)
    await env.settle()
    await handle.send_event("go", "kept")
    assert await handle.result() == [3, "kept"]


@scenario
async def retried_as_a_whole(env: Environment, id: str) -> None:
    env.mock(
        steps.note.options(name="fails twice"),
        outcomes=failing(2, ConnectionError("away"), "there"),
    )
    assert await env.run(lives.retried_as_a_whole, id=id) == "there"


fails(lives.failed, message="no such book")
runs(lives.state_shown, gives="shown")
runs(lives.patched_the_new_way, gives=["new 0", "new 1", "another"])


def before(play: Play, *workflows: Workflow[Any, Any]) -> None:
    """What ran before the code was changed."""
    SCENARIOS[play.__name__] = Scenario(play, workflows)


async def patched_the_old_way(env: Environment, id: str) -> None:
    assert await env.run(lives.before_the_patch, id=id) == "old"


before(patched_the_old_way, lives.before_the_patch)


async def patched_on_the_way(env: Environment, id: str) -> None:
    """The new code is there before the run has slept out."""
    handle = await env.client.start(lives.on_the_way_to_the_patch, id=id)
    await env.advance(hours(1))
    env._workflows[:] = [lives.patched_on_the_way]
    await env.crash()
    assert await handle.result() == ["old", "new"]


before(patched_on_the_way, lives.on_the_way_to_the_patch)


async def versioned_once(env: Environment, id: str) -> None:
    assert await env.run(lives.versioned_once, id=id) == "one"


before(versioned_once, lives.versioned_once)


async def versioned_twice(env: Environment, id: str) -> None:
    assert await env.run(lives.versioned_twice, id=id) == ["two", "and more"]


before(versioned_twice, lives.versioned_twice)


@scenario
async def open_at_a_wait(env: Environment, id: str) -> None:
    await env.client.start(lives.open_at_a_wait, id=id)
    await env.settle()


@scenario
async def open_in_a_retry(env: Environment, id: str) -> None:
    env.mock(steps.flaky, raises=ConnectionError("away"))
    await env.client.start(lives.open_in_a_retry, id=id)
    await env.settle()


@scenario
async def deep_failure(env: Environment, id: str) -> None:
    async def fails(code: int) -> str:
        try:
            message = "the bank is away"
            raise ConnectionError(message)
        except ConnectionError as error:
            raise steps.CardDeclinedError(code, bank="Second") from error

    env.mock(steps.decline.options(name="has a cause"), using=fails)
    assert len(await env.run(lives.deep_failure, id=id)) == 3


# -- mixtures


@scenario
async def mixed_order(env: Environment, id: str) -> None:
    handle = await env.client.start(mixtures.mixed_order, _LINES, id=id)
    await env.advance(hours(1))
    await handle.send_event(events.Paid(amount=0))
    await handle.send_event(events.Paid(amount=140))
    await env.settle()
    await handle.provide_input("manager", True, by="ann")
    assert (await handle.result())["packed"] == "leaf 140 flight-Oslo"


@scenario
async def mixed_race_of_everything(env: Environment, id: str) -> None:
    assert await env.run(mixtures.mixed_race_of_everything, id=id) == ["timer", "child"]


@scenario
async def mixed_saga_with_children(env: Environment, id: str) -> None:
    assert "declined with 9" in await env.run(mixtures.mixed_saga_with_children, id=id)


@scenario
async def mixed_actor(env: Environment, id: str) -> None:
    handle = await env.client.start(mixtures.mixed_actor, 0, id=id)
    for number in (1, 2):
        await handle.send_event("add", number)
        await handle.request(events.ADD, number)
        await env.advance(hours(3))
    await handle.send_event("add", 100)
    assert await handle.result() >= 100


@scenario
async def mixed_retries_and_limits(env: Environment, id: str) -> None:
    env.mock(
        steps.flaky,
        using=lambda name: _flaky_by_attempt(name, {"a": 3, "b": 1, "c": 9}),
    )
    found = await env.run(mixtures.mixed_retries_and_limits, id=id)
    assert found[1] == "b"


def _flaky_by_attempt(name: str, successes: dict[str, int]) -> str:
    if current_step().attempt < successes[name]:
        message = f"{name} is away"
        raise ConnectionError(message)
    return name


runs(
    mixtures.mixed_pipeline,
    4,
    gives=["0 s 1", "2 s 2", "declined with 4", "6 l 2"],
)
runs(mixtures.mixed_generations_of_children, 1, gives=[2, "second generation"])
runs(mixtures.mixed_patches_in_groups, gives=["a again", "b again", "c again"])


# -- recording


async def play(name: str) -> str:
    """Play a scenario; the history of its run."""
    chosen = SCENARIOS[name]
    async with Environment(workflows=chosen.workflows, seed=1) as env:
        await chosen.play(env, name)
        return await env.client.export_history(name)


def recorded(name: str) -> str:
    """The same, for who has no loop."""
    return asyncio.run(play(name))
