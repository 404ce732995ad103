"""Acceptance tests run on every store, through the public API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from durable import Client


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database, of each kind in turn."""
    if request.param == "memory":
        return "sqlite://"
    return request.getfixturevalue(f"durable_{request.param}")


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def parks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs park for any sleep, not only for those of a second and more."""
    from durable.worker import drafts

    monkeypatch.setattr(drafts, "KEEP_SECONDS", 0.0)
