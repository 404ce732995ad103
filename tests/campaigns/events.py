"""Events from many senders to many runs, while workers are killed: each is consumed once, in order, or refused.

    python -m tests.campaigns.events --events 100000 --runs 1000 --rounds 100

Eight sender processes start runs and send to them, one by one and in lists, before anybody has claimed them,
while they are in a step, while they continue as new, and when they have ended. A round is a kill -9 of a
worker; the kills are spread evenly over the work. In the end every run has exactly what its senders were told
that was accepted, each sender's in the order in which it was sent; what was sent again under the same key has
changed nothing; and whoever was refused, nobody has anything of that.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from durable import Client
from durable.client.patience import patiently
from durable.model import history
from durable.model.carried import unpack_carried
from durable.model.payload import ANY
from durable.model.wire import EventRow, decode_event
from tests.campaigns import collecting
from tests.campaigns.campaign import Report, Stage, arguments, play_on_stores
from tests.campaigns.collecting import Plan
from tests.campaigns.crash_kill import kill
from tests.campaigns.effects import Entry, Ledger, LedgerReader
from tests.campaigns.fleet import PATIENCE_SECONDS, Fleet, Stuck, WorkerProcess, until
from tests.campaigns.oracle import (
    Oracle,
    sequence_faults,
    status_faults,
    steps_faults,
)

SMALLER = 10
"""How much less SQLite gets of everything: one writer at a time is all that it has."""
LOOK_SECONDS = 0.05
BUSY = ("the event loop has been blocked",)
"""What workers say on a machine that has not enough processors for all of it."""
LIFE_SECONDS = 0.2
"""How long a worker lives at most after it was chosen."""
LONG_SECONDS = 600.0
"""How long the whole of it may stand still."""
Sent = tuple[int, int, bool]
"""Sender, number, whether it was sent before."""


class EventOracle(Oracle):
    """Judges runs by what their senders were told."""

    def __init__(self, client: Client, ledger: Ledger, reader: LedgerReader, plan: Plan) -> None:
        super().__init__(client, ledger, reader)
        self._store = client.storage
        self._clock = client.clock
        self._plan = plan
        self._accepted: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._accepted_at: dict[str, list[int]] = defaultdict(list)
        self._refused: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._begun_at: dict[str, int] = {}

    def take_in(self, entry: Entry) -> None:
        super().take_in(entry)
        sent = entry.cmd, entry.stage
        if entry.kind == "accepted":
            self._accepted[entry.run].append(sent)
            self._accepted_at[entry.run].append(entry.at)
        elif entry.kind == "refused":
            self._refused[entry.run].append(sent)
        elif entry.kind == "again":
            self.figures["duplicates"] += 1
        elif entry.kind == "start":
            self._begun_at.setdefault(entry.run, entry.at)

    async def judge_all(self) -> None:
        """Look at all runs, which have ended."""
        for run, wanted in self._plan.wanted.items():
            await self._judge(run, wanted)
        whole = self.figures["consumed"] + self.figures["accepted and left unread by runs that end"]
        if whole != self.figures["accepted"]:
            self.violations.append(f"{self.figures['accepted']} accepted, {whole} received")

    async def _judge(self, run: str, wanted: int) -> None:
        ended = await self.close(run)
        if ended is None:
            return
        row, rows, starts = ended
        found = [*sequence_faults(rows, row.seq), *status_faults(rows, row.status)]
        found += steps_faults(rows, starts, collecting.right_steps(wanted), self.absent)
        events = [decode_event(one) for one in rows]
        received = [event for event in events if isinstance(event, history.EventReceived)]
        if [event.number for event in received] != list(range(1, len(received) + 1)):
            found.append(f"its messages have holes: {[event.number for event in received]}")
        place = [(row.key, len(received))]
        left = await patiently(self._clock, lambda: self._store.inbox(place))
        came = [_sent(event.payload) for event in received]
        found += self._mail_faults(run, came + [_sent(message.data) for message in left])
        found += _result_faults(rows, came, wanted)
        self.violations += [f"run {run}: {what}" for what in found]
        self.count(rows, starts)
        self._count_mail(run, events, wanted)

    def _mail_faults(self, run: str, mail: Sequence[Sent]) -> list[str]:
        """What lies in its history and its inbox is what was accepted for it."""
        found: list[str] = []
        got = [(sender, number) for sender, number, _ in mail]
        accepted, refused = self._accepted[run], self._refused[run]
        if any(again for *_, again in mail):
            found.append(f"what was sent again came in: {mail}")
        if len(set(got)) != len(got):
            found.append(f"something came twice: {sorted(got)}")
        if set(got) != set(accepted):
            lost, alien = set(accepted) - set(got), set(got) - set(accepted)
            found.append(f"accepted and lost: {sorted(lost)}; not accepted and there: {alien}")
        for sender in range(self._plan.senders):
            numbers = [number for who, number in got if who == sender]
            if numbers != sorted(numbers):
                found.append(f"those of sender {sender} are not in order: {numbers}")
            told = sum(who == sender for who, _ in (*accepted, *refused))
            if told != self._plan.sent(run, sender):
                found.append(f"sender {sender} was told of {told}")
        if refused and not run.startswith(collecting.CLOSING):
            found.append(f"refused before its end: {refused}")
        return found

    def _count_mail(self, run: str, events: Sequence[history.Event], wanted: int) -> None:
        figures, accepted = self.figures, self._accepted[run]
        figures["accepted"] += len(accepted)
        figures["consumed"] += wanted
        figures["refused because the run had ended"] += len(self._refused[run])
        figures["accepted and left unread by runs that end"] += len(accepted) - wanted
        begun = self._begun_at[run]
        figures["sent before anybody had begun the run"] += sum(
            at < begun for at in self._accepted_at[run]
        )
        steps = came = 0
        for event in events:
            if isinstance(event, history.StepCompleted):
                steps += 1
            elif isinstance(event, history.EventReceived):
                came += 1
                # The wait for it begins when so many steps are done.
                figures["there before the wait"] += steps <= (came - 1) // collecting.BETWEEN_STEPS
            elif isinstance(event, history.ContinuedAsNew):
                figures["generations"] += 1
                figures["carried into a new generation"] += len(
                    unpack_carried(event.carried).unread
                )


def _sent(payload: bytes) -> Sent:
    sender, number, again = ANY.decode(payload, "what was sent")
    return sender, number, again


def _result_faults(rows: Sequence[EventRow], came: Sequence[Sent], wanted: int) -> list[str]:
    """It has consumed what came first, in that order."""
    last = decode_event(rows[-1])
    if not isinstance(last, history.RunCompleted):
        return [f"it ended with {last}"]
    taken = [tuple(one) for one in ANY.decode(last.result, "result")]
    return [] if taken == came[:wanted] else [f"it consumed {taken}, there came {came}"]


async def play(options: argparse.Namespace, url: str, place: Path) -> Report:
    """Send everything, killing workers so often, and judge what has become of it."""
    plan = _plan(options, url)
    report = Report()
    with Fleet(
        url,
        place,
        slots=options.slots,
        lease=options.lease,
        max_recoveries=options.max_recoveries,
        expected=BUSY,
    ) as fleet:
        ledger = Ledger(fleet.ledger_path)
        async with Client(url) as client:
            oracle = EventOracle(client, ledger, fleet.reader, plan)
            stage = Stage(client, fleet, oracle, Random(options.seed), report)
            following = asyncio.create_task(_follow(oracle))
            try:
                for number in range(plan.senders):
                    _send_out(fleet, plan, number)
                for _ in range(options.workers):
                    fleet.hire()
                await _kill_over(stage, plan, options.rounds)
                await _finish(stage, plan)
                await oracle.judge_all()
                await _at_work(stage)
                await fleet.retire()
            except Stuck as error:
                oracle.violations.append(str(error))
            finally:
                following.cancel()
                ledger.close()
                stage.conclude()
    return report


def _plan(options: argparse.Namespace, url: str) -> Plan:
    less = SMALLER if url.startswith("sqlite") and not options.whole else 1
    return Plan(
        options.runs // less,
        options.events // less,
        options.senders,
        options.duplicates // less,
        options.seed,
    )


def _send_out(fleet: Fleet, plan: Plan, number: int) -> None:
    fleet.send_out(
        "tests.campaigns.event_sender",
        number=number,
        runs=plan.runs,
        events=plan.events,
        senders=plan.senders,
        duplicates=plan.duplicates,
        seed=plan.seed,
    )


async def _at_work(stage: Stage) -> None:
    """Wait until all workers have a lease: one that is still starting knows of no signals."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    leased: set[int] = set()
    while not leased.issuperset(member.pid for member in stage.fleet.members):
        if time.monotonic() > deadline:
            raise Stuck("a worker does not start")
        await asyncio.sleep(LOOK_SECONDS)
        leased = {info.pid for _, info in await stage.client.storage.leased()}


async def _follow(oracle: Oracle) -> None:
    """Keep up with the ledger."""
    while True:
        oracle.read_ledger()
        await asyncio.sleep(LOOK_SECONDS)


async def _kill_over(stage: Stage, plan: Plan, kills: int) -> None:
    """Kill so often, each time when another part of the steps has been begun."""
    oracle, steps = stage.oracle, sum(map(collecting.right_steps, plan.wanted.values()))

    def begun(share: float) -> bool:
        return oracle.figures["executions"] >= steps * share

    for number in range(kills):
        share = number / (kills + 1)
        await until(lambda share=share: begun(share), f"{share:.0%} of all steps", LONG_SECONDS)
        await kill(stage, await _victim(stage))


async def _victim(stage: Stage) -> WorkerProcess:
    """A worker that runs steps, at a random moment; mostly it still runs some."""
    running = stage.fleet.reader.running

    def busy() -> list[WorkerProcess]:
        return [member for member in stage.fleet.members if running(member.pid)]

    await until(busy, "a worker that runs a step", LONG_SECONDS)
    victim = stage.random.choice(busy())
    await asyncio.sleep(stage.random.uniform(0, LIFE_SECONDS))
    return victim


async def _finish(stage: Stage, plan: Plan) -> None:
    """Wait for the senders, and for the end of all runs."""
    for sender in stage.fleet.others:
        if await sender.gone(LONG_SECONDS):
            raise Stuck(f"a sender has failed: {sender.log}")
    deadline = time.monotonic() + LONG_SECONDS
    while (counts := await stage.client.count()) != {"completed": len(plan.wanted)}:
        stage.restart_dead()
        if time.monotonic() > deadline:
            raise Stuck(f"{len(plan.wanted)} runs were started, and there are {counts}")
        await asyncio.sleep(LOOK_SECONDS)


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__, rounds=100, stores=("sqlite", "both", "postgres"))
    parser.add_argument("--runs", type=int, default=1_000, help="runs that take all that comes")
    parser.add_argument("--events", type=int, default=100_000, help="for all of them together")
    parser.add_argument("--duplicates", type=int, default=10_000, help="sent again")
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--slots", type=int, default=200, help="steps of a worker at once")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--lease", type=float, default=10, help="seconds; the dead are not waited for"
    )
    parser.add_argument("--max-recoveries", type=int, default=1000)
    parser.add_argument("--whole", action="store_true", help="SQLite gets as much as PostgreSQL")
    return parser


if __name__ == "__main__":
    sys.exit(play_on_stores("events", play, options()))
