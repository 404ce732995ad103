"""A step in a test of its own, without a run."""

from __future__ import annotations

import logging

import pytest

from durable import NotAllowedInWorkflow, current_step, step
from durable_testing import resources, step_context


@step(timeout=30)
async def charge(cents: int) -> dict[str, object]:
    context = current_step()
    context.log.info("charging %d", cents)
    return {
        "key": context.idempotency_key,
        "attempt": context.attempt,
        "run": context.run_id,
        "workflow": context.workflow,
        "name": context.name,
        "deadline": context.deadline,
        "cancelled": context.cancelled,
    }


@step
def count() -> int:
    counted = 0
    while not current_step().cancelled:
        counted += 1
        if counted == 3:
            current_step().cancelled = True
    return counted


async def test_a_step_finds_its_attempt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with step_context(attempt=2, idempotency_key="o-1:3") as context:
        assert current_step() is context
        assert await charge(5) == {
            "key": "o-1:3",
            "attempt": 2,
            "run": "test",
            "workflow": "test",
            "name": "test",
            "deadline": None,
            "cancelled": False,
        }
    (line,) = caplog.records
    assert (line.getMessage(), line.__dict__["attempt"]) == ("charging 5", 2)


async def test_there_is_none_before_and_after() -> None:
    with pytest.raises(NotAllowedInWorkflow):
        await charge(5)
    with step_context():
        pass
    with pytest.raises(NotAllowedInWorkflow):
        await charge(5)


def test_a_step_is_told_to_stop() -> None:
    with step_context():
        assert count() == 3


def test_one_may_stand_inside_of_another() -> None:
    with step_context(attempt=1), step_context(attempt=2):
        assert current_step().attempt == 2


def test_resources_are_refused_until_steps_can_ask_for_them() -> None:
    with resources():
        pass
    with pytest.raises(NotImplementedError, match="resources of steps"), resources(object()):
        pass
    with (
        pytest.raises(NotImplementedError, match="resources of steps"),
        step_context(resources=[1]),
    ):
        pass
