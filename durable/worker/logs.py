"""What workflow code says to a logger that is not `ctx.log`: written once, although it is said on every replay."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from durable.engine.context import is_replaying


@contextmanager
def written_once() -> Generator[None]:
    """While this lasts, the handlers of this process leave out what code says that only catches up.

    The handlers and not the loggers: a filter of a logger is not asked about what its children say.
    """
    handlers = list(_handlers())
    for handler in handlers:
        handler.addFilter(_is_new)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_new)


def _handlers() -> Iterator[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in list(logging.getLogger().manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _is_new(_: logging.LogRecord) -> bool:
    return not is_replaying()
