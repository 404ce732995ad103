"""The short form of the campaign `crash_stop`."""

from __future__ import annotations

import pytest

from tests.campaigns import crash_stop

pytestmark = pytest.mark.crash


async def test_a_stopped_worker_writes_nothing_and_comes_back(durable_postgres, tmp_path):
    words = ["--rounds", "1", "--seed", "1", "--open", "20", "--slots", "10", "--workers", "2"]
    report = await crash_stop.play(
        crash_stop.options().parse_args(words), durable_postgres, tmp_path
    )
    assert report.violations == []
    assert report.figures["rejoined under a new id"] == 1
    assert report.figures["recoveries"] > 0
