"""`Client`: a door to one database of runs. Starts runs, waits for them, lists and reads them."""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, cast, get_args, overload

from durable.client.base import LocalWorker, not_found
from durable.client.checked import (
    asked_id,
    checked_tags,
    id_text,
    text_or_none,
)
from durable.client.controlling import Controlling
from durable.client.handle import Handle
from durable.client.ids import new_id
from durable.client.later import refuse, refuse_options
from durable.client.lookup import Lookup
from durable.client.messaging import Post
from durable.client.patience import Patience
from durable.client.requests import Replies, Requesting
from durable.client.results import End, Results
from durable.client.starter import Starter
from durable.clock import NEVER, after, to_micros
from durable.errors import (
    DefinitionError,
    DurableError,
    InvalidInput,
    PayloadError,
    RunAlreadyExists,
    StoreUnavailable,
)
from durable.model import checks
from durable.model.duration import Duration, seconds_of
from durable.model.history import RunStarted, RunTerminated
from durable.model.ids import checked_id
from durable.model.lifecycle import FINAL, OPEN, RunStatus
from durable.model.messages import pack_cancel
from durable.model.naming import described
from durable.model.payload import ANY
from durable.model.rows import Lane, MigrationStep, NewRun, RunRow, Started
from durable.model.runnable import Runnable
from durable.model.wire import EventRow, decode_event, encode_event
from durable.storage import open_storage

T = TypeVar("T")
R = TypeVar("R")

OnConflict: TypeAlias = Literal["return_existing", "raise", "restart"]
"""What starting an id does that a run has already."""
_CONFLICTS = get_args(OnConflict)

_ASK_SECONDS = 1.0
"""How often at most a client looks whether anybody serves a workflow on a queue."""


class Client(Lookup, Controlling, Requesting):
    """A database of runs. Constructing it does no I/O; use it with `async with`, or `open` and `close`.

    `url` is `sqlite:///shop.db`, `sqlite://` (in memory, this process only) or `postgresql://...`; by
    default what the environment variable `DURABLE_URL` says. `schema` keeps several instances apart in
    one database. An empty database gets its tables when the client opens.
    """

    def __init__(
        self, url: str | None = None, /, *, schema: str = "durable", codec: object | None = None
    ) -> None:
        if codec is not None:
            message = "Client(codec=): payload codecs cannot be used yet"
            raise NotImplementedError(message)
        url = url or os.environ.get("DURABLE_URL")
        if not url:
            message = (
                'no database: give Client an URL such as "sqlite:///shop.db", or set DURABLE_URL'
            )
            raise DurableError(message)
        super().__init__(open_storage(url, schema=schema))
        self._asked: dict[tuple[str, str], float] = {}
        """When it was last looked who serves a workflow on a queue, by the two."""
        self._door: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # -- life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect; creates the tables in an empty database. `MigrationNeeded`, `StoreUnavailable`."""
        async with self._one_at_a_time():
            if not self._open:
                await self._connect()

    async def _connect(self) -> None:
        patience = Patience(self.clock)
        await self.storage.open()
        try:
            await patience(self._read_clock)
        except BaseException:
            await self.storage.close()
            raise
        self._patience = patience
        self._starter = Starter(self.storage, patience, self)
        self._post = Post(self.storage, patience, self.clock)
        self._results = Results(self.storage, self.clock, self._will_be_told)
        self._replies = Replies(self.storage, self.clock)
        self._open = True

    async def close(self) -> None:
        """Release the connections; idempotent. Whoever still waits for anything gets `DurableError`."""
        async with self._one_at_a_time():
            if not self._open:
                return
            self._open = False
            self._patience.close()
            self._starter.batches.close()
            await self._post.close()
            self._results.close()
            self._replies.close()
            await self.storage.close()

    def _one_at_a_time(self) -> asyncio.Lock:
        """Held by whoever opens or closes it. A lock belongs to one loop; a client may outlive that."""
        loop = asyncio.get_running_loop()
        if self._door is None or self._door[0] is not loop:
            self._door = loop, asyncio.Lock()
        return self._door[1]

    async def migrate(self, *, to: int | None = None) -> None:
        """Bring the schema to its newest step, or to step `to`. Needs no open client."""
        await self.storage.migrate(to)

    # -- starting

    @overload
    async def start(
        self,
        workflow: Runnable[None, R],
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        at: datetime | None = None,
        delay: Duration | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        queue_key: str | None = None,
        on_conflict: OnConflict = "return_existing",
        conn: object = None,
    ) -> Handle[R]: ...
    @overload
    async def start(
        self,
        workflow: Runnable[T, R],
        input: T,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        at: datetime | None = None,
        delay: Duration | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        queue_key: str | None = None,
        on_conflict: OnConflict = "return_existing",
        conn: object = None,
    ) -> Handle[R]: ...
    @overload
    async def start(
        self,
        workflow: str,
        input: object = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        at: datetime | None = None,
        delay: Duration | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        queue_key: str | None = None,
        on_conflict: OnConflict = "return_existing",
        conn: object = None,
    ) -> Handle[Any]: ...
    async def start(
        self,
        workflow: Any,
        input: Any = None,
        /,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        at: datetime | None = None,
        delay: Duration | None = None,
        tags: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        queue_key: str | None = None,
        on_conflict: OnConflict = "return_existing",
        conn: object = None,
    ) -> Handle[Any]:
        """Start a run, durably, and give its handle.

        The same `id` never starts twice: the existing run is given (`handle.created` is False), or
        `on_conflict` says otherwise. `timeout` limits the whole run, however long nobody drives it. `at` (aware) or `delay` put it off; `priority` is larger for more
        urgent, from -32,768 to 32,767. Raises `InvalidInput` when the input does not fit the workflow,
        `RunAlreadyExists` when the id belongs to a run of another workflow, `StoreUnavailable` after 30 s
        without a database (the run may exist then: start it again with the same id).
        """
        self._check_open()
        refuse_options("start", queue_key=queue_key, conn=conn)
        if on_conflict not in _CONFLICTS:
            message = f"on_conflict must be one of {', '.join(_CONFLICTS)}, not {on_conflict!r}"
            raise ValueError(message)
        await self._refresh_clock()
        run_id = self._new_id() if id is None else checked_id(id)
        put_off = self._not_before(at, delay)
        limit = None if timeout is None else seconds_of(timeout, "start(timeout=)")
        run = self._new_run(
            workflow,
            input,
            run_id,
            queue,
            priority,
            tags,
            put_off,
            limit=limit,
            seed=secrets.token_hex(4) if on_conflict == "restart" else "",
        )
        answer = await self._start(run, on_conflict)
        runnable = None if isinstance(workflow, str) else workflow
        return Handle(self, run_id, runnable, created=answer.created, lane=run.lane)

    async def start_many(
        self,
        workflow: Runnable[T, R],
        inputs: Iterable[T] | Mapping[str, T],
        /,
        *,
        queue: str | None = None,
        priority: int = 0,
        tags: Mapping[str, str] | None = None,
        conn: object = None,
    ) -> list[Handle[R]]:
        """Start a run for each input; a mapping gives their ids too. As `start`, but in few statements."""
        self._check_open()
        refuse_options("start_many", conn=conn)
        await self._refresh_clock()
        runs = [
            self._new_run(workflow, value, run_id, queue, priority, tags, None, eager=False)
            for run_id, value in self._with_ids(inputs)
        ]
        answers = await self._starter.start_all(runs)
        for run, answer in zip(runs, answers, strict=True):
            self._settle(run, answer, "return_existing")
        return [
            Handle(self, run.id, workflow, created=answer.created, lane=run.lane)
            for run, answer in zip(runs, answers, strict=True)
        ]

    def _with_ids(self, inputs: Iterable[T] | Mapping[str, T]) -> Iterator[tuple[str, T]]:
        if isinstance(inputs, Mapping):
            for run_id, value in cast("Mapping[str, T]", inputs).items():
                yield checked_id(run_id), value
        else:
            for value in inputs:
                yield self._new_id(), value

    def _new_id(self) -> str:
        return new_id()

    async def _restart(self, run: NewRun) -> Started:
        reason = f"restarted under the id {run.id}"
        ended = encode_event(0, RunTerminated(run.started.at, reason))
        told = pack_cancel(f"its parent was {reason}")
        return await self._patience(lambda: self.storage.restart(run, ended, told))

    def _not_before(self, at: datetime | None, delay: Duration | None) -> int | None:
        if at is not None and delay is not None:
            message = "give start either at= or delay=, not both"
            raise ValueError(message)
        if at is not None:
            return min(to_micros(at), NEVER)
        if delay is not None:
            return after(self._now(), seconds_of(delay, "start(delay=)"))
        return None

    def _new_run(
        self,
        workflow: Runnable[Any, Any] | str,
        value: Any,
        run_id: str,
        queue: str | None,
        priority: int,
        tags: Mapping[str, str] | None,
        not_before: int | None,
        *,
        eager: bool = True,
        limit: float | None = None,
        seed: str = "",
    ) -> NewRun:
        text_or_none(queue, "queue")
        tags = checked_tags(tags, "tags")
        if isinstance(workflow, str):
            lane = Lane(queue or "default", workflow)
            version, given = 1, ANY.encode(value, f"input of workflow {workflow}")
        else:
            _check_runnable(workflow)
            lane, version = workflow.lane(queue), workflow.version
            given = _checked_input(workflow, value)
            tags = {**(workflow.tags or {}), **(tags or {})}
            limit = workflow.timeout if limit is None else limit
        at = max(self._now(), not_before or 0)
        deadline = None if limit is None else after(at, limit)
        started = RunStarted(
            at,
            lane.workflow,
            given,
            version,
            lane.queue,
            deadline=deadline,
            tags=dict(tags) if tags else None,
            seed=seed,
        )
        owner = self._eager_owner(lane) if eager and not_before is None else None
        return NewRun(
            run_id,
            lane,
            encode_event(1, started),
            _checked_priority(priority),
            not_before,
            deadline,
            tags or None,
            eager_owner=owner,
        )

    def _eager_owner(self, lane: Lane) -> int | None:
        for worker in self._workers:
            owner = worker.eager_owner(lane)
            if owner is not None:
                return owner
        return None

    async def _start(self, run: NewRun, on_conflict: OnConflict) -> Started:
        if on_conflict == "restart":
            with self.expecting((run,)):
                answer = await self._restart(run)
                self.hand_over(run, answer)
        else:
            answer = await self._starter.start(run)
        self._settle(run, answer, on_conflict)
        return answer

    def _settle(self, run: NewRun, answer: Started, on_conflict: OnConflict) -> None:
        """Say what is wrong with a run that exists."""
        if answer.created:
            return
        if answer.lane.workflow != run.lane.workflow:
            message = f"run {run.id} exists and is one of {answer.lane.workflow}: use another id"
            raise RunAlreadyExists(message)
        if on_conflict == "raise":
            message = f"run {run.id} exists and is {answer.status}"
            raise RunAlreadyExists(message)
        if answer.started is not None and _other_input(answer.started, run.started):
            text = f"run {run.id} exists with another input: the existing run was returned"
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    # -- reading

    @overload
    def handle(self, id: str, /) -> Handle[Any]: ...
    @overload
    def handle(self, id: str, workflow: Runnable[Any, R], /) -> Handle[R]: ...
    def handle(self, id: str, workflow: Any = None, /) -> Handle[Any]:
        """The handle of a run that exists, or may exist; no I/O."""
        return Handle(self, id_text(id), workflow, created=False)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise refuse("client", name)

    async def migrations(self) -> Sequence[MigrationStep]:
        """The steps of the schema, and which of them the database has. Needs no open client."""
        return await self.storage.migrations()

    # -- what handles and workers ask of their client

    async def ended(self, run_id: str, *, known: bool = False) -> End:
        """Wait until the run has ended. With `known` (it was started here) nobody asks whether it exists."""
        self._check_open()
        asked_id(run_id)
        if not known and not self.drives(run_id):
            row = await self._patience(lambda: self.storage.run(run_id))
            if (end := _end(run_id, row)) is not None:
                return end
        return await self._results.wait(run_id)

    async def end_of(self, run_id: str) -> End | None:
        """How the run has ended, by one look; None when it has not, or when the store is away."""
        self._check_open()
        asked_id(run_id)
        try:
            row = await self.storage.run(run_id)
        except StoreUnavailable:
            return None
        return _end(run_id, row)

    async def unserved(self, run_id: str, lane: Lane | None = None) -> str | None:
        """Why nobody will run it, in a sentence; None when somebody may, or when its lane was asked for just now."""
        if lane is not None and not self._may_ask(lane.workflow, lane.queue):
            return None
        row = await self._patience(lambda: self.storage.run(run_id))
        if row is None or row.status not in OPEN:
            return None
        if lane is None and not self._may_ask(row.workflow, row.queue):
            return None
        for _, info in await self._patience(self.storage.leased):
            if row.workflow in info.workflows and row.queue in info.queues:
                return None
        return f"run {run_id}: no live worker serves {row.workflow} on queue {row.queue}"

    def _may_ask(self, workflow: str, queue: str) -> bool:
        """Whether it is a while since it was looked who serves that."""
        now = self.clock.monotonic()
        if now - self._asked.get((workflow, queue), -_ASK_SECONDS) < _ASK_SECONDS:
            return False
        self._asked[workflow, queue] = now
        return True

    def attach(self, worker: LocalWorker) -> None:
        """A worker of this process begins to work."""
        self._check_open()
        self._workers.append(worker)

    def detach(self, worker: LocalWorker) -> None:
        """A worker of this process stops."""
        if worker in self._workers:
            self._workers.remove(worker)

    def resolve(self, run_id: str, status: RunStatus, last: EventRow) -> None:
        """A worker of this process has ended a run, durably."""
        self._results.resolve(run_id, (status, last))


def _checked_input(workflow: Runnable[Any, Any], value: Any) -> bytes:
    where = f"input of workflow {workflow.name}"
    try:
        return workflow.input.encode(value, where)
    except PayloadError as error:
        raise InvalidInput(str(error)) from error


def _check_runnable(workflow: object) -> None:
    if not isinstance(workflow, Runnable):
        message = (
            f"{described(workflow)} is not a workflow: start what @workflow has made, or its name"
        )
        raise DefinitionError(message)
    checks.usable("workflow", workflow)  # pyright: ignore[reportUnknownArgumentType]


def _end(run_id: str, row: RunRow | None) -> End | None:
    """How a run has ended, by its row."""
    if row is None:
        raise not_found(run_id)
    return (row.status, row.last) if row.status in FINAL and row.last is not None else None


def _other_input(existing: EventRow, asked: EventRow) -> bool:
    old, new = decode_event(existing), decode_event(asked)
    return isinstance(old, RunStarted) and isinstance(new, RunStarted) and old.input != new.input


def _checked_priority(priority: int) -> int:
    if type(priority) is not int or not -32768 <= priority <= 32767:
        message = f"priority must be a whole number from -32,768 to 32,767, not {priority!r}"
        raise ValueError(message)
    return priority
