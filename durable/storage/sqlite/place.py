"""Whether the file that a store has open is still the one that its path names.

A file that is deleted or replaced stays open: what is written then goes where nobody will ever find it.
"""

from __future__ import annotations

import time
from pathlib import Path

from durable.errors import StoreUnavailable

LOOK_SECONDS = 1.0
"""How often to look, at most. Every look gives up Python's global lock, so not every transaction does."""


class Place:
    """Where a store's file is; None: in memory, where nothing can be removed."""

    def __init__(self, path: Path | None, where: str) -> None:
        self._path = path
        self._where = where
        self._known: tuple[int, int] | None = None
        self._looked = 0.0

    def remember(self) -> None:
        """The file has just been opened: it is this one."""
        self._known = self._found()
        self._looked = time.monotonic()

    def check(self) -> None:
        """Look, unless that was done a moment ago; `StoreUnavailable` when the file is gone."""
        if self._path is not None and time.monotonic() - self._looked >= LOOK_SECONDS:
            self.look()

    def look(self) -> None:
        """`StoreUnavailable` when the path names no file any more, or another one."""
        if self._found() != self._known:
            raise StoreUnavailable(
                f"{self._where} was removed or replaced while it was open: nothing is written to it "
                "any more; put it back, or open the store again to go on with what is there now"
            )
        self._looked = time.monotonic()

    def _found(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return self._known  # nobody can say; SQLite tells what is wrong when it writes
        return found.st_dev, found.st_ino
