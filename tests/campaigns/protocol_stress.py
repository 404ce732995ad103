"""The protocol with the database under everything that goes wrong at once.

Owners that lose answers, stall past their leases and crash; senders that repeat what was not answered;
users who leave transactions open; a terminator; a reaper; the server killed in between. Nothing that was
answered may be lost, nothing may happen twice, nothing may stay behind.

    python -m tests.campaigns.protocol_stress --messages 100000 [--kill-server] [--pgbouncer]

Prints what was played; exit code 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from durable.clock import SystemClock, to_datetime
from durable.errors import StoreUnavailable
from durable.model.history import CODES
from durable.model.rows import Delivered, Delivery, NewRun
from durable.model.wire import EventRow
from durable.storage.held_back import HeldBack
from durable.storage.postgres import PostgresStorage
from durable_testing.postgres import PostgresServer
from tests.campaigns.pgbouncer import pgbouncer
from tests.campaigns.stress_ledger import Ledger, check
from tests.campaigns.stress_owner import AT, LANES, Luck, Owner

T = TypeVar("T")
NEEDS = 5
"""Messages per run."""
SPEED = 5
"""How much faster the database's clock runs than the wall's: claims are looked at again after 10 s."""
LEASE = 5.0
"""Seconds of the database's clock."""
OPEN_RUNS = 150
KILL_EVERY = 1000
"""Messages sent between two crashes of the server."""


@dataclass(frozen=True)
class Plan:
    """What a campaign is asked to do."""

    messages: int
    seed: int
    owners: int = 3
    senders: int = 3
    kill_server: bool = False
    pooled: bool = False
    patience: float = 60.0
    """Seconds without progress after which a run counts as stuck."""


class Campaign:
    """One round: its actors share nothing but the database and the ledger."""

    def __init__(self, plan: Plan, server: PostgresServer, url: str) -> None:
        self.plan = plan
        self.server = server
        self.url = url
        self.ledger = Ledger()
        self.random = random.Random(plan.seed)
        self.sending = True
        self.done = False
        self.started = 0
        self.sent = 0
        self._begin = time.monotonic()

    def _clock(self) -> int:
        return AT + round((time.monotonic() - self._begin) * SPEED * 1_000_000)

    @contextlib.asynccontextmanager
    async def _store(self) -> AsyncIterator[PostgresStorage]:
        store = PostgresStorage(self.url)
        store.time = self._clock
        await store.open()
        yield store
        await store.close()

    async def run(self) -> list[str]:
        actors: list[Callable[[], Awaitable[None]]] = [self._reaper, self._terminator]
        actors += [self._owner] * self.plan.owners + [self._sender] * self.plan.senders
        actors += [self._user] * 3
        if self.plan.kill_server:
            actors.append(self._killer)
        async with asyncio.TaskGroup() as group:
            for actor in actors:
                group.create_task(actor())  # type: ignore[arg-type]
            group.create_task(self._overseer())
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            return check(self.ledger, connection)

    @property
    def server_url(self) -> str:
        """Past the pooler."""
        return self.server.url("stress")

    async def _overseer(self) -> None:
        """Ends the round when every run has ended, or nothing has moved for too long."""
        async with self._store() as store:
            last, since = -1, time.monotonic()
            while not self.done:
                await asyncio.sleep(0.2)
                moved = self.ledger.counts["commits"] + self.ledger.counts["messages"]
                if moved != last:
                    last, since = moved, time.monotonic()
                self.sending = self.sending and self.sent < self.plan.messages
                late = time.monotonic() - since > self.plan.patience
                self.done = late or (not self.sending and await self._all_ended(store))

    async def _all_ended(self, store: PostgresStorage) -> bool:
        with contextlib.suppress(StoreUnavailable):
            rows = await store._working.ask(
                'select not exists (select 1 from "durable".runs where finished_at is null)'
            )
            return bool(rows[0][0])
        return False

    async def _owner(self) -> None:
        async with self._store() as store:
            luck = Luck(random.Random(self.random.random()))
            owner = Owner(store, self.ledger, luck, needs=NEEDS, lease=LEASE)
            beat = asyncio.create_task(owner.beat())
            work = asyncio.create_task(owner.run())
            while not self.done and not work.done():
                await asyncio.sleep(0.05)
            owner.stop = True
            await work
            await beat

    async def _sender(self) -> None:
        """Starts runs and sends each of them what it needs, repeating what was not answered."""
        luck = random.Random(self.random.random())
        async with self._store() as store:
            held = HeldBack(lambda some, wait: store.deliver(some, wait=wait), SystemClock())
            while self.sending:
                base = self.started
                self.started += OPEN_RUNS // self.plan.senders
                ids = [f"run-{i}" for i in range(base, self.started)]
                first = EventRow(1, CODES["RunStarted"], AT, None, "root", b"")
                await self._insist(
                    lambda ids=ids, first=first: store.start(
                        [NewRun(i, LANES[0], first) for i in ids]
                    )
                )
                letters = [(i, n) for i in ids for n in range(NEEDS)]
                luck.shuffle(letters)
                while letters:
                    letters = await self._send(held, luck, letters)

    async def _send(
        self, held: HeldBack, luck: random.Random, letters: list[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        size = luck.choice((1, 1, 3, 20))
        now, rest = letters[:size], letters[size:]
        batch = [Delivery(i, "m", b"letter-%d" % n, f"key-{n}") for i, n in now]
        answers = await self._insist(lambda: held.deliver(batch))
        if luck.random() < 0.05:
            answers = await self._insist(lambda: held.deliver(batch))  # The answer got lost.
        for (run_id, _), one, later in zip(now, batch, answers, strict=True):
            answer = later if isinstance(later, Delivered) else await later
            if answer.number is not None:
                self.ledger.accept(run_id, one.data, answer.number)
        self.sent += len(now)
        if luck.random() < 0.3:
            await asyncio.sleep(luck.random() * 0.01)
        return rest

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                self.ledger.counts["unavailable"] += 1
                await asyncio.sleep(0.05)

    async def _reaper(self) -> None:
        blocked = EventRow(0, CODES["Blocked"], AT, None, None, b"")
        async with self._store() as store:
            while not self.done:
                await asyncio.sleep(0.1)
                with contextlib.suppress(StoreUnavailable):
                    reaped = await store.reap(blocked, 1_000_000)
                    self.ledger.counts["reaped workers"] += len(reaped.workers)
                    self.ledger.counts["recovered runs"] += reaped.freed

    async def _terminator(self) -> None:
        end = EventRow(0, CODES["RunTerminated"], AT, None, None, b"report")
        luck = random.Random(self.random.random())
        async with self._store() as store:
            while not self.done:
                await asyncio.sleep(luck.random() * 0.1)
                if self.started and self.sending:
                    victim = f"run-{luck.randrange(self.started)}"
                    with contextlib.suppress(StoreUnavailable):
                        status = await store.terminate(victim, end, b"\x01")
                        self.ledger.counts["terminated"] += status == "terminated"

    async def _user(self) -> None:
        """Leaves a transaction open that has sent an event, and rolls some of them back."""
        luck = random.Random(self.random.random())
        query = """select number from "durable".deliver(%s, %s::text[], array['m'],
                   array[%s::bytea], array[%s])"""
        while not self.done:
            await asyncio.sleep(luck.random() * 0.05)
            if not (self.started and self.sending):
                continue
            run_id, payload = (
                f"run-{luck.randrange(self.started)}",
                b"extra-%d" % luck.getrandbits(40),
            )
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(self.server_url) as connection:
                    now = to_datetime(self._clock())
                    cursor = await connection.execute(
                        query, (now, [run_id], payload, payload.decode())
                    )
                    row = await cursor.fetchone()
                    await asyncio.sleep(luck.random() * 0.3)
                    if luck.random() < 0.3:
                        await connection.rollback()
                        continue
                    await connection.commit()
                self.ledger.counts["user transactions"] += 1
                if row is not None and row[0] is not None:
                    self.ledger.accept(run_id, payload, row[0])

    async def _killer(self) -> None:
        """Crashes the server now and again, by what was sent: so that every round meets it."""
        next_at = KILL_EVERY // 2
        while not self.done:
            await asyncio.sleep(0.05)
            if self.sending and self.sent >= next_at:
                await asyncio.to_thread(self.server.restart_immediate)
                self.ledger.counts["server killed"] += 1
                next_at = self.sent + KILL_EVERY


def play(plan: Plan) -> tuple[list[str], Ledger, float]:
    """One round on a server of its own."""
    began = time.monotonic()
    safe = {"fsync": "on", "full_page_writes": "on"} if plan.kill_server else {}
    with PostgresServer(max_connections="100", **safe) as server, contextlib.ExitStack() as stack:
        url = server.create_database("stress")
        if plan.pooled:
            url = stack.enter_context(pgbouncer(url))
        campaign = Campaign(plan, server, url)
        broken = asyncio.run(campaign.run())
    return broken, campaign.ledger, time.monotonic() - began


def report(plan: Plan, broken: list[str], ledger: Ledger, seconds: float) -> None:
    """What was played, and what it found."""
    print(f"seed {plan.seed}, {seconds:.1f} s: {ledger.counts['messages']:,} messages accepted")
    for name, count in sorted(ledger.counts.items()):
        print(f"  {name:22} {count:>9,}")
    kinds = [sum(word in line for line in broken) for word in ("lost", "doubled", "stuck")]
    print(f"  lost {kinds[0]}  doubled {kinds[1]}  stuck {kinds[2]}  broken promises {len(broken)}")
    for line in broken[:20]:
        print("  BROKEN", line)


def main() -> int:
    """Parse the command line and play."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5_000, help="per round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kill-server", action="store_true")
    parser.add_argument("--pgbouncer", action="store_true")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    worst = 0
    for round_ in range(given.rounds):
        plan = Plan(
            given.messages, seed + round_, kill_server=given.kill_server, pooled=given.pgbouncer
        )
        broken, ledger, seconds = play(plan)
        report(plan, broken, ledger, seconds)
        worst |= bool(broken)
    return worst


if __name__ == "__main__":
    sys.exit(main())
