"""Plays seeds of the simulator until one breaks an invariant: `python -m tests.mutants.seeds FIRST COUNT`."""

from __future__ import annotations

import logging
import sys

from tests.simulation.simulation import play_many


def main() -> int:
    """The command line; the exit code is 1 where a seed broke one."""
    logging.disable(logging.CRITICAL)  # what a mutant complains of is not read
    first, count = map(int, sys.argv[1:])
    for outcome in play_many(range(first, first + count), keep=1):
        if outcome.broken is not None:
            print(f"seed {outcome.seed} broke: {' '.join(outcome.broken.split())}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
