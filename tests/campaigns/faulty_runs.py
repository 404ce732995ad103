"""Random programs on two workers whose store fails and whose processes die, on a virtual clock.

    python -m tests.campaigns.faulty_runs --programs 2000 --seed 1

Whatever happens, every run ends, histories are whole, nothing that was recorded happens again, and what a
failed run did is undone. A program that breaks this is shrunk and printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hypothesis import HealthCheck, Phase, given, seed, settings

from durable import Client
from durable.errors import DurableError
from durable.model import history
from durable.model.rows import WaitFilter, WaitKind
from durable.model.wire import decode_event
from durable.worker.execution import Execution
from durable_testing.faults import FAULTS as KINDS
from durable_testing.faults import Crash, Fault, Operation
from tests.acceptance.crash_points import LEDGER, check_children, check_messages
from tests.campaigns.faulty_runs_programs import ACTS, FAULTS, PROGRAMS, Tree, run_program
from tests.worker.one_run import Host
from tests.worker.world import Process, World

_KINDS = (WaitKind.EVENT, WaitKind.INPUT, WaitKind.REQUEST)
_FAILED = ("failed", "compensated", "cancelled")
_SECONDS = 400
"""By then every run must have ended."""


async def play(
    program: Tree, acts: Sequence[tuple[float, str]], faults: Sequence[tuple[int, int, str]]
) -> Counter[str]:
    """One program with its users and its faults; what happened."""
    async with World() as world:
        LEDGER.clear(world)
        world.database.on_events = LEDGER.note
        workers = [await world.process(run_program, plan=_plan(n, faults)) for n in (0, 1)]
        outside = await world.process()
        user = asyncio.ensure_future(_use(outside.client, program, acts))
        try:
            await world.until(user.done, _SECONDS)
            user.result()
        finally:
            user.cancel()
            await asyncio.gather(user, return_exceptions=True)
        died = await _all_end(world, workers)
        await _check(world)
        fired = Counter(
            next(label for label, fault in KINDS.items() if fault is met.fault)
            for process in world.processes
            for met in process.storage.fired
        )
        events = sum(row.seq for row in await world.rows())
        counts = Counter(programs=1, runs=len(await world.rows()), events=events, deaths=died)
        return counts + fired


def _plan(number: int, faults: Sequence[tuple[int, int, str]]) -> Any:
    table = {at: KINDS[kind] for which, at, kind in faults if which == number}

    def fault_of(operation: Operation) -> Fault | None:
        return table.get(operation.number)

    return fault_of


async def _use(client: Client, program: Tree, acts: Sequence[tuple[float, str]]) -> None:
    for id in ("other", "main"):
        tree: Tree = {"do": "event", "name": "a", "s": 6.0, "key": "k"}
        await client.start(run_program, program if id == "main" else {"tree": tree}, id=id)
    for number, (pause, act) in enumerate(acts):
        await client.clock.sleep(pause)
        with contextlib.suppress(DurableError):
            await _act(client, number, act)


async def _act(client: Client, number: int, act: str) -> None:
    verb, _, name = act.partition(" ")
    if act == "end wait":
        await client.cancel_wait("main", "a")
    elif verb == "publish":
        await client.publish(name, number, key="k")
    elif act == "answer":
        await client.provide_input("main", "q", number, wait=2)
    elif act == "pause":
        await client.pause("main")
        await client.clock.sleep(2)
        await client.resume("main")
    elif act == "cancel":
        await client.cancel("main")
    elif act == "terminate":
        await client.terminate("main")
    else:
        await client.send_event("main", act, number)


async def _all_end(world: World, workers: Sequence[Process]) -> int:
    """Let time pass, and have a new worker where all are dead, until every run has ended."""
    end = world.clock.monotonic() + _SECONDS
    while any(row.finished_at is None for row in await world.rows()):
        living = [p for p in world.processes if p.worker is not None and not p.dead]
        if not living:
            await world.process(run_program)
        await world.pass_time(1)
        if world.clock.monotonic() > end:
            rows = [(row.id, row.status, row.waiting_for) for row in await world.rows()]
            raise AssertionError(f"not all of these runs end: {rows}")
    return sum(process.dead for process in workers)


async def _check(world: World) -> None:
    await world.check()
    rows = await world.rows()
    histories: dict[int, list[Any]] = {}
    for row in rows:
        events = await world.history(row.id)
        histories[row.key] = [decode_event(event) for event in events]
        check_messages(histories[row.key], row.id)
        _check_replay(row.key, row.id, events)
        _check_undos(row.id, row.status, histories[row.key])
    check_children(rows, histories)
    assert not await world.database.inner.waits(WaitFilter(_KINDS)), "waits of runs that ended"
    _check_attempts({str(row.key): row.id.partition("~")[0] for row in rows})


def _check_replay(key: int, run_id: str, events: Sequence[Any]) -> None:
    """The code agrees with the history, from its last generation on."""
    kinds = (history.ContinuedAsNew.code, history.RunRetried.code)
    first = max([n for n, event in enumerate(events) if event.type in kinds], default=0)
    execution = Execution(Host(), run_program, key, run_id, 1, "default")  # type: ignore[arg-type]
    execution.replay(events[first:])
    blocked = execution.blocked
    execution.discard()
    assert blocked is None, blocked


def _check_undos(run_id: str, status: str, events: Sequence[Any]) -> None:
    """What a failed run did is undone once; nothing is undone that was not done."""
    made = sum(isinstance(e, history.StepCompleted) and e.name == "make" for e in events)
    undone = [e.cmd for e in events if isinstance(e, history.CompensationCompleted)]
    assert len(undone) == len(set(undone)) <= made, (run_id, made, undone)
    if status in _FAILED:
        assert len(undone) == made, f"run {run_id} is {status}: {made} made, {len(undone)} undone"


def _check_attempts(ids: Mapping[str, str]) -> None:
    """No attempt of a step began after its outcome was durable, in runs whose ids were used once."""
    twice = {id for id, count in Counter(ids.values()).items() if count > 1}
    completed: set[str] = set()
    for what, name in LEDGER.entries:
        if what == "began":
            assert name not in completed, f"step {name} ran again"
            continue
        key, _, cmd = name.partition(":")
        if what in {"StepCompleted", "CompensationCompleted"} and ids[key] not in twice:
            done = f"{ids[key]}:{cmd}"
            assert done not in completed, f"step {done} was recorded twice"
            completed.add(done)


def campaign(programs: int, first: int) -> tuple[Counter[str], str | None]:
    """Play so many programs; what happened, and the smallest program that broke something."""
    figures: Counter[str] = Counter()
    smallest: list[str] = []

    @seed(first)
    @settings(
        max_examples=programs,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAMS, ACTS, FAULTS)
    def whatever_fails(program: Tree, acts: Any, faults: Any) -> None:
        try:
            counts = asyncio.run(play(program, acts, faults))
        except (Exception, Crash) as error:
            text = json.dumps({"program": program, "acts": acts, "faults": faults})
            told = f"{text}\n{type(error).__name__}: {error}"
            smallest[:] = [min([*smallest, told], key=len)]
            raise
        figures.update(counts)

    loud = [logging.getLogger(name) for name in ("durable", "asyncio")]
    levels = [logger.level for logger in loud]
    try:
        for logger in loud:
            logger.setLevel(logging.CRITICAL + 1)
        whatever_fails()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return figures, smallest[0] if smallest else repr(error)
    finally:
        for logger, level in zip(loud, levels, strict=True):
            logger.setLevel(level)
    return figures, None


def repeat(text: str) -> None:
    """Play one program again, as it was printed."""
    told = cast("dict[str, Any]", json.loads(text))
    asyncio.run(play(told["program"], told["acts"], told["faults"]))


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--programs", "--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="to repeat one")
    parser.add_argument("--repeat", help="a program as it was printed")
    options = parser.parse_args()
    if options.repeat:
        repeat(options.repeat)
        return 0
    print(f"faulty_runs: seed {options.seed}, {options.programs} programs", flush=True)
    start = time.monotonic()
    figures, broken = campaign(options.programs, options.seed)
    if broken is not None:
        print(f"  VIOLATION {broken}")
    words = ", ".join(f"{number:,} {what}" for what, number in figures.items())
    print(f"faulty_runs: {words}, {time.monotonic() - start:.0f} s", flush=True)
    return 1 if broken is not None else 0


if __name__ == "__main__":
    sys.exit(main())
