"""`check`: which runs of a live database would be blocked by the code that is about to be deployed.

A database with a million open runs has some hundreds of shapes: sequences of events for commands of the same
names. All runs are replayed where there are some hundreds of them; of more, as many of each shape as come to that.
Where those of a shape do not all end alike, all of that shape are. A sample is no proof: code that goes another way
for some data only is found where one of the runs that are replayed has such data, so it is told what was a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from durable.client import Client
from durable.model.history import ContinuedAsNew, RunRetried, RunStarted
from durable.model.history_file import HistoryFile
from durable.model.runnable import Runnable, Workflow
from durable.model.wire import decode_event
from durable_testing.replaying import Parting, part

if TYPE_CHECKING:
    from durable.model.rows import ShapeRow
    from durable.model.wire import EventRow

ENOUGH: Final = 800
"""Runs that are replayed of all shapes together: so many, as long as each shape gets `AT_LEAST`."""
AT_LEAST: Final = 3
"""Runs of a shape that are replayed, however many shapes there are."""
_LOOKS: Final = 4
"""Runs whose input is looked at for each that is replayed of a sample."""
_PAGE: Final = 1_000
_BEGINNINGS: Final = frozenset({ContinuedAsNew.code, RunRetried.code})


@dataclass(frozen=True, slots=True)
class Broken:
    """Runs of one shape that would be blocked."""

    run_ids: Sequence[str]
    is_open: bool
    explanation: str
    """Where the first of them and the code part."""
    replayed: int
    """How many of them were replayed: all, or a sample, each run of which would be blocked."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A shape of which only some runs were replayed, and all of them ended alike."""

    example: str
    """The id of one of them."""
    is_open: bool
    runs: int
    replayed: int


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
    sampled: list[Sampled] = field(default_factory=list[Sampled])
    """Empty where every run was replayed."""

    @property
    def ok(self) -> bool:
        """Whether no run that was replayed would be blocked."""
        return not self.broken


async def check(
    url: str, workflows: Iterable[Runnable[Any, Any]], *, sample: int = 0
) -> Sequence[Checked]:
    """Replay the open runs of a database, and the newest `sample` finished ones, against these workflows.

    Where there are more than some hundreds of them, a sample of each shape is replayed: `sampled` says of which. Nothing
    is written: a PostgreSQL session is opened read-only. Open runs are replayed from the beginning of their newest
    generation. `MigrationNeeded` or `StoreUnavailable` where the database cannot be read.
    """
    code = _Code(workflows)
    found: dict[tuple[str, int], Checked] = {}
    async with Client(read_only(url)) as client:
        shapes = await client.storage.shapes(sample)
        most = _most(len(shape.run_ids) for shape in shapes if code.of(shape) is not None)
        for shape in shapes:
            workflow = code.of(shape)
            place = shape.workflow, shape.version
            checked = found.get(place)
            if checked is None:
                checked = found[place] = Checked(*place, has_code=workflow is not None)
            checked.runs += len(shape.run_ids)
            checked.shapes += 1
            if workflow is not None:
                await _check_shape(client, workflow, shape, most, checked)
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


def _most(sizes: Iterable[int]) -> int:
    """How many runs of a shape are replayed, so that all shapes of these sizes come to `ENOUGH`."""
    left, rising = ENOUGH, sorted(sizes)
    for place, size in enumerate(rising):
        share = left // (len(rising) - place)
        if size > share:
            return max(AT_LEAST, share)
        left -= size
    return ENOUGH


async def _check_shape(
    client: Client, workflow: Workflow[Any, Any], shape: ShapeRow, most: int, checked: Checked
) -> None:
    """Add what becomes of the runs of one shape."""
    ids = list(shape.run_ids)
    some = await _sample(client, ids, most)
    found = {run_id: await _replayed(client, workflow, run_id) for run_id in some}
    if len({parting is None for parting in found.values()}) > 1:
        for run_id in ids:
            if run_id not in found:
                found[run_id] = await _replayed(client, workflow, run_id)
        ids = [run_id for run_id in ids if found[run_id] is not None]
    checked.replayed += len(found)
    first = next((found[run_id] for run_id in ids if found.get(run_id) is not None), None)
    if first is not None:
        replayed = sum(run_id in found for run_id in ids)
        checked.broken.append(Broken(ids, shape.is_open, first.explain(), replayed))
    elif len(found) < len(ids):
        checked.sampled.append(Sampled(some[0], shape.is_open, len(ids), len(found)))


async def _sample(client: Client, ids: Sequence[str], most: int) -> Sequence[str]:
    """All runs of a shape, or `most` of them: of as many different inputs as there are to be seen."""
    if len(ids) <= most:
        return ids
    inputs: set[bytes] = set()
    new: list[str] = []
    known: list[str] = []
    for run_id in _spread(ids, most * _LOOKS):
        given = await _input(client, run_id)
        (known if given in inputs else new).append(run_id)
        inputs.add(given)
    chosen = _spread(new, most)
    return [*chosen, *_spread(known, most - len(chosen))]


def _spread(ids: Sequence[str], number: int) -> Sequence[str]:
    """So many of them, from all over: neighbours may be alike."""
    number = min(number, len(ids))
    return [ids[place * len(ids) // number] for place in range(number)]


async def _input(client: Client, run_id: str) -> bytes:
    """What a run was started with, as it is stored."""
    for row in await client.storage.history(run_id, 0, 1) or ():
        started = decode_event(row)
        if isinstance(started, RunStarted):
            return started.input
    return b""


async def _replayed(client: Client, workflow: Workflow[Any, Any], run_id: str) -> Parting | None:
    rows = await _newest_generation(client, run_id)
    if not rows:  # it has been deleted meanwhile
        return None
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
