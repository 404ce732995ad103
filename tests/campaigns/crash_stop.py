"""SIGSTOP of a worker for three leases while others take over, then SIGCONT: it may not write a word.

    python -m tests.campaigns.crash_stop --rounds 50

A round is a worker that was stopped while it ran steps and came back after it had been given up. Its
runs have gone on elsewhere; nothing that it does under its old id may get into a history. It has to
notice, to join again under a new id, and to work.

PostgreSQL only: on SQLite a process that is stopped inside a transaction keeps the only writing lock.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from tests.campaigns.campaign import Report, Scene, arguments, play_on_stores, scene
from tests.campaigns.fleet import WorkerProcess, until

LEASE_SECONDS = 1.0
ABSENCE = 3
"""For how many leases a worker is stopped."""
EXPECTED = (r"lost its lease: its runs go on elsewhere", r"the event loop has been blocked for")
"""What a worker says of having been stopped."""


async def play(options: argparse.Namespace, url: str, place: Path) -> Report:
    """Stop workers, one at a time."""
    async with scene(
        url,
        place,
        open=options.open,
        seed=options.seed,
        workers=options.workers,
        expected=EXPECTED,
        lease=LEASE_SECONDS,
        slots=options.slots,
        max_recoveries=1000,
    ) as stage:
        for _ in range(options.rounds):
            await stage.load.beside(stop_one(stage))
    return stage.report


async def stop_one(stage: Scene) -> None:
    """Stop a worker that runs steps, wait until it was given up, wake it, and wait until it works again."""
    victim = stage.random.choice(stage.fleet.members)
    running = stage.fleet.reader.running
    await until(lambda: running(victim.pid), "a step of the victim")
    stage.oracle.absent.add(victim.pid)
    victim.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    figures = stage.report.figures
    stage.oracle.read_ledger()
    figures["steps held up"] += len(running(victim.pid))
    old = set(stage.fleet.reader.workers[victim.pid])
    await given_up(stage, old)
    figures["takeovers"] += 1
    rest = stopped_at + ABSENCE * LEASE_SECONDS - time.monotonic()
    await asyncio.sleep(max(0, rest))  # the length of the fault, not a wait for anything
    victim.signal(signal.SIGCONT)
    await back_at_work(stage, victim, old)
    figures["rounds"] += 1


async def given_up(stage: Scene, workers: set[int]) -> None:
    """Wait until the others have taken the lease of these workers away."""

    async def leased() -> set[int]:
        return {worker for worker, _ in await stage.client.storage.leased()}

    deadline = time.monotonic() + 10 * ABSENCE * LEASE_SECONDS
    while await leased() & workers:
        if time.monotonic() > deadline:
            stage.oracle.violations.append(f"workers {workers} were stopped and not given up")
            return
        await asyncio.sleep(LEASE_SECONDS / 20)


async def back_at_work(stage: Scene, victim: WorkerProcess, old: set[int]) -> None:
    """Wait until the worker runs steps under an id that it did not have before."""
    workers = stage.fleet.reader.workers
    await until(lambda: workers[victim.pid] - old, "the worker that was stopped works again")
    figures = stage.report.figures
    figures["rejoined under a new id"] += 1


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__, rounds=50, stores=("postgres",))
    parser.add_argument("--open", type=int, default=200, help="runs kept open")
    parser.add_argument("--slots", type=int, default=30, help="steps of a worker at once")
    parser.add_argument("--workers", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(play_on_stores("crash_stop", play, options()))
