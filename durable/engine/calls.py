"""What a verb of the context gives back: a coroutine that begins when it is awaited and knows its call site."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from durable.model.commands import Site


class Call(Coroutine[Any, Any, Any]):
    """One use of a verb. Nothing happens, and no command number is taken, until it is awaited."""

    __slots__ = ("_arguments", "_begin", "_calls", "_iterator", "code", "line")

    def __init__(
        self,
        calls: dict[Call, None],
        begin: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        frame = sys._getframe(2)  # noqa: SLF001  the user's line, two frames up
        self.code = frame.f_code
        self.line = frame.f_lineno
        self._calls = calls
        self._begin = begin
        self._arguments = arguments
        self._iterator: Any = None
        calls[self] = None

    @property
    def site(self) -> Site:
        return Site(self.code, self.line)

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._iterator is not None:
            message = f"the call at {self.site} was awaited already: make a new one"
            raise RuntimeError(message)
        self._calls.pop(self, None)
        iterator = self._begin(self, *self._arguments).__await__()
        self._iterator = iterator
        return iterator  # type: ignore[no-any-return]

    def send(self, value: Any, /) -> Any:
        iterator = self._iterator
        if iterator is None:
            iterator = self.__await__()
        return iterator.send(value)

    def throw(self, *args: Any) -> Any:
        if self._iterator is None:
            # Cancelled before it began: it never becomes a command.
            self._calls.pop(self, None)
            self._iterator = iter(())
            raise args[0] if len(args) == 1 else args[1] or args[0]
        return self._iterator.throw(*args)

    def close(self) -> None:
        self._calls.pop(self, None)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
