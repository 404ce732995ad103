"""Errors that the test kit itself raises inside of a step: a workflow may catch them, but the test must not pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from durable.model.failure import decode_failure
from durable.model.history import RunFailed
from durable.model.wire import decode_event

if TYPE_CHECKING:
    from durable.errors import Failure
    from durable.model.wire import EventRow


class Noted:
    """What steps have raised and no test has seen yet."""

    def __init__(self) -> None:
        self._unseen: dict[str, Exception] = {}

    def add(self, error: Exception) -> None:
        """A step raises this."""
        self._unseen.setdefault(str(error), error)

    def ended(self, last: EventRow) -> None:
        """Somebody is told how a run ended: what it failed with is seen by that."""
        if not self._unseen:
            return
        event = decode_event(last)
        if isinstance(event, RunFailed):
            told = "\n".join(_messages(decode_failure(event.failure)))
            self._unseen = {text: one for text, one in self._unseen.items() if text not in told}

    def take(self) -> Exception | None:
        """The first, for somebody who shows it."""
        first = next(iter(self._unseen), None)
        return None if first is None else self._unseen.pop(first)

    @property
    def unseen(self) -> Sequence[str]:
        """What they say, in their order."""
        return list(self._unseen)


def _messages(failure: Failure) -> Iterator[str]:
    yield failure.message
    for inner in (*([failure.cause] if failure.cause else []), *failure.exceptions):
        yield from _messages(inner)
