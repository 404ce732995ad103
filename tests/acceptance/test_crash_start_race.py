"""The short form of the campaign `start_race`, and the collision that it would rarely meet."""

from __future__ import annotations

import pytest

from durable import Client
from durable.clock import VirtualClock
from tests.campaigns import labour, start_race

pytestmark = pytest.mark.crash


@pytest.fixture(params=["sqlite", "postgres"])
def url(request) -> str:
    return request.getfixturevalue(f"durable_{request.param}")


async def test_an_id_that_many_start_at_once_starts_once(url, tmp_path):
    words = ["--rounds", "5", "--seed", "1", "--racers", "4"]
    report = await start_race.play(start_race.options().parse_args(words), url, tmp_path)
    assert report.violations == []
    assert report.figures["handles that were created"] == 5


async def test_two_that_start_an_id_in_the_same_microsecond_know_who_did(url):
    """What they send is alike to the last byte; only one of them has created the run."""
    one, other = Client(url), Client(url)
    one.clock = other.clock = VirtualClock()
    async with one, other:
        first = await one.start(labour.single, 1, id="same")
        second = await other.start(labour.single, 1, id="same")
    assert (first.created, second.created) == (True, False)
