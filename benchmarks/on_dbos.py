"""DBOS with the settings that made it fastest here; runs in a virtual environment of its own.

Chosen by trying (see README.md): asynchronous workflows and steps started in-process on the event loop,
no ping before each use of a pooled connection, a pool and a thread pool of the same size, logging at
CRITICAL, and no OTLP, no Conductor, no queue. On SQLite the file is put into WAL mode first, with
`synchronous=FULL`, so that both systems promise the same there too.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dbos import DBOS, DBOSConfig  # type: ignore[import-not-found,unused-ignore]

from benchmarks.functions import add_one

add_one_step = DBOS.step()(add_one)


@DBOS.workflow()
async def chain(steps: int) -> int:
    """So many steps, one after the other."""
    n = 0
    for _ in range(steps):
        n = await add_one_step(n)
    return n


@DBOS.workflow()
async def fan(steps: int) -> int:
    """So many steps at once."""
    results = await asyncio.gather(*(add_one_step(0) for _ in range(steps)))
    return sum(results)


@DBOS.workflow()
async def one(n: int) -> int:
    """A child: no step, a small result."""
    return n


@DBOS.workflow()
async def parent(children: int) -> int:
    """So many children at once."""
    handles = [await DBOS.start_workflow_async(one, 1) for _ in range(children)]
    return sum([await handle.get_result() for handle in handles])


@DBOS.workflow()
async def listen(events: int) -> int:
    """So many events, one after the other."""
    total = 0
    for _ in range(events):
        total += await DBOS.recv_async("number", timeout_seconds=600)
    return total


DEFAULTS: dict[str, dict[str, Any]] = {
    "postgresql": {"pool": 20, "threads": 20, "pre_ping": False, "listen_notify": True},
    "sqlite": {"pool": 1, "threads": 4, "pre_ping": False, "listen_notify": False, "wal": True},
}


class Dbos:
    """The driver's view of a launched DBOS."""

    def __init__(self, used: dict[str, Any]) -> None:
        self.used = used

    async def chain(self, steps: int) -> object:
        handle = await DBOS.start_workflow_async(chain, steps)
        return await handle.get_result()

    async def fan(self, steps: int) -> object:
        handle = await DBOS.start_workflow_async(fan, steps)
        return await handle.get_result()

    async def family(self, children: int) -> object:
        handle = await DBOS.start_workflow_async(parent, children)
        return await handle.get_result()

    async def listen(self, events: int) -> Any:
        return await DBOS.start_workflow_async(listen, events)

    async def send(self, listener: Any, number: int) -> None:
        await DBOS.send_async(listener.workflow_id, number, "number")

    async def send_all(self, numbers: Sequence[tuple[Any, int]]) -> None:
        await asyncio.gather(*(self.send(to, number) for to, number in numbers))

    async def total(self, listener: Any) -> object:
        return await listener.get_result()


@asynccontextmanager
async def open_system(url: str, options: dict[str, Any]) -> AsyncIterator[Dbos]:
    """Launch DBOS on `url`; its tables are made on the way."""
    scheme = url.partition(":")[0]
    used = DEFAULTS[scheme] | options
    if used.get("wal"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute("pragma journal_mode=wal")
        connection.close()
    config: DBOSConfig = {
        "name": "benchmark",
        "system_database_url": url,
        "sys_db_pool_size": used["pool"],
        "db_engine_kwargs": {"pool_pre_ping": used["pre_ping"]},
        "max_executor_threads": used["threads"],
        "use_listen_notify": used["listen_notify"],
        "enable_otlp": False,
        "log_level": "CRITICAL",
        "application_version": "benchmark",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        yield Dbos(used)
    finally:
        DBOS.destroy()
