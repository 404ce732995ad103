"""`check`: which runs of a live database would be blocked by the code that is about to be deployed.

A database with a million open runs has some hundreds of shapes: sequences of events for commands of the same
names. A few runs of each shape are replayed; where they do not all end alike, all of that shape are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from durable.client import Client
from durable.model.history import ContinuedAsNew, RunRetried
from durable.model.history_file import HistoryFile
from durable.model.runnable import Runnable, Workflow
from durable_testing.replaying import Parting, part

if TYPE_CHECKING:
    from durable.model.rows import ShapeRow
    from durable.model.wire import EventRow

REPLAYED: Final = 3
"""Runs of a shape that are replayed, if they all end alike."""
_PAGE: Final = 1_000
_BEGINNINGS: Final = frozenset({ContinuedAsNew.code, RunRetried.code})


@dataclass(frozen=True, slots=True)
class Broken:
    """Runs of one shape that would be blocked."""

    run_ids: Sequence[str]
    is_open: bool
    explanation: str
    """Where the first of them and the code part."""


@dataclass(slots=True)
class Checked:
    """What became of the runs of one workflow."""

    workflow: str
    version: int
    """0: runs that go on with any code of the name."""
    has_code: bool
    """False: nothing of this name and version was given, and nothing was replayed."""
    runs: int = 0
    shapes: int = 0
    replayed: int = 0
    broken: list[Broken] = field(default_factory=list[Broken])

    @property
    def ok(self) -> bool:
        """Whether no run would be blocked."""
        return not self.broken


async def check(
    url: str, workflows: Iterable[Runnable[Any, Any]], *, sample: int = 0
) -> Sequence[Checked]:
    """Replay the open runs of a database, and the newest `sample` finished ones, against these workflows.

    Nothing is written: a PostgreSQL session is opened read-only. Open runs are replayed from the beginning of their
    newest generation. `MigrationNeeded` or `StoreUnavailable` where the database cannot be read.
    """
    code = _Code(workflows)
    found: dict[tuple[str, int], Checked] = {}
    async with Client(read_only(url)) as client:
        for shape in await client.storage.shapes(sample):
            workflow = code.of(shape)
            place = shape.workflow, shape.version
            checked = found.get(place)
            if checked is None:
                checked = found[place] = Checked(*place, has_code=workflow is not None)
            checked.runs += len(shape.run_ids)
            checked.shapes += 1
            if workflow is not None:
                await _check_shape(client, workflow, shape, checked)
    return list(found.values())


class _Code:
    """The workflows that were given, by name and version."""

    def __init__(self, workflows: Iterable[Runnable[Any, Any]]) -> None:
        self._found: dict[tuple[str, int], Workflow[Any, Any]] = {}
        for workflow in workflows:
            if isinstance(workflow, Workflow):
                version = workflow.version if workflow.pinned else 0
                self._found[workflow.name, version] = workflow

    def of(self, shape: ShapeRow) -> Workflow[Any, Any] | None:
        """What would go on with these runs."""
        return self._found.get((shape.workflow, shape.version))


async def _check_shape(
    client: Client, workflow: Workflow[Any, Any], shape: ShapeRow, checked: Checked
) -> None:
    """Add what becomes of the runs of one shape."""
    ids = list(shape.run_ids)
    # Spread over all of them: neighbours may be alike.
    some = ids[:: max(1, len(ids) // REPLAYED)][:REPLAYED]
    found = {run_id: await _replayed(client, workflow, run_id) for run_id in some}
    if len({parting is None for parting in found.values()}) > 1:
        found = {run_id: await _replayed(client, workflow, run_id) for run_id in ids}
        ids = [run_id for run_id, parting in found.items() if parting is not None]
    checked.replayed += len(found)
    first = next((parting for parting in found.values() if parting is not None), None)
    if first is not None:
        checked.broken.append(Broken(ids, shape.is_open, first.explain()))


async def _replayed(client: Client, workflow: Workflow[Any, Any], run_id: str) -> Parting | None:
    rows = await _newest_generation(client, run_id)
    return part(workflow, HistoryFile(workflow.name, run_id, rows))


async def _newest_generation(client: Client, run_id: str) -> Sequence[EventRow]:
    rows: list[EventRow] = []
    while page := await client.storage.history(run_id, rows[-1].seq if rows else 0, _PAGE):
        rows += page
        begins = [place for place, row in enumerate(rows) if row.type in _BEGINNINGS]
        rows = rows[begins[-1] if begins else 0 :]
        if len(page) < _PAGE:
            break
    return rows


_SESSION: Final[Mapping[str, str]] = {
    "options": "-c default_transaction_read_only=on",
    "target_session_attrs": "any",  # such a session is not one that "read-write" would take
}


def read_only(url: str) -> str:
    """The URL with which PostgreSQL refuses whatever would write; others stay as they are."""
    if not url.startswith(("postgres://", "postgresql://")):
        return url
    more = "&".join(f"{name}={quote(value)}" for name, value in _SESSION.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"
