"""How fast a history is replayed through the API that each system has for tests: ours, and Temporal's `Replayer`.

The same workflow on both, with so many steps one after the other, whose history is there: `decoded`, as the API
takes it; in `bytes`, as a server or database gives it to a worker; and as `json`, as each exports it to a file. The
system's own class for a history is made from what is given, and that time is counted. `undetected` is `bytes` once
more, without the deadlock detection that Temporal has and durable's replay has not.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from benchmarks.drive import percentile

Replay: TypeAlias = Callable[[], Awaitable[None]]
"""Replays a history of known length; raises where it goes another way."""


async def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Steps per second for each length, in each form."""
    system = importlib.import_module(f"benchmarks.replayer_on_{spec['system']}")
    lengths: dict[str, dict[str, float]] = {}
    for steps in spec["lengths"]:
        forms: dict[str, Replay] = await system.prepare(spec["url"], steps)
        lengths[str(steps)] = {
            form: steps / percentile([await _seconds(replay) for _ in range(spec["rounds"])], 0.5)
            for form, replay in forms.items()
        }
    return {"lengths": lengths}


async def _seconds(replay: Replay) -> float:
    gc.collect()
    began = time.perf_counter()
    await replay()
    return time.perf_counter() - began
