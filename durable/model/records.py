"""What a client shows of runs, steps and workers: read-only values, times in aware UTC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from durable.errors import Failure
from durable.model.lifecycle import RunStatus

T_co = TypeVar("T_co", covariant=True)

StepStatus: TypeAlias = Literal["running", "retrying", "completed", "failed", "cancelled"]
"""Where a step stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a workflow, as `client.list` gives it."""

    id: str
    workflow: str
    version: int
    status: RunStatus
    queue: str
    priority: int
    tags: Mapping[str, str]
    input: Any
    """Plain data: a client need not know the workflow's types."""
    result: Any
    """Plain data; None until the run is completed."""
    error: Failure | None
    """What failed a run that failed."""
    state: Mapping[str, Any]
    """What the workflow published with `ctx.set_state`."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    parent_id: str | None
    root_id: str
    """The run that began the family; its own id for a run without a parent."""
    retried_from: str | None
    forked_from: str | None
    recoveries: int
    """How often a worker was lost while it drove this run."""
    waiting_for: Sequence[str]
    """In words; empty unless the run is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A line that a workflow or a step logged."""

    at: datetime
    level: str
    message: str
    step: str | None
    attempt: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step of a run, with all its attempts."""

    name: str
    seq: int
    """The number of its command: steps are numbered as the workflow asked for them."""
    status: StepStatus
    attempts: int
    started_at: datetime
    """When its first attempt began."""
    finished_at: datetime | None
    input: Any
    """Its arguments, where they are recorded."""
    result: Any
    error: Failure | None
    """Why its last attempt failed."""
    worker: str
    """Who ran its last attempt."""
    logs: Sequence[LogRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationRecord:
    """The undoing of a step."""

    step: str
    """The step that was undone."""
    name: str
    """The step that undid it."""
    status: Literal["running", "completed", "failed"]
    attempts: int
    error: Failure | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail(Run):
    """A run with what happened in it, as `client.get` gives it."""

    steps: Sequence[StepRecord] = ()
    compensations: Sequence[CompensationRecord] = ()
    logs: Sequence[LogRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a workflow knows of its own run: `ctx.info`."""

    run_id: str
    workflow: str
    version: int
    queue: str
    parent_id: str | None
    root_id: str
    tags: Mapping[str, str]
    created_at: datetime
    started_at: datetime
    deadline: datetime | None
    history_length: int
    """History events so far."""
    schedule: str | None
    """The schedule that started it."""
    scheduled_at: datetime | None
    """When that schedule was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent:
    """A fact in a run's history."""

    seq: int
    """Its place, from 1 on, without gaps."""
    type: str
    at: datetime
    """The time that the workflow saw."""
    command: int | None
    """The command that it answers."""
    name: str | None
    data: Mapping[str, Any]
    """What else the event holds, as plain data."""
    row: object = field(default=None, repr=False, compare=False)
    """The event as it is kept: what replays it, and writes it into a file, reads this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingInput:
    """A question to a person that a run waits for."""

    run_id: str
    name: str
    type: str
    prompt: str
    metadata: Mapping[str, Any]
    schema: Mapping[str, Any]
    """JSON schema of the answer."""
    choices: Sequence[Any]
    to: Sequence[str]
    requested_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent:
    """A wait of a run for an event, or for several."""

    run_id: str
    names: Sequence[str]
    mode: Literal["one", "any", "all"]
    key: str | None
    since: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker whose lease has not ended."""

    id: str
    name: str
    host: str
    pid: int
    queues: Sequence[str]
    workflows: Sequence[str]
    expires_at: datetime
    """When its lease ends, unless it renews it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """A workflow that some worker serves."""

    name: str
    version: int
    input_schema: Mapping[str, Any]
    """JSON schema of the input."""
    doc: str
    workers: int
    """How many workers serve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a worker is: for probes and people."""

    live: bool
    """It should not be restarted."""
    ready: bool
    """It takes work."""
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Sequence[T_co]):
    """A part of a list. `next` is the `after=` of the page that follows, None on the last one."""

    items: Sequence[T_co]
    next: str | None = None
    total: int | None = None
    """How many there are on all pages, where that was counted."""

    @overload
    def __getitem__(self, i: int, /) -> T_co: ...
    @overload
    def __getitem__(self, i: slice, /) -> Sequence[T_co]: ...
    def __getitem__(self, i: int | slice, /) -> T_co | Sequence[T_co]:
        return self.items[i]

    def __len__(self) -> int:
        return len(self.items)


class Listing(Generic[T_co]):
    """A list in the database: `await` gives one page, `async for` everything, page by page."""

    def __init__(
        self, fetch: Callable[[str | None], Awaitable[Page[T_co]]], after: str | None = None
    ) -> None:
        """`fetch` gives the page that follows a cursor; `after` is the cursor to begin with."""
        self._fetch = fetch
        self._after = after

    def __await__(self) -> Generator[Any, None, Page[T_co]]:
        return self._fetch(self._after).__await__()

    async def __aiter__(self) -> AsyncIterator[T_co]:
        cursor = self._after
        while True:
            page = await self._fetch(cursor)
            for item in page.items:
                yield item
            if page.next is None:
                return
            cursor = page.next
