"""What a run has to say to the database: the next commit, and what becomes of the run by it."""

from __future__ import annotations

from durable.clock import SECOND
from durable.model.lifecycle import HOLD_BLOCKED, HOLD_PAUSED, RunStatus
from durable.model.rows import Act, Commit, NewRun
from durable.model.wire import EventRow
from durable.worker.chronicle import Chronicle, messages_in
from durable.worker.outbox import NO_ROWS
from durable.worker.waiting import joined, retry_in_words

KEEP_SECONDS = 1.0
"""A run that is due again sooner than this stays in memory instead of being parked."""
MAX_EVENTS_PER_COMMIT = 2_000
MAX_BYTES_PER_COMMIT = 16 * 1024 * 1024


class Drafting(Chronicle):
    """A run whose events are sent to the database, commit by commit."""

    __slots__ = ()

    def next_commit(self) -> Commit | None:
        """What this run has to say to the database now, or None."""
        if not self.owned:
            return None
        act, status = self._act()
        if act is Act.PARK and self.blocked is None and self._under_way is not None:
            self._under_way.list_all()
            act, status = self._act()  # the history may have reached its limit
        events = self._next_events()
        if not events and act is Act.KEEP:
            return None
        consumed = self.consumed
        if len(events) < len(self.pending):
            act, status = Act.KEEP, self._open_status("running")
            consumed -= messages_in(self.pending[len(events) :])
        parked = act is Act.PARK
        rows = NO_ROWS
        if self._under_way is not None:
            rows = self._under_way.outbox.until(self.durable + len(events))
        hold = self._hold() if parked else 0
        self.in_flight = Commit(
            self.key,
            self.epoch,
            self.durable,
            events,
            consumed,
            act,
            status,
            self.next_due if parked and not hold else None,
            hold,
            self.host.code if hold == HOLD_BLOCKED else None,
            self._waiting_for() if parked else None,
            rows.messages,
            rows.children,
            tuple(rows.waits.values()),
            tuple(rows.ended_waits),
            rows.first_seq,
        )
        return self.in_flight

    def _hold(self) -> int:
        if self.blocked is not None:
            return HOLD_BLOCKED
        return HOLD_PAUSED if self.paused else 0

    @property
    def _end_is_held(self) -> bool:
        return self._ending is not None and self._holds_end

    def _open_status(self, status: RunStatus) -> RunStatus:
        compensating = self._under_way is not None and self._under_way.compensating
        return "compensating" if compensating else status

    def _next_events(self) -> list[EventRow]:
        """What goes into one commit, if there is anything: no more than a statement should carry."""
        events = self.pending[:MAX_EVENTS_PER_COMMIT]
        if self._end_is_held and events and events[-1] is self.final:
            del events[-1]
        if len(events) == 1:
            return events
        size = 0
        for count, row in enumerate(events):
            size += len(row.data)
            if size > MAX_BYTES_PER_COMMIT and count:
                return events[:count]
        return events

    def _act(self) -> tuple[Act, RunStatus]:
        if self._end_is_held:
            return Act.KEEP, self._open_status("running")
        if self._ending is not None:
            return Act.FINISH, self._ending
        if self.blocked is not None:
            return Act.PARK, self._open_status("waiting")
        if self.busy or self.consumed < self.inbox_head:
            return Act.KEEP, self._open_status("running")
        if self.paused:
            return Act.PARK, self._open_status("waiting")
        due = self.next_due
        if due is not None and due - self.host.now() <= KEEP_SECONDS * SECOND:
            return Act.KEEP, self._open_status("running")
        return Act.PARK, self._open_status("waiting")

    def _waiting_for(self) -> str | None:
        if self.blocked is not None:
            return self.blocked.splitlines()[0]
        words = [] if self._under_way is None else self._under_way.words()
        return joined([*words, *map(retry_in_words, self._retries.values())])

    def advance(self, durable: int) -> list[NewRun]:
        """The database holds `durable` events of this run; the children that were started with them."""
        del self.pending[: durable - self.durable]
        self.durable = durable
        return [] if self._under_way is None else self._under_way.outbox.settled(durable)
