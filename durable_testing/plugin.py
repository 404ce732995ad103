"""The pytest plugin `durable`: environments, databases, and recorded histories as tests.

Every test run of every project that has durable installed loads this module, so it imports
nothing of durable; what a fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from durable_testing.session import SESSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable import Client
    from durable_testing.environment import Environment
    from durable_testing.exploring import Exploration
    from durable_testing.postgres import Postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for all environments of a session."""
    group = parser.getgroup("durable", "durable: workflows on a virtual clock")
    group.addoption(
        "--durable-seed",
        type=int,
        metavar="N",
        help="the seed of environments that are given none (a failing test names its seed)",
    )
    group.addoption(
        "--durable-record",
        type=Path,
        metavar="DIR",
        help="write the histories of all runs of environments whose test passes there",
    )
    parser.addini(
        "durable_workflows",
        "modules with the workflows to which *.history.json files belong",
        type="linelist",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker, and hand the options on, if there are any."""
    config.addinivalue_line(
        "markers",
        "durable_explore(**options): what the fixture durable_explore gives explore, e.g. max_cases=5000",
    )
    seed, folder = config.option.durable_seed, config.option.durable_record
    SESSION.is_watched = True
    if seed is not None:
        SESSION.seed = seed
    if folder is not None:
        SESSION.record_to = config.invocation_params.dir / folder


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What environments have left shows why a test fails, or is kept where it passes."""
    report = yield
    SESSION.take_up(report)
    return report


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A recorded history is a test: the code must still go its way."""
    if not file_path.name.endswith(".history.json"):
        return None
    from durable_testing.collected import RecordedRun

    return RecordedRun.from_parent(parent, path=file_path)  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(scope="session")
def durable_postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole test session, started when the first test asks for it.

    It is the one of `DURABLE_TEST_POSTGRES_URL`, or a temporary one from the PostgreSQL installed
    on this machine. Where there is none the test fails and says how to get one: a test that
    asked for PostgreSQL and was skipped in silence proves nothing.
    """
    from durable_testing.postgres import PostgresNotFound, postgres_for_tests

    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_for_tests())
        except PostgresNotFound as error:
            pytest.fail(str(error), pytrace=False)
        yield server


@pytest.fixture
def durable_postgres(durable_postgres_server: Postgres) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, dropped after the test."""
    url = durable_postgres_server.create_database()
    yield url
    durable_postgres_server.drop_database(url)


@pytest.fixture
def durable_sqlite(tmp_path: Path) -> str:
    """The URL of a fresh SQLite database in a file of this test's own."""
    return f"sqlite:///{tmp_path / 'durable.db'}"


@pytest.fixture
def durable_url() -> str:
    """Where `durable_env` and `durable_client` keep their runs: in memory, unless you override it.

    `def durable_url(durable_postgres): return durable_postgres` in a conftest.py moves tests to PostgreSQL.
    """
    return "sqlite://"


@pytest.fixture
def durable_env(durable_url: str) -> Callable[..., Environment]:
    """`Environment`, on the database of `durable_url`.

    `async with durable_env(workflows=[...]) as env:`
    """
    from functools import partial

    from durable_testing.environment import Environment

    return partial(Environment, url=durable_url)


@pytest.fixture
def durable_explore(request: pytest.FixtureRequest) -> Callable[..., Exploration]:
    """`explore`, which fails the test where it finds something; `@pytest.mark.durable_explore(...)` has options."""
    from durable_testing.exploring import explore

    marker = request.node.get_closest_marker("durable_explore")
    marked: dict[str, Any] = {} if marker is None else dict(marker.kwargs)

    def explored(workflow: Any, input: Any = None, /, **options: Any) -> Exploration:
        report = explore(workflow, input, **{**marked, **options})
        if not report.ok:
            pytest.fail(report.explanation, pytrace=False)
        return report

    return explored


@pytest.fixture
def durable_client(durable_url: str) -> Client:
    """A client of the database of this test, on the real clock; not open yet: `async with durable_client`."""
    from durable import Client

    return Client(durable_url)
