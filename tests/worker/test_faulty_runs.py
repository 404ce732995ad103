"""A short form of the campaign `faulty_runs`."""

from __future__ import annotations

import pytest

from tests.campaigns.faulty_runs import campaign


@pytest.mark.slow
def test_random_programs_survive_random_faults():
    """Whatever fails, runs end, histories are whole, and what was recorded never happens again."""
    figures, broken = campaign(60, 1)
    assert broken is None, broken
    assert figures["programs"] >= 60
