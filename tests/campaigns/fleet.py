"""A fleet of worker processes: they are started, killed, stopped and woken, and their logs are read."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.campaigns.effects import LedgerReader

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
"""How long a condition may take to come true before the campaign gives up on it."""
_RECORD = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): (.*)")


class Stuck(Exception):
    """What a campaign waited for did not happen."""


async def until(
    condition: Callable[[], object], what: str, timeout: float = PATIENCE_SECONDS
) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Stuck(f"not within {timeout:g} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


@dataclass(slots=True)
class LogBook:
    """What workers said, alike messages counted together."""

    expected: Iterable[str] = ()
    """Patterns of errors that belong to the fault."""
    counts: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    def read(self, text: str) -> None:
        """Take in the log of a process."""
        for level, record in _records(text):
            first = record.splitlines()[0] if record.strip() else record
            self.counts[f"{level} {re.sub(r'[0-9]+', '#', first)}"[:160]] += 1
            wrong = level in {"ERROR", "CRITICAL", "STRAY"} or "Traceback" in record
            if wrong and not any(re.search(pattern, record) for pattern in self.expected):
                self.unexpected.append(f"{level} {record.strip()}")

    def said(self, level: str) -> int:
        return sum(n for text, n in self.counts.items() if text.startswith(level))


def _records(text: str) -> list[tuple[str, str]]:
    """Level and message of each record; lines that no record begins with are `STRAY`."""
    records: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _RECORD.match(line)
        if match:
            records.append((match[1], f"{match[2]}: {match[3]}"))
        elif records:
            level, message = records[-1]
            records[-1] = (level, f"{message}\n{line}")
        else:
            records.append(("STRAY", line))
    return records


class WorkerProcess:
    """One worker process and its log."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, number)

    async def gone(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait until it has ended; its exit code."""
        await until(lambda: not self.alive, f"the end of process {self.pid}", timeout)
        return self._process.wait()

    async def kill(self) -> None:
        """Kill -9."""
        self.signal(signal.SIGKILL)
        await self.gone()


class Fleet:
    """Worker processes on one database with one ledger; nobody outlives the block."""

    def __init__(
        self, url: str, place: Path, *, expected: Iterable[str] = (), **options: float
    ) -> None:
        self._url = url
        self._place = place
        self._options = options
        self.ledger_path = place / "ledger"
        self.reader = LedgerReader(self.ledger_path)
        self.book = LogBook(tuple(expected))
        self.members: list[WorkerProcess] = []
        self.others: list[WorkerProcess] = []
        """Processes that are no workers."""
        self.hired = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        everybody = [*self.members, *self.others]
        for member in everybody:
            member.signal(signal.SIGKILL)
        for member in everybody:
            while member.alive:
                time.sleep(POLL_SECONDS)
        self.reader.close()

    def hire(self, **options: float) -> WorkerProcess:
        """Start a worker process."""
        member = self._started("tests.campaigns.worker_process", {**self._options, **options})
        self.members.append(member)
        return member

    def send_out(self, module: str, **options: float) -> WorkerProcess:
        """Start a process of another kind."""
        other = self._started(module, options)
        self.others.append(other)
        return other

    def _started(self, module: str, options: Mapping[str, float]) -> WorkerProcess:
        command = [sys.executable, "-m", module]
        command += ["--url", self._url, "--ledger", str(self.ledger_path)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.hired += 1
        return WorkerProcess(command, self._place / f"process-{self.hired}.log")

    def dismiss(self, member: WorkerProcess) -> None:
        """Forget a process that has ended; its log goes into the book."""
        self.members.remove(member)
        self.book.read(member.log)
        member._log.unlink()

    async def retire(self) -> None:
        """Have all workers drain and end."""
        for member in self.members:
            member.signal(signal.SIGTERM)
        for member in list(self.members):
            code = await member.gone()
            if code:
                self.book.unexpected.append(f"worker {member.pid} ended with code {code}")
            self.dismiss(member)
