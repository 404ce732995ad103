"""Record the histories that are missing: `python -m tests.golden.record`.

One that is there is never written again, whatever durable does today: it is what a release has promised. Each
release has a folder of its own, so that a new one records anew what all scenarios lead to.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tests.golden.replaying import HISTORIES
from tests.golden.scenarios import SCENARIOS, recorded


def release() -> str:
    """What is being worked on, as `0.1`."""
    return ".".join(version("durable-sdk").split(".")[:2])


def missing(folder: Path) -> list[str]:
    """Scenarios without a history in this folder."""
    return [name for name in SCENARIOS if not file_of(folder, name).exists()]


def file_of(folder: Path, name: str) -> Path:
    """Where the history of a scenario is kept."""
    return folder / f"{name}.history.json"


def record(folder: Path) -> list[str]:
    """Record what is missing there; the names."""
    names = missing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = recorded(name)
        with file_of(folder, name).open("x", encoding="ascii") as file:
            file.write(text)
    return names


if __name__ == "__main__":
    for recorded_name in record(HISTORIES / release()):
        print(f"recorded {recorded_name}")
