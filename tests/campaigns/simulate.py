"""Seeds of the simulator, one after the other, on as many processes as asked for.

    python -m tests.campaigns.simulate --seeds 5000 --jobs 2 --out summary.json
    python -m tests.campaigns.simulate --seed 1234

A seed is a cluster with its programs, people and faults on one virtual clock; the same seed is the same course, to
the last operation. Every hundredth seed is played again by another interpreter, with another hash seed, and must
leave the same trace. Seeds that break an invariant are printed with the end of their traces; the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from tests.simulation.faults import ALL_FAULTS
from tests.simulation.simulation import Outcome, play, play_many

_CHUNK: Final = 50
_AGAIN_EVERY: Final = 100
"""One of so many seeds is played twice."""
_SHOWN: Final = 5
"""Failures that are printed with their traces."""


@dataclass(slots=True)
class Summary:
    """What some seeds showed; summaries of several ranges can be added up."""

    seeds: int = 0
    virtual_seconds: float = 0.0
    real_seconds: float = 0.0
    played_again: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    seeds_with_fault: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    """Seeds that broke an invariant, and which."""

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.virtual_seconds += outcome.seconds
        self.figures += outcome.figures
        self.statuses += outcome.statuses
        self.fired += outcome.fired
        self.seeds_with_fault += Counter(outcome.fired.keys())
        self.operations += outcome.verbs
        self.calls += outcome.calls
        if outcome.broken:
            self.broken[str(outcome.seed)] = outcome.broken

    def as_json(self) -> str:
        """The summary as a file."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(values, indent=1, sort_keys=True)


def _play_chunk(seeds: Sequence[int]) -> list[Outcome]:
    return list(play_many(seeds))


def outcomes(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """Play seeds on so many processes."""
    if jobs == 1:
        yield from play_many(seeds)
        return
    chunks = [seeds[first : first + _CHUNK] for first in range(0, len(seeds), _CHUNK)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for chunk in pool.map(_play_chunk, chunks):
            yield from chunk


def digests_of(seeds: Iterable[int], hash_seed: int) -> dict[int, str]:
    """The traces of these seeds, as another interpreter leaves them."""
    command = [sys.executable, "-m", "tests.campaigns.simulate", "--digests", *map(str, seeds)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {int(seed): digest for seed, digest in map(str.split, done.stdout.splitlines())}


def campaign(first: int, count: int, jobs: int, *, again_every: int = _AGAIN_EVERY) -> Summary:
    """Play a range of seeds and print what fails."""
    start = time.monotonic()
    summary, digests = Summary(), dict[int, str]()
    for outcome in outcomes(range(first, first + count), jobs):
        summary.add(outcome)
        if outcome.seed % again_every == 0:
            digests[outcome.seed] = outcome.digest
        if outcome.broken and len(summary.broken) <= _SHOWN:
            show(outcome)
    for seed, digest in digests_of(digests, hash_seed=first + 1).items() if digests else ():
        summary.played_again += 1
        if digests[seed] != digest:
            summary.broken[str(seed)] = f"not deterministic: {digests[seed]}, then {digest}"
            print(f"seed {seed}: {summary.broken[str(seed)]}")
    summary.real_seconds = time.monotonic() - start
    return summary


def show(outcome: Outcome) -> None:
    """A failure, and how to see it again."""
    print(f"seed {outcome.seed} {f'BROKE {outcome.broken}' if outcome.broken else 'holds'}")
    for line in outcome.trace:
        print("   ", line[:240])
    print(f"  again: python -m tests.campaigns.simulate --seed {outcome.seed}", flush=True)


def tell(summary: Summary) -> None:
    """The figures, for people."""
    seconds = max(summary.real_seconds, 1e-9)
    runs, operations = summary.statuses.total(), summary.operations.total()
    print(f"  runs        {_words(summary.statuses)}")
    print(f"  calls       {_words(summary.calls)}")
    print(f"  operations  {_words(summary.operations)}")
    print(f"  figures     {_words(summary.figures)}")
    print("  faults      " + ", ".join(f"{kind} {summary.fired[kind]:,}" for kind in ALL_FAULTS))
    print(
        f"simulate: {summary.seeds:,} seeds, {runs:,} runs, {operations:,} operations, "
        f"{summary.fired.total():,} faults, {summary.played_again} seeds played again, "
        f"{summary.seeds / seconds:.1f} seeds/s, "
        f"{summary.virtual_seconds / 3600:.1f} virtual hours in {seconds:.0f} s "
        f"({summary.virtual_seconds / seconds:.0f} times), {len(summary.broken)} broken"
    )
    if summary.broken:
        print(f"broken: {', '.join(summary.broken)}")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.most_common())


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", "--rounds", type=int, default=1000, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="a file for the summary, as JSON")
    parser.add_argument("--seed", type=int, help="play one seed and show the end of its trace")
    parser.add_argument("--keep", type=int, default=100, help="lines of that trace")
    parser.add_argument("--digests", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.digests:
        for outcome in play_many(options.digests):
            print(outcome.seed, outcome.digest)
        return 0
    if options.seed is not None:
        return _one(options.seed, options.keep)
    summary = campaign(options.first, options.seeds, options.jobs)
    tell(summary)
    if options.out is not None:
        options.out.write_text(summary.as_json())
    return 1 if summary.broken else 0


def _one(seed: int, keep: int) -> int:
    start = time.monotonic()
    outcome = play(seed, keep=keep)
    show(outcome)
    summary = Summary(real_seconds=time.monotonic() - start)
    summary.add(outcome)
    print(f"  trace {outcome.digest}")
    tell(summary)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
