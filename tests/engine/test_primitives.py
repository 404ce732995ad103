"""Stock asyncio works inside a workflow, is durable, and replays exactly."""

from __future__ import annotations

import pytest

from tests.engine import workflows
from tests.engine.driver import difference, live


@pytest.mark.parametrize("workflow", workflows.ALL, ids=lambda workflow: workflow.name)
@pytest.mark.parametrize("seed", range(8))
def test_every_primitive_asks_for_the_same_live_on_replay_and_after_eviction(workflow, seed):
    """Live execution and replay are the same code path: only the source of the events differs."""
    recording = live(workflow, seed=seed)
    assert not recording.failed, recording.outcome
    assert not isinstance(recording.outcome, Exception), recording.outcome
    assert difference(workflow, recording) is None
