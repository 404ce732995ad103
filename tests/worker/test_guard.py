"""The guard: what no replay can repeat is seen at its line, however it is written, and nothing else is."""

# ruff: noqa: DTZ003, DTZ011, PLW0108, PTH110, PTH123, PTH208 - what people should not write is what this is about

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import pathlib
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime
from random import randint
from time import time as now_of_time

import pytest

from durable import Client, NotAllowedInWorkflow, Worker, step, workflow
from durable.engine.context import Context
from durable.worker.guard import EVERY, FIRST, Guard, Look
from durable_testing import Environment


class Moment(datetime):
    """A clock of one's own."""


def reads_a_file() -> str:
    return pathlib.Path(__file__).read_text()


def connects() -> None:
    with socket.socket() as plug:
        plug.connect_ex(("127.0.0.1", 9))


FORBIDDEN: list[tuple[Callable[[], object], str, str]] = [
    (lambda: datetime.now(UTC), "datetime.now()", "DUR101"),
    (lambda: datetime.utcnow(), "datetime.utcnow()", "DUR101"),
    (lambda: Moment.now(), "Moment.now()", "DUR101"),
    (lambda: date.today(), "date.today()", "DUR101"),
    (lambda: now_of_time(), "time.time()", "DUR101"),
    (lambda: time.monotonic(), "time.monotonic()", "DUR101"),
    (lambda: random.random(), "random.random()", "DUR102"),
    (lambda: randint(1, 6), "random.randint()", "DUR102"),
    (lambda: random.shuffle([1, 2]), "random.shuffle()", "DUR102"),
    (lambda: random.Random(), "random.Random()", "DUR102"),
    (lambda: uuid.uuid4(), "uuid.uuid4()", "DUR103"),
    (lambda: uuid.uuid1(), "uuid.uuid1()", "DUR103"),
    (lambda: os.urandom(4), "posix.urandom()", "DUR104"),
    (lambda: secrets.token_hex(), "secrets.token_hex()", "DUR104"),
    (lambda: random.SystemRandom().random(), "random.random()", "DUR104"),
    (lambda: time.sleep(0), "time.sleep()", "DUR201"),
    (connects, "socket.connect_ex()", "DUR202"),
    (lambda: socket.getaddrinfo("127.0.0.1", 9), "socket.getaddrinfo()", "DUR202"),
    (lambda: sqlite3.connect(":memory:").close(), "_sqlite3.connect()", "DUR202"),
    (reads_a_file, "pathlib.Path.read_text()", "DUR203"),
    (lambda: open(__file__).close(), "io.open()", "DUR203"),
    (lambda: os.path.exists("/"), "os.path.exists()", "DUR203"),
    (lambda: os.listdir("/"), "os.listdir()", "DUR203"),
    (lambda: subprocess.run(["true"], check=False), "subprocess.run()", "DUR204"),
    (lambda: os.system("true"), "os.system()", "DUR204"),
    (lambda: threading.Thread(target=int).start(), "threading.Thread.start()", "DUR205"),
    (lambda: logging.getLogger("a").warning("b"), "logging.Logger.warning()", "DUR207"),
]


class Untidy:
    """What it does when it is collected happens at any time."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.monotonic()


def leaves_garbage() -> None:
    Untidy()
    gc.collect()


ALLOWED: list[Callable[[], object]] = [
    lambda: random.Random(7).random(),
    lambda: uuid.uuid5(uuid.NAMESPACE_DNS, "durable"),
    lambda: datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
    lambda: datetime.fromtimestamp(0, UTC),
    lambda: zoneinfo.ZoneInfo.no_cache("Europe/Paris"),
    lambda: importlib.reload(importlib.import_module("colorsys")),
    leaves_garbage,
    lambda: time.time(),  # durable: ignore
    lambda: time.time(),  # durable: ignore[DUR101]
]


@pytest.mark.parametrize("call, what, code", FORBIDDEN, ids=[what for _, what, _ in FORBIDDEN])
def test_what_cannot_be_repeated_is_seen_at_its_line(call: Callable[[], object], what, code):
    look = Look(raises=False)
    look.over(call)
    seen = list(look.seen.values())
    assert [one.kind.code for one in seen] == [code] * len(seen)
    assert str(seen[0]).startswith(what.replace("posix", "os"))
    assert pathlib.Path(seen[0].site.code.co_filename).samefile(__file__)
    first = call.__code__.co_firstlineno
    assert first <= seen[0].site.line <= first + 3


@pytest.mark.parametrize("call", [call for call, _, code in FORBIDDEN if code != "DUR207"])
def test_it_is_not_done_where_the_guard_raises(call: Callable[[], object]):
    with pytest.raises(NotAllowedInWorkflow, match=r"at test_guard.py:\d+ in a workflow"):
        Look(raises=True).over(call)


def test_a_line_of_a_log_is_never_worth_a_run():
    look = Look(raises=True)
    look.over(lambda: logging.getLogger("a").warning("b"))
    assert len(look.seen) == 1


@pytest.mark.parametrize("call", ALLOWED, ids=range(len(ALLOWED)))
def test_what_can_be_repeated_or_is_meant_is_let_through(call: Callable[[], object]):
    Look(raises=True).over(call)


def test_code_that_catches_the_refusal_is_refused_all_the_same():
    def deaf() -> None:
        try:
            time.time()
        except NotAllowedInWorkflow:
            return

    with pytest.raises(NotAllowedInWorkflow):
        Look(raises=True).over(deaf)


def test_another_profiler_is_left_alone():
    def profiler(*_: object) -> None: ...

    sys.setprofile(profiler)
    try:
        Look(raises=True).over(time.time)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


def test_in_production_each_line_is_told_once_and_most_activations_are_not_looked_at():
    told: list[str] = []
    watch = Guard("warn", told.append).watch("order")
    looked = 0

    def activate(_event: object) -> None:
        nonlocal looked
        looked += sys.getprofile() is not None
        time.time()

    for _ in range(FIRST):
        watch.run(activate, None)
    assert looked == FIRST
    for _ in range(100 * EVERY):
        watch.run(activate, None)
    assert 50 < looked - FIRST < 200  # about one in EVERY
    assert len(told) == 1
    assert told[0].startswith("workflow order: time.time() at test_guard.py:")


def test_a_guard_that_is_off_looks_at_nothing():
    watch = Guard("off", pytest.fail).watch("order")
    for _ in range(2 * FIRST):
        watch.run(lambda _: time.time(), None)


def test_a_worker_knows_three_ways(tmp_path):
    with pytest.raises(ValueError, match="'off', 'warn', 'raise', not 'always'"):
        Worker(Client(f"sqlite:///{tmp_path}/x.db"), guard="always")  # type: ignore[arg-type]


@step
async def stamp(at: float) -> float:
    return at


@workflow
async def stamped(ctx: Context) -> float:
    return await ctx.step(stamp, time.time())


async def test_in_tests_the_line_is_an_error():
    async with Environment(workflows=[stamped]) as env:
        with pytest.raises(NotAllowedInWorkflow, match=r"time.time\(\) at test_guard.py:\d+"):
            await env.run(stamped)


async def test_where_a_test_is_not_strict_it_is_a_warning(caplog):
    async with Environment(workflows=[stamped], strict=False) as env:
        await env.run(stamped)
        await env.run(stamped)
    told = [line for line in caplog.messages if "time.time()" in line]
    assert len(told) == 1
    assert told[0].startswith("workflow stamped: time.time() at test_guard.py:")


async def blocked(client: Client, run_id: str) -> str:
    """Why it is, once it is."""
    async with asyncio.timeout(10):
        while (record := await client.get(run_id)).status != "blocked":
            await asyncio.sleep(0.01)
    return ", ".join(record.waiting_for)


async def test_a_worker_that_raises_blocks_the_run_and_loses_nothing(tmp_path):
    async with Client(f"sqlite:///{tmp_path}/x.db") as client:
        async with Worker(client, workflows=[stamped], guard="raise"):
            handle = await client.start(stamped)
            reason = await blocked(client, handle.id)
            assert "time.time() at test_guard.py" in reason
        async with Worker(client, workflows=[stamped], guard="off"):
            assert await handle.result() > 0
