"""The statuses of a run and the one table of legal changes between them."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from durable.errors import IllegalTransition
from durable.model.lifecycle import FINAL, OPEN, TRANSITIONS, check_transition, is_final


def test_every_status_stands_in_the_table() -> None:
    assert set(TRANSITIONS) == {*OPEN, *FINAL}


@pytest.mark.parametrize("status", FINAL)
def test_an_end_is_final(status) -> None:
    assert is_final(status)
    assert not TRANSITIONS[status]


def test_a_change_that_is_not_in_the_table_is_refused_by_name() -> None:
    for old, new in product(TRANSITIONS, TRANSITIONS):
        if new in TRANSITIONS[old]:
            check_transition("order-1", old, new)
        else:
            with pytest.raises(
                IllegalTransition, match=f"order-1 is {old} and cannot become {new}"
            ):
                check_transition("order-1", old, new)


WAYS = {
    "starts, sleeps and returns": "pending running waiting running completed",
    "fails": "pending running failed",
    "is undone": "pending running compensating compensated",
    "parks while it is undone": "pending running compensating compensating compensation_failed",
    "is cancelled while it waits": "pending running waiting running compensating cancelled",
    "is cancelled, with nothing to undo": "pending running waiting running cancelled",
    "is undone and tried again": "pending running compensating waiting running completed",
    "is undone and tried again at once": "pending running compensating running failed",
    "is paused before it begins": "pending paused pending running completed",
    "is paused while it waits": "pending running waiting paused waiting running completed",
    "is paused while it is undone": "pending running compensating paused compensating compensated",
    "is blocked while it is undone": "pending running compensating blocked compensating cancelled",
    "is blocked, then paused": "pending running blocked paused running completed",
    "is terminated while it is undone": "pending running compensating terminated",
    "is terminated while it is held": "pending running paused terminated",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ways_through_a_life(way) -> None:
    """What a worker does with a run stands in the table."""
    statuses = way.split()
    for old, new in pairwise(statuses):
        check_transition("order-1", old, new)  # type: ignore[arg-type]


NO_WAYS = {
    "what is undone has not succeeded": ("compensating", "completed"),
    "undoing is an owner's work": ("waiting", "compensating"),
    "nothing has been done that could be undone": ("pending", "compensating"),
    "a run that is held does not end by itself": ("paused", "completed"),
    "a run that is blocked does not end by itself": ("blocked", "failed"),
    "an end is an end": ("cancelled", "running"),
}


@pytest.mark.parametrize("old, new", NO_WAYS.values(), ids=NO_WAYS)
def test_no_ways(old, new) -> None:
    """And what no worker may do does not."""
    with pytest.raises(IllegalTransition):
        check_transition("order-1", old, new)


@pytest.mark.parametrize("status", OPEN)
def test_whatever_is_open_can_be_terminated(status) -> None:
    check_transition("order-1", status, "terminated")
