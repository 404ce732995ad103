"""`durable worker`: what it serves, and how it ends; and `durable demo`, which kills one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cli.conftest import SHOP, start_worker, wait_for


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def test_sigterm_drains(durable, durable_sqlite, folder):
    """The step that runs is finished and recorded; the worker ends with 0."""
    with start_worker(folder, "shop", "--url", durable_sqlite) as worker:
        run = durable("run", "long", f'"{folder}"', "--detach", "--url", durable_sqlite)
        wait_for(folder / "begun")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert (folder / "done").exists()
    history = durable("history", run.id, "--json", "--url", durable_sqlite).json
    assert "StepCompleted" in [event["type"] for event in history]


def test_a_second_signal_stops_at_once(durable, durable_sqlite, folder):
    with start_worker(folder, "shop", "--url", durable_sqlite) as worker:
        run = durable("run", "long", f'"{folder}"', "--detach", "--url", durable_sqlite)
        wait_for(folder / "begun")
        worker.send_signal(signal.SIGINT)
        time.sleep(0.1)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=20) == 130
        assert "Traceback" not in worker.stderr.read()
    shown = durable("inspect", run.id, "--json", "--url", durable_sqlite).json
    assert shown["status"] != "completed"


def test_it_works_the_same_on_postgresql(durable, durable_postgres, folder):
    with start_worker(folder, "shop", "--url", durable_postgres) as worker:
        answer = durable("run", "greet", '"Ada"', "--id", "ada", "--url", durable_postgres)
        shown = durable("inspect", "ad", "--url", durable_postgres)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert answer.out == '"hello Ada"\n'
    assert shown.out.startswith("greet  ada  completed")


def test_it_serves_several_modules_on_the_queues_asked_for(durable, durable_sqlite, folder):
    (folder / "other.py").write_text(
        "from durable import Context, workflow\n@workflow\nasync def nap(ctx: Context) -> int:\n return 7"
    )
    with start_worker(
        folder, "shop", "other.py", "--queue", "a:2", "--url", durable_sqlite
    ) as worker:
        answer = durable("run", "nap", "--queue", "a", "--timeout", "20", "--url", durable_sqlite)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert answer.out == "7\n"


def test_a_worker_object_is_run_as_it_is(durable, durable_sqlite, folder):
    code = (
        "from durable import Client, Worker\nfrom shop import greet\nimport asyncio\n"
        f"client = Client({durable_sqlite!r})\nworker = Worker(client, workflows=[greet])\n"
    )
    (folder / "app.py").write_text(code)
    with start_worker(folder, "app:worker") as worker:
        answer = durable("run", "greet", '"Ada"', "--timeout", "20", "--url", durable_sqlite)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    assert answer.out == '"hello Ada"\n'


def test_a_module_that_cannot_be_imported_names_the_line(durable, tmp_path, monkeypatch):
    (tmp_path / "broken_shop.py").write_text("x = 1\ny = x / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    answer = durable("worker", "broken_shop", "--url", "x")
    assert answer.code == 1
    assert answer.err == (
        f"error: broken_shop cannot be imported: {tmp_path}/broken_shop.py:2: "
        "ZeroDivisionError: division by zero\n"
    )


@pytest.mark.slow
@pytest.mark.crash
def test_the_demo_loses_nothing_and_repeats_nothing(durable, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = durable("demo", "--json").json
    assert shown["done"] == {"reserve": 1, "charge": 1, "pack": 1, "ship": 1}
    assert shown["run"]["status"] == "completed"
    assert "Recovered" in [event["type"] for event in shown["history"]]
