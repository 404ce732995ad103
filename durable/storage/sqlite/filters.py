# ruff: noqa: S608 - every statement is made of constants
"""From a `RunFilter` to the conditions of a WHERE, over a run `r`."""

from __future__ import annotations

import json

from durable.model.lifecycle import FINAL
from durable.model.rows import RunFilter
from durable.storage.sqlite.texts import STATUS


def conditions(where: RunFilter) -> tuple[list[str], list[object]]:
    """Texts to be joined by AND, and their values. Paging is left out."""
    texts: list[str] = ["1"]
    values: list[object] = []

    def add(text: str, *more: object) -> None:
        texts.append(text)
        values.extend(more)

    if where.workflow is not None:
        add("r.lane IN (SELECT id FROM [lanes] WHERE workflow = ?)", where.workflow)
    if where.queue is not None:
        add("r.lane IN (SELECT id FROM [lanes] WHERE queue = ?)", where.queue)
    if where.status:
        add(f"{STATUS} IN (SELECT value FROM json_each(?))", json.dumps(list(where.status)))
        if set(where.status) <= set(FINAL):  # these have an index of their own
            add(
                "r.finished_at IS NOT NULL AND r.status IN (SELECT value FROM json_each(?))",
                json.dumps(list(where.status)),
            )
    if where.parent_id is not None:
        add("r.parent_key = (SELECT key FROM [runs] WHERE id = ?)", where.parent_id)
    if where.id_prefix:
        # No LIKE: ids may hold % and _. 0xFF sorts behind every character of UTF-8.
        add("r.id >= ? AND r.id < ? || CAST(x'ff' AS TEXT)", where.id_prefix, where.id_prefix)
    if where.created_after is not None:
        add("r.created_at > ?", where.created_after)
    if where.created_before is not None:
        add("r.created_at < ?", where.created_before)
    for name, value in (where.tags or {}).items():
        add(
            "EXISTS (SELECT 1 FROM json_each(r.tags) t WHERE t.key = ? AND t.value = ?)",
            name,
            value,
        )
    return texts, values
