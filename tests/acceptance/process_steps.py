"""Steps for a child process: at module level, where it finds them by name."""

from __future__ import annotations

import os

from durable import step


@step(executor="process")
def pid(times: int) -> int:
    return os.getpid() if times == 3 else 0


@step(executor="process")
def failing() -> None:
    raise LookupError("in the process")
