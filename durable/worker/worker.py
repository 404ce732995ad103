"""`Worker`: claims runs of its workflows, drives them, and hands them back when it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Self

from durable.client.later import refuse_options
from durable.client.patience import patiently
from durable.errors import DurableError, StoreUnavailable
from durable.model.duration import Duration, seconds_of
from durable.model.history import Unblocked
from durable.model.records import Health
from durable.model.rows import Lane, NewRun, WorkerInfo
from durable.model.wire import EventRow, encode_event
from durable.worker.alarm import Alarm
from durable.worker.claims import Claimer
from durable.worker.code import code_fingerprint
from durable.worker.guard import GuardMode
from durable.worker.journal import Journal
from durable.worker.lease import LeaseKeeper, Reaper, machine
from durable.worker.logs import written_once
from durable.worker.messenger import Messenger
from durable.worker.options import by_lane, check_names, mode_of, slots_of
from durable.worker.roster import Roster
from durable.worker.steps import StepRunner
from durable.worker.strays import Strays
from durable.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from durable.client.client import Client
    from durable.model.lifecycle import RunStatus
    from durable.model.runnable import Runnable
    from durable.model.steps import Step
    from durable.worker.execution import Execution

_log = logging.getLogger("durable.worker")


class Worker:
    """Runs workflows. Any number of workers, in any number of processes, may share one database.

    `queues` names the queues that it serves, with the number of steps that run at once for each.
    `grace` is how long running steps may take to end when it stops; `lease` how long its runs stay its
    own without a sign of life (both seconds or a timedelta); `cache` how many parked runs it remembers;
    `max_recoveries` how often a run may lose its worker without progress before it is blocked.
    `guard` says what becomes of workflow code that reads the clock, draws a random number, sleeps, or touches
    files, sockets, processes or threads: `warn` logs each such line once (it looks at the first activations of
    a workflow, then at one of 32), `raise` looks at all of them and blocks the run, `off` does not look.
    """

    def __init__(
        self,
        client: Client,
        /,
        *,
        workflows: Iterable[Runnable[Any, Any]] = (),
        steps: Iterable[Step[..., Any]] = (),
        queues: Sequence[str] | Mapping[str, int] = ("default",),
        name: str | None = None,
        resources: object = (),
        around_step: object = None,
        grace: Duration = 30,
        lease: Duration = 15,
        cache: int = 1000,
        max_recoveries: int = 5,
        guard: GuardMode = "warn",
    ) -> None:
        refuse_options("Worker", resources=resources or None, around_step=around_step)
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._client = client
        self._workflows = by_lane(workflows)
        check_names(steps)
        self._queues = slots_of(queues)
        self._grace = seconds_of(grace, "Worker(grace=)")
        self._lease = seconds_of(lease, "Worker(lease=)")
        if self._lease < 1:
            message = f"Worker(lease=) must be at least 1 second, not {self._lease:g}"
            raise ValueError(message)
        self._max_recoveries = max_recoveries
        self._cache_size = cache
        self._guard: GuardMode = mode_of(guard)
        self._tasks: list[asyncio.Task[None]] = []
        self._state = "new"
        self._stopped = asyncio.Event()
        self._stopped_early = False
        self._joined = False
        self._trouble: dict[str, str] = {}
        self._code = ""

    # -- life

    async def __aenter__(self) -> Self:
        if self._state != "new":
            message = f"worker {self.name} was used already: make a new one"
            raise RuntimeError(message)
        if not self._client.is_open:
            message = f"worker {self.name}: its client is not open, use `async with client:` first"
            raise DurableError(message)
        for workflow in self._workflows.values():
            workflow.resolve()
        self._state = "starting"
        self._clock = self._client.clock
        self._store = self._client.storage
        self._code = code_fingerprint(self._workflows.values())
        if self._guard == "raise":  # what it has blocked, the same code may drive without it
            self._code += "+guard"
        self._assemble()
        self._joining = asyncio.ensure_future(patiently(self._clock, self._join))
        try:
            await self._joining
        except BaseException:
            await self._give_up()
            self._refuse_if_stopped()
            raise
        if self._stopped_early:
            await self._give_up()
            self._refuse_if_stopped()
        self._joined = True
        self._watchdog.start()
        self._state = "running"
        self._client.attach(self)
        for task, loop in (
            ("journal", self._journal.run),
            ("messages", self._messenger.run),
            ("claims", self._claimer.run),
            ("reaper", self._reap),
            ("strays", self._strays.run),
            ("hints", self._listen),
        ):
            self._tasks.append(
                asyncio.create_task(self._forever(task, loop), name=f"durable-{task}")
            )
        if self._keeper.lost:  # while the rest of it began
            self.fenced()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def _assemble(self) -> None:
        roster = Roster(
            self, self._workflows, self._queues, self._cache_size, self._clock, self._guard
        )
        self._roster, parts = roster, roster.parts
        self._keeper = parts.keeper = LeaseKeeper(
            self._store,
            self._clock,
            self._lease,
            on_fenced=self.fenced,
            on_healthy=self._pump,
        )
        self._journal = parts.journal = Journal(self._store, roster, self._clock)
        self._messenger = parts.messenger = Messenger(self._store, roster, self._clock)
        self._strays = Strays(self._store, roster, self._clock, self._lease / 3)
        self._reaper = Reaper(self._store, self._keeper, self._max_recoveries)
        self._runners = parts.runners = {
            queue: self._runner(roster, slots) for queue, slots in self._queues.items()
        }
        self._watchdog = Watchdog()

    def _runner(self, roster: Roster, slots: int) -> StepRunner:
        """What runs the steps of one queue; tests put another one in its place."""
        return StepRunner(roster, slots, Random(), self._clock)

    async def _join(self) -> None:
        """Get a worker id and say what this worker can run."""
        lanes = [
            workflow.lane(queue) for workflow in self._workflows.values() for queue in self._queues
        ]
        roster = self._roster
        roster.offer(await self._store.lanes(lanes))
        self._claimer = roster.parts.claimer = Claimer(self._store, roster, self._clock)
        self._alarm = roster.parts.alarm = Alarm(roster.now, roster.call_at, self._claimer.poke)
        host, boot = machine()
        info = WorkerInfo(
            name=self.name,
            host=host,
            pid=os.getpid(),
            boot=boot,
            code=self._code,
            queues=tuple(self._queues),
            workflows=tuple(dict.fromkeys(name for name, _ in self._workflows)),
        )
        await self._keeper.register(info)
        await self._unblock([self._code])

    async def _unblock(self, codes: Sequence[str]) -> int:
        """Try the runs again that other code than these has blocked."""
        event = encode_event(0, Unblocked(self._keeper.now(), self._code))
        return await self._store.unblock(tuple(self._roster.lanes), codes, event)

    async def stop(self) -> None:
        """Drain: claim nothing, let running steps end within `grace`, commit, hand everything back."""
        if self._state in {"new", "stopped"}:
            self._state = "stopped"
            return
        if self._state == "starting":
            self._stopped_early = True
            self._joining.cancel()
            await self._stopped.wait()
            return
        if self._state == "draining":  # somebody else has begun it
            await self._stopped.wait()
            return
        self._state = "draining"
        try:
            await self._drain()
        finally:
            await self._leave()

    def _refuse_if_stopped(self) -> None:
        if self._stopped_early:
            message = f"worker {self.name} was stopped while it started"
            raise RuntimeError(message)

    async def _drain(self) -> None:
        self._client.detach(self)
        self._cancel("claims")
        runners = self._runners.values()
        for runner in runners:
            runner.refuse()
        await asyncio.gather(*(runner.drain(self._grace) for runner in runners))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._journal.drained(), timeout=max(1.0, self._lease))

    async def _leave(self) -> None:
        for task in self._tasks:
            # Twice would cut a database driver off that tells the server of the first time.
            if not task.cancelling():
                task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        except asyncio.CancelledError:  # whoever stops it: nobody else gives the lease back
            await self._leave_nothing()
            raise
        await self._leave_nothing()

    async def _leave_nothing(self) -> None:
        self._alarm.stop()
        self._watchdog.stop()
        self._roster.forget_all()
        for runner in self._runners.values():
            runner.close()
        await self._give_up()

    async def _give_up(self) -> None:
        """Give the lease back, in no more time than it lasts."""
        self._keeper.stop()
        try:
            if self._keeper.worker_id:
                async with asyncio.timeout(self._lease):
                    await self._store.unregister(self._keeper.worker_id)
        except (StoreUnavailable, TimeoutError) as error:
            _log.warning("worker %s could not hand back its runs: %s", self.name, error)
        except Exception:
            _log.exception("worker %s could not hand back its runs", self.name)
        finally:
            self._state = "stopped"
            self._stopped.set()
        await asyncio.to_thread(self._keeper.join)

    def _cancel(self, name: str) -> None:
        for task in self._tasks:
            if task.get_name() == f"durable-{name}":
                task.cancel()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then drain; a second signal stops at once.

        Opens the client, and closes it in the end, when nobody has opened it. Meanwhile no handler of
        `logging` that is there by now writes again what workflow code says on replay.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        entered = asyncio.current_task()

        def signalled() -> None:
            if stop.is_set() and entered is not None:
                entered.cancel()
            stop.set()

        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, signalled)
        try:
            async with contextlib.AsyncExitStack() as stack:
                if not self._client.is_open:
                    await stack.enter_async_context(self._client)
                stack.enter_context(written_once())
                await stack.enter_async_context(self)
                await stop.wait()
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def health(self) -> Health:
        """Whether the process lives and takes work; `details` for people. Does no I/O."""
        trouble = self._all_trouble()
        ready = self._state == "running" and self._keeper.healthy() and not trouble
        details: dict[str, Any] = {"state": self._state, "name": self.name, "trouble": trouble}
        if self._joined:
            details |= {
                "worker": self._keeper.worker_id,
                "lease": self._keeper.healthy(),
                "runs": len(self._roster),
                "cached": len(self._roster.cache),
                "steps": sum(runner.running for runner in self._runners.values()),
                "backlog": sum(runner.backlog for runner in self._runners.values()),
                "commits": self._journal.commits,
                "events": self._journal.events,
                "stalls": self._watchdog.stalls,
            }
        return Health(live=self._state != "stopped", ready=ready, details=details)

    def _all_trouble(self) -> dict[str, str]:
        trouble = dict(self._trouble)
        if self._joined:
            if self._claimer.trouble is not None:
                trouble["claims"] = self._claimer.trouble
            if self._messenger.trouble is not None:
                trouble["messages"] = self._messenger.trouble
            if self._journal.failing_since is not None:
                seconds = self._clock.monotonic() - self._journal.failing_since
                trouble["journal"] = f"no commit has been answered for {seconds:.1f} s"
        return trouble

    # -- background loops

    async def _forever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """No loop dies of an error; it shows in `health` until the loop has got over it."""
        while True:
            try:
                await loop()
                return
            except StoreUnavailable as error:
                self._trouble[name] = str(error)
                _log.warning("%s of worker %s: %s", name, self.name, error)
            except Exception as error:
                self._trouble[name] = repr(error)
                _log.exception("%s of worker %s failed, going on", name, self.name)
            await self._clock.sleep(0.2)
            self._trouble.pop(name, None)

    async def _reap(self) -> None:
        while True:
            if self._keeper.healthy():
                freed = await self._reaper.reap()
                # Runs that were blocked by code which nobody runs any more.
                living = {self._code, *(info.code for _, info in await self._store.leased())}
                if freed + await self._unblock(sorted(living)):
                    self._claimer.poke()
            await self._clock.sleep(self._lease / 3)

    async def _listen(self) -> None:
        async for _ in self._store.hints():
            self._claimer.poke()

    # -- what its runs and its client ask of it

    @property
    def code(self) -> str:
        """The fingerprint of the code that it runs."""
        return self._code

    @property
    def worker_id(self) -> int:
        """The id of the current lease."""
        return self._keeper.worker_id

    @property
    def running(self) -> bool:
        """It takes runs."""
        return self._state == "running"

    def now(self) -> int:
        """The database's time."""
        return self._keeper.now()

    def held(self, key: int) -> Execution | None:
        """The run of this key, if it is driven here."""
        return self._roster.held(key)

    def holds(self, run_id: str) -> bool:
        """Whether this worker drives the run right now."""
        return self._roster.holds(run_id)

    def eager_owner(self, lane: Lane) -> int | None:
        """The worker id under which a new run of this lane may be started here at once."""
        return self._roster.eager_owner(lane)

    def expect(self, run_id: str) -> None:
        """A run is about to be started that this worker is to own from its first moment on."""
        self._roster.expect(run_id)

    def started(self, key: int, run: NewRun) -> None:
        """It was started, unless it was found here meanwhile."""
        self._roster.started(key, run)

    def expect_no_more(self, run_id: str) -> None:
        """Nothing more is heard of that start."""
        self._roster.expect_no_more(run_id)

    def resolve(self, run_id: str, status: RunStatus, last: EventRow) -> None:
        """A run has ended here, durably."""
        self._client.resolve(run_id, status, last)

    def stirred(self) -> None:
        """Others may have work: workers of the same client, and other processes."""
        self._client.stirred()

    def poke(self) -> None:
        """There may be work."""
        self._claimer.poke()

    def _pump(self) -> None:
        """The lease holds again: what waited for it may begin."""
        for runner in self._runners.values():
            runner.pump()

    def fenced(self) -> None:
        """The lease is gone: nothing that this worker holds is its own. Start over with a new id."""
        if self._state != "running" or not self._keeper.worker_id:
            return  # it is stopping, or coming back already
        _log.error("worker %s lost its lease: its runs go on elsewhere", self.name)
        self._let_go()
        self._cancel("rejoin")  # an earlier one that is still at it
        task = asyncio.create_task(self._forever("rejoin", self._rejoin), name="durable-rejoin")
        self._tasks.append(task)

    def _let_go(self) -> None:
        self._keeper.stop()
        self._roster.forget_all()
        self._keeper.worker_id = 0

    async def _rejoin(self) -> None:
        self._cancel("claims")
        if self._keeper.worker_id:  # an earlier try came as far as a lease, and may hold runs
            self._let_go()
        await self._join()
        task = asyncio.create_task(
            self._forever("claims", self._claimer.run), name="durable-claims"
        )
        self._tasks.append(task)
