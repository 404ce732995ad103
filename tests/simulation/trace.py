"""What happened in a simulation, in order: a hash of all of it, and the newest lines for whoever looks at a failure."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from typing import Any, Final

_TAIL: Final = 60
"""Lines that are kept."""


class Trace:
    """Lines of `time, who, what, how`."""

    def __init__(self, *, keep: int = _TAIL) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        self._tail: deque[tuple[Any, ...]] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()
        """Executed operations, by verb."""

    def note(self, *line: Any) -> None:
        """Add a line."""
        self._hash.update(repr(line).encode())
        self._tail.append(line)

    def digest(self) -> str:
        """The same for the same lines."""
        return self._hash.hexdigest()

    def tail(self) -> list[str]:
        """The newest lines, for people."""
        return [
            f"{line[0]:9.3f} " + " ".join(str(word) for word in line[1:]) for line in self._tail
        ]


def short(value: Any) -> Any:
    """What a line says of an argument or an answer: numbers and names, no payloads."""
    kind = type(value)
    if kind in _PLAIN:
        return value if kind is not str or len(value) < 40 else value[:40]
    if kind is bytes:
        return len(value)
    fields = _SHOWN.get(kind.__name__)
    if fields is not None:
        return tuple(short(getattr(value, field)) for field in fields)
    if kind in {list, tuple}:
        return [short(one) for one in value]
    if kind is dict:
        return [
            (key if type(key) in _PLAIN else short(key), short(one)) for key, one in value.items()
        ]
    return kind.__name__


_PLAIN: Final = {int, str, bool, float, type(None)}
_SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "Commit": (
        "key", "epoch", "seq", "events", "consumed", "act", "status", "wake_at", "hold",
        "messages", "children", "waits", "ended_waits", "first_seq",
    ),
    "EventRow": ("seq", "type", "at", "cmd", "name"),
    "Committed": ("key", "code", "seq", "inbox_head", "children"),
    "Claim": ("key", "id", "epoch", "seq", "consumed", "inbox_head", "lost_owner", "recoveries"),
    "Held": ("key", "epoch", "seq", "consumed", "inbox_head"),
    "NewRun": ("id", "not_before", "deadline", "parent_key", "parent_cmd", "eager_owner"),
    "Started": ("key", "id", "created", "owned", "status"),
    "Delivery": ("run_id", "name", "idempotency_key"),
    "Delivered": ("number", "known", "is_open"),
    "Message": ("key", "number", "name"),
    "OutMessage": ("to", "name"),
    "NewWait": ("cmd", "kind", "names", "seq", "key", "due"),
    "Answer": ("run_id", "cmd", "name", "token"),
    "Answered": ("accepted", "pending"),
    "Publication": ("name", "key", "idempotency_key"),
    "Subscription": ("run", "names", "key"),
    "Reaped": ("workers", "freed", "blocked"),
    "Lease": ("worker", "expires_at"),
    "WorkerInfo": ("name", "code"),
    "Code": ("value",),
    "Act": ("value",),
    "WaitKind": ("value",),
    "RunRow": ("key", "status", "seq"),
    "WaitRow": ("run_id", "cmd", "names"),
    "Lane": ("queue", "workflow", "version"),
    "WaitFilter": ("run_id", "name"),
    "RunFilter": ("limit",),
}  # fmt: skip
