"""A cluster on one loop: processes that come and go, one database between them, and a world that is not kind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from random import Random
from typing import Any, Final

from tests.simulation.database import SharedDatabase
from tests.simulation.door import answer_of, line_of
from tests.simulation.loop import SimulatedLoop, Site
from tests.simulation.plan import Plan
from tests.simulation.process import Process, SimulatedWorker
from tests.simulation.programs import program, stubborn
from tests.simulation.trace import Trace
from tests.simulation.watch import Watch

START: Final = 1_767_225_600_000_000
"""The first of January 2026, in microseconds."""


class Cluster:
    """One simulation while it runs."""

    def __init__(self, plan: Plan, database: SharedDatabase, trace: Trace) -> None:
        self.plan = plan
        self.menu = plan.menu
        self.random = Random(f"course {plan.seed}")
        self.loop = SimulatedLoop(self.random, START)
        self.database = database
        self.trace = trace
        self.database_site = Site("database")
        self.lease = plan.lease
        self.knows_the_dead = plan.knows_the_dead
        self.real_pid = os.getpid()
        self.clock_offset = self.random.choice((0, self.random.randint(-(10**10), 10**10)))
        self.down_until = 0
        self.calm_from = 0.0
        """When the last of what travels slowly has arrived, in seconds since the beginning."""
        self.clock_jumped_at = -(10**18)
        self.processes: list[Process] = []
        self.version = plan.first_version
        self.versions = {plan.first_version}
        """Of the code that has run before everything was healed."""
        self.build = 0
        """Raised when everything is deployed anew: code that has blocked nothing yet."""
        self.healed = False
        self.watch = Watch(self)
        self._numbers = 0

    # -- time and chance

    def now(self) -> int:
        """The database's clock."""
        return self.loop.micros + self.clock_offset

    def travel_time(self) -> float:
        return self.random.random() * self.plan.travel if self.plan.travel else 0.0

    def under_way(self, seconds: float) -> None:
        """Something that was sent now arrives so late."""
        self.calm_from = max(self.calm_from, self.loop.elapsed() + seconds)

    def note(self, who: object, *what: Any) -> None:
        self.trace.note(self.loop.elapsed(), who, *what)

    # -- the database

    def carry_out(
        self, process: Process, verb: str, call: Any, arguments: Any, options: Any
    ) -> Any:
        """Do what a process has asked for, in one turn, and look at what it did."""
        self.trace.counts[verb] += 1
        before = self.database.changes
        self.watch.before(verb, arguments)
        answer = answer_of(call, arguments, options)
        self.note(process, *line_of(verb, arguments, answer))
        with self.watch.remembering():
            self.watch.after(process, verb, arguments, answer)
            if self.database.changes != before:
                self.watch.changed(process, verb, arguments)
        return answer

    # -- processes

    def process(self, name: str) -> Process:
        """A new one without a worker."""
        self._numbers += 1
        process = Process(self, name, self._numbers, version=self.version)
        process.trusted = self.healed
        if not self.healed:
            self.versions.add(self.version)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something in a process."""
        context = process.context.copy()
        task = self.loop.create_task(work, context=context)
        process.tasks.add(task)
        return task

    def hire(self, name: str) -> Process:
        """A process with a worker begins."""
        process, plan = self.process(name), self.plan
        calm = self.healed
        process.worker = SimulatedWorker(
            self,
            process,
            workflows=[program, stubborn],
            name=name,
            lease=plan.lease,
            grace=2.0,
            cache=plan.cache,
            queues={"default": 100 if calm else plan.slots},
            max_recoveries=plan.max_recoveries,
        )
        self.note(process, "begins", process.number, process.version)
        self.spawn(process, self._begin(process))
        return process

    async def _begin(self, process: Process) -> None:
        assert process.worker is not None
        try:
            await process.client.open()
            await process.worker.__aenter__()
        except Exception as error:  # a supervisor tries again
            if not isinstance(error, RuntimeError):
                self.note(process, "could not begin", type(error).__name__)
            self.crash(process)

    def lives(self, number: int) -> bool:
        """Whether the process of this number exists."""
        return any(one.number == number and not one.dead for one in self.processes)

    def workers(self) -> list[Process]:
        return [one for one in self.processes if one.worker is not None and not one.dead]

    def crash(self, process: Process) -> None:
        """It is gone from one moment to the next. Somebody starts it again."""
        if process.dead or process.trusted:
            return
        self.note(process, "dies")
        self.loop.kill(process)
        self.watch.died(process)
        if process.worker is not None:
            pause = self.random.choice((0.0, 0.1, 1.0, 2 * self.lease)) * self.random.random()
            self.loop.call_later(
                pause, self._replace, process.name, context=self.loop.kernel.context
            )

    def _replace(self, name: str) -> None:
        if not self.healed and not any(one.name == name for one in self.workers()):
            self.hire(name)

    def stall(self, process: Process, seconds: float | None = None) -> None:
        """It gets no turn for a while, mostly for longer than its lease."""
        if process.dead or process.frozen or process.trusted:
            return
        if seconds is None:
            seconds = self.random.uniform(0.1, 3.0) * self.lease
        self.note(process, "stalls", round(seconds, 3))
        process.stalls.append((self.loop.micros, self.loop.micros + round(seconds * 1e6)))
        self.loop.freeze(process, seconds)

    def stop(self, process: Process) -> asyncio.Task[Any] | None:
        """The orderly end of a process."""
        if process.dead or process.stopping or process.worker is None:
            return None
        process.stopping = True
        self.note(process, "stops")
        return self.spawn(process, self._stop(process))

    async def _stop(self, process: Process) -> None:
        assert process.worker is not None
        began = self.loop.elapsed()
        await process.worker.stop()
        await process.client.close()
        self.note(process, "has stopped")
        self.watch.stopped(process, self.loop.elapsed() - began)
        self.loop.call_soon(self._bury, process, context=self.loop.kernel.context)

    def _bury(self, process: Process) -> None:
        """An orderly end is one: nothing is left running in it."""
        self.watch.left_behind(process)
        self.loop.kill(process)
        if not self.healed:
            self._replace(process.name)

    def hint(self, sender: Process) -> None:
        """Tell the others."""
        for process in self.processes:
            if process is not sender and not process.dead:
                process.door.hinted()

    # -- healing

    def heal(self) -> None:
        """Nothing fails any more; who is dead is replaced."""
        self.note("world", "heals")
        self.healed = True
        self.menu.on = False
        self.down_until = 0
        for process in self.processes:
            process.door.cut_until = process.heartless_until = 0
            process.trusted = True
            if process.frozen:
                self.loop.thaw(process)
        if not any(not process.stopping for process in self.workers()):
            self.versions.add(self.version)
            self.hire("substitute")

    def deploy(self, version: int) -> None:
        """All processes with workers are killed, and others begin, with this code."""
        self.note("world", "deploys", version)
        self.version = version
        self.build += 1
        for process in self.workers():
            self.loop.kill(process)
            self.watch.died(process)
        for number in range(min(self.plan.workers, 2)):
            self.hire(f"healed{number}")

    def close(self) -> None:
        """End everything that still hangs about. What it does on its way out, nobody sees."""
        loop = self.loop
        self.watch.over = True
        asyncio.events._set_running_loop(loop)
        try:
            for process in self.processes:
                for execution in process.executions():
                    with contextlib.suppress(Exception):
                        execution.discard()
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
        finally:
            asyncio.events._set_running_loop(None)
        loop._timers.clear()
        loop.close()
