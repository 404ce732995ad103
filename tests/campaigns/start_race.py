"""Many processes start the same id at the same moment: one run, one starter, each step executed once.

    python -m tests.campaigns.start_race --rounds 200 --racers 50 --store both

The processes stay alive between the rounds, so that all of them are ready when the gun goes off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.campaigns import labour
from tests.campaigns.campaign import Report, Scene, arguments, play_on_stores, scene
from tests.campaigns.fleet import ROOT
from tests.campaigns.racer import run_id

WORKERS = 2
START_SECONDS = 120


class Race:
    """The racers, the pipes that they wait for in turns, and the one that they report into."""

    def __init__(
        self, racers: list[subprocess.Popen[bytes]], guns: Sequence[int], reports: int
    ) -> None:
        self.racers = racers
        self._guns = guns
        self._reports = os.fdopen(reports, "rb")

    def ready(self) -> None:
        """Wait until everyone stands at the line."""
        self._lines()

    def run(self, round_: int) -> list[dict[str, object]]:
        """One round: what each racer reports."""
        os.write(self._guns[round_ % 2], b"!" * len(self.racers))
        return self._lines()

    def _lines(self) -> list[dict[str, object]]:
        return [json.loads(self._reports.readline()) for _ in self.racers]

    def close(self) -> None:
        for gun in self._guns:
            os.close(gun)
        for racer in self.racers:
            racer.wait(START_SECONDS)
        self._reports.close()


@contextmanager
def racers(number: int, url: str) -> Iterator[Race]:
    """So many processes that wait for the gun."""
    pipes = [os.pipe(), os.pipe()]
    heard = [pipe[0] for pipe in pipes]
    reports, said = os.pipe()
    command = [sys.executable, "-m", "tests.campaigns.racer", "--url", url, "--guns"]
    command += map(str, heard)
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=said, pass_fds=heard) for _ in range(number)
    ]
    for end in (*heard, said):
        os.close(end)
    race = Race(processes, [pipe[1] for pipe in pipes], reports)
    try:
        yield race
    finally:
        race.close()


async def play(options: argparse.Namespace, url: str, place: Path) -> Report:
    """Race for an id in each round; the runs are judged when they have ended."""
    async with scene(url, place, open=0, seed=options.seed, workers=WORKERS) as stage:
        with racers(options.racers, url) as race:
            await asyncio.to_thread(race.ready)
            for round_ in range(1, options.rounds + 1):
                await stage.load.beside(run_one(stage, race, round_))
        await stage.load.finish()
        _judge(stage)
    return stage.report


async def run_one(stage: Scene, race: Race, round_: int) -> None:
    """One round."""
    reports = await asyncio.to_thread(race.run, round_)
    created = sum(bool(report["created"]) for report in reports)
    if created != 1:
        stage.oracle.violations.append(f"round {round_}: {created} racers created the run")
    stage.load.expect(run_id(round_), labour.pairs, round_)
    figures = stage.report.figures
    figures["rounds"] += 1
    figures["calls of start"] += len(reports)
    figures["handles that were created"] += created


def _judge(stage: Scene) -> None:
    twice = stage.oracle.figures["executions lost to faults"]
    if twice:
        stage.oracle.violations.append(f"{twice} executions of steps too many")


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__, rounds=200)
    parser.add_argument("--racers", type=int, default=50, help="processes that start at once")
    return parser


if __name__ == "__main__":
    sys.exit(play_on_stores("start_race", play, options()))
