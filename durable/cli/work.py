"""`durable worker`: run workflows and steps until told to stop."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from durable.cli.screen import Styled
from durable.cli.shell import Shell, command

if TYPE_CHECKING:
    from durable import Runnable, Step, Worker

GuardMode: TypeAlias = Literal["off", "warn", "raise"]
DEFAULT_SLOTS = 100
"""Steps that run at once on a queue given without a number."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the modules hold that a worker can serve."""

    workflows: tuple[Runnable[Any, Any], ...]
    steps: tuple[Step[..., Any], ...]


@command("worker")
@click.argument("targets", metavar="MODULE...", nargs=-1, required=True)
@click.option(
    "--queue",
    "queues",
    metavar="NAME[:SLOTS]",
    multiple=True,
    help="A queue to serve; may be repeated.",
)
@click.option("--name", help="The worker's name in lists and histories; the host's if not given.")
@click.option(
    "--guard",
    type=click.Choice(["off", "warn", "raise"]),
    default="warn",
    show_default=True,
    help="What becomes of workflow code that reads the clock, draws a random number, opens a file, ...",
)
def worker(
    shell: Shell,
    targets: tuple[str, ...],
    queues: tuple[str, ...],
    name: str | None,
    guard: GuardMode,
) -> None:
    """Serve every workflow, job, flow and step in the modules, or the Worker object MODULE:NAME.

    Modules are found from the current directory. SIGTERM or Ctrl-C drains: no new work is taken,
    what runs may finish. A second one stops at once.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    sys.path.insert(0, str(Path.cwd()))
    named = [target for target in targets if ":" in target]
    if named and (len(targets) > 1 or queues or name or guard != "warn"):
        raise click.UsageError(f"{named[0]} is a worker of its own: give nothing else with it")
    if named:
        own = load_worker(named[0])
        shell.say(Styled("serving ", "dim"), named[0], Styled(f" as {own.name}", "dim"))
        asyncio.run(own.run())
        return
    found = collect(load(target) for target in targets)
    if not found.workflows and not found.steps:
        raise click.UsageError(
            f"nothing to serve (no workflow, job or flow) in {', '.join(targets)}"
        )
    asyncio.run(_serve(shell, found, parse_queues(queues), name, guard))


async def _serve(
    shell: Shell, found: Found, queues: Mapping[str, int], name: str | None, guard: GuardMode
) -> None:
    from durable import Worker

    async with shell.client() as client:
        worker = Worker(
            client,
            workflows=found.workflows,
            steps=found.steps,
            queues=queues,
            name=name,
            guard=guard,
        )
        shell.say(
            Styled("serving ", "dim"),
            ", ".join([*(one.name for one in found.workflows), *(one.name for one in found.steps)]),
            Styled(f" on {', '.join(queues)}", "dim"),
        )
        await worker.run()


def load(target: str) -> ModuleType:
    """Import a module by its name; what is wrong with it is said in one line."""
    try:
        return importlib.import_module(target.removesuffix(".py").replace("/", "."))
    except ModuleNotFoundError as error:
        missing = error.name or target
        raise click.UsageError(
            f"there is no module {missing!r} in {Path.cwd()} or among the installed packages"
        ) from error
    except Exception as error:
        raise click.ClickException(f"{target} cannot be imported: {_where(error)}") from error


def _where(error: BaseException) -> str:
    """The error with the line that raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}: " if traceback else ""
    return f"{place}{type(error).__name__}: {error}"


def load_worker(target: str) -> Worker:
    """Return the `Worker` object that `MODULE:NAME` means."""
    from durable import Worker

    module_name, _, attribute = target.partition(":")
    found = getattr(load(module_name), attribute, None)
    if not isinstance(found, Worker):
        raise click.UsageError(f"{attribute!r} in {module_name} is not a Worker")
    return found


def collect(modules: Iterable[ModuleType]) -> Found:
    """Take every Runnable and every Step that stands at the top of the modules, each once.

    Only a step with a queue of its own must be known by name: others run where their workflow does.
    """
    from durable import Runnable, Step

    found = {id(value): value for module in modules for value in vars(module).values()}
    workflows: list[Runnable[Any, Any]] = [v for v in found.values() if isinstance(v, Runnable)]
    steps: list[Step[..., Any]] = [v for v in found.values() if isinstance(v, Step) and v.queue]
    return Found(tuple(workflows), tuple(steps))


def parse_queues(given: Iterable[str]) -> dict[str, int]:
    """Read `NAME` or `NAME:SLOTS`; without any there is the queue `default`."""
    queues: dict[str, int] = {}
    for text in given:
        name, _, slots = text.partition(":")
        if not name or (slots and not slots.isdigit()) or slots == "0":
            raise click.UsageError(f"{text!r} is not NAME or NAME:SLOTS, as in mail:4")
        queues[name] = int(slots or DEFAULT_SLOTS)
    return queues or {"default": DEFAULT_SLOTS}
