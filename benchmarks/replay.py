"""How fast a long run is rebuilt from its history: load, decode, and run the code over it.

A run of many trivial steps is made through the public API; then its rows are read from the database by
the storage port and applied to a fresh instance of the engine, as a worker does that takes the run over.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.drive import percentile
from benchmarks.on_durable import chain
from durable import Client, Worker
from durable.engine.instance import Instance
from durable.model.wire import EventRow, decode_event
from durable.storage import open_storage


async def _make(url: str, steps: int) -> str:
    async with Client(url) as client, Worker(client, workflows=[chain]):
        handle = await client.start(chain, steps)
        assert await handle.result() == steps
        return handle.id


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Steps per second of load and replay together, and of each part."""
    url: str = spec["url"]
    steps: int = spec["steps"]
    run_id = await _make(url, steps)
    storage = open_storage(url)
    await storage.open()
    try:
        run = await storage.run(run_id)
        assert run is not None
        samples = [await _once(storage, run.key, run_id) for _ in range(spec["rounds"])]
    finally:
        await storage.close()
    events = samples[0]["events"]

    def rate(part: str) -> float:
        return steps / percentile([one[part] for one in samples], 0.5)

    return {
        "steps": steps,
        "events": events,
        "steps_per_s": rate("total"),
        "load_steps_per_s": rate("load"),
        "apply_steps_per_s": rate("apply"),
        "samples": samples,
    }


def _apply(instance: Instance, rows: Sequence[EventRow]) -> None:
    for row in rows:
        instance.apply(decode_event(row))


async def _once(storage: Any, key: int, run_id: str) -> dict[str, float]:
    gc.collect()
    began = time.perf_counter()
    rows = (await storage.load([(key, 0)]))[key]
    loaded = time.perf_counter()
    instance = Instance(chain, run_id)
    instance.replay(lambda: _apply(instance, rows))
    done = time.perf_counter()
    assert instance.finished
    instance.discard()
    return {
        "events": len(rows),
        "load": loaded - began,
        "apply": done - loaded,
        "total": done - began,
    }
