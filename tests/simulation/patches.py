"""What would make two runs of one seed differ, or cost a thread, replaced for as long as a simulation lasts."""

from __future__ import annotations

import contextlib
import logging
import secrets
import warnings
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from unittest.mock import patch

from durable.worker import claims, journal, lease, worker
from durable.worker.claims import MAX_CLAIM
from durable.worker.journal import MAX_RUNS_PER_COMMIT

LOGGERS = ("durable.worker", "durable.client", "durable.storage.sqlite", "durable.workflow")


class NoWatchdog:
    """The loop is watched by the simulation."""

    stalls = 0

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Lines(logging.Handler):
    """Keeps what is worse than a warning."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def one_thread_and_one_random_source(
    random: Random, code: Callable[[], str], *, claim: int | None = None, commit: int | None = None
) -> Iterator[Lines]:
    """Inside of the block nothing comes from the machine. `claim`, `commit`: smaller batches."""

    def token(size: int | None = None) -> str:
        return random.randbytes(size or 16).hex()

    with contextlib.ExitStack() as stack:
        for target, name, value in (
            (secrets, "token_hex", token),
            (worker, "Watchdog", NoWatchdog),
            (worker, "code_fingerprint", lambda _: code()),
            (worker, "machine", lambda: ("host", "boot")),
            (lease, "machine", lambda: ("host", "boot")),
            (claims, "MAX_CLAIM", claim or MAX_CLAIM),
            (journal, "MAX_RUNS_PER_COMMIT", commit or MAX_RUNS_PER_COMMIT),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        yield stack.enter_context(_kept_lines())


@contextlib.contextmanager
def _kept_lines() -> Iterator[Lines]:
    lines = Lines()
    loggers: list[Any] = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(lines)
    try:
        yield lines
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(level)
            logger.propagate = propagate
