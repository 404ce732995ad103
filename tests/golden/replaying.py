"""Replay all golden histories in this process: `python -m tests.golden.replaying [MODULE...]`.

Each is replayed in one go, and with an eviction at every event. Told is, for each, what it came to: the digest of
the commands that it asked for, which is the same in every process, or why it went another way. Workflows are looked
for in the modules that are named, first of all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from durable.errors import DurableError
from durable.model.history_file import HistoryFile, load_history
from durable.model.runnable import Workflow
from durable_testing import replay
from durable_testing.replaying import workflow_of
from tests.engine import driver
from tests.golden.workflows import MODULES

HISTORIES = Path(__file__).parent / "histories"
DIFFERENT = "different: "
"""How the answer for a history begins that was not replayed alike."""


def goldens() -> dict[str, HistoryFile]:
    """All histories, by the name of their files below `histories`."""
    return {
        file.relative_to(HISTORIES).as_posix(): load_history(file.read_text(encoding="ascii"))
        for file in sorted(HISTORIES.rglob("*.history.json"))
    }


def replayed_at_once(workflow: Workflow[Any, Any], file: HistoryFile) -> str:
    """In one go."""
    report = replay(workflow, file)
    return "" if report.ok else f"{DIFFERENT}{report.explanation}"


def replayed_with_evictions(workflow: Workflow[Any, Any], file: HistoryFile) -> str:
    """Dropped before every event, and replayed up to it: what it came to."""
    try:
        whole = driver.replay(workflow, file.rows, run_id=file.run_id)
        for length in range(1, len(file.rows)):
            again = driver.replay(
                workflow, file.rows, run_id=file.run_id, evict_at=length, goes_on=True
            )
            if again != whole[:length]:
                told = driver.first_difference(whole[:length], again)
                return f"{DIFFERENT}evicted after {length} events: {told}"
    except DurableError as error:
        return f"{DIFFERENT}{error}"
    return driver.digest(whole)


def answer(file: HistoryFile, modules: Sequence[str] = ()) -> str:
    """What a history came to, in both ways."""
    workflow = workflow_of(file, [*modules, *MODULES])
    return replayed_at_once(workflow, file) or replayed_with_evictions(workflow, file)


if __name__ == "__main__":
    print(json.dumps({name: answer(file, sys.argv[1:]) for name, file in goldens().items()}))
