"""The table that people read: figures of both systems on both stores, ratios, targets with their marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.figures import Book
from benchmarks.plan import POSTGRES, SQLITE
from benchmarks.targets import TARGETS

_DASH = "-"
_REPLAYER = "replayer."
"""How the figures begin that have a table of their own: no store takes part in them."""


def number(value: float | None) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return _DASH
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"


def _ratio(over: float | None, under: float | None) -> str:
    return f"{number(over / under)}x" if over is not None and under else _DASH


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well in a terminal and is Markdown too; all but the first column to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def figures(book: Book) -> str:
    """Every figure that both systems, or durable alone, have; a ratio above 1 is not always good."""
    head = (
        "figure", "unit", "durable PG", "DBOS PG", "ratio",
        "durable SQLite", "DBOS SQLite", "ratio", "SQLite/PG",
    )  # fmt: skip
    rows: list[list[str]] = []
    for key, figure in book.figures.items():
        mine, theirs = book.get(key, POSTGRES), book.get(key, POSTGRES, "dbos")
        lite, their_lite = book.get(key, SQLITE), book.get(key, SQLITE, "dbos")
        if key.startswith(_REPLAYER):
            continue
        if not figure.label or (mine, lite, theirs, their_lite) == (None,) * 4:
            continue
        row = [figure.label, figure.unit, number(mine), number(theirs), _ratio(mine, theirs)]
        rows.append(
            [*row, number(lite), number(their_lite), _ratio(lite, their_lite), _ratio(lite, mine)]
        )
    return table(head, rows)


def replays(book: Book) -> str:
    """What replaying costs by the API for tests of each system."""
    rows: list[list[str]] = []
    for key, figure in book.figures.items():
        if key.startswith(_REPLAYER):
            mine, theirs = book.get(key, SQLITE), book.get(key, SQLITE, "temporal")
            rows.append(
                [figure.label, figure.unit, number(mine), number(theirs), _ratio(mine, theirs)]
            )
    return table(("replay", "unit", "durable", "Temporal", "ratio"), rows)


def limits(book: Book) -> str:
    """What a bare driver does, and which share of it durable's best level is."""
    rows: list[list[str]] = []
    for store in (POSTGRES, SQLITE):
        raw = book.get("raw.rows_per_s", store, "raw")
        ours = book.get("throughput10.256", store)
        single = book.get("raw.commits_per_s", store, "raw")
        share = f"{ours / raw:.1%}" if ours is not None and raw else _DASH
        rows.append([store, number(raw), number(single), number(ours), share])
    head = ("store", "raw rows/s", "raw commits/s", "durable steps/s, 256 in flight", "share")
    return table(head, rows)


def targets(book: Book) -> str:
    """Each target with what was measured."""
    rows: list[list[str]] = []
    marks = {True: "pass", False: "FAIL", None: "not measured"}
    for target in TARGETS:
        what = f"{book.label(target.figure.key)} ({target.figure.store}): {target.text}"
        bound = f"{target.sense} {number(target.bound)}"
        rows.append([what, number(target.value(book)), bound, marks[target.met(book)]])
    return table(("target", "measured", "bound", ""), rows)


def as_data(book: Book) -> dict[str, Any]:
    """Figures and targets for the JSON file."""
    return {
        "figures": [
            {
                "key": place.key,
                "label": book.label(place.key),
                "unit": book.figures[place.key].unit,
                "more_is_better": book.figures[place.key].more_is_better,
                "store": place.store,
                "system": place.system,
                "value": value,
            }
            for place, value in book.values.items()
        ],
        "targets": [
            {
                "figure": target.figure.key,
                "store": target.figure.store,
                "text": target.text,
                "sense": target.sense,
                "bound": target.bound,
                "value": target.value(book),
                "met": target.met(book),
            }
            for target in TARGETS
        ],
    }
