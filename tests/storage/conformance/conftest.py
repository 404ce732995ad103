"""One suite, every store. A test asks for `world`; one that needs two processes' eyes for `worlds`."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from durable.storage import open_storage
from durable.storage.base import Storage
from tests.storage.conformance.world import Now, World

MEMORY = pytest.param("memory", id="sqlite-memory")
FILE = pytest.param("file", id="sqlite-file")
POSTGRES = pytest.param(
    "postgres",
    id="postgres",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("psycopg") is None, reason="the PostgreSQL driver is not installed"
    ),
)


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "memory":
        return "sqlite://"
    return request.getfixturevalue("durable_sqlite" if kind == "file" else "durable_postgres")


@pytest.fixture(params=[MEMORY, FILE, POSTGRES])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database of every kind."""
    return url_of(request.param, request)


@pytest.fixture(params=[FILE, POSTGRES])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of every kind that several processes can open."""
    return url_of(request.param, request)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Storage]:
    storage = open_storage(url)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def world(store: Storage, now: Now) -> World:
    store.time = now
    return World(store, now)


@pytest.fixture
async def worlds(shared_url: str, now: Now) -> AsyncIterator[Callable[[int], list[World]]]:
    """Several stores on one database, as several processes would have them."""
    stores = [open_storage(shared_url) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for storage in stores:
            await storage.open()
            stack.push_async_callback(storage.close)
            storage.time = now
        yield lambda count: [World(storage, now) for storage in stores[:count]]
