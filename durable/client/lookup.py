"""What a client tells of runs: one of them, many, their histories and what they have published."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from durable.client.base import ClientBase, not_found
from durable.client.checked import (
    asked_id,
    can_exist,
    checked_tags,
    id_text,
    text,
    text_or_none,
    workflow_name,
)
from durable.client.facts import event_of
from durable.client.paging import checked_cursor, checked_limit
from durable.client.reading import detail_of, run_of, state_of
from durable.clock import to_micros
from durable.model.history_file import HistoryFile, dump_history
from durable.model.lifecycle import FINAL, OPEN, RunStatus
from durable.model.records import HistoryEvent, Listing, Page, Run, RunDetail
from durable.model.rows import RunFilter, RunRow
from durable.model.runnable import Runnable
from durable.model.wire import EventRow

HISTORY_PAGE = 1_000
"""History events in one page."""


class Lookup(ClientBase):
    """Verbs that read and change nothing."""

    async def get(self, id: str, /, *, steps: bool = True, logs: bool = False) -> RunDetail:
        """A run with its steps; `RunNotFound`."""
        self._check_open()
        if logs:
            message = "get(logs=True): captured logs cannot be read yet"
            raise NotImplementedError(message)
        asked_id(id)
        row = await self._patience(lambda: self.storage.run(id))
        if row is None:
            raise not_found(id)
        events = [event async for event in self._events(id, 0)] if steps else []
        states = await self._patience(lambda: self.storage.states([id]))
        names = await self._worker_names(events)
        return detail_of(row, states.get(id, {}), events, names)

    def list(
        self,
        *,
        workflow: Runnable[Any, Any] | str | None = None,
        status: RunStatus | Sequence[RunStatus] | None = None,
        tags: Mapping[str, str] | None = None,
        queue: str | None = None,
        parent_id: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Listing[Run]:
        """Runs, newest first: `await` for one page of `limit`, `async for` for all of them.

        `after` is the `next` of the page before. Ids that begin alike: `client.find`.
        """
        where = RunFilter(
            workflow=workflow_name(workflow, "list(workflow=)"),
            status=_statuses(status),
            tags=checked_tags(tags, "list(tags=)"),
            queue=text_or_none(queue, "list(queue=)"),
            parent_id=None if parent_id is None else id_text(parent_id),
            created_after=None if created_after is None else to_micros(created_after),
            created_before=None if created_before is None else to_micros(created_before),
            limit=checked_limit(limit),
        )
        # No status at all, or a parent that cannot be: none is meant, and the filter knows only "any".
        none = (status is not None and not where.status) or not can_exist(parent_id or "")
        return Listing(lambda cursor: self._page(where, cursor, none=none), after)

    async def _page(self, where: RunFilter, cursor: str | None, *, none: bool) -> Page[Run]:
        self._check_open()
        page = _replace(where, after=checked_cursor(cursor))
        if none:
            return Page(())
        rows = await self._patience(lambda: self.storage.runs(page))
        more = str(rows[-1].key) if len(rows) == where.limit else None
        return Page(await self._runs_of(rows), more)

    async def _runs_of(self, rows: Sequence[RunRow]) -> Sequence[Run]:
        ids = [row.id for row in rows]
        states = await self._patience(lambda: self.storage.states(ids)) if ids else {}
        return [run_of(row, states.get(row.id, {})) for row in rows]

    async def find(self, prefix: str, /, *, limit: int = 10) -> Sequence[Run]:
        """Runs whose ids begin with `prefix`, newest first."""
        self._check_open()
        where = RunFilter(id_prefix=text(prefix, "find(prefix)"), limit=checked_limit(limit))
        if not can_exist(prefix):
            return ()
        rows: Sequence[RunRow] = await self._patience(lambda: self.storage.runs(where))
        return await self._runs_of(rows)

    async def count(
        self,
        *,
        workflow: Runnable[Any, Any] | str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[RunStatus, int]:
        """How many runs there are of each status; statuses without any are left out."""
        self._check_open()
        where = RunFilter(
            workflow=workflow_name(workflow, "count(workflow=)"),
            tags=checked_tags(tags, "count(tags=)"),
        )
        return await self._patience(lambda: self.storage.count(where))

    def history(self, id: str, /, *, after: int = 0) -> Listing[HistoryEvent]:
        """The history of a run from event `after` on; `RunNotFound`."""
        run_id = id_text(id)
        return Listing(lambda cursor: self._history_page(run_id, cursor), str(after))

    async def export_history(self, id: str, /) -> str:
        """The history of a run as the text of a `.history.json` file, which `durable_testing.replay` reads.

        It holds inputs and results as they are kept. `RunNotFound`.
        """
        self._check_open()
        rows = [row async for row in self._events(id, 0)]
        return dump_history(HistoryFile(rows[0].name or "", id, rows))

    async def _history_page(self, run_id: str, cursor: str | None) -> Page[HistoryEvent]:
        self._check_open()
        after = checked_cursor(cursor) or 0
        rows = await self._history_rows(run_id, after)
        names = await self._worker_names(rows)
        more = str(rows[-1].seq) if len(rows) == HISTORY_PAGE else None
        return Page([event_of(row, names) for row in rows], more)

    async def _history_rows(self, run_id: str, after: int) -> Sequence[EventRow]:
        asked_id(run_id)
        rows = await self._patience(lambda: self.storage.history(run_id, after, HISTORY_PAGE))
        if rows is None:
            raise not_found(run_id)
        return rows

    async def _events(self, run_id: str, after: int) -> AsyncIterator[EventRow]:
        while True:
            rows = await self._history_rows(run_id, after)
            for row in rows:
                yield row
            if len(rows) < HISTORY_PAGE:
                return
            after = rows[-1].seq

    async def _worker_names(self, rows: Sequence[EventRow]) -> Mapping[int, str]:
        return await self._patience(self.storage.worker_names) if rows else {}

    def children(self, id: str, /, *, status: RunStatus | None = None) -> Listing[Run]:
        """The runs that a run has started, newest first."""
        return self.list(parent_id=id, status=status)

    async def state(self, id: str, /) -> dict[str, Any]:
        """What a run has published with `ctx.set_state`, as plain data; `RunNotFound`."""
        asked_id(id)
        found = await self._try(lambda: self.storage.states([id]))
        if id not in found:
            await self._status(id)  # is it there at all?
        return state_of(id, found.get(id, {}))


def _statuses(status: RunStatus | Sequence[RunStatus] | None) -> Sequence[RunStatus]:
    found: Any = () if status is None else (status,) if isinstance(status, str) else tuple(status)
    for one in found:
        if one not in OPEN and one not in FINAL:
            message = f"{one!r} is no status of a run: {', '.join(OPEN + FINAL)}"
            raise ValueError(message)
    return found  # type: ignore[no-any-return]


def _replace(where: RunFilter, *, after: int | None) -> RunFilter:
    return dataclasses.replace(where, after=after)
