"""`durable demo`: the tour of a few seconds that shows what durable is for.

A worker process is killed in the middle of a step, another one takes over, and a ledger outside
the database shows that nothing that was done is done again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from durable.cli.report import describe
from durable.cli.screen import Styled
from durable.cli.shell import Shell, command

if TYPE_CHECKING:
    from durable import HistoryEvent, RunDetail

RUN_ID = "order-42"
STEPS = ("reserve", "charge", "pack", "ship")
KILLED_IN = "pack"

PATIENCE = 30.0
"""Seconds to wait for anything; on a busy machine a worker needs one or two to start."""

KILL_AFTER = 0.6
"""Seconds after which the worker dies within a step that takes 1.5."""


@dataclass(slots=True)
class Stage:
    """The demo's files, its worker, and how far its ledger was read."""

    shell: Shell
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="durable-demo-")))
    worker: subprocess.Popen[bytes] | None = None
    told: int = 0

    @property
    def url(self) -> str:
        """The demo's database."""
        return f"sqlite:///{self.folder / 'demo.db'}"

    @property
    def ledger(self) -> list[str]:
        """What the steps have noted so far."""
        path = self.folder / "ledger.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def start_worker(self) -> int:
        """Start a worker as anybody would: `durable worker MODULE`."""
        with (self.folder / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "durable.cli",
                    "worker",
                    "durable.cli.demo",
                    "--url",
                    self.url,
                ],
                env={**os.environ, "DURABLE_DEMO_LEDGER": str(self.folder / "ledger.txt")},
                stdout=log,
                stderr=log,
            )
        return self.worker.pid

    def kill_worker(self) -> None:
        """End the worker with SIGKILL: it gets no chance to clean up anything."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None

    async def watch_until(self, reached: Callable[[], bool]) -> None:
        """Tell what the ledger says until something is reached."""
        deadline = time.monotonic() + PATIENCE
        while True:
            done = reached()
            self._tell_news()
            if done:
                return
            if time.monotonic() > deadline or (self.worker and self.worker.poll() is not None):
                raise click.ClickException(
                    f"the demo is stuck; its worker said: {self._last_words()}"
                )
            await asyncio.sleep(0.02)

    def _tell_news(self) -> None:
        for line in self.ledger[self.told :]:
            self.told += 1
            name, _, what = line.partition(" ")
            again = self.ledger[: self.told].count(line) > 1
            match what:
                case "begun" if again and name == KILLED_IN:
                    self.say(f"  {name:<8} ", Styled("… again: it was not finished", "dim"))
                case "begun" if name == KILLED_IN:
                    self.say(f"  {name:<8} ", Styled("…", "dim"))
                case "failed":
                    self.say(f"  {name:<8} ", Styled("✕", "red"), " no answer; it will be retried")
                case "done":
                    self.say(f"  {name:<8} ", Styled("✓", "green"))
                case _:
                    pass

    def say(self, *parts: str | Styled) -> None:
        """Narrate; with `--json` nobody listens."""
        if not self.shell.as_json:
            self.shell.out.line(*parts)

    def _last_words(self) -> str:
        lines = (self.folder / "worker.log").read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or ["nothing"])[-1]


@command("demo", database=False)
def demo(shell: Shell) -> None:
    """Run, kill, resume: a tour of ten seconds that needs nothing but this package."""
    stage = Stage(shell)
    try:
        run, events = asyncio.run(_play(stage))
    finally:
        stage.kill_worker()
    done = Counter(line.removesuffix(" done") for line in stage.ledger if line.endswith(" done"))
    twice = [name for name in STEPS if done[name] != 1]
    if shell.as_json:
        shell.json({"url": stage.url, "done": done, "run": run, "history": events})
    else:
        _tell_end(stage, run, events)
    if twice:
        raise click.ClickException(f"not done exactly once: {', '.join(twice)}; this is a bug")


async def _play(stage: Stage) -> tuple[RunDetail, list[HistoryEvent]]:
    from durable import Client

    stage.say(Styled("An order goes through four steps, and its worker dies in the third.", "bold"))
    stage.say(f"\n● its history is kept in {stage.folder / 'demo.db'}")
    async with Client(stage.url) as client:
        stage.say(f"▸ first worker: process {stage.start_worker()}")
        handle = await client.start("fulfil", "42", id=RUN_ID)
        await stage.watch_until(lambda: f"{KILLED_IN} begun" in stage.ledger)
        await asyncio.sleep(KILL_AFTER)
        stage.kill_worker()
        stage.say(
            Styled("⚡ SIGKILL", "red"), f" in the middle of {KILLED_IN}: the first worker is gone"
        )
        stage.say(f"↻ second worker: process {stage.start_worker()}")
        result = asyncio.ensure_future(handle.result(timeout=PATIENCE))
        await stage.watch_until(result.done)
        stage.say(Styled("✓ ", "green"), f"{RUN_ID}: {await result}")
        events = [event async for event in client.history(RUN_ID)]
        return await client.get(RUN_ID), events


def _tell_end(stage: Stage, run: RunDetail, events: list[HistoryEvent]) -> None:
    counts = Counter(stage.ledger)
    stage.say("\nWhat happened in the world, counted in a file outside the database:\n")
    rows = [
        [name, *(str(counts[f"{name} {what}"] or "") for what in ("begun", "failed", "done"))]
        for name in STEPS
    ]
    stage.shell.out.table(["STEP", "BEGUN", "FAILED", "DONE"], rows, indent="  ")
    stage.say(
        f"\nWhat was done before the crash was not done again; only {KILLED_IN} was, which had not ended.\n"
    )
    describe(stage.shell.out, run, events)
    stage.say(f"\nnext: durable history {RUN_ID} --url {stage.url}")
