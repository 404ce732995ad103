"""`durable migrate` and `durable migrations`: the schema of the database."""

from __future__ import annotations

import asyncio

import click

from durable.cli.screen import Styled
from durable.cli.shell import FAILED, Shell, command
from durable.telling import count


@command("migrate")
@click.option(
    "--to", type=click.IntRange(min=1), help="The step to go to; the newest if not given."
)
def migrate(shell: Shell, to: int | None) -> None:
    """Bring the database's schema up to date. Safe to run from many places at once."""
    client = shell.client()

    async def inside() -> int:
        before = sum(bool(step.applied) for step in await client.migrations())
        await client.migrate(to=to)
        return sum(bool(step.applied) for step in await client.migrations()) - before

    applied = asyncio.run(inside())
    if shell.as_json:
        shell.json({"applied": applied})
    else:
        shell.out.line(f"applied {count(applied, 'step')}" if applied else "nothing to do")


@command("migrations")
@click.option("--check", is_flag=True, help="Exit with 1 unless the schema is up to date.")
def migrations(shell: Shell, check: bool) -> None:
    """Show the steps of the schema and which of them the database has."""
    steps = list(asyncio.run(shell.client().migrations()))
    missing = [step for step in steps if not step.applied]
    if shell.as_json:
        shell.json(steps)
    else:
        rows = [
            [
                str(step.number),
                step.name,
                "applied" if step.applied else Styled("missing", "yellow"),
            ]
            for step in steps
        ]
        shell.out.table(["STEP", "NAME", "STATE"], rows)
    if missing:
        shell.say(f"{count(len(missing), 'step')} missing: run `durable migrate`")
    if check and missing:
        raise click.exceptions.Exit(FAILED)
