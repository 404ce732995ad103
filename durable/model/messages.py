"""What lies in a run's inbox: events from outside under their own names, and durable's own messages.

The names of durable's own begin with `~`, which no event of a user may. They are a part of the contract with
the SQL in `schema/`, which writes and reads some of them: a child's end, publications, followers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgpack

from durable.model import history
from durable.model.events import RESERVED
from durable.model.rows import Message
from durable.model.wire import MSGPACK, EventRow, decode_event

CANCEL: Final = "~cancel"
PAUSE: Final = "~pause"
RESUME: Final = "~resume"

_msgpack: Any = msgpack
"""msgpack, which ships no types."""


def is_control(name: str) -> bool:
    """Whether a run that sends this to another one wants it read before that one ends (see `Delivery.control`)."""
    return name == CANCEL or name.startswith("~follow:")


def child_message(cmd: int, event_type: int) -> str:
    """How a child's end is told to its parent: the data is that of its last history event."""
    return f"~child:{cmd}:{event_type}"


def published_message(number: int, key: str, name: str) -> str:
    """An event that was published, as number `number` of its name and key."""
    return f"~published:{number}:{len(key)}:{key}{name}"


def follow_message(key: int, cmd: int) -> str:
    """Run `key` waits, as its command `cmd`, for the end of the run that gets this."""
    return f"~follow:{key}:{cmd}"


def input_message(cmd: int, name: str) -> str:
    """The answer of a person to command `cmd`."""
    return f"~input:{cmd}:{name}"


def request_message(name: str) -> str:
    """A request that wants an answer."""
    return f"~request:{name}"


def end_wait_message(name: str) -> str:
    """The oldest wait of this name is to time out."""
    return f"~end-wait:{name}"


def pack_cancel(reason: str | None) -> bytes:
    """The data of a `~cancel`."""
    return _pack([reason])


def pack_input(payload: bytes, by: str | None) -> bytes:
    """The data of an `~input`."""
    return _pack([payload, by])


def event_of(message: Message, at: int) -> history.Event:
    """The history event that a message becomes. Each becomes exactly one, an unknown one too."""
    name = message.name
    if not name.startswith(RESERVED):
        return history.EventReceived(at, name, message.data, message.number)
    kind, _, rest = name.partition(":")
    read = _READERS.get(kind)
    if read is None:  # from a newer version: kept, and of no effect
        return history.EventReceived(at, name, message.data, message.number)
    return read(message, rest, at)


def _pack(fields: list[Any]) -> bytes:
    packed: bytes = _msgpack.packb(fields, use_bin_type=True, unicode_errors="surrogatepass")
    return MSGPACK + packed


def _unpack(data: bytes) -> list[Any]:
    fields: list[Any] = _msgpack.unpackb(data[1:], unicode_errors="surrogatepass")
    return fields


def _child(message: Message, rest: str, at: int) -> history.Event:
    cmd, _, event_type = rest.partition(":")
    ended = decode_event(EventRow(0, int(event_type), at, None, None, message.data))
    number = message.number
    if isinstance(ended, history.RunCompleted):
        return history.ChildCompleted(at, int(cmd), ended.result, number)
    if isinstance(ended, history.RunFailed):
        return history.ChildFailed(at, int(cmd), ended.status, ended.failure, None, number)
    if isinstance(ended, history.RunCancelled):
        return history.ChildFailed(at, int(cmd), ended.status, None, ended.reason, number)
    reason = getattr(ended, "reason", None)
    return history.ChildFailed(at, int(cmd), "terminated", None, reason, number)


def _published(message: Message, rest: str, at: int) -> history.Event:
    topic_number, _, rest = rest.partition(":")
    length, _, rest = rest.partition(":")
    key, name = rest[: int(length)], rest[int(length) :]
    return history.EventReceived(at, name, message.data, message.number, key, int(topic_number))


def _input(message: Message, rest: str, at: int) -> history.Event:
    cmd, _, name = rest.partition(":")
    payload, by = _unpack(message.data)
    return history.InputProvided(at, int(cmd), name, payload, by, message.number)


def _cancel(message: Message, _rest: str, at: int) -> history.Event:
    return history.CancelRequested(at, _unpack(message.data)[0], message.number)


_READERS: Final[dict[str, Callable[[Message, str, int], history.Event]]] = {
    "~child": _child,
    "~published": _published,
    "~input": _input,
    CANCEL: _cancel,
    "~request": lambda message, rest, at: history.RequestReceived(
        at, rest, message.data, message.number
    ),
    "~follow": lambda message, rest, at: history.FollowerAdded(at, rest, message.number),
    "~end-wait": lambda message, rest, at: history.WaitCancelled(at, rest, message.number),
    PAUSE: lambda message, _rest, at: history.Paused(at, message.number),
    RESUME: lambda message, _rest, at: history.Resumed(at, message.number),
}
