"""`durable run`: start a run and wait for what becomes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from durable.cli.screen import Styled
from durable.cli.shell import Shell, asks, command

if TYPE_CHECKING:
    from durable import Client, Handle


def parse_input(_: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read JSON given directly, as `@file`, or as `-` for stdin."""
    if value is None:
        return None
    try:
        return json.loads(_read(value))
    except OSError as error:
        message = f"cannot read {value[1:]}: {error.strerror}"
    except json.JSONDecodeError as error:
        message = (
            f"not JSON ({error.msg} at character {error.pos}): {value!r}; "
            "a text needs its quotes: '\"hello\"'"
        )
    raise click.BadParameter(message, param=parameter)


def _read(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value


def parse_tags(
    _: click.Context, parameter: click.Parameter, values: Iterable[str]
) -> dict[str, str]:
    """Read `KEY=VALUE`, each key once."""
    tags: dict[str, str] = {}
    for value in values:
        key, sign, rest = value.partition("=")
        if not sign or not key or key in tags:
            raise click.BadParameter(f"{value!r} is not a new KEY=VALUE", param=parameter)
        tags[key] = rest
    return tags


@command("run")
@click.argument("name")
@click.argument("input", callback=parse_input, required=False)
@click.option("--id", "run_id", help="The run's id; an id that exists gives the run that has it.")
@click.option("--queue", help="The queue to start on.")
@click.option("--priority", type=int, default=0, help="Higher numbers go first.")
@click.option(
    "--tag",
    "tags",
    metavar="KEY=VALUE",
    callback=parse_tags,
    multiple=True,
    help="A tag; may be repeated.",
)
@click.option("--detach", is_flag=True, help="Do not wait for the result.")
@click.option("--timeout", type=float, help="Seconds to wait for the result; the run goes on.")
@asks
async def run(
    shell: Shell,
    client: Client,
    name: str,
    input: Any,
    run_id: str | None,
    queue: str | None,
    priority: int,
    tags: dict[str, str],
    detach: bool,
    timeout: float | None,
) -> None:
    """Start the workflow, job or flow NAME with INPUT, and print its result.

    INPUT is JSON, @FILE, or - for stdin. A worker must serve NAME somewhere: see `durable worker`.
    """
    handle = await client.start(name, input, id=run_id, queue=queue, priority=priority, tags=tags)
    shell.say(Styled("started " if handle.created else "found ", "dim"), f"{name} {handle.id}")
    if not detach:
        await _show_outcome(shell, handle, timeout)
    elif shell.as_json:
        shell.json({"id": handle.id, "created": handle.created})
    else:
        shell.out.line(handle.id)


async def _show_outcome(shell: Shell, handle: Handle[Any], timeout: float | None) -> None:
    """Wait for the result; a run that failed is told with its id and the class of its exception."""
    from durable import RunFailed

    try:
        result = await handle.result(timeout=timeout)
    except RunFailed as error:
        failure = error.failure
        if shell.as_json:
            shell.json({"id": handle.id, "error": failure})
        kind = failure.type.rpartition(":")[2]
        raise click.ClickException(f"run {handle.id} failed: {kind}: {failure.message}") from error
    except TimeoutError:
        message = f"no result after {timeout:g} s; the run goes on: durable inspect {handle.id}"
        raise click.ClickException(message) from None
    shell.json({"id": handle.id, "result": result} if shell.as_json else result)
