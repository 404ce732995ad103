"""Steps that keep a ledger of what was done and undone, and an oracle of what must stand in it."""

from __future__ import annotations

from durable.model.definition import step
from durable.model.retry import Retry

DONE: list[str] = []
"""What steps did, in the order in which they did it: `a`, and `undo a` once it is undone."""


@step
def undo(name: str) -> None:
    DONE.append(f"undo {name}")


@step(compensate=undo)
def act(name: str) -> str:
    DONE.append(name)
    return name


@step(compensate=undo)
def refuse(name: str) -> str:
    raise ValueError(name)


@step(compensate=undo, retry=Retry(max_attempts=3, initial=5, jitter=0, backoff="constant"))
def act_again(name: str) -> str:
    """Fails once, and waits five seconds."""
    DONE.append(f"try {name}")
    if DONE.count(f"try {name}") == 1:
        raise ConnectionError(name)
    DONE.append(name)
    return name


@step
def cannot_undo(name: str) -> None:
    DONE.append(f"failed to undo {name}")
    raise RuntimeError(name)


@step(compensate=cannot_undo)
def act_for_good(name: str) -> str:
    DONE.append(name)
    return name


@step(retry=Retry(max_attempts=3, initial=1, jitter=0))
def undo_at_last(name: str) -> None:
    DONE.append(f"try to undo {name}")
    if DONE.count(f"try to undo {name}") < 3:
        raise ConnectionError(name)
    DONE.append(f"undo {name}")


@step(compensate=undo_at_last)
def act_stubbornly(name: str) -> str:
    DONE.append(name)
    return name


@step
def plain(name: str) -> str:
    return name


def acts() -> list[str]:
    """What was done, without tries."""
    return [entry for entry in DONE if not entry.startswith(("undo ", "try ", "failed "))]


def undone() -> list[str]:
    """What was undone, in that order."""
    return [entry.removeprefix("undo ") for entry in DONE if entry.startswith("undo ")]
