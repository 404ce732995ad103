"""Which files are checked: those named, and every `*.py` in the directories named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_SKIPPED = frozenset(
    {"__pycache__", "__pypackages__", "_build", "build", "dist", "node_modules", "site-packages"}
)


def python_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files to check, each once, in the order of the paths and, in a directory, of their names.

    A file that is named is taken whatever it is called. In directories these are left out: hidden ones, virtual
    environments (whatever they are called), caches, and what was built or installed.
    """
    seen: set[Path] = set()
    for path in paths:
        for file in _inside(path) if path.is_dir() else [path]:
            if (real := file.absolute()) not in seen:
                seen.add(real)
                yield file


def _inside(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if _is_source(Path(here, each)))
        yield from (Path(here, each) for each in sorted(files) if each.endswith(".py"))


def _is_source(folder: Path) -> bool:
    skipped = folder.name.startswith(".") or folder.name in _SKIPPED
    return not skipped and not (folder / "pyvenv.cfg").exists()
