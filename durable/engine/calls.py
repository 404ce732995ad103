"""What a verb of the context gives back: a coroutine that begins when it is awaited and knows its call site."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any

from durable.model.commands import Site


class Call(Coroutine[Any, Any, Any]):
    """One use of a verb. Nothing happens, and no command number is taken, until it is awaited."""

    __slots__ = (
        "_arguments",
        "_begin",
        "_calls",
        "_forgo",
        "_iterator",
        "_taken",
        "awaited",
        "code",
        "line",
    )

    def __init__(
        self,
        calls: dict[Call, None],
        begin: Callable[..., Any],
        arguments: tuple[Any, ...],
        forgo: Callable[[], None] | None = None,
    ) -> None:
        """`forgo` gives up what it was made with, when it is cancelled or closed before it began."""
        frame = sys._getframe(2)  # noqa: SLF001  the user's line, two frames up
        self.code = frame.f_code
        self.line = frame.f_lineno
        self._calls = calls
        self._begin = begin
        self._arguments = arguments
        self._forgo = forgo
        # A future's iterator or a generator's wrapper: both have send, throw and close.
        self._iterator: Any = None
        self._taken = False
        self.awaited: Any = None
        """What it waits for, once it has begun."""
        calls[self] = None

    @property
    def site(self) -> Site:
        return Site(self.code, self.line)

    def take(self) -> None:
        """It is awaited, or becomes a task; `RuntimeError` when either had happened before."""
        if self._taken:
            message = f"the call at {self.site} was awaited already: make a new one"
            raise RuntimeError(message)
        self._taken = True
        self._calls.pop(self, None)

    def _start(self) -> Any:
        self.awaited = self._begin(self, *self._arguments)
        iterator = self.awaited.__await__()
        self._iterator = iterator
        return iterator

    def __await__(self) -> Any:
        self.take()
        return self._start()

    def send(self, value: Any, /) -> Any:
        iterator = self._iterator
        if iterator is None:
            self._calls.pop(self, None)  # by hand: neither awaited nor made a task
            iterator = self._start()
        return iterator.send(value)

    def throw(self, *args: Any) -> Any:
        if self._iterator is None:
            # Cancelled before it began: it never becomes a command.
            self.close()
            raise args[0] if len(args) == 1 else args[1] or args[0]
        return self._iterator.throw(*args)

    def close(self) -> None:
        self._calls.pop(self, None)
        self._taken = True
        if self._iterator is not None:
            self._iterator.close()
        elif self._forgo is not None:
            self._forgo()
