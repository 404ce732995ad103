"""`durable lint`: what in the source of workflows would break a replay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from durable.cli.screen import Styled
from durable.cli.shell import FAILED, Shell, command
from durable.telling import clean, count

if TYPE_CHECKING:
    from durable.lint import Finding


def parse_codes(
    _: click.Context, parameter: click.Parameter, values: Iterable[str]
) -> frozenset[str] | None:
    """Read codes and beginnings of codes, as in `DUR1,DUR302`; None: the option was not given."""
    from durable.lint import RULES

    begins = [each.strip() for value in values for each in value.split(",")]
    for begin in begins:
        if not begin or not any(code.startswith(begin) for code in RULES):
            raise click.BadParameter(f"no rule is called {begin!r}", param=parameter)
    return frozenset(code for code in RULES if code.startswith(tuple(begins))) if begins else None


@command("lint", database=False)
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--select", metavar="CODES", multiple=True, callback=parse_codes, help="Only these rules."
)
@click.option(
    "--extend-select",
    metavar="CODES",
    multiple=True,
    callback=parse_codes,
    help="These rules, too.",
)
@click.option(
    "--ignore", metavar="CODES", multiple=True, callback=parse_codes, help="Not these rules."
)
@click.option(
    "--output-format",
    type=click.Choice(["concise", "json", "github"]),
    default="concise",
    show_default=True,
    help="How the findings are written; --json is short for json.",
)
def lint(
    shell: Shell,
    paths: tuple[Path, ...],
    select: frozenset[str] | None,
    extend_select: frozenset[str] | None,
    ignore: frozenset[str] | None,
    output_format: str,
) -> None:
    """Find what in workflow functions would break a replay, from their source alone.

    Directories are searched for *.py files. CODES are DUR101 or the beginning of some, as DUR1, separated by commas.
    `# durable: ignore[DUR101]` on a line says that it is meant. Exits with 1 when anything is found.
    """
    from durable.lint import DEFAULT, lint_file, python_files

    wanted = ((select or DEFAULT) | (extend_select or frozenset())) - (ignore or frozenset())
    files = list(python_files(paths))
    found = [finding for file in files for finding in lint_file(file, wanted)]
    if shell.as_json or output_format == "json":
        shell.json([_as_json(each) for each in found])
    elif output_format == "github":
        _write_annotations(shell, found)
    else:
        _write_lines(shell, found, len(files))
    if found:
        raise click.exceptions.Exit(FAILED)


def _write_lines(shell: Shell, found: Sequence[Finding], files: int) -> None:
    for each in found:
        shell.out.line(
            Styled(clean(each.path), "bold"),
            f":{each.line}:{each.column}: ",
            Styled(each.code, "red"),
            f" {clean(each.message)}",
        )
    if found:
        shell.out.line(f"Found {count(len(found), 'problem')}.")
    elif files:
        shell.out.line("All checks passed!")
    else:
        shell.say(Styled("warning: ", "yellow"), "there are no Python files under these paths")


def _write_annotations(shell: Shell, found: Sequence[Finding]) -> None:
    """Commands that GitHub Actions shows beside the lines of a pull request."""
    for each in found:
        where = {
            "title": f"durable ({each.code})",
            "file": each.path,
            "line": each.line,
            "col": each.column,
            "endLine": each.end_line,
            "endColumn": each.end_column,
        }
        properties = ",".join(f"{name}={_property(value)}" for name, value in where.items())
        shell.out.line(f"::error {properties}::{_message(str(each))}")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _message(str(value)).replace(":", "%3A").replace(",", "%2C")


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "message": finding.message,
        "filename": finding.path,
        "location": {"row": finding.line, "column": finding.column},
        "end_location": {"row": finding.end_line, "column": finding.end_column},
    }
