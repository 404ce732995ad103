"""The command line: `durable ...`.

Every command is a thin shell over the public API: it parses, calls and shows. Nothing heavy is
imported before a command needs it, so `durable --help` answers at once.
"""

from __future__ import annotations

import click

from durable.cli.check import check
from durable.cli.lint import lint
from durable.cli.runs import history, inspect, list_runs
from durable.cli.schema import migrate, migrations
from durable.cli.shell import run_to_exit_code
from durable.cli.start import run
from durable.cli.tour import demo
from durable.cli.work import worker

COMMANDS = (demo, worker, run, list_runs, inspect, history, lint, check, migrate, migrations)

EPILOG = "Exit codes: 0 done, 1 failed, 2 misuse. Run ids may be shortened to a unique prefix."


class _InOrder(click.Group):
    """A group that lists its commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as they were added."""
        del ctx
        return list(self.commands)


@click.group(cls=_InOrder, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    package_name="durable-sdk", prog_name="durable", message="%(prog)s %(version)s"
)
def program() -> None:
    """Workflows that survive a crash, in the SQLite or PostgreSQL you already have.

    New here? `durable demo` shows it in ten seconds.
    """


for _command in COMMANDS:
    program.add_command(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line (None: the process's own) and return its exit code."""
    return run_to_exit_code(program, arguments)
