"""The driver of the workloads that both systems run: one closed loop, the same code for both.

A fixed number of workflows is kept in flight: when one ends, the next one starts, and each of them is
started and then waited for through the system's own public API, in the process that executes it (both
systems are at their best so). The clock runs from the first start to the last result, warm-up excluded.
Only the standard library is imported, since this module is loaded in each system's environment.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.functions import check

SETTLED = 0.5
"""Seconds after which workflows that were started surely wait."""


class System(Protocol):
    """One side of the comparison, open and ready."""

    used: dict[str, Any]
    """The options in force, for the record."""

    async def chain(self, steps: int) -> object:
        """Start a workflow of so many steps, one after the other, and wait for its result."""
        ...

    async def fan(self, steps: int) -> object:
        """The same with all the steps at once, by `asyncio.gather` in the workflow."""
        ...

    async def family(self, children: int) -> object:
        """A workflow that starts so many child workflows at once and gathers their results, each 1."""
        ...

    async def listen(self, events: int) -> Any:
        """Start a workflow that adds up so many numbers that it is sent."""
        ...

    async def send(self, listener: Any, number: int) -> None:
        """Send it one."""
        ...

    async def send_all(self, numbers: Sequence[tuple[Any, int]]) -> None:
        """Send many, to many, as fast as the system has it."""
        ...

    async def total(self, listener: Any) -> object:
        """Wait for what it has added up."""
        ...


class OpenSystem(Protocol):
    """How a module of a system opens it on a database that exists and is empty."""

    def __call__(
        self, url: str, options: dict[str, Any]
    ) -> AbstractAsyncContextManager[System]: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One timed stretch. `cpu` is what this process used: near `seconds` means that Python is the limit."""

    seconds: float
    cpu: float
    latencies: list[float]


def cpu_seconds() -> float:
    """Processor time of this process so far, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def flood(system: System, *, steps: int, runs: int, in_flight: int) -> Round:
    """`runs` workflows of `steps` sequential steps, never more than `in_flight` at once."""
    latencies: list[float] = []

    async def lane(numbers: Iterator[int]) -> None:
        for _ in numbers:
            began = time.perf_counter()
            check(await system.chain(steps), steps)
            latencies.append(time.perf_counter() - began)

    shared = iter(range(runs))
    gc.collect()
    cpu, began = cpu_seconds(), time.perf_counter()
    async with asyncio.TaskGroup() as lanes:
        for _ in range(in_flight):
            lanes.create_task(lane(shared))
    return Round(time.perf_counter() - began, cpu_seconds() - cpu, latencies)


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(latencies: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{p}_ms": percentile(latencies, p / 100) * 1000 for p in (50, 95, 99)}


async def throughput(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """Workflows and steps per second at each level of concurrency; the median of the rounds counts."""
    steps: int = spec["steps"]
    levels: list[dict[str, Any]] = []
    for level in spec["levels"]:
        in_flight: int = level["in_flight"]
        await flood(system, steps=steps, runs=level["warm_up"], in_flight=in_flight)
        rounds = [
            await flood(system, steps=steps, runs=level["runs"], in_flight=in_flight)
            for _ in range(spec["rounds"])
        ]
        seconds = percentile([one.seconds for one in rounds], 0.5)
        levels.append(
            {
                "in_flight": in_flight,
                "runs": level["runs"],
                "workflows_per_s": level["runs"] / seconds,
                "steps_per_s": level["runs"] * steps / seconds,
                **spread([x for one in rounds for x in one.latencies]),
                "samples": [{"seconds": one.seconds, "cpu": one.cpu} for one in rounds],
            }
        )
    return {"steps": steps, "levels": levels}


async def latency(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """From `start` to the result of a one-step workflow while nothing else runs, one after the other."""
    await flood(system, steps=1, runs=spec["warm_up"], in_flight=1)
    one = await flood(system, steps=1, runs=spec["runs"], in_flight=1)
    return {**spread(one.latencies), "samples_ms": [x * 1000 for x in one.latencies]}


async def sequential(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """One workflow of many steps in a row: whether a step costs more when its history is long."""
    await system.chain(spec["warm_up"])
    lengths: dict[str, Any] = {}
    for steps in spec["lengths"]:
        samples = [asdict(await _single(system.chain(steps), steps)) for _ in range(spec["rounds"])]
        best = percentile([sample["seconds"] for sample in samples], 0.5)
        lengths[str(steps)] = {"ms_per_step": best * 1000 / steps, "samples": samples}
    return {"lengths": lengths}


async def fanout(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """One workflow that starts all its steps at once and gathers them."""
    return await _growing(system.fan, spec)


async def family(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """One workflow that starts all its children at once and gathers them."""
    return await _growing(system.family, spec)


async def _growing(
    start: Callable[[int], Awaitable[object]], spec: dict[str, Any]
) -> dict[str, Any]:
    """One workflow with more and more in it: whether each costs the same."""
    await start(spec["warm_up"])
    sizes: dict[str, Any] = {}
    for size in spec["sizes"]:
        samples = [asdict(await _single(start(size), size)) for _ in range(spec["rounds"])]
        middle = percentile([sample["seconds"] for sample in samples], 0.5)
        sizes[str(size)] = {"ms_each": middle * 1000 / size, "seconds": middle, "samples": samples}
    return {"sizes": sizes}


async def events(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """From `send` to the result of a workflow that has waited for it, one after the other."""
    latencies: list[float] = []
    waiting: int = spec["waiting"]
    for _ in range(-(-(spec["warm_up"] + spec["events"]) // waiting)):
        listeners = [await system.listen(1) for _ in range(waiting)]
        await asyncio.sleep(SETTLED)
        for listener in listeners:
            began = time.perf_counter()
            await system.send(listener, 1)
            check(await system.total(listener), 1)
            latencies.append(time.perf_counter() - began)
    counted = latencies[spec["warm_up"] :]
    return {**spread(counted), "samples_ms": [x * 1000 for x in counted]}


async def event_flood(system: System, spec: dict[str, Any]) -> dict[str, Any]:
    """Events to many workflows that wait, as fast as they can be sent, until all of them have all of theirs."""
    runs, each = spec["runs"], spec["each"]
    samples = [asdict(await _shower(system, runs, each)) for _ in range(1 + spec["rounds"])]
    middle = percentile([sample["seconds"] for sample in samples[1:]], 0.5)
    return {"runs": runs, "each": each, "events_per_s": runs * each / middle, "samples": samples}


async def _shower(system: System, runs: int, each: int) -> Round:
    listeners = [await system.listen(each) for _ in range(runs)]
    await asyncio.sleep(SETTLED)
    gc.collect()
    cpu, began = cpu_seconds(), time.perf_counter()
    await system.send_all([(listener, 1) for _ in range(each) for listener in listeners])
    for listener in listeners:
        check(await system.total(listener), each)
    return Round(time.perf_counter() - began, cpu_seconds() - cpu, [])


async def _single(run: Any, steps: int) -> Round:
    gc.collect()
    cpu, began = cpu_seconds(), time.perf_counter()
    check(await run, steps)
    seconds = time.perf_counter() - began
    return Round(seconds, cpu_seconds() - cpu, [seconds])


KINDS = {
    "throughput": throughput,
    "latency": latency,
    "sequential": sequential,
    "fanout": fanout,
    "family": family,
    "events": events,
    "event_flood": event_flood,
}
