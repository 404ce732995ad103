"""The short form of the campaign `crash_server`, on a server of its own: others work on the common one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durable_testing.postgres import PostgresServer
from tests.campaigns import crash_server
from tests.campaigns.campaign import DURABLE

pytestmark = pytest.mark.crash
OPTIONS = crash_server.options().parse_args(
    ["--rounds", "2", "--cuts", "6", "--seed", "5", "--open", "30", "--slots", "15", "--calm", "0"]
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(**DURABLE) as server:
        yield server


async def test_crashes_of_the_server_lose_and_double_nothing(server, tmp_path):
    url = server.create_database()
    report = await crash_server.play_restarts(OPTIONS, server, url, tmp_path)
    assert report.violations == []
    assert report.figures["restarts"] == OPTIONS.rounds


async def test_answers_that_are_lost_after_the_commit_lose_and_double_nothing(server, tmp_path):
    report = await crash_server.play_cuts(OPTIONS, server.create_database(), tmp_path)
    assert report.violations == []
    assert sum(n for what, n in report.figures.items() if what.startswith("answers lost")) >= 4
