"""Rule by rule: the ways in which a mistake can be written, and what is close to it and right."""

from __future__ import annotations

import textwrap

import pytest

from durable.lint import lint_source

HEAD = "import asyncio, contextlib\nfrom durable import Context, step, workflow\n"


def codes(source: str) -> list[str]:
    return [found.code for found in lint_source(textwrap.dedent(source), "shop.py")]


def codes_of_body(body: str, head: str = "") -> list[str]:
    """The findings in a workflow with this body, in a module with these lines at its top."""
    indented = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    workflow = f"@workflow\nasync def order(ctx: Context, names: list[str]):\n{indented}\n"
    return codes(f"{HEAD}{textwrap.dedent(head)}\n{workflow}")


# -- what is workflow code

CLOCK = "import time\n"


@pytest.mark.parametrize(
    "source",
    [
        "from durable import workflow\n@workflow\nasync def f(c): time.time()",
        "from durable import workflow as w\n@w(version=2)\nasync def f(c): time.time()",
        "import durable\n@durable.workflow\nasync def f(c): time.time()",
        "import durable as d\n@d.workflow(name='x')\nasync def f(c): time.time()",
        "from durable import *\n@workflow\nasync def f(c): time.time()",
        "from durable.model.definition import workflow\n@workflow\nasync def f(c): time.time()",
        "from durable import workflow\nasync def f(c): time.time()\ng = workflow(f)",
        "from durable import workflow\nasync def f(c): time.time()\ng = workflow(name='g')(f)",
        "from durable import Worker\nasync def f(c): time.time()\nWorker(client, workflows=[f])",
        "import durable\nasync def f(c): time.time()\nasync def main(client): await client.start(f, 1)",
        "from durable import Context\nasync def f(c: Context): time.time()",
        "import durable\nasync def f(c: durable.Context | None): time.time()",
        "from durable import Context\nasync def f(c: 'Context'): time.time()",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  from durable import Context\nasync def f(c: 'Context'): time.time()",
        "from durable import days\nasync def f(ctx, x): time.time()",
        "from .app import Context\nasync def f(ctx: Context):\n  await ctx.sleep(1)\n  time.time()",
        "async def f(ctx):\n  await ctx.step(g)\n  time.time()",
        "from durable import Context\ndef f(ctx: Context): time.time()",
        "from durable import Context\nclass A:\n  async def f(self, ctx: Context): time.time()",
        "from durable import workflow\ndef main():\n  @workflow\n  async def f(c): time.time()",
    ],
)
def test_a_workflow_is_recognized(source):
    assert codes(CLOCK + source) == ["DUR101"]


@pytest.mark.parametrize(
    "source",
    [
        "async def f(ctx): time.time()",
        "from click import Context\nasync def f(ctx: Context): time.time()",
        "import discord\nasync def f(ctx: discord.Context): time.time()",
        "from durable import step\n@step\nasync def f(ctx): time.time()",
        "from durable import StepContext\nasync def f(ctx: StepContext): time.time()",
        "from durable import job\n@job\nasync def f(ctx): time.time()",
        "import durable\n@bot.command()\nasync def f(ctx): time.time()",
        "import durable\nasync def test_it(ctx): time.time()",
        "async def f(c): time.time()\nserver.start(f)",
        "async def f(ctx):\n  await ctx.publish('x')\n  time.time()",
        "import prefect\n@prefect.workflow\nasync def f(): time.time()",
        "from durable import Flow\nflow = Flow('x')\n@flow.step\nasync def f(ctx): time.time()",
    ],
)
def test_what_is_no_workflow_is_left_in_peace(source):
    assert codes(CLOCK + source) == []


@pytest.mark.parametrize(
    "helpers, body",
    [
        ("def now(): return time.time()", "now()"),
        ("def now(): return time.time()\ndef later(): return now()", "later()"),
        ("async def wait(c): time.time()", "await wait(ctx)"),
        ("def key(x): return time.time()", "sorted(names, key=key)"),
        ("def key(x): return time.time()", "await ctx.wait_for_event('x', where=key)"),
        ("def key(x): return time.time()", "list(map(key, names))"),
        ("class A:\n  def __init__(self): self.at = time.time()", "A()"),
        ("", "def inner(): return time.time()\nreturn inner()"),
        ("", "return sorted(names, key=lambda name: time.time())"),
        (
            "class A:\n  async def f(self, ctx: Context): self.g()\n  def g(self): time.time()",
            "pass",
        ),
    ],
)
def test_what_a_workflow_calls_is_workflow_code(helpers, body):
    assert codes_of_body(body, CLOCK + helpers) == ["DUR101"]


@pytest.mark.parametrize(
    "helpers, body",
    [
        ("def now(): return time.time()", "await ctx.step(now)"),
        ("def now(): return time.time()", "await ctx.step(step(now, retry=3))"),
        ("def now(x): return time.time()", "await ctx.map(now, names)"),
        ("def undo(): time.time()", "ctx.compensate(undo)"),
        ("@step\ndef now(): return time.time()", "await ctx.step(now)"),
        ("def undo(x): time.time()\n@step(compensate=undo)\ndef do(): pass", "await ctx.step(do)"),
        ("", "@step\ndef now(): return time.time()\nawait ctx.step(now)"),
        ("", "await ctx.step(step(lambda: time.time(), name='now'))"),
        ("def now(): return time.time()", "pass"),
    ],
)
def test_steps_are_not_workflow_code(helpers, body):
    assert codes_of_body(body, CLOCK + helpers) == []


# -- values and effects


@pytest.mark.parametrize(
    "head, body, code",
    [
        ("from time import perf_counter as pc", "pc()", "DUR101"),
        ("from datetime import date", "date.today()", "DUR101"),
        ("import datetime", "datetime.datetime.utcnow()", "DUR101"),
        ("import time", "time.strftime('%Y')", "DUR101"),
        ("import time\nnow = time.time", "now()", "DUR101"),
        ("from time import localtime", "localtime()", "DUR101"),
        ("from time import gmtime", "gmtime()", "DUR101"),
        ("from time import ctime", "ctime()", "DUR101"),
        ("from time import asctime", "asctime()", "DUR101"),
        ("import time", "next(iter(time.time, None))", "DUR101"),
        ("import random, collections", "collections.defaultdict(random.random)", "DUR102"),
        ("import time", "map(time.strftime, names)", "DUR101"),
        ("import os", "filter(os.path.exists, names)", "DUR203"),
        ("import datetime", "f'{datetime.datetime.now():%Y}'", "DUR101"),
        ("import random", "random.Random()", "DUR102"),
        ("import random\ndice = random.Random(7)", "dice.random()", "DUR102"),
        ("import numpy as np", "np.random.default_rng()", "DUR102"),
        ("from uuid import uuid1", "uuid1()", "DUR103"),
        ("import random", "random.SystemRandom()", "DUR104"),
        ("import os", "os.getenv('X')", "DUR105"),
        ("from os import environ", "environ.get('X')", "DUR105"),
        ("", "id(names)", "DUR106"),
        ("from time import sleep", "sleep(1)", "DUR201"),
        ("", "import httpx\nhttpx.get('x')", "DUR202"),
        (
            "import httpx",
            "async with httpx.AsyncClient() as http:\n    await http.get('x')",
            "DUR202",
        ),
        ("import httpx\nhttp = httpx.AsyncClient()", "await http.get('x')", "DUR202"),
        ("from urllib.request import urlopen", "urlopen('x')", "DUR202"),
        ("import urllib.request", "urllib.request.urlopen('x').read()", "DUR202"),
        ("import socket", "socket.create_connection(('x', 1))", "DUR202"),
        ("", "await asyncio.open_connection('x', 1)", "DUR202"),
        ("import psycopg", "psycopg.connect('x')", "DUR202"),
        (
            "from openai import AsyncOpenAI\nai = AsyncOpenAI()",
            "await ai.responses.create()",
            "DUR202",
        ),
        ("try:\n  import httpx\nexcept ImportError:\n  httpx = None", "httpx.get('x')", "DUR202"),
        ("", "with open('x') as file:\n    file.read()", "DUR203"),
        ("from pathlib import Path", "(Path('x') / 'y').read_text()", "DUR203"),
        ("import pathlib", "here = pathlib.Path('x')\nhere.exists()", "DUR203"),
        ("import os", "os.path.exists('x')", "DUR203"),
        ("", "input()", "DUR203"),
        ("import os", "os.system('x')", "DUR204"),
        ("", "await asyncio.create_subprocess_exec('x')", "DUR204"),
        ("import threading", "threading.Thread(target=print).start()", "DUR205"),
        ("import concurrent.futures as cf", "cf.ThreadPoolExecutor()", "DUR205"),
        ("", "await asyncio.get_running_loop().run_in_executor(None, print)", "DUR205"),
        ("from durable import Client", "Client('x')", "DUR206"),
        ("from durable import Client\nclient = Client()", "await client.get('x')", "DUR206"),
        ("import logging", "logging.warning('x')", "DUR207"),
        ("import logging", "logging.getLogger('x').info('x')", "DUR207"),
        ("from loguru import logger", "logger.info('x')", "DUR207"),
    ],
)
def test_what_replay_would_see_or_do_again(head, body, code):
    assert codes_of_body(body, head) == [code]


@pytest.mark.parametrize(
    "head, body",
    [
        ("import time", "time.strftime('%Y', ctx.now().timetuple())"),
        ("import time", "time.localtime(0), time.gmtime(0), time.ctime(0)"),
        ("import time", "time.asctime(ctx.now().timetuple())"),
        ("import time, random", "map(time.gmtime, [0]), map(random.Random, [1])"),
        ("from collections import defaultdict", "defaultdict(list), map(str, names), iter(names)"),
        ("import datetime", "datetime.datetime(2030, 1, 1) + datetime.timedelta(1)"),
        ("import random", "random.Random(names[0]).random()"),
        ("import random", "random = ctx.random\nrandom.random()"),
        ("import uuid", "uuid.UUID(names[0])"),
        ("import os.path", "os.path.join('a', 'b') + os.sep"),
        ("from pathlib import Path", "Path('a').with_suffix('.b').name"),
        ("from urllib.parse import quote", "quote('x')"),
        ("import urllib.parse", "urllib.parse.quote('x')"),
        ("import httpx", "try:\n    pass\nexcept httpx.HTTPError:\n    raise httpx.HTTPError('x')"),
        ("import httpx", "httpx.Timeout(5)"),
        ("def open(x): return x", "open('x')"),
        ("", "hash = len\nhash(names)"),
        ("from shop import time", "time.time()"),
        ("", "names.time()"),
    ],
)
def test_what_replays_as_it_is(head, body):
    assert codes_of_body(body, head) == []


# -- calls

STEP = "@step\nasync def charge(x): ...\n"


@pytest.mark.parametrize(
    "body, expected",
    [
        ("ctx.sleep(1)", ["DUR301"]),
        ("asyncio.sleep(1)", ["DUR301"]),
        ("paid = ctx.step(charge, 1)", ["DUR301"]),
        ("paid = ctx.step(charge, 1)\nreturn paid.amount", ["DUR301"]),
        ("paid = ctx.step(charge, 1)\nif paid:\n    return f'{paid}'", ["DUR301"]),
        ("return ctx.step(charge, 1)", ["DUR301"]),
        ("for each in ctx.map(charge, names):\n    pass", ["DUR301"]),
        ("child = await ctx.start('x', 1)\nchild.result()", ["DUR301"]),
        ("async def one(): await ctx.sleep(1)\none()", ["DUR301"]),
        ("paid = ctx.step(charge, 1)\nawait paid", []),
        ("paid = ctx.step(charge, 1)\nreturn await asyncio.gather(paid)", []),
        ("one = lambda: ctx.step(charge, 1)\nawait one()", []),
        ("if await ctx.wait_for_approval('x'):\n    pass", []),
        ("await ctx.race(a=ctx.sleep(1), b=ctx.sleep(2))", []),
        ("async with ctx.saga():\n    ctx.compensate(charge, 1)", []),
        ("await charge(1)", ["DUR302"]),
        ("def plain(): ...\nawait ctx.step(plain)\nplain()", ["DUR302"]),
        ("known = step(print, name='x')\nknown(1)", ["DUR302"]),
        ("task = asyncio.create_task(ctx.sleep(1))", ["DUR303"]),
        ("asyncio.gather(ctx.sleep(1))", ["DUR303"]),
        ("task = asyncio.create_task(ctx.sleep(1))\nawait task", []),
        ("async with asyncio.TaskGroup() as group:\n    group.create_task(ctx.sleep(1))", []),
        ("await ctx.step(lambda: 1)", ["DUR304"]),
        ("await ctx.step(step(lambda: 1, name='one'))", []),
        ("await ctx.step(step(lambda: names, name='one'))", ["DUR305"]),
        ("def inner(): return names\nawait ctx.step(inner)", ["DUR305"]),
        ("def inner(): return ctx.run_id\nawait ctx.step(inner)", ["DUR305"]),
        ("import os\ndef inner(): return os.sep\nawait ctx.step(inner)", []),
        ("def inner(names): return names\nawait ctx.step(inner, names)", []),
        ("await ctx.step(charge, ctx)", ["DUR306"]),
        ("await ctx.call('other', ctx)", ["DUR306"]),
        ("from datetime import datetime\nawait ctx.sleep_until(datetime(2030, 1, 1))", ["DUR307"]),
        (
            "from datetime import datetime\nawait ctx.sleep_until(datetime(2030, 1, 1, tzinfo=x))",
            [],
        ),
    ],
)
def test_calls(body, expected):
    assert codes_of_body(body, STEP) == expected


# -- exceptions


def around(handler: str) -> str:
    return f"try:\n    await ctx.sleep(1)\n{handler}"


@pytest.mark.parametrize(
    "body, expected",
    [
        (around("except:\n    pass"), ["DUR401"]),
        (around("except BaseException:\n    return 1"), ["DUR401"]),
        (around("except (ValueError, BaseException):\n    pass"), ["DUR401"]),
        (around("except:\n    raise"), []),
        (around("except Exception:\n    pass"), []),
        (around("except BaseException as error:\n    raise ValueError from error"), []),
        (around("except BaseException:\n    def f(): raise ValueError"), ["DUR401"]),
        (around("except asyncio.CancelledError:\n    raise\nexcept BaseException:\n    pass"), []),
        ("try:\n    int('x')\nexcept:\n    pass", []),
        ("try:\n    async def f(): await ctx.sleep(1)\nexcept:\n    pass", []),
        ("with contextlib.suppress(BaseException):\n    await ctx.sleep(1)", ["DUR401"]),
        (around("except asyncio.CancelledError:\n    pass"), ["DUR402"]),
        (
            "while True:\n"
            + textwrap.indent(around("except asyncio.CancelledError:\n    continue"), "    "),
            ["DUR402"],
        ),
        (around("except asyncio.CancelledError:\n    await ctx.sleep(1)\n    return 1"), []),
        (around("finally:\n    return 1"), ["DUR403"]),
        (around("finally:\n    for x in names:\n        break"), []),
        (around("finally:\n    def f(): return 1"), []),
    ],
)
def test_handlers(body, expected):
    assert codes_of_body(body) == expected


# -- order and state


@pytest.mark.parametrize(
    "body, expected",
    [
        ("for x in {n for n in names}:\n    await ctx.step(print, x)", ["DUR501"]),
        ("for x in {'a', 'b'}:\n    await ctx.step(print, x)", ["DUR501"]),
        ("for x in {1, 2}:\n    await ctx.step(print, x)", []),
        ("for x in set(range(3)):\n    await ctx.step(print, x)", []),
        ("s = set(names)\nfor x in s:\n    await ctx.step(print, x)", ["DUR501"]),
        ("s = set(names)\ns = sorted(s)\nfor x in s:\n    await ctx.step(print, x)", []),
        ("s = frozenset(names) - {'a'}\nfor x in s:\n    await ctx.step(print, x)", ["DUR501"]),
        ("for i, x in enumerate(list(set(names))):\n    await ctx.step(print, x)", ["DUR501"]),
        ("await ctx.parallel([ctx.step(print, x) for x in set(names)])", ["DUR501"]),
        ("await asyncio.gather(*(ctx.step(print, x) for x in set(names)))", ["DUR501"]),
        ("await ctx.map(print, set(names))", ["DUR501"]),
        ("await ctx.step(print, list(set(names)))", ["DUR501"]),
        ("await ctx.step(print, set(names))", []),
        ("await ctx.step(print, len(set(names)))", []),
        ("s = set(names)\nfirst = s.pop()", ["DUR501"]),
        ("first = next(iter(set(names)))", ["DUR501"]),
        ("for x in sorted(set(names)):\n    await ctx.step(print, x)", []),
        ("for x in dict.fromkeys(set(names)):\n    await ctx.step(print, x)", ["DUR501"]),
        (
            "tasks = [asyncio.create_task(ctx.sleep(1)) for n in names]\nfor x in set(tasks):\n    await x",
            [],
        ),
        ("for x in set(names):\n    names.append(x)", []),
        ("total = sum(len(x) for x in set(names))", []),
    ],
)
def test_the_order_of_sets(body, expected):
    assert codes_of_body(body) == expected


@pytest.mark.parametrize(
    "head, body, expected",
    [
        ("a = []", "a.append(1)", ["DUR502"]),
        ("a = {}\n@step\ndef f(): a['x'] = 1", "return a.get('x')", ["DUR502"]),
        ("import collections\na = collections.Counter()", "a['x'] += 1", ["DUR502"]),
        ("import itertools\nids = itertools.count()", "next(ids)", ["DUR502"]),
        ("a = 0", "global a\na = 1", ["DUR502"]),
        ("import settings", "settings.DEBUG = True", ["DUR502"]),
        ("a = [1]", "return a[0]", []),
        ("a = []\na.append(1)", "return a[0]", []),
        ("a = []\n@step\ndef f(): a.append(1)", "await ctx.step(f)", []),
        ("a = []", "a = []\na.append(1)", []),
        ("", "def f(x=[]): ...\nf()", ["DUR503"]),
        ("def f(*, x=dict()): ...", "f()", ["DUR503"]),
        ("def f(x=()): ...", "f()", []),
        ("@step\ndef f(x=[]): ...", "await ctx.step(f)", []),
    ],
)
def test_state_outside_of_the_history(head, body, expected):
    assert codes_of_body(body, head) == expected
