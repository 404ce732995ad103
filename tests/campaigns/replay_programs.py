"""Random programs, replayed in one go, after eviction at every event, and in other processes.

    python -m tests.campaigns.replay_programs --programs 5000 --seed 1

A program that does not ask for the same commands everywhere is shrunk and printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.engine.driver import Recording, Stuck, difference, digest, live
from tests.engine.programs import LUCK, Tree, letters, program, whole_programs
from tests.engine.witness import Witness

PROGRAMS_PER_WITNESS = 500


class Different(AssertionError):
    """A replay asked for something else than the live run."""


@dataclass(slots=True)
class Figures:
    """What a campaign did."""

    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, tree: Tree, recording: Recording) -> None:
        """Count a program that was found to be alike everywhere."""
        self.counts["programs"] += 1
        self.counts["events"] += len(recording.rows)
        self.counts["commands"] += sum(len(commands) for commands in recording.trace)
        self.counts["replays"] += len(recording.rows) + 1
        ending = "failed" if recording.failed else "completed"
        self.counts["stuck" if isinstance(recording.outcome, Stuck) else ending] += 1
        self.kinds.update(_kinds(tree))

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {what}" for what, number in self.counts.items())


def _kinds(tree: Tree) -> Iterator[str]:
    yield tree["do"]
    for part in tree.values():
        for child in part if isinstance(part, list) else [part]:
            if isinstance(child, dict):
                yield from _kinds(child)


class Witnesses:
    """A process with another hash seed, and yet another one after a while."""

    def __init__(self, stack: ExitStack, first: int) -> None:
        self._stack = stack
        self._next = first
        self._asked = 0
        self._witness: Witness | None = None

    def ask(self, recording: Recording) -> list[str]:
        """What the history of a program leads to elsewhere."""
        if self._witness is None or self._asked >= PROGRAMS_PER_WITNESS:
            self._next = (self._next + 1) % 2**32
            self._witness = self._stack.enter_context(Witness(self._next))
            self._asked = 0
        self._asked += 1
        return self._witness.ask(program, recording)


def check(tree: Tree, number: int, witnesses: Witnesses) -> Recording:
    """Run a program live with the latencies and the post of `number`; `Different` if any replay is not like it."""
    LUCK.seed(number)
    recording = live(program, tree, seed=number, run_id=f"program-{number}", sends=letters(number))
    told = difference(program, recording)
    if told is not None:
        raise Different(told)
    elsewhere = witnesses.ask(recording)
    if elsewhere != [digest(recording.trace)]:
        message = f"another process: {elsewhere}, here {digest(recording.trace)}"
        raise Different(message)
    return recording


def campaign(programs: int, first: int) -> tuple[Figures, str | None]:
    """Check so many programs; what was done, and the smallest program that differs."""
    figures = Figures()
    smallest: list[str] = []

    with ExitStack() as stack:
        witnesses = Witnesses(stack, first)

        @seed(first)
        @settings(
            max_examples=programs,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(whole_programs(), st.integers(0, 2**20))
        def every_program_replays(tree: Tree, number: int) -> None:
            try:
                recording = check(tree, number, witnesses)
            except Exception as error:
                text = json.dumps({"number": number, "program": tree})
                told = f"{text}\n{type(error).__name__}: {error}"
                smallest[:] = [min([*smallest, told], key=len)]
                raise
            figures.add(tree, recording)

        try:
            every_program_replays()
        except Exception as error:
            return figures, smallest[0] if smallest else repr(error)
    return figures, None


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--programs", "--rounds", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="to repeat one")
    options = parser.parse_args()
    print(f"replay_programs: seed {options.seed}, {options.programs} programs", flush=True)
    start = time.monotonic()
    figures, broken = campaign(options.programs, options.seed)
    print("  nodes: " + ", ".join(f"{kind} {n:,}" for kind, n in figures.kinds.most_common()))
    if broken is not None:
        print(f"  VIOLATION {broken}")
    print(f"replay_programs: {figures}, {time.monotonic() - start:.0f} s", flush=True)
    return 1 if broken is not None else 0


if __name__ == "__main__":
    sys.exit(main())
