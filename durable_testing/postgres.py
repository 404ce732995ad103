"""A real PostgreSQL server for tests, in a second and without Docker, as root or not.

`PostgresServer` runs a server of its own in a temporary directory: on 127.0.0.1, on a free port,
with any setting, and it can be killed and started again. `Postgres` is any server in which
databases may be created. `postgres_for_tests()` gives the one of `DURABLE_TEST_POSTGRES_URL` when that
is set, and a server of its own otherwise.

A server never outlives its process: a small watchdog holds the reading end of a pipe, and when
the pipe closes, by whatever death, it stops the server and removes the directory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import urlsplit

from durable_testing.postgres_binaries import PostgresNotFound, find_binaries
from durable_testing.postgres_place import (
    account_for_server,
    children_of,
    copy_of,
    directory_for,
    free_port,
    open_to_all,
)

__all__ = ["Postgres", "PostgresNotFound", "PostgresServer", "postgres_for_tests"]

URL_VARIABLE = "DURABLE_TEST_POSTGRES_URL"

START_SECONDS = 30.0
"""How long a server may take to accept connections (it takes 0.1 s; recovery after a kill longer)."""

FAST: Mapping[str, str] = {
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%a ",
}
"""The settings of a test server. `fsync` is off: give `fsync="on"` where the power may fail."""

_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# $1 the server, $2 its directory. `read` returns when the last holder of the pipe is gone.
_WATCHDOG = (
    'read -r _; kill -QUIT "$1" 2>/dev/null; n=0; '
    'while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done; rm -rf "$2"'
)


class Postgres:
    """A server in which databases may be created: give the URL of any database of it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str = "postgres") -> str:
        """Return the URL of `database` on this server."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    def create_database(self, name: str | None = None, *, template: str = "template0") -> str:
        """Create a database and return its URL; without a name it gets a fresh one.

        `template` names a database to copy, which nobody may be connected to: migrate one once,
        and every test gets its own copy in the time of an empty one.
        """
        name = name or f"test_{uuid.uuid4().hex[:16]}"
        # Copying files leaves nothing in the buffers: a third faster here, four times at the drop.
        # Before version 15 it was the only way and had no name.
        strategy = "STRATEGY FILE_COPY" if self.version >= 15 else ""
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
        return self.url(name)

    def drop_database(self, name_or_url: str) -> None:
        """Drop a database, given by name or URL, and end the sessions in it."""
        name = urlsplit(name_or_url).path.lstrip("/") if "://" in name_or_url else name_or_url
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @functools.cached_property
    def version(self) -> int:
        """The server's major version, as in 18."""
        import psycopg

        with psycopg.connect(self._url) as connection:
            return connection.info.server_version // 10000

    def _administer(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())


class PostgresServer(Postgres):
    """A PostgreSQL server of one's own; a context manager, or `start()` and `close()`.

    Keyword arguments are server settings and go over `FAST`:
    `PostgresServer(fsync="on", deadlock_timeout="100ms")`. `binaries` chooses another version than
    the newest one found. Not safe for use from several threads.
    """

    def __init__(self, binaries: Path | None = None, /, **settings: str) -> None:
        super().__init__("")
        self.settings: dict[str, str] = {**FAST, **settings}
        self.port = 0
        self._binaries = binaries or find_binaries()
        self._account = account_for_server()
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server and remove its directory."""
        self.close()

    @property
    def directory(self) -> Path:
        """The temporary directory with the data, the log and the Unix socket."""
        if self._directory is None:
            raise RuntimeError("the PostgreSQL server was not started")
        return self._directory

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, or None while it is down."""
        return self._process.pid if self._process else None

    @property
    def log_path(self) -> Path:
        """The server's log: one file over all its starts, kept until `close()`."""
        return self.directory / "server.log"

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        The port stays the same over restarts, so URLs given out before stay right.
        """
        if self._process is not None:
            return
        if self._directory is None:
            self._directory = self._initialise()
        for _ in range(5):
            self.port = self.port or free_port()
            self._url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
            self._launch()
            if self._wait_until_ready():
                return
            self._forget_process()
            if "could not bind" in self._log_tail():
                self.port = 0  # somebody else took the port in between
        raise RuntimeError(f"PostgreSQL did not start; its log ends:\n{self._log_tail()}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server: `smart` waits for clients, `fast` ends them, `immediate` is a crash."""
        if self._process is not None:
            self._process.send_signal(_STOP_SIGNALS[mode])
            self._process.wait(timeout=60)
            self._forget_process()

    def kill9(self) -> None:
        """Kill the server and all its processes with SIGKILL, as the kernel would."""
        if self._process is not None:
            children = children_of(self._process.pid)
            self._process.kill()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.wait(timeout=60)
            self._forget_process()

    def restart_immediate(self) -> None:
        """Crash the server and start it again: it comes back through recovery."""
        self.stop("immediate")
        self.start()

    def close(self) -> None:
        """End the server and remove its directory. May be called twice."""
        self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _initialise(self) -> Path:
        directory = directory_for(self._account)
        if self._account is not None and not open_to_all(self._binaries):
            self._binaries = copy_of(self._binaries, directory / "server")
        command = [str(self._binaries / "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--no-sync", "-D", str(directory / "data")]
        _, errors = (process := self._spawn(command, subprocess.PIPE)).communicate()
        if process.returncode:
            shutil.rmtree(directory, ignore_errors=True)
            raise RuntimeError(f"initdb failed: {errors.decode(errors='replace').strip()}")
        return directory

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            **self.settings,
        }
        command = [str(self._binaries / "postgres"), "-D", str(self.directory / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_path.open("ab") as log:
            self._process = self._spawn(command, log)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> bool:
        """Watch the last line of `postmaster.pid`, as `pg_ctl` does: no connection is spent."""
        assert self._process is not None
        status_file = self.directory / "data" / "postmaster.pid"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = status_file.read_text().splitlines() if status_file.exists() else []
            if lines[:1] == [str(self._process.pid)] and lines[7:] == ["ready   "]:
                return True
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        return False

    def _forget_process(self) -> None:
        self._process = None
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.kill()  # before its pipe closes: the directory is still needed
            self._watchdog.stdin.close()
            self._watchdog.wait()
            self._watchdog = None

    def _log_tail(self) -> str:
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-10:])

    def _spawn(self, command: list[str], errors: int | IO[bytes]) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",  # the tests' directory may be closed to the server's account
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # Ctrl-C in the terminal is for the tests, not for the server
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )


@contextlib.contextmanager
def postgres_for_tests(**settings: str) -> Generator[Postgres]:
    """Give the server of `DURABLE_TEST_POSTGRES_URL`, or one of our own with these settings."""
    if url := os.environ.get(URL_VARIABLE):
        yield Postgres(url)
    else:
        with PostgresServer(**settings) as server:
            yield server
