"""Environments on every store."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind in turn."""
    return "sqlite://" if request.param == "memory" else request.getfixturevalue("durable_postgres")
