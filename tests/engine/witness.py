"""Another process, with another hash seed, that replays histories and says what they led to.

It reads a JSON array of cases from its input and writes an array of digests, one set for each case. Run by
`elsewhere`, which is what tests use.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from durable.model.runnable import Workflow
from durable.model.wire import EventRow
from tests.engine.driver import Recording, digest, replay

ROOT = Path(__file__).resolve().parents[2]


def case(workflow: Workflow[Any, Any], recording: Recording) -> dict[str, Any]:
    """A recording as JSON; the workflow must stand at the top of an importable module."""
    rows = [
        [row.seq, row.type, row.at, row.cmd, row.name, base64.b64encode(row.data).decode()]
        for row in recording.rows
    ]
    place = f"{workflow.fn.__module__}:{workflow.fn.__name__}"
    return {"workflow": place, "run_id": recording.run_id, "rows": rows}


def elsewhere(
    cases: Sequence[dict[str, Any]], *, hash_seed: int, times: int = 1, timeout: float = 600
) -> list[list[str]]:
    """For each case, the different digests of its traces in another process that replays it `times` times."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.engine.witness", str(times)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)},
        input=json.dumps(list(cases)).encode(),
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode or done.stderr:
        raise AssertionError(done.stderr.decode())
    answer: list[list[str]] = json.loads(done.stdout)
    return answer


def _witness(case: dict[str, Any], times: int) -> list[str]:
    module, _, name = case["workflow"].partition(":")
    workflow = getattr(importlib.import_module(module), name)
    rows = [EventRow(*row[:5], base64.b64decode(row[5])) for row in case["rows"]]
    seen = []
    for _ in range(times):
        clutter = _clutter()
        seen.append(digest(replay(workflow, rows, run_id=case["run_id"])))
        del clutter
    return sorted(set(seen))


def _clutter() -> list[object]:
    """Holes in the memory, so that objects lie in another order each time."""
    loop = asyncio.new_event_loop()
    kept: list[object] = [loop.create_future() for _ in range(Random().randrange(60))]
    kept += [bytearray(size * 16) for size in range(Random().randrange(40))]
    Random().shuffle(kept)
    del kept[::2]
    loop.close()
    return kept


def main() -> None:
    cases, times = json.load(sys.stdin), int(sys.argv[1])
    gc.disable()
    try:
        answers = [_witness(case, times) for case in cases]
    finally:
        gc.enable()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
