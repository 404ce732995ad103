"""`durable check`: whether the code that is about to be deployed goes on with the runs that are open."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from durable.cli.screen import Styled
from durable.cli.shell import FAILED, NO_URL, Shell, command
from durable.cli.work import collect, load
from durable.telling import clean, count

if TYPE_CHECKING:
    from durable_testing import Broken, Checked

SHOWN = 5
"""Ids of broken runs of one shape that are named; `--json` has all."""


@command("check")
@click.argument("modules", metavar="MODULE...", nargs=-1, required=True)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Check the newest N finished runs, too.",
)
def check(shell: Shell, modules: tuple[str, ...], sample: int) -> None:
    """Replay the open runs of a database against the code in the modules, and write nothing.

    Of more than some hundreds of runs a sample is replayed, and is named. Exits with 1 when a run would be blocked by
    this code: run it before you deploy.
    """
    from durable_testing import check as check_database

    if not shell.url:
        raise click.UsageError(NO_URL)
    sys.path.insert(0, str(Path.cwd()))
    found = collect(load(module) for module in modules)
    checked = asyncio.run(check_database(shell.url, found.workflows, sample=sample))
    if shell.as_json:
        shell.json(checked)
    else:
        _show(shell, checked)
    if not all(each.ok for each in checked):
        raise click.exceptions.Exit(FAILED)


def _show(shell: Shell, checked: Sequence[Checked]) -> None:
    if not checked:
        shell.say("no runs to check")
        return
    rows: list[list[str | Styled]] = [
        [
            _named(each),
            f"{each.runs:,}",
            str(each.shapes),
            f"{each.replayed:,}",
            _verdict(each),
        ]
        for each in checked
    ]
    shell.out.table(["WORKFLOW", "RUNS", "SHAPES", "REPLAYED", "WOULD GO ON"], rows)
    for each in checked:
        for broken in each.broken:
            _show_broken(shell, broken)
    for each in checked:
        if each.sampled:
            _show_sampled(shell, each)


def _show_broken(shell: Shell, broken: Broken) -> None:
    runs, more = len(broken.run_ids), len(broken.run_ids) - SHOWN
    ids = ", ".join(map(clean, broken.run_ids[:SHOWN]))
    kind = "would be blocked" if broken.is_open else "finished, and would end otherwise now"
    sample = f" ({broken.replayed:,} of {runs:,} replayed)" if broken.replayed < runs else ""
    shell.out.line("")
    shell.out.line(Styled(count(runs, "run"), "red"), f" {kind}{sample}: {ids}")
    if more > 0:
        shell.out.line(f"  and {more:,} more (--json names all)")
    for line in broken.explanation.splitlines():
        shell.out.line(f"  {clean(line)}")


def _show_sampled(shell: Shell, checked: Checked) -> None:
    """Nobody is to take a sample for a proof."""
    shell.out.line("")
    shell.out.line(
        Styled("a sample", "yellow"),
        f" of {_named(checked)}: what its code does for other data than theirs was not seen",
    )
    for shape in checked.sampled[:SHOWN]:
        like = f"like {clean(shape.example)}"
        shell.out.line(f"  {shape.replayed:,} of {shape.runs:,} runs {like} replayed")
    more = len(checked.sampled) - SHOWN
    if more > 0:
        shell.out.line(f"  and of {count(more, 'more shape')} (--json names all)")


def _named(checked: Checked) -> str:
    return clean(checked.workflow) + (f" v{checked.version}" if checked.version else "")


def _verdict(checked: Checked) -> Styled:
    if not checked.has_code:
        return Styled("not in these modules", "yellow")
    bad = sum(len(broken.run_ids) for broken in checked.broken)
    if bad:
        return Styled(f"not {bad:,}", "red")
    return Styled("all that were replayed" if checked.sampled else "all", "green")
