"""The short form of the campaign `crash_kill`, on both stores."""

from __future__ import annotations

import pytest

from tests.campaigns import crash_kill

pytestmark = pytest.mark.crash
KILLS = 3


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_no_kill_loses_or_repeats_anything(request, tmp_path, store):
    url = request.getfixturevalue(f"durable_{store}")
    words = ["--rounds", str(KILLS), "--seed", "1", "--open", "20", "--slots", "10"]
    report = await crash_kill.play(crash_kill.options().parse_args(words), url, tmp_path)
    assert report.violations == []
    assert report.figures["kills that hit a running step"] >= KILLS
    assert report.figures["executions lost to faults"] > 0
