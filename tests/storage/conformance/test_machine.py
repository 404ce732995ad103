from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from durable.storage import open_storage
from durable.storage.base import Storage
from tests.storage.conformance.conftest import POSTGRES
from tests.storage.conformance.machine import StoreMachine
from tests.storage.conformance.machine_orders import FullMachine

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def check(make: type[StoreMachine], examples: int) -> None:
    run_state_machine_as_test(
        make,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=QUIET,
            derandomize=True,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind,examples", [("memory", 200), ("file", 15)])
def test_sqlite_does_what_the_model_says(kind: str, examples: int, tmp_path: Path):
    """Any sequence of verbs, with lost answers, expired leases and wrong beliefs."""
    number = count()

    class Machine(FullMachine):
        def make(self) -> Storage:
            path = tmp_path / f"{next(number)}.db"
            return open_storage("sqlite://" if kind == "memory" else f"sqlite:///{path}")

    check(Machine, examples)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [POSTGRES])
def test_postgres_does_what_the_model_says(kind: str, request: pytest.FixtureRequest):
    """The same sequences."""
    url = request.getfixturevalue("durable_postgres")
    number = count()

    class Machine(FullMachine):
        def make(self) -> Storage:
            return open_storage(url, schema=f"durable_{next(number)}")

    check(Machine, 12)
