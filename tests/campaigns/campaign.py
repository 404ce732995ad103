"""What all campaigns have in common: their options, their database, the scene they play on, their report."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from durable import Client
from durable_testing.postgres import PostgresServer
from tests.campaigns.effects import Ledger
from tests.campaigns.fleet import Fleet, Stuck
from tests.campaigns.load import Load
from tests.campaigns.oracle import Oracle

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""Server settings under which an acknowledged commit survives a crash."""
SHOWN, LENGTH = 20, 2_000
"""How many violations are printed, and how much of each."""
STORES = ("sqlite", "postgres")


@dataclass(slots=True)
class Report:
    """What a campaign showed."""

    figures: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    logs: Counter[str] = field(default_factory=Counter)

    def line(self, name: str, seconds: float) -> str:
        """The summary."""
        figures = ", ".join(f"{number} {what}" for what, number in self.figures.items())
        return f"{name}: {figures}, {seconds:.0f} s, {len(self.violations)} violations"


@dataclass(slots=True)
class Stage:
    """A database, its workers, and the judge of it all."""

    client: Client
    fleet: Fleet
    oracle: Oracle
    random: Random
    report: Report

    def restart_dead(self) -> None:
        """The supervisor: whoever is dead is replaced at once."""
        for member in list(self.fleet.members):
            if not member.alive:
                self.fleet.dismiss(member)
                self.fleet.hire()

    def conclude(self) -> None:
        """Collect what the judge and all processes say."""
        report, book = self.report, self.fleet.book
        for process in (*self.fleet.members, *self.fleet.others):
            book.read(process.log)
        report.figures += self.oracle.figures
        report.violations += self.oracle.violations + book.unexpected
        report.logs = book.counts


@dataclass(slots=True)
class Scene(Stage):
    """With a load that is kept up."""

    load: Load


@asynccontextmanager
async def scene(
    url: str,
    place: Path,
    *,
    open: int,
    seed: int,
    workers: int = 1,
    client_url: str | None = None,
    expected: Iterable[str] = (),
    **options: float,
) -> AsyncIterator[Scene]:
    """Runs are kept open and workers at work for the length of the block; then everything must end well."""
    report = Report()
    with Fleet(url, place, expected=expected, **options) as fleet:
        ledger = Ledger(fleet.ledger_path)
        async with Client(client_url or url) as client:
            oracle = Oracle(client, ledger, fleet.reader)
            load = Load(client, oracle, open=open, seed=seed)
            for _ in range(workers):
                fleet.hire()
            load.begin()
            stage = Scene(client, fleet, oracle, Random(seed), report, load)
            try:
                yield stage
                await load.finish()
                await fleet.retire()
            except Stuck as error:
                oracle.violations.append(str(error))
            finally:
                await load.stop()
                ledger.close()
                report.figures += load.figures
                stage.conclude()


Play = Callable[[argparse.Namespace, str, Path], Awaitable[Report]]
"""Plays a campaign: its options, the URL of a database of its own, and a directory of its own."""


@contextmanager
def place_for(name: str) -> Iterator[Path]:
    """A directory for the ledger, the logs and the database file."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as place:
        yield Path(place)


@contextmanager
def database(store: str, place: Path, **settings: str) -> Iterator[str]:
    """A fresh database in which nothing that was acknowledged may be lost."""
    if store == "sqlite":
        yield f"sqlite:///{place / 'durable.db'}"
    else:
        with PostgresServer(**{**DURABLE, **settings}) as server:
            yield server.create_database("campaign")


def play_on_stores(name: str, play: Play, arguments: argparse.ArgumentParser) -> int:
    """Play a campaign on each store asked for and print what it showed; the exit code."""
    options = arguments.parse_args()
    stores = STORES if options.store == "both" else (options.store,)
    broken = 0
    for store in stores:
        with (
            tempfile.TemporaryDirectory(prefix=f"{name}-") as place,
            database(store, Path(place)) as url,
        ):
            broken += conclude(f"{name} {store}", options, play(options, url, Path(place)))
    return 1 if broken else 0


def conclude(name: str, options: argparse.Namespace, playing: Awaitable[Report]) -> int:
    """Run a campaign to its end and print what it showed; how many violations there were."""
    print(f"{name}: seed {options.seed}, {options.rounds} rounds", flush=True)
    start = time.monotonic()
    report = asyncio.run(_awaited(playing))
    for text, number in report.logs.most_common():
        print(f"  log {number:6} x {text}")
    for violation in report.violations[:SHOWN]:
        print(f"  VIOLATION {violation[:LENGTH]}")
    print(report.line(name, time.monotonic() - start), flush=True)
    return len(report.violations)


async def _awaited(playing: Awaitable[Report]) -> Report:
    return await playing


def arguments(
    doc: str | None, *, rounds: int, stores: Sequence[str] = ("sqlite", "postgres", "both")
) -> argparse.ArgumentParser:
    """The options that all campaigns take."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--store", choices=stores, default=stores[-1])
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="to repeat one")
    return parser
