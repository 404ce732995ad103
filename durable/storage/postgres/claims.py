"""How runs come to a worker: starts, claims, adoptions, and what it reads of them."""

from __future__ import annotations

from collections.abc import Sequence

from durable.errors import StoreUnavailable
from durable.model.rows import Claim, Held, Lane, Message, NewRun, Started
from durable.model.wire import EventRow
from durable.storage.postgres.arrays import PG_EPOCH, int4s, int8s, long_texts
from durable.storage.postgres.batches import event_row, order_scalars, start_arrays
from durable.storage.postgres.database import Database
from durable.storage.postgres.link import Row

_START_TRIES = 10
"""How often an id may exist when inserted and be gone when looked up, before that is an error."""


class Claims(Database):
    """Verbs on the working connection that bring runs in."""

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Start runs, or find the ones that already have these ids. Answers in the order asked."""
        lanes = await self._number([run.lane for run in runs])
        answers: list[Started | None] = [None] * len(runs)
        for _ in range(_START_TRIES):
            open_places = [place for place, answer in enumerate(answers) if answer is None]
            if not open_places:
                break
            await self._insert(runs, open_places, lanes, answers)
            await self._find(runs, answers)
        if None in answers:
            raise self._come_and_go()
        return [answer for answer in answers if answer is not None]

    def _come_and_go(self) -> StoreUnavailable:
        message = f"{self._settings.where}: run ids come and go while they are being started"
        return StoreUnavailable(message)

    async def _insert(
        self,
        runs: Sequence[NewRun],
        places: Sequence[int],
        lanes: dict[Lane, int],
        answers: list[Started | None],
    ) -> None:
        asked = [runs[place] for place in places]
        arrays = start_arrays(asked, lanes)
        for ordinal, key, owned in await self._working.ask(self._sql.start, [self._now(), *arrays]):
            place: int = ordinal - 1
            answers[places[place]] = _fresh(key, asked[place], owned)

    async def _find(self, runs: Sequence[NewRun], answers: list[Started | None]) -> None:
        """Look up the ids that existed. In a new statement: the insert's snapshot is too old."""
        missing = {run.id for run, answer in zip(runs, answers, strict=True) if answer is None}
        if not missing:
            return
        rows = await self._working.ask(self._sql.existing, [long_texts(sorted(missing))])
        found = {row[0]: _existing(row) for row in rows}
        for place, run in enumerate(runs):
            if answers[place] is None:
                answers[place] = found.get(run.id)

    async def restart(self, run: NewRun, ended: EventRow, cancel: bytes) -> Started:
        """Start `run`; an older run of that id and workflow is terminated and renamed first."""
        lanes = await self._number([run.lane])
        event = [*order_scalars(ended), cancel]
        parameters = [self._now(), *start_arrays([run], lanes), *event]
        for _ in range(_START_TRIES):
            [(key, owned)] = await self._second.ask(self._sql.restart, parameters)
            if key is not None:
                return _fresh(key, run, owned)
            for row in await self._working.ask(self._sql.existing, [long_texts([run.id])]):
                return _existing(row)
        raise self._come_and_go()

    async def claim(self, worker: int, lanes: Sequence[int], limit: int) -> list[Claim]:
        """Take up to `limit` due runs, by priority, then age."""
        parameters = [worker, self._now(), int4s(lanes), limit]
        return [_claim(row) for row in await self._working.ask(self._sql.claim, parameters)]

    async def owned(self, worker: int) -> list[Held]:
        """Runs of this worker that are due for a look."""
        return [
            Held(*row) for row in await self._working.ask(self._sql.owned, [worker, self._now()])
        ]

    async def acknowledge(self, worker: int, runs: Sequence[Held]) -> None:
        """Not due any more, unless a message has come since."""
        keys = int8s([held.key for held in runs])
        epochs = int8s([held.epoch for held in runs])
        await self._working.ask(self._sql.acknowledge, [keys, epochs, keys, worker])

    async def adopt(self, worker: int, keys: Sequence[int]) -> list[Claim]:
        """What a claim would have answered for runs that this worker owns already."""
        parameters = [self._now(), int8s(keys), worker]
        return [_claim(row) for row in await self._working.ask(self._sql.adopt, parameters)]

    async def load(self, runs: Sequence[tuple[int, int]]) -> dict[int, list[EventRow]]:
        """Histories by run key: for each `(key, after)` the events with `seq > after`, in order."""
        arrays = [int8s([key for key, _ in runs]), int8s([after for _, after in runs])]
        histories: dict[int, list[EventRow]] = {key: [] for key, _ in runs}
        for key, seq, kind, at, cmd, name, data in await self._working.ask(self._sql.load, arrays):
            histories[key].append(EventRow(seq, kind, at + PG_EPOCH, cmd, name, data))
        return histories

    async def inbox(self, runs: Sequence[tuple[int, int]]) -> list[Message]:
        """Messages of `(key, consumed)` with a number above `consumed`, by key and number."""
        arrays = [int8s([key for key, _ in runs]), int8s([consumed for _, consumed in runs])]
        return [Message(*row) for row in await self._working.ask(self._sql.inbox, arrays)]

    async def children(self, parent: int, commands: Sequence[int]) -> dict[int, str]:
        """Of these commands of a run those whose child exists, with the child's id."""
        return dict(await self._working.ask(self._sql.children, [parent, int4s(commands)]))


def _fresh(key: int, run: NewRun, owned: bool) -> Started:
    return Started(key, run.id, True, owned, "running" if owned else "pending", run.lane)


def _claim(row: Row) -> Claim:
    key, run_id, lane, epoch, seq, consumed, head, status, now, lost, recoveries, first, *came = row
    at = now + PG_EPOCH
    messages: Sequence[Message] = ()
    if came and came[0] is not None:
        messages = [
            Message(key, consumed + number, name, data)
            for number, (name, data) in enumerate(zip(*came, strict=True), 1)
        ]
    return Claim(
        key, run_id, lane, epoch, seq, first, consumed, head, status, at, lost, recoveries, messages
    )


def _existing(row: Row) -> Started:
    run_id, key, status, queue, workflow, version = row[:6]
    first = None if row[6] is None else event_row(row[6:])
    return Started(key, run_id, False, False, status, Lane(queue, workflow, version), first)
