"""`durable worker`: what it serves, and how it ends; and `durable demo`, which kills one."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from durable import Client
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


LOUD = """
import logging
from durable import Context, step, workflow

own = logging.getLogger("loud.own")
own.propagate = False
own.addHandler(logging.StreamHandler())

@step
def work() -> None:
    logging.getLogger("loud").warning("in the step")

@workflow
async def loud(ctx: Context) -> None:
    logging.getLogger("loud").warning("before")
    own.warning("of its own")
    await ctx.step(work)
    ctx.log.warning("by the context")
    await ctx.wait_for_event("go", timeout=3600)
    logging.getLogger("loud").warning("behind")
"""


def test_what_a_workflow_has_logged_is_not_logged_again_on_replay(durable, durable_sqlite, folder):
    """Whatever logger and handler it went through; the guard says all the same that it should be `ctx.log`."""
    (folder / "loud.py").write_text(LOUD)
    with start_worker(folder, "loud", "--url", durable_sqlite) as worker:
        durable("run", "loud", "--id", "it", "--detach", "--url", durable_sqlite)
        asyncio.run(parked(durable_sqlite))
        worker.send_signal(signal.SIGTERM)
        first = worker.stderr.read()
    with start_worker(folder, "loud", "--url", durable_sqlite) as worker:
        asyncio.run(go_on(durable_sqlite))
        worker.send_signal(signal.SIGTERM)
        second = worker.stderr.read()
    said = ["before", "of its own", "in the step", "by the context"]
    assert [first.count(f"{words}\n") for words in said] == [1, 1, 1, 1], first
    assert [second.count(words) for words in [*said, "behind"]] == [0, 0, 0, 0, 1], second
    assert "write ctx.log, which is silent then" in first


async def parked(url: str) -> None:
    async with Client(url) as client, asyncio.timeout(20):
        while not [event for event in await client.history("it") if event.type == "WaitStarted"]:
            await asyncio.sleep(0.02)


async def go_on(url: str) -> None:
    async with Client(url) as client:
        await client.send_event("it", "go")
        await client.handle("it").result(timeout=20)


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
