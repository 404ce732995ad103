"""Thirty mistakes, each marked on its line with the code of the rule that must find it, and nothing else wrong."""

import asyncio
import contextlib
import datetime as dt
import functools
import logging
import os
import random
import secrets
import subprocess
import threading
import time as clock
import uuid
from datetime import datetime
from pathlib import Path

import requests

import durable
from durable import Client, Context, Event, current_step
from durable import step as a_step
from durable import workflow as process

log = logging.getLogger(__name__)
session = requests.Session()
client = Client("sqlite:///shop.db")
seen: dict[str, int] = {}
count = 0


@a_step(retry=3)
async def charge(order: str, cents: int = 100) -> str:
    seen[order] = cents
    return f"{order}-{uuid.uuid4()}-{datetime.now()}"


def reserve(item: str) -> str:
    clock.sleep(0.1)
    return item


@process
async def clocks(ctx: Context) -> float:
    started = clock.time()  # expect: DUR101
    if dt.datetime.now(dt.UTC).hour > 18:  # expect: DUR101
        clock.sleep(60)  # expect: DUR201
    await ctx.sleep_until(datetime(2030, 1, 1))  # expect: DUR307
    return started


@durable.workflow(version=2)
async def chances(ctx: Context, items: list[str]) -> str:
    random.shuffle(items)  # expect: DUR102
    token = secrets.token_hex()  # expect: DUR104
    salt = os.urandom(8)  # expect: DUR104
    place = hash(items[0]) % 8  # expect: DUR106
    await ctx.step(charge, f"{token}{salt!r}{place}")
    return str(uuid.uuid4())  # expect: DUR103


@process
async def effects(ctx: Context, folder: Path) -> None:
    url = os.environ["SHOP"]  # expect: DUR105
    answer = session.get(url)  # expect: DUR202
    (folder / "answer").write_text(answer.text)  # expect: DUR203
    subprocess.run(["true"], check=True)  # expect: DUR204
    await asyncio.to_thread(reserve, "lamp")  # expect: DUR205
    log.info("done")  # expect: DUR207
    await client.send_event("other", "done")  # expect: DUR206
    print(current_step().attempt)  # expect: DUR208


@process
async def calls(ctx: Context, order: str) -> None:
    ctx.step(charge, order)  # expect: DUR301
    if ctx.wait_for_approval("boss"):  # expect: DUR301
        await charge(order)  # expect: DUR302
    asyncio.create_task(linger(ctx))  # expect: DUR303
    await ctx.step(functools.partial(reserve, "lamp"))  # expect: DUR304
    await ctx.step(reserve, "book")

    def label() -> str:
        return f"for {order}"

    await ctx.step(label)  # expect: DUR305
    await ctx.step(charge, ctx)  # expect: DUR306


async def linger(ctx: Context) -> None:
    try:
        await ctx.wait_for_event(Event("paid"))
    except:  # expect: DUR401
        await ctx.sleep(1)
    with contextlib.suppress(asyncio.CancelledError):  # expect: DUR402
        await ctx.sleep(5)
    while True:
        try:
            await ctx.sleep(6)
        finally:
            break  # expect: DUR403


class Shop:
    async def run(self, ctx: Context, names: list[str]) -> int:
        for name in set(names):  # expect: DUR501
            await ctx.step(charge, name)
        return self._tally(names)

    def _tally(self, names: list[str], known: list[str] = []) -> int:  # expect: DUR503
        global count
        count = len(names) + len(known)  # expect: DUR502
        return len(names)
