"""The simulator in short, and that it can be trusted: it is deterministic, and its checks can fail."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from durable.worker.execution import Execution
from tests.campaigns.simulate import Summary, digests_of
from tests.simulation.faults import ALL_FAULTS
from tests.simulation.simulation import play, play_many

SEEDS = range(100)


@pytest.fixture(scope="module")
def summary() -> Summary:
    summary = Summary()
    for outcome in play_many(SEEDS):
        assert outcome.broken is None, f"seed {outcome.seed}: {outcome.broken}"
        summary.add(outcome)
    return summary


@pytest.mark.slow
def test_whatever_fails_every_invariant_holds(summary: Summary) -> None:
    assert summary.seeds == len(SEEDS)
    assert not summary.broken


@pytest.mark.slow
def test_every_fault_really_happens(summary: Summary) -> None:
    """A menu that is never served proves nothing."""
    assert not [kind for kind in ALL_FAULTS if not summary.fired[kind]]


@pytest.mark.slow
def test_runs_end_in_every_way(summary: Summary) -> None:
    wanted = {"completed", "failed", "cancelled", "terminated", "compensated"}
    assert wanted <= summary.statuses.keys()


@pytest.mark.slow
def test_a_seed_is_one_course_in_any_interpreter() -> None:
    """Neither the hash seed nor what was played before changes a trace."""
    fails_to_store = 10400  # the history of this one holds a traceback
    seeds = (*range(7, 12), fails_to_store)
    play(fails_to_store)
    here = {seed: play(seed).digest for seed in seeds}
    assert digests_of(reversed(seeds), hash_seed=42) == here
    assert len(set(here.values())) == len(seeds)


@pytest.mark.slow
def test_an_engine_that_starts_steps_too_early_is_found_out() -> None:
    """The checks can fail: here what an event led to does not wait until the event is durable."""

    def release(self: Execution) -> None:
        self.durable, durable = 2**62, self.durable
        try:
            proper(self)
        finally:
            self.durable = durable

    proper = Execution.release
    with patch.object(Execution, "release", release):
        found = [outcome.broken for outcome in play_many(range(30)) if outcome.broken]
    assert any(broken.startswith("I4") for broken in found)
