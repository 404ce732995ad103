"""One trace in every process: `wait`, `as_completed` and `TaskGroup` keep their tasks in sets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine import workflows
from tests.engine.driver import digest, live
from tests.engine.witness import case, elsewhere

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
def test_a_thousand_replays_in_ten_processes_lead_to_one_trace():
    """The loop's tasks and futures hash by creation number; `as_completed` over bare coroutines is handled."""
    recordings = [live(workflow, seed=7, noise=0) for workflow in IN_SETS]
    cases = [case(*both) for both in zip(IN_SETS, recordings, strict=True)]

    def witness(hash_seed: int) -> list[list[str]]:
        return elsewhere(cases, hash_seed=hash_seed, times=TIMES)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(witness, range(PROCESSES)))
    for number, workflow in enumerate(IN_SETS):
        seen = {trace for answer in answers for trace in answer[number]}
        assert seen == {digest(recordings[number].trace)}, workflow.name


def test_every_primitive_leads_to_one_trace_in_another_process():
    """A replay gives the same commands in any process and with any hash seed."""
    recordings = [(workflow, live(workflow, seed=5)) for workflow in workflows.ALL]
    answers = elsewhere([case(*both) for both in recordings], hash_seed=123)
    for (workflow, recording), seen in zip(recordings, answers, strict=True):
        assert seen == [digest(recording.trace)], workflow.name
