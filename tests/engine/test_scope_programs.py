"""Random programs with sagas, shields, children, cancels and generations replay alike everywhere."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable.model.runnable import Workflow
from tests.engine.driver import Recording, Stuck, difference, digest
from tests.engine.programs import LUCK, Tree
from tests.engine.scope_programs import (
    child_ends,
    scope_program,
    scope_program_retried,
    whole_scope_programs,
)
from tests.engine.scoped import kinds, scoped, status_of
from tests.engine.witness import Witness

PROGRAMS = 150


def run(
    tree: Tree, seed: int, cancel_at: int | None, late_at: int | None, workflow: Workflow[Any, Any]
) -> Recording:
    LUCK.seed(seed)
    return scoped(
        workflow,
        tree,
        seed=seed,
        children=child_ends,
        cancel_at=cancel_at,
        late_at=late_at,
    )


def check(recording: Recording, workflow: Workflow[Any, Any]) -> None:
    """What must hold of every run that there is."""
    assert difference(workflow, recording) is None, difference(workflow, recording)
    history = kinds(recording)
    if isinstance(recording.outcome, Stuck):
        assert "CancelRequested" not in history or history.count("CancelRequested") == 1
        return
    status = status_of(recording)
    asked = {told[1]: told for told in recording.commands("step")}
    ended = [row.cmd for row in recording.rows if row.type in (81, 82)]
    undos = [told for told in asked.values() if told[2] == "take_back"]
    assert {told[1] for told in undos} <= set(ended), "an undo was left undone"
    if "CompensationStarted" in history:
        assert status != "completed" or "RunRetried" in history
    if status == "cancelled":
        assert "CancelRequested" in history


@pytest.mark.slow
@pytest.mark.parametrize("workflow", [scope_program, scope_program_retried], ids=["once", "twice"])
def test_random_programs_replay_alike_everywhere(workflow):
    """Replaying any prefix of a history yields the same commands in any process and with any hash seed."""
    with ExitStack() as stack:
        witness = stack.enter_context(Witness(77))

        @settings(
            max_examples=PROGRAMS,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            whole_scope_programs(),
            st.integers(0, 1000),
            st.none() | st.integers(1, 30),
            st.none() | st.integers(10, 40),
        )
        def programs(tree: Tree, seed: int, cancel_at: int | None, late_at: int | None) -> None:
            recording = run(tree, seed, cancel_at, late_at, workflow)
            check(recording, workflow)
            assert witness.ask(workflow, recording) == [digest(recording.trace)]

        programs()
