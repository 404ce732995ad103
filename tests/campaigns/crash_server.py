"""The database crashes and connections break under load: no run is lost, none doubled, no step twice.

    python -m tests.campaigns.crash_server --rounds 20 --cuts 50

First the server is stopped with `-m immediate` and comes back through recovery, again and again. Then
a proxy cuts connections after the server has executed a statement and before its answer arrives: a
commit, a claim, the start of a run, a renewal; at times it swallows everything until leases are lost.
Clients start runs all the while, under ids made before the first attempt.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from durable_testing.postgres import PostgresServer
from durable_testing.proxy import Cut, Proxy, Statement
from tests.campaigns.campaign import DURABLE, Report, Scene, arguments, conclude, place_for, scene
from tests.campaigns.fleet import until

WORKERS = 2
LEASE_SECONDS = 1.0
PROGRESS = 20
"""Runs that have to end after a fault before the next one comes."""
EXPECTED = (r"lost its lease: its runs go on elsewhere",)

Wanted = Callable[[Statement], bool]


def _calls(application: str, function: str) -> Wanted:
    def wanted(statement: Statement) -> bool:
        return statement.application == application and function in statement.text

    return wanted


ANSWERS: dict[str, Wanted] = {
    "of commits": _calls("durable commit", "."),
    "of claims": _calls("durable work", ".claim("),
    "of starts": _calls("durable work", ".start("),
    "of renewals": _calls("durable heartbeat", ".workers"),
}
"""Whose answers get lost, by what they are answers of."""
WEIGHTS = (6, 2, 3, 1)
HOLE = 0.1
"""How often everything is swallowed instead."""


async def play_restarts(
    options: argparse.Namespace, server: PostgresServer, url: str, place: Path
) -> Report:
    """Crash the server under load."""
    async with _scene(options, url, place, client_url=url) as stage:
        await progress(stage)
        for _ in range(options.rounds):
            await asyncio.sleep(stage.random.uniform(0, options.calm))
            await stage.load.beside(restart(stage, server))
    return stage.report


async def restart(stage: Scene, server: PostgresServer) -> None:
    """One crash, and the proof that work goes on after it."""
    await asyncio.to_thread(server.restart_immediate)
    stage.report.figures["restarts"] += 1
    await progress(stage)


async def play_cuts(options: argparse.Namespace, url: str, place: Path) -> Report:
    """Lose answers under load."""
    with Proxy(url) as proxy:
        through = proxy.url(url)
        async with _scene(options, through, place, client_url=through) as stage:
            await progress(stage)
            for _ in range(options.cuts):
                if stage.random.random() < HOLE:
                    await stage.load.beside(swallow(stage, proxy))
                else:
                    await stage.load.beside(cut(stage, proxy))
    return stage.report


async def cut(stage: Scene, proxy: Proxy) -> None:
    """Lose the answer of one statement that the server has executed."""
    [what] = stage.random.choices(list(ANSWERS), WEIGHTS)
    made: Cut = proxy.cut_answer(ANSWERS[what])
    try:
        await until(lambda: made.made, f"a statement whose answer can be lost, {what}")
    finally:
        proxy.withdraw(made)
    stage.report.figures[f"answers lost {what}"] += 1
    await progress(stage)


async def swallow(stage: Scene, proxy: Proxy) -> None:
    """Let all connections hang for two leases, then cut them."""
    proxy.black_hole()
    await asyncio.sleep(2 * LEASE_SECONDS)
    proxy.reset()
    proxy.heal()
    stage.report.figures["black holes"] += 1
    await progress(stage)


async def progress(stage: Scene) -> None:
    """Wait until more runs have ended."""
    goal = stage.load.ended + PROGRESS
    await until(lambda: stage.load.ended >= goal, "runs that end after the fault")


def _scene(options: argparse.Namespace, url: str, place: Path, client_url: str):
    return scene(
        url,
        place,
        client_url=client_url,
        open=options.open,
        seed=options.seed,
        workers=WORKERS,
        expected=EXPECTED,
        lease=LEASE_SECONDS,
        slots=options.slots,
        max_recoveries=1000,
    )


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__, rounds=20, stores=("postgres",))
    parser.add_argument("--cuts", type=int, default=50, help="rounds of lost answers")
    parser.add_argument("--open", type=int, default=200, help="runs kept open")
    parser.add_argument("--slots", type=int, default=30, help="steps of a worker at once")
    parser.add_argument("--calm", type=float, default=1.0, help="seconds between crashes at most")
    return parser


def main() -> int:
    asked = options().parse_args()
    with PostgresServer(**DURABLE) as server, place_for("restarts") as place:
        url = server.create_database("restarts")
        broken = conclude("crash_server restarts", asked, play_restarts(asked, server, url, place))
    with PostgresServer(**DURABLE) as server, place_for("cuts") as place:
        url = server.create_database("cuts")
        broken += conclude("crash_server cuts", asked, play_cuts(asked, url, place))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
