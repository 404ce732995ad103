"""The ledger of effects: a file outside of the database in which steps write that they began and ended.

Each entry is one write to a file opened for appending, so that the entries of many processes do not
mix and their order in the file is the order in which they were written. A killed process loses nothing
that it has written.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A step began (`start`), returned (`end`) or raised (`fail`); or `seen`: a run's end was seen.

    Senders of events write what they were told: `accepted`, `refused`, `again`; `cmd` is the sender, `stage`
    the number of the event.
    """

    kind: str
    run: str
    cmd: int
    stage: int
    """Steps of one stage run side by side; a stage begins when the one before is durable."""
    attempt: int
    pid: int
    worker: int
    at: int
    """Nanoseconds on the clock of the machine, the same for all processes."""

    @property
    def execution(self) -> tuple[str, int, int]:
        """What an `end` has in common with its `start`."""
        return self.run, self.cmd, self.attempt


class Ledger:
    """The writing end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(
        self, kind: str, run: str, cmd: int = 0, stage: int = 0, attempt: int = 0, worker: int = 0
    ) -> None:
        """Append an entry of this process."""
        words = (kind, run, cmd, stage, attempt, os.getpid(), worker, time.monotonic_ns())
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    def close(self) -> None:
        os.close(self._file)


class LedgerReader:
    """The reading end: goes on where it stopped, and knows what every process is doing."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.starts = 0
        self.workers: dict[int, set[int]] = defaultdict(set)
        """Worker ids under which a process began steps."""
        self._running: dict[int, dict[tuple[str, int, int], Entry]] = defaultdict(dict)

    def advance(self) -> Iterator[Entry]:
        """Entries that were written since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            entry = _entry(line)
            self._follow(entry)
            yield entry

    def running(self, pid: int) -> list[Entry]:
        """Steps that this process began and has not ended."""
        return list(self._running[pid].values())

    def close(self) -> None:
        self._file.close()

    def _follow(self, entry: Entry) -> None:
        if entry.kind == "start":
            self.starts += 1
            self.workers[entry.pid].add(entry.worker)
            self._running[entry.pid][entry.execution] = entry
        elif entry.kind in {"end", "fail"}:
            self._running[entry.pid].pop(entry.execution, None)


def _entry(line: bytes) -> Entry:
    kind, run, *numbers = line.decode().split(" ")
    return Entry(kind, run, *map(int, numbers))
