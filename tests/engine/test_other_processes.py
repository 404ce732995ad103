"""One trace in every process: `wait`, `as_completed` and `TaskGroup` keep their tasks in sets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine import workflows
from tests.engine.driver import digest, live
from tests.engine.witness import Witness

PROCESSES = 10
TIMES = 100
IN_SETS = (
    workflows.waits_for_the_first,
    workflows.waits_for_the_first_exception,
    workflows.waits_with_a_timeout,
    workflows.waits_for_gatherings,
    workflows.as_completed_tasks,
    workflows.as_completed_coroutines,
    workflows.as_completed_calls,
    workflows.task_group_that_fails,
)


@pytest.mark.slow
@pytest.mark.parametrize("workflow", IN_SETS, ids=lambda workflow: workflow.name)
def test_a_thousand_replays_in_ten_processes_lead_to_one_trace(workflow):
    """The loop's tasks and futures hash by creation number; `as_completed` over bare coroutines is handled."""
    recording = live(workflow, seed=7, noise=0)

    def witness(hash_seed: int) -> list[str]:
        with Witness(hash_seed) as other:
            return other.ask(workflow, recording, times=TIMES)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(witness, range(PROCESSES)))
    assert answers == [[digest(recording.trace)]] * PROCESSES


def test_every_primitive_leads_to_one_trace_in_another_process():
    """A replay gives the same commands in any process and with any hash seed."""
    with Witness(123) as other:
        for workflow in workflows.ALL:
            recording = live(workflow, seed=5)
            assert other.ask(workflow, recording) == [digest(recording.trace)], workflow.name
