"""kill -9 of the worker at random moments while hundreds of runs are open: none may notice.

    python -m tests.campaigns.crash_kill --rounds 1000 --store both

A round is a kill that hit a running step: the ledger has its start and not its end. A supervisor
restarts the worker at once; some kills hit it before it has done anything. In the end every run has
its right result, and no step was executed again after its completion was committed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.campaigns.campaign import Report, Stage, arguments, play_on_stores, scene
from tests.campaigns.fleet import WorkerProcess, until

LIFE_SECONDS = 0.8
"""How long a worker lives at most after its first step."""
EARLY = 0.1
"""How often a worker is killed while it is still starting."""
START_SECONDS = 0.5


async def play(options: argparse.Namespace, url: str, place: Path) -> Report:
    """Kill until so many kills have hit."""
    async with scene(
        url,
        place,
        open=options.open,
        seed=options.seed,
        workers=options.workers,
        slots=options.slots,
        max_recoveries=options.max_recoveries,
    ) as stage:
        while stage.report.figures["kills that hit a running step"] < options.rounds:
            await stage.load.beside(kill_one(stage))
    return stage.report


async def kill_one(stage: Stage) -> None:
    """Kill a worker at a random moment of its life, and replace it."""
    victim = stage.random.choice(stage.fleet.members)
    await random_moment(stage, victim)
    await kill(stage, victim)


async def kill(stage: Stage, victim: WorkerProcess) -> None:
    """Kill this worker now, note what that has hit, and replace it."""
    await victim.kill()
    stage.oracle.read_ledger()
    figures = stage.report.figures
    figures["kills"] += 1
    hit = stage.fleet.reader.running(victim.pid)
    figures["kills that hit a running step"] += bool(hit)
    figures["steps cut"] += len(hit)
    stage.restart_dead()


async def random_moment(stage: Stage, victim: WorkerProcess) -> None:
    """A moment while the worker starts, or while it runs steps."""
    if stage.random.random() < EARLY:
        await asyncio.sleep(stage.random.uniform(0, START_SECONDS))
        return
    running = stage.fleet.reader.running
    await until(lambda: running(victim.pid) or not victim.alive, "a step of the victim")
    await asyncio.sleep(stage.random.uniform(0, LIFE_SECONDS))


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__, rounds=100)
    parser.add_argument("--open", type=int, default=500, help="runs kept open")
    parser.add_argument("--slots", type=int, default=50, help="steps of a worker at once")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-recoveries", type=int, default=1000)
    return parser


if __name__ == "__main__":
    sys.exit(play_on_stores("crash_kill", play, options()))
