"""The statuses of a run and the one table of legal changes between them."""

from __future__ import annotations

from itertools import product

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
