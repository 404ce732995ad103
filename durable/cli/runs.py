"""`durable list`, `durable inspect` and `durable history`: what runs there are, and what they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from durable.cli.report import describe
from durable.cli.screen import STATUS_STYLES, Styled, status_cell
from durable.cli.shell import Shell, asks, command
from durable.telling import Story, between, clean, plain, story_of, told, waiting_in_words

if TYPE_CHECKING:
    from durable import Client, HistoryEvent, Run, RunStatus

MAX_CANDIDATES = 5
"""How many runs a message names when a prefix fits several."""


async def full_id(client: Client, prefix: str) -> str:
    """Return the id of the run called `prefix`, or of the only one whose id begins so."""
    from durable import RunNotFound

    try:
        return (await client.get(prefix, steps=False)).id
    except RunNotFound:
        ids = [run.id for run in await client.find(prefix, limit=MAX_CANDIDATES + 1)]
    if not ids:
        raise RunNotFound(f"there is no run whose id is or begins with {prefix!r}")
    if len(ids) > 1:
        raise click.UsageError(f"{prefix!r} is the beginning of several ids: {_some(ids)}")
    return ids[0]


def _some(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > MAX_CANDIDATES else ""
    return ", ".join(ids[:MAX_CANDIDATES]) + more


@command("list")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(list(STATUS_STYLES)),
    multiple=True,
    help="Only runs of this status; may be repeated.",
)
@click.option("--workflow", help="Only runs of this workflow, job or flow.")
@click.option("--queue", help="Only runs of this queue.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--after", help="Go on where the page before ended.")
@asks
async def list_runs(
    shell: Shell,
    client: Client,
    statuses: Sequence[RunStatus],
    workflow: str | None,
    queue: str | None,
    limit: int,
    after: str | None,
) -> None:
    """List runs, the newest first."""
    page = await client.list(
        status=statuses or None, workflow=workflow, queue=queue, limit=limit, after=after
    )
    if shell.as_json:
        shell.json({"items": page.items, "next": page.next})
        return
    if not page:
        shell.say("no runs" if not (statuses or workflow or queue) else "no such runs")
        return
    shell.out.table(
        ["ID", "WORKFLOW", "STATUS", "STARTED", "TOOK", "WAITS FOR"], [_row(run) for run in page]
    )
    if page.next:
        shell.say(f"more: durable list --after {page.next}")


def _row(run: Run) -> list[str | Styled]:
    return [
        run.id,
        run.workflow,
        status_cell(run.status),
        f"{between(run.created_at, None)} ago",
        between(run.started_at, run.finished_at),
        waiting_in_words(run).removeprefix("waits for "),
    ]


@command("inspect")
@click.argument("id")
@asks
async def inspect(shell: Shell, client: Client, id: str) -> None:
    """Show one run: its timeline, its steps, how it ended or what it waits for."""
    run = await client.get(await full_id(client, id))
    events = [event async for event in client.history(run.id)]
    if shell.as_json:
        shell.json({**plain(run), "history": events})
    else:
        describe(shell.out, run, events)


@command("history")
@click.argument("id")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, help="Only events after this number."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many events.")
@click.option("--export", is_flag=True, help="Write all of it as JSON that can be replayed.")
@asks
async def history(
    shell: Shell, client: Client, id: str, after: int, limit: int | None, *, export: bool
) -> None:
    """Show the facts of a run's history, in order."""
    run_id = await full_id(client, id)
    if export:
        click.echo(await client.export_history(run_id), nl=False)
        return
    events: list[HistoryEvent] = []
    async for event in client.history(run_id, after=after):
        events.append(event)
        if len(events) == limit:
            break
    if shell.as_json:
        shell.json(events)
        return
    story = story_of(events)
    rows = [_history_row(event, events[0], story) for event in events]
    shell.out.table(["SEQ", "AFTER", "EVENT", "CMD", "NAME", "WHAT"], rows)


def _history_row(event: HistoryEvent, first: HistoryEvent, story: Story) -> list[str | Styled]:
    command = "" if event.command is None else str(event.command)
    return [
        str(event.seq),
        between(first.at, event.at),
        event.type,
        command,
        clean(event.name or ""),
        Styled(told(event, story), "dim"),
    ]
