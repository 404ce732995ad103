"""A PgBouncer in transaction mode before a test server, with fewer connections than there are clients."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

HINT = "PgBouncer is not installed: apt-get update && apt-get install pgbouncer"
POOL = 4


def find() -> str | None:
    """The binary, or None."""
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


@contextlib.contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """A pooler before the database of `url`; gives the URL to use instead."""
    binary = find()
    if binary is None:
        raise RuntimeError(HINT)
    with tempfile.TemporaryDirectory(prefix="durable-bouncer-") as folder:
        port = _free_port()
        _configure(Path(folder), url, port)
        with subprocess.Popen(
            [binary, "-q", f"{folder}/pgbouncer.ini"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=_account(),
        ) as process:
            try:
                _await_port(port)
                database = urlsplit(url).path
                yield f"postgresql://postgres@127.0.0.1:{port}{database}?pooler=transaction"
            finally:
                process.terminate()
                process.wait(timeout=10)


def _configure(folder: Path, url: str, port: int) -> None:
    server = urlsplit(url)
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={server.hostname} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {POOL}
max_client_conn = 200
logfile = {folder}/log
pidfile = {folder}/pid
"""
    )
    folder.chmod(0o777)


def _account() -> str | None:
    """PgBouncer refuses root."""
    if os.geteuid() != 0:
        return None
    return next(
        (n for n in ("postgres", "nobody") if n in {p.pw_name for p in pwd.getpwall()}), None
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("PgBouncer did not start")
