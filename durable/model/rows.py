"""What passes between a worker or client and a store: starts, claims, commits, messages and their answers.

All times are microseconds since the epoch on the database's clock. Keys are the store's own 64-bit
numbers of runs; ids are the user's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from durable.model.lifecycle import RunStatus
from durable.model.value import value
from durable.model.wire import EventRow

SEPARATOR = "\n"
"""What stands between the things that a run waits for: no name can hold it."""


@value
class Lane:
    """What a worker claims by. `version` 0 means: any code of that name (an unversioned workflow)."""

    queue: str
    workflow: str
    version: int = 0


@value
class NewRun:
    """A run to start. `started` is its `RunStarted` event, whose `at` the store leaves as given."""

    id: str
    lane: Lane
    started: EventRow
    priority: int = 0
    not_before: int | None = None
    """No claim before this time, whatever arrives; None: at once."""
    deadline: int | None = None
    tags: Mapping[str, str] | None = None
    parent_key: int | None = None
    parent_cmd: int | None = None
    abandoned: bool = False
    """A child that goes on when its parent ends, instead of being cancelled."""
    eager_owner: int | None = None
    """Worker that owns the run from its first moment on; ignored (the run is simply ready) when that
    worker's lease is gone. Never together with `not_before`."""


@value
class Started:
    """Answer to a start, in the order asked. The existing run's data when `created` is False."""

    key: int
    id: str
    created: bool
    owned: bool
    """The eager owner really owns it, with epoch 1 and seq 1."""
    status: RunStatus
    lane: Lane
    started: EventRow | None = None
    """The existing run's first event, so that the caller can compare inputs; None when created."""


@value
class WorkerInfo:
    """What a worker tells about itself when it registers."""

    name: str
    host: str
    pid: int
    boot: str = ""
    """Identifies host boot and pid namespace: with it, `pid` tells on this host whether it lives."""
    code: str = ""
    """Fingerprint of the code it runs."""
    queues: Sequence[str] = ()
    workflows: Sequence[str] = ()


@value
class Lease:
    """Answer to a registration or a renewal."""

    worker: int
    expires_at: int
    now: int
    """The database's clock when it answered."""


@value
class Message:
    """One message of a run's inbox; `number` is gapless from 1 per run."""

    key: int
    number: int
    name: str
    data: bytes


@value
class Claim:
    """A run that the asking worker owns now."""

    key: int
    id: str
    lane: int
    epoch: int
    seq: int
    """Length of the durable history."""
    first_seq: int
    """The event that began the current generation: what is before it need not be read."""
    consumed: int
    inbox_head: int
    status: RunStatus
    """`running`, or `compensating` where it was."""
    now: int
    lost_owner: int | None = None
    """The worker that was reaped while it held the run, when nothing was written since."""
    recoveries: int = 0
    """In a row, without progress: 0 as soon as something was written since the last one."""
    messages: Sequence[Message] = ()
    """What has come for it since: all of it, or nothing where there is more than a claim brings along."""


@value
class Held:
    """A run that the asking worker owns and that is due for a look: a message, or an unknown claim."""

    key: int
    epoch: int
    seq: int
    consumed: int
    inbox_head: int


class Act(IntEnum):
    """What a commit does with the run besides appending."""

    KEEP = 0
    PARK = 1
    FINISH = 2


@value
class OutMessage:
    """A message from the committing run to another one, by key (a child's report) or by id.

    One to a run that has ended, or does not exist, is dropped; so is a `~cancel` by id to a stranger: only
    children are cancelled that way.
    """

    to: int | str
    name: str
    data: bytes


class WaitKind(IntEnum):
    """What an open wait waits for."""

    EVENT = 1
    INPUT = 2
    REQUEST = 3


@value
class NewWait:
    """A wait that others must be able to find. Written again under the same `cmd`, it replaces the old one."""

    cmd: int
    kind: WaitKind
    names: Sequence[str]
    seq: int
    """The history event that says all of it."""
    key: str | None = None
    """Correlation key: what is published under it reaches this run too."""
    due: int | None = None
    to: Sequence[str] = ()
    """Whom an input is asked of."""


@value
class Commit:
    """What one run appends. `seq` and `epoch` are what the owner believes; `events` follow on `seq`."""

    key: int
    epoch: int
    seq: int
    events: Sequence[EventRow]
    consumed: int
    act: Act = Act.KEEP
    status: RunStatus = "running"
    wake_at: int | None = None
    """When a parked run is due without any message; None: only a message wakes it."""
    hold: int = 0
    """`HOLD_*` of lifecycle, for a run that parks."""
    blocked_by: str | None = None
    """Code fingerprint that blocked the run, with `hold=HOLD_BLOCKED`."""
    waiting_for: str | None = None
    """In words, for a run that parks."""
    messages: Sequence[OutMessage] = ()
    children: Sequence[NewRun] = ()
    waits: Sequence[NewWait] = ()
    ended_waits: Sequence[int] = ()
    """Commands whose waits are over. The end of a run ends all of them by itself."""
    first_seq: int | None = None
    """Of these events the one that begins a new generation, if any does."""

    @property
    def plain(self) -> bool:
        """Only events appended: the short statement will do."""
        return self.act is Act.KEEP and not (
            self.messages
            or self.children
            or self.waits
            or self.ended_waits
            or self.first_seq is not None
        )


class Code(IntEnum):
    """What became of a run's part of a commit (PROTOCOL: worker rules)."""

    APPLIED = 0
    BUSY = 1
    LOST = 2
    OTHER_SEQ = 3
    """Still mine; `seq` is the length of my durable history."""
    POISONED = 4
    """The database refuses this run's rows; the worker must block the run."""
    UNSEEN = 5
    """It must not end before it has read what is in its inbox: a control message is among it."""
    FENCED = 9


@value
class Committed:
    """Answer of a commit for one run."""

    key: int
    code: Code
    seq: int
    """Durable length of the history, where the run is still mine."""
    inbox_head: int
    children: Sequence[str] = ()
    """Ids of the children really inserted."""


@value
class Delivery:
    """A message from outside to a run."""

    run_id: str
    name: str
    data: bytes
    idempotency_key: str | None = None
    control: bool = False
    """The run must not end before this is in its history (`UNSEEN` for a commit that would)."""


MAX_UNREAD = 10_000
"""Messages from outside in the inbox of a run that it has not read; orders (a cancel) do not count."""


@value
class Delivered:
    """Answer to a delivery: `number` in the inbox.

    None: there is no such run (`known` False), it has ended (`is_open` False), it has `MAX_UNREAD` others,
    or another transaction has locked its row (`busy`): then nothing has happened yet.
    """

    number: int | None
    known: bool = True
    is_open: bool = True
    busy: bool = False


@value
class Answer:
    """What somebody gives to a run that asks for an input, as the message that the run will read."""

    run_id: str
    cmd: int
    name: str
    data: bytes
    token: str
    """New for every call: the same answer sent again after a lost one is still this one."""
    by: str | None
    at: int


@value
class Answered:
    """Answer to an `Answer`. Not `accepted` and not `pending`: nothing (more) is asked there."""

    accepted: bool
    pending: bool
    by: str | None = None
    """Who answered before, while the run has not read it yet."""
    at: int | None = None


@value
class Publication:
    """An event published under a correlation key, for every run that waits for it or will do so in time."""

    name: str
    key: str
    data: bytes
    until: int
    """How long it is kept for waits that begin later."""
    idempotency_key: str | None = None


@value
class Subscription:
    """A run whose wait (durable already) takes what is published under `key` with one of these names."""

    run: int
    names: Sequence[str]
    key: str


@value
class WaitFilter:
    """Which open waits are meant; oldest first. `after` is the `place` of the last one of the page before."""

    kinds: Sequence[WaitKind]
    run_id: str | None = None
    name: str | None = None
    workflow: str | None = None
    key: str | None = None
    to: str | None = None
    due_before: int | None = None
    limit: int = 50
    after: int | None = None


@value
class WaitRow:
    """An open wait as stored; inputs that are answered but not yet read are left out."""

    place: int
    run_id: str
    workflow: str
    cmd: int
    kind: WaitKind
    names: Sequence[str]
    key: str | None
    due: int | None
    to: Sequence[str]
    event: EventRow
    """The history event that says all of it."""


@value
class Reaped:
    """What a reaper freed: runs given back, and runs blocked for having killed too many workers."""

    workers: Sequence[int]
    freed: int
    blocked: int


@value
class RunRow:
    """A run as stored, for `get`, `list` and whoever waits for its result."""

    key: int
    id: str
    workflow: str
    version: int
    queue: str
    status: RunStatus
    priority: int
    tags: Mapping[str, str]
    created_at: int
    started_at: int | None
    finished_at: int | None
    seq: int
    recoveries: int
    waiting_for: str | None
    """In words, each thing on a line of its own (`SEPARATOR`)."""
    parent_id: str | None
    wake_at: int | None
    """When it is due next while nobody owns it."""
    retried_from: str | None = None
    """Id of the run that was restarted under this id."""
    first: EventRow | None = None
    """Its `RunStarted` (or whatever began the current generation)."""
    last: EventRow | None = None
    """The newest event: for a finished run, how it ended."""


@value
class RunFilter:
    """Which runs `list` and `count` mean. `after` is the `next` of the page before."""

    workflow: str | None = None
    status: Sequence[RunStatus] = ()
    tags: Mapping[str, str] | None = None
    queue: str | None = None
    parent_id: str | None = None
    id_prefix: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 50
    after: int | None = None
    """Key of the last run of the page before; newest runs come first."""


@value
class MigrationStep:
    """One step of the schema, as found in `schema/`."""

    number: int
    name: str
    applied: bool


@value
class ShapeRow:
    """Runs of one workflow whose newest generations have the same events, for the same commands, by name."""

    workflow: str
    version: int
    """0: runs that go on with any code of the name."""
    is_open: bool
    run_ids: Sequence[str]
