"""The short form of the campaign `events`, on both stores."""

from __future__ import annotations

import pytest

from tests.campaigns import events

pytestmark = [pytest.mark.crash, pytest.mark.slow]
KILLS = 2
SIZE = {"rounds": KILLS, "runs": 20, "events": 1_000, "duplicates": 100, "senders": 2, "seed": 3}


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_every_event_is_consumed_once_and_in_order(request, tmp_path, store):
    """A wait takes the oldest unconsumed match; early events are kept; a key is accepted once."""
    url = request.getfixturevalue(f"durable_{store}")
    words = [word for name, number in SIZE.items() for word in (f"--{name}", str(number))]
    report = await events.play(events.options().parse_args([*words, "--whole"]), url, tmp_path)
    assert report.violations == []
    figures = report.figures
    assert figures["kills"] == KILLS
    assert figures["consumed"] >= SIZE["events"]
    assert figures["duplicates"] >= SIZE["duplicates"]
    assert figures["refused because the run had ended"] > 0
    assert figures["sent before anybody had begun the run"] > 0
    assert figures["there before the wait"] > 0
    assert figures["carried into a new generation"] > 0
