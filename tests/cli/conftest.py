"""A small shop with a worker of its own, and a way to call the command line as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from durable.cli import main

SHOP = """
import time
from pathlib import Path
from durable import Context, step, workflow

@step
def compose(name: str) -> str:
    return f"hello {name}"

@step
def slow(folder: str) -> None:
    Path(folder, "begun").touch()
    time.sleep(1)
    Path(folder, "done").touch()

@workflow
async def greet(ctx: Context, name: str) -> str:
    return await ctx.step(compose, name)

@workflow
async def refuse(ctx: Context, why: str) -> None:
    raise PermissionError(why)

@workflow
async def long(ctx: Context, folder: str) -> None:
    await ctx.step(slow, folder)

@workflow
async def hibernate(ctx: Context) -> None:
    await ctx.sleep(3600)
"""


@dataclass
class Answer:
    """What a command line answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def id(self) -> str:
        return self.out.strip()


@pytest.fixture
def durable(capsys, monkeypatch) -> Callable[..., Answer]:
    """`durable(...)`: run a command line in this process."""
    monkeypatch.delenv("DURABLE_URL", raising=False)

    def call(*arguments: str) -> Answer:
        code = main(list(arguments))
        written = capsys.readouterr()
        return Answer(code, written.out, written.err)

    return call


def start_worker(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`durable worker ...` in a process of its own, returned when it serves."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "durable.cli", "worker", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    first = worker.stderr.readline()
    if not first.startswith("serving "):
        with worker:
            worker.kill()
            raise AssertionError(first)
    return worker


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[str]:
    """The URL of a database whose worker serves the shop."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    url = f"sqlite:///{folder / 'shop.db'}"
    with start_worker(folder, "shop", "--url", url) as worker:
        yield url
        worker.kill()
