"""Another process, with another hash seed, that replays histories and says what they led to.

It reads cases, one JSON object to a line, and answers each with a line: the different digests of the traces
that it found. `Witness` is the other end, which is what tests use.
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
import tempfile
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from durable.model.runnable import Workflow
from durable.model.wire import EventRow
from tests.engine.driver import Recording, digest, replay

ROOT = Path(__file__).resolve().parents[2]


class Witness:
    """A process that replays; a context manager that ends it and looks at what it said on the side."""

    def __init__(self, hash_seed: int, *, python: str = sys.executable) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `__exit__`
        self._process = subprocess.Popen(
            [python, "-X", "dev", "-W", "error", "-m", "tests.engine.witness"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def ask(
        self, workflow: Workflow[Any, Any], recording: Recording, *, times: int = 1
    ) -> list[str]:
        """The different digests of its traces; the workflow must stand at the top of a module."""
        rows = [
            [row.seq, row.type, row.at, row.cmd, row.name, base64.b64encode(row.data).decode()]
            for row in recording.rows
        ]
        place = f"{workflow.fn.__module__}:{workflow.fn.__name__}"
        case = {"workflow": place, "run_id": recording.run_id, "rows": rows, "times": times}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            return [self._said()]
        digests: list[str] = json.loads(answer)
        return digests

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        said = self._said()
        self._errors.close()
        if said and error is None:
            raise AssertionError(said[:4000])


def _witness(case: dict[str, Any]) -> list[str]:
    module, _, function = case["workflow"].partition(":")
    workflow = getattr(importlib.import_module(module), function)
    rows = [
        EventRow(seq, kind, at, cmd, name, base64.b64decode(data))
        for seq, kind, at, cmd, name, data in case["rows"]
    ]
    seen = set()
    for _ in range(case["times"]):
        clutter = _clutter()
        try:
            seen.add(digest(replay(workflow, rows, run_id=case["run_id"])))
        except Exception as error:
            seen.add(f"{type(error).__name__}: {error}")
        del clutter
    return sorted(seen)


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
    """Answer until nobody asks any more."""
    gc.set_threshold(200)
    for line in sys.stdin:
        print(json.dumps(_witness(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
