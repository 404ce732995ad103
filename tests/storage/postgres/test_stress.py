"""The campaign of `tests.campaigns.protocol_stress` in its shortest form."""

from __future__ import annotations

import pytest

from tests.campaigns import pgbouncer
from tests.campaigns.protocol_stress import Plan, play


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_left_behind():
    broken, ledger, _ = play(Plan(messages=1000, seed=7))
    assert broken == []
    assert ledger.counts["messages"] >= 1000
    assert ledger.counts[
        "lost claims"
    ]  # found again by their owner, or by the reaper: nothing is left


@pytest.mark.slow
@pytest.mark.crash
def test_nor_when_the_server_is_killed():
    broken, ledger, _ = play(Plan(messages=1500, seed=11, kill_server=True))
    assert broken == []
    assert ledger.counts["server killed"]


@pytest.mark.slow
@pytest.mark.skipif(pgbouncer.find() is None, reason=pgbouncer.HINT)
def test_nor_through_a_pooler():
    broken, _, _ = play(Plan(messages=600, seed=13, pooled=True))
    assert broken == []
