"""From results to figures: one number per (figure, store, system), with a name, a unit and a direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a figure was measured."""

    key: str
    store: str = "postgresql"
    system: str = "durable"


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number means."""

    label: str
    unit: str
    more_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Book:
    """All numbers of a run, and what they mean, in the order of the table."""

    values: dict[Place, float]
    figures: dict[str, Figure]

    def get(self, key: str, store: str = "postgresql", system: str = "durable") -> float | None:
        """One number; None when it was not measured."""
        return self.values.get(Place(key, store, system))

    def label(self, key: str) -> str:
        """What a figure is called, for people."""
        figure = self.figures.get(key)
        return figure.label if figure and figure.label else key.replace(".", ", ")


Reader: TypeAlias = Callable[[str, dict[str, Any]], Iterator[tuple[str, Figure, float]]]
"""The figures in the result of a measurement: key, meaning, number."""


def _throughput(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    steps = result["steps"]
    unit, field = ("steps/s", "steps_per_s") if steps > 1 else ("workflows/s", "workflows_per_s")
    label = f"{steps}-step workflows" if steps > 1 else "1-step workflows"
    for level in result["levels"]:
        text = f"{label}, {level['in_flight']} in flight"
        yield f"{name}.{level['in_flight']}", Figure(text, unit), level[field]
    best = max(level[field] for level in result["levels"])
    yield f"{name}.best", Figure(f"{label}, best level of each", unit), best


def _latency(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    for share in ("p50", "p95", "p99"):
        figure = Figure(f"start to result, {share}", "ms", more_is_better=False)
        yield f"{name}.{share}", figure, result[f"{share}_ms"]


def _sequential(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    lengths = {int(length): one["ms_per_step"] for length, one in result["lengths"].items()}
    for length, cost in sorted(lengths.items()):
        figure = Figure(f"one run of {length:,} steps in a row", "ms/step", more_is_better=False)
        yield f"{name}.{length}", figure, cost
    yield f"{name}.shortest", Figure("", "ms/step", more_is_better=False), lengths[min(lengths)]
    yield f"{name}.longest", Figure("", "ms/step", more_is_better=False), lengths[max(lengths)]


def _growing(noun: str, many: str) -> Reader:
    """What each costs in one run that has many of them at once."""

    def read(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
        costs = {int(size): one["ms_each"] for size, one in result["sizes"].items()}
        for size, cost in sorted(costs.items()):
            label = f"one run of {size:,} {many} at once"
            yield f"{name}.{size}", Figure(label, f"ms/{noun}", more_is_better=False), cost
        most = costs[max(costs)]
        figure = Figure(f"one run of many {many} at once", f"{many}/s")
        yield f"{name}.per_s", figure, 1000 / most
        yield f"{name}.fewest", Figure("", "ms", more_is_better=False), costs[min(costs)]
        yield f"{name}.most", Figure("", "ms", more_is_better=False), most

    return read


def _events(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    for share in ("p50", "p95", "p99"):
        figure = Figure(f"event sent to result, {share}", "ms", more_is_better=False)
        yield f"{name}.{share}", figure, result[f"{share}_ms"]


def _event_flood(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    yield f"{name}.per_s", Figure("events to many waiting runs", "events/s"), result["events_per_s"]


def _parked(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    what = f"{result['runs']:,} runs wait"
    memory = Figure(f"{what}: memory of the worker", "MB", more_is_better=False)
    yield f"{name}.mb", memory, result["process_mb"]
    queries = Figure(f"{what}: transactions", "/s", more_is_better=False)
    yield f"{name}.transactions", queries, result["transactions_per_s"]


def _size(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    figure = Figure("database per step, 10-step runs", "bytes", more_is_better=False)
    yield f"{name}.bytes", figure, result["bytes_per_step"]


def _raw(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    rows = f"raw inserts, {result['rows_per_commit']:,} rows to a commit"
    yield f"{name}.rows_per_s", Figure(rows, "rows/s"), result["rows_per_s"]
    yield (
        f"{name}.commits_per_s",
        Figure("raw inserts, one row to a commit", "/s"),
        result["commits_per_s"],
    )


def _replay(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    yield f"{name}.total", Figure("replay, loading included", "steps/s"), result["steps_per_s"]
    yield (
        f"{name}.apply",
        Figure("replay, history in memory", "steps/s"),
        result["apply_steps_per_s"],
    )


_FORMS = {
    "decoded": "as the API takes it",
    "bytes": "from bytes",
    "undetected": "from bytes, no deadlock detection",
    "json": "from an exported file",
}


def _replayer(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    for length, forms in result["lengths"].items():
        for form, speed in forms.items():
            label = f"replay of {int(length):,} steps, {_FORMS[form]}"
            yield f"{name}.{length}.{form}", Figure(label, "steps/s"), speed


def _claim(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    situations = result["situations"]
    asleep = [key for key in situations if key.startswith("sleeping_")]
    for key in asleep:
        label = f"claim of {result['per_claim']}, {int(key.partition('_')[2]):,} runs asleep"
        yield f"{name}.{key}", Figure(label, "ms", more_is_better=False), situations[key]["p50_ms"]
    backlog = situations["backlog"]
    label = f"claim of {result['per_claim']}, and {backlog['runs']:,} due"
    yield f"{name}.backlog", Figure(label, "ms", more_is_better=False), backlog["p50_ms"]
    yield f"{name}.none", Figure("", "ms", more_is_better=False), situations[asleep[0]]["p50_ms"]
    yield f"{name}.most", Figure("", "ms", more_is_better=False), situations[asleep[-1]]["p50_ms"]


def _recovery(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    for key, text in (("first_step_s", "first step runs"), ("all_finished_s", "all have finished")):
        label = f"{result['runs']:,} runs after kill -9: {text}"
        yield f"{name}.{key}", Figure(label, "s", more_is_better=False), result[key]


def _memory(name: str, result: dict[str, Any]) -> Iterator[tuple[str, Figure, float]]:
    label = f"memory of a sleeping run, {name.partition('_')[2]}"
    yield f"{name}.kb", Figure(label, "kB", more_is_better=False), result["kb_per_run"]


_READERS: dict[str, Reader] = {
    "throughput": _throughput,
    "latency": _latency,
    "sequential": _sequential,
    "fanout": _growing("step", "steps"),
    "family": _growing("child", "children"),
    "events": _events,
    "event_flood": _event_flood,
    "parked": _parked,
    "size": _size,
    "raw": _raw,
    "replay": _replay,
    "replayer": _replayer,
    "claim": _claim,
    "recovery": _recovery,
    "memory": _memory,
}


def read(records: list[dict[str, Any]]) -> Book:
    """All figures of the measurements that succeeded."""
    book = Book({}, {})
    for record in records:
        if record.get("result") is None or record["name"] == "tuning":
            continue
        reader = _READERS[record["kind"]]
        for key, figure, value in reader(record["name"], record["result"]):
            book.figures.setdefault(key, figure)
            book.values[Place(key, record["store"], record["system"])] = value
    return book
