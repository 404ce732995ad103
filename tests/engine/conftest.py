"""A test that fails half-way leaves no run behind whose cleanup would run in the next test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.driver import Driver


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    while Driver.made:
        Driver.made.pop().instance.discard()
