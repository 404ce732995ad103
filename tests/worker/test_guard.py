"""The guard: what no replay can repeat is seen at its line, however it is written, and nothing else is."""

# ruff: noqa: DTZ003, DTZ011, PLW0108, PTH110, PTH123, PTH208 - what people should not write is what this is about

from __future__ import annotations

import asyncio
import gc
import importlib
import io
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
import weakref
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from random import randint
from time import localtime as clock_of_the_wall
from time import time as now_of_time
from typing import Any

import pytest
from pydantic import BaseModel, Field

from durable import Client, NotAllowedInWorkflow, Worker, step, workflow
from durable.engine.context import Context
from durable.worker.guard import EVERY, FIRST, Guard, Look
from durable_testing import Environment


class Moment(datetime):
    """A clock of one's own."""


@dataclass
class Stamped:
    """Its `__init__` is generated: it has no file."""

    at: datetime = field(default_factory=datetime.now)


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
    (lambda: time.localtime(), "time.localtime()", "DUR101"),
    (lambda: clock_of_the_wall(), "time.localtime()", "DUR101"),
    (lambda: time.gmtime(), "time.gmtime()", "DUR101"),
    (lambda: time.ctime(), "time.ctime()", "DUR101"),
    (lambda: time.asctime(), "time.asctime()", "DUR101"),
    (lambda: time.strftime("%H:%M"), "time.strftime()", "DUR101"),
    (lambda: Stamped(), "datetime.now()", "DUR101"),
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
        self.close()

    def close(self) -> None:
        time.monotonic()


def leaves_garbage() -> None:
    Untidy()
    gc.collect()


def leaves_garbage_that_cleans_up() -> None:
    left = Untidy()
    weakref.finalize(left, time.monotonic)
    weakref.finalize(left, reads_a_file)
    del left
    gc.collect()


GIVEN = time.gmtime(0)


ALLOWED: list[Callable[[], object]] = [
    lambda: random.Random(7).random(),
    lambda: uuid.uuid5(uuid.NAMESPACE_DNS, "durable"),
    lambda: datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
    lambda: datetime.fromtimestamp(0, UTC),
    lambda: zoneinfo.ZoneInfo.no_cache("Europe/Paris"),
    lambda: importlib.reload(importlib.import_module("colorsys")),
    leaves_garbage,
    leaves_garbage_that_cleans_up,
    lambda: time.localtime(0),
    lambda: clock_of_the_wall(*[0]),
    lambda: time.gmtime(0),
    lambda: time.ctime(0),
    lambda: time.asctime(GIVEN),
    lambda: time.strftime("%H:%M", GIVEN),
    lambda: [time.strftime("%H", time.gmtime(at)) for at in range(3)],
    lambda: logging.Formatter("%(asctime)s").format(logging.makeLogRecord({})),
    lambda: time.time(),  # durable: ignore
    lambda: time.time(),  # durable: ignore[DUR101]
]


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
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


class OwnFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{datetime.now(UTC)} {record.getMessage()} {uuid.uuid4()}"


class OwnHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        connects()


@pytest.mark.parametrize("handler", [logging.StreamHandler(io.StringIO()), OwnHandler()])
def test_what_the_formatter_or_handler_of_a_log_does_is_part_of_the_log(
    handler: logging.Handler, monkeypatch
):
    handler.setFormatter(OwnFormatter())
    logger = logging.getLogger("test_guard")
    monkeypatch.setattr(logger, "handlers", [handler])
    look = Look(raises=True)
    line = sys._getframe().f_lineno + 1
    look.over(lambda: logger.error("sold"))
    [sighting] = look.seen.values()
    assert str(sighting).startswith(f"logging.Logger.error() at test_guard.py:{line} ")
    assert sighting.kind.code == "DUR207"


def test_what_a_module_does_when_it_is_imported_is_not_the_workflows(tmp_path, monkeypatch):
    """It happens once in a process, to whichever run is the first."""
    (tmp_path / "imported_late.py").write_text(
        "import time\ndef read(): return time.time()\nclass Shop:\n    opened = read()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def lazy() -> Any:
        import imported_late  # type: ignore[import-not-found]

        return imported_late

    try:
        Look(raises=True).over(lazy)
        with pytest.raises(NotAllowedInWorkflow, match=r"at imported_late.py:2 "):
            Look(raises=True).over(lambda: lazy().read())
    finally:
        sys.modules.pop("imported_late", None)


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


def test_beside_another_profiler_it_says_once_that_it_is_off():
    told: list[str] = []
    guard = Guard("warn", told.append)
    sys.setprofile(lambda *_: None)
    try:
        for workflow in ("order", "refund", "order"):
            guard.watch(workflow).run(lambda _: time.time(), None)
    finally:
        sys.setprofile(None)
    assert len(told) == 1
    assert told[0].startswith("the guard of workflow code (guard='warn') is off: another profiler")
    guard.watch("order").run(lambda _: time.time(), None)
    assert told[1].startswith("workflow order: time.time() at test_guard.py:")


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


async def test_in_tests_beside_another_profiler_python_warns():
    sys.setprofile(lambda *_: None)
    try:
        async with Environment(workflows=[stamped]) as env:
            with pytest.warns(
                RuntimeWarning, match="the guard of workflow code .* is off: another"
            ):
                assert await env.run(stamped) > 0
    finally:
        sys.setprofile(None)


class Paid(BaseModel):
    cents: int
    receipt: uuid.UUID = Field(default_factory=uuid.uuid4)


@workflow
async def paid(ctx: Context) -> int:
    event = await ctx.wait_for_event("paid", Paid)
    return event.cents


@workflow
async def paid_as_it_is_meant(ctx: Context) -> int:
    event = await ctx.wait_for_event("paid", Paid)  # durable: ignore[DUR103]
    return event.cents


async def test_what_a_model_does_when_an_event_is_read_is_seen_where_the_workflow_waits():
    async with Environment(workflows=[paid, paid_as_it_is_meant]) as env:
        run = await env.client.start(paid)
        await run.send_event("paid", {"cents": 5})
        line = paid.fn.__code__.co_firstlineno + 2
        with pytest.raises(NotAllowedInWorkflow, match=rf"uuid4\(\) at test_guard.py:{line} in"):
            await run.result()
        meant = await env.client.start(paid_as_it_is_meant)
        await meant.send_event("paid", {"cents": 5})
        assert await meant.result() == 5


async def test_of_a_workflow_that_is_installed_as_a_package_the_nearest_line_is_told():
    source = """
import time
def helper(): return time.time()
async def flow(ctx): return helper()
"""
    names: dict[str, Any] = {"__name__": "shop.flow"}
    exec(compile(source, "/lib/site-packages/shop/flow.py", "exec"), names)
    flow = workflow(names["flow"])
    async with Environment(workflows=[flow]) as env:
        with pytest.raises(NotAllowedInWorkflow, match=r"time\(\) at flow.py:3 in"):
            await env.run(flow)


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
