"""Brings each mutant of the bank into a copy of the tree, and sees that its killer finds it.

    python -m tests.mutants                      # what has changed since the last time
    python -m tests.mutants --only ID --again
    python -m tests.mutants --simulator --seeds 200

A killer that fails without the mutant proves nothing: each is run once on the tree as it is. With `--simulator`
all mutants of code that the simulator runs are looked for by seeds of it, whatever their own killers are; a
range that was tried before is not tried again. The exit code is 1 where a mutant survives or fits no more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from threading import Lock

from tests.mutants.bank import MOST_SEEDS, Misfit, Mutant, load, text_of
from tests.mutants.killing import Tree, Unrunnable, Verdict, copies
from tests.mutants.verdicts import Book


class Round:
    """One look at some mutants, with some copies of the tree."""

    def __init__(self, book: Book, trees: Iterable[Tree]) -> None:
        self._book = book
        self._trees: SimpleQueue[Tree] = SimpleQueue()
        for tree in trees:
            self._trees.put(tree)
        self._lock = Lock()
        self._proofs: dict[str, bool] = {}

    def kill(self, mutant: Mutant) -> None:
        """Let its own killer look for it."""
        if not self._is_proof(mutant):
            with self._lock:
                self._book.write(mutant, killed=False, said="its killer fails without it")
            return
        verdict = self._judge(mutant, Tree.judge_with)
        with self._lock:
            self._book.write(
                mutant,
                killed=verdict.killed,
                said=verdict.said,
                seconds=round(verdict.seconds, 1),
                seeds=None if verdict.seed is None else verdict.seed + 1,
            )
            how = "killed" if verdict.killed else "SURVIVED"
            print(f"{mutant.id}: {how} in {verdict.seconds:.1f} s: {verdict.said}", flush=True)

    def simulate(self, mutant: Mutant, seeds: int) -> None:
        """Let the simulator look for it, from where it was looked for already."""
        first = self._book.of(mutant).simulated
        seek = partial(Tree.simulate_with, seeds=range(first, seeds))
        verdict = self._judge(mutant, seek)
        found = None
        if verdict.killed:
            found = seeds if verdict.seed is None else verdict.seed + 1
        with self._lock:
            self._book.write(mutant, simulated=seeds, seeds_to_kill=found, broke=verdict.said)
            print(
                f"{mutant.id}: {found or f'not within {seeds}'} seeds: {verdict.said}", flush=True
            )

    def _is_proof(self, mutant: Mutant) -> bool:
        """Whether its killer finds nothing where there is nothing; seen once for each killer."""
        killer = mutant.killer
        if killer not in self._proofs:
            verdict = self._judge(mutant, Tree.judge)
            with self._lock:
                self._proofs[killer] = not verdict.killed and not verdict.said
                if not self._proofs[killer]:
                    print(f"{killer} fails without a mutant: {verdict.said}", flush=True)
        return self._proofs[killer]

    def _judge(self, mutant: Mutant, judge: Callable[[Tree, Mutant], Verdict]) -> Verdict:
        """What is said of it in the next tree that is free."""
        tree = self._trees.get()
        try:
            return judge(tree, mutant)
        except Unrunnable as error:
            return Verdict(killed=False, said=f"cannot be run: {error}", seconds=0.0)
        finally:
            self._trees.put(tree)


def each(act: Callable[[Mutant], None], mutants: Sequence[Mutant], jobs: int) -> None:
    """Do it for all of them, so many at once."""
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(act, mutants):
            pass


def misfits(mutants: Iterable[Mutant]) -> list[str]:
    """Those that fit their files no more."""
    found: list[str] = []
    for mutant in mutants:
        try:
            mutant.of(text_of(mutant))
        except (Misfit, OSError, SyntaxError) as error:
            found.append(str(error))
    return found


def tell(mutants: Sequence[Mutant], book: Book) -> None:
    """The table, for people."""
    rows = [("mutant", "case", "seconds", "seeds", "killer")]
    for mutant in mutants:
        known = book.of(mutant)
        seeds = "" if not mutant.is_simulated else "-"
        if known.simulated or known.seeds:
            seeds = str(known.seeds_to_kill or known.seeds or f">{known.simulated}")
        killed = f"{known.seconds:.1f}" if known.killed else "SURVIVED"
        rows.append((mutant.id, mutant.case, killed, seeds, mutant.killer))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        print("  ".join(cells).rstrip())


def summary(mutants: Sequence[Mutant], book: Book) -> str:
    """The figures, in a line or two."""
    known = [book.of(mutant) for mutant in mutants]
    killed = sum(one.killed is True for one in known)
    cases = len({mutant.case for mutant in mutants})
    line = f"mutants: {killed} of {len(mutants)} killed, {cases} cases"
    simulated = [one for one in known if one.simulated]
    if simulated:
        found = sorted(one.seeds_to_kill for one in simulated if one.seeds_to_kill is not None)
        line += f"\nsimulator: {len(found)} of {len(simulated)} found"
        if found:
            line += f", half of them within {found[len(found) // 2]} seeds, all within {found[-1]}"
    return line


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="the mutant of this id (more than once)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    parser.add_argument("--again", action="store_true", help="also what is known already")
    parser.add_argument("--simulator", action="store_true", help="look for all by seeds")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="of the simulator, from 0 on")
    options = parser.parse_args()
    bank, book = load(), Book()
    book.keep({mutant.id for mutant in bank})
    mutants = [mutant for mutant in bank if options.only is None or mutant.id in options.only]
    wrong = misfits(mutants)
    for text in wrong:
        print(text)
    if wrong or not mutants:
        return 1
    with copies(options.jobs) as trees:
        one_round = Round(book, trees)
        if options.simulator:
            _simulate(one_round, mutants, book, options)
        else:
            new = [one for one in mutants if options.again or book.of(one).killed is not True]
            each(one_round.kill, new, options.jobs)
    tell(mutants, book)
    print(summary(mutants, book))
    return 0 if all(book.of(mutant).killed for mutant in mutants) else 1


def _simulate(
    one_round: Round, mutants: Sequence[Mutant], book: Book, options: argparse.Namespace
) -> None:
    def is_open(mutant: Mutant) -> bool:
        known = book.of(mutant)
        return known.seeds_to_kill is None and known.simulated < options.seeds

    wanted = [mutant for mutant in mutants if mutant.is_simulated and is_open(mutant)]
    each(lambda mutant: one_round.simulate(mutant, options.seeds), wanted, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
