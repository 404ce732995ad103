"""As whom, where and on which port a test's PostgreSQL server runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import stat
import tempfile
from pathlib import Path


def account_for_server() -> pwd.struct_passwd | None:
    """Return the account to run as: PostgreSQL refuses root, anybody else runs it himself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def directory_for(account: pwd.struct_passwd | None) -> Path:
    """Make a directory that the server may use, with a path short enough for a Unix socket."""
    usable = (base for base in (tempfile.gettempdir(), "/tmp", "/var/tmp") if open_to_all(base))  # noqa: S108
    base = tempfile.gettempdir() if account is None else next(usable)
    directory = Path(tempfile.mkdtemp(prefix="durable-pg-", dir=base if len(base) < 70 else "/tmp"))  # noqa: S108
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


def copy_of(binaries: Path, target: Path) -> Path:
    """Copy a server out of a directory that its account may not enter, such as root's home.

    What a wheel brought finds its libraries in a directory beside its package, so both go along.
    """
    server, package = binaries.parent, binaries.parent.parent
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, target / libraries.name)
    return shutil.copytree(server, target / package.name / server.name) / binaries.name


def open_to_all(directory: str | Path) -> bool:
    """Whether another user may pass through every part of this path."""
    path = Path(directory).resolve()
    parts = (path, *path.parents)
    return all(part.exists() and part.stat().st_mode & stat.S_IXOTH for part in parts)


def free_port() -> int:
    """Return a free port below those that the kernel gives to outgoing connections.

    So that nobody takes it by chance while the server is down between two starts.
    """
    for port in random.sample(range(15000, 32000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 15000 and 32000 on 127.0.0.1")


def children_of(pid: int) -> list[int]:
    """Return a server's own processes; none without /proc, where they end by themselves."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in listed.split()]
