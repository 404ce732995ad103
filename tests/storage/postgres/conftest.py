"""A store on a fresh database, and sessions that are played against each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from durable.model.rows import WorkerInfo
from durable.storage.postgres import PostgresStorage
from tests.storage.postgres.players import LANE, Player, new_run


@pytest.fixture
async def store(durable_postgres: str) -> AsyncIterator[PostgresStorage]:
    store = PostgresStorage(durable_postgres)
    await store.open()
    await store.lanes([LANE])
    yield store
    await store.close()


@pytest.fixture
async def worker(store: PostgresStorage) -> int:
    return (await store.register(WorkerInfo("alice", "here", 1), 3600)).worker


@pytest.fixture
async def rival(store: PostgresStorage) -> int:
    return (await store.register(WorkerInfo("bob", "here", 2), 3600)).worker


@pytest.fixture
def player(store: PostgresStorage, durable_postgres: str) -> Iterator[Callable[[], Player]]:
    """Makes players, and sees them off."""
    players: list[Player] = []

    def make() -> Player:
        players.append(Player(store, durable_postgres))
        return players[-1]

    yield make
    for one in players:
        one.close()


@pytest.fixture
async def keys(store: PostgresStorage, worker: int) -> list[int]:
    """Four runs `run-0` to `run-3` that `worker` owns, each with epoch 1 and one event."""
    started = await store.start([new_run(f"run-{i}", eager_owner=worker) for i in range(4)])
    return [run.key for run in started]


@pytest.fixture
async def waiting(store: PostgresStorage, worker: int) -> list[int]:
    """Four runs `free-0` to `free-3` that nobody owns yet."""
    return [run.key for run in await store.start([new_run(f"free-{i}") for i in range(4)])]
