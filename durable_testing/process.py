# ruff: noqa: SLF001 - who stands in for the operating system opens every drawer of a process
"""A process of a test: a client and mostly a worker behind one door to the database. It can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.client import Client
    from durable.worker import Worker
    from durable.worker.step_context import StepContext


class Process:
    """Runs in the event loop of the test, like everything else; dead it is when nothing of it runs any more."""

    def __init__(self, client: Client, worker: Callable[[Client], Worker] | None = None) -> None:
        self.client = client
        self.worker = worker(client) if worker is not None else None
        self.dead = False

    async def start(self) -> None:
        """Open the client and start the worker."""
        await self.client.open()
        if self.worker is not None:
            await self.worker.__aenter__()

    @property
    def worker_id(self) -> int:
        """The id of its worker's lease; 0 before it has one."""
        if self.worker is None or not hasattr(self.worker, "_keeper"):
            return 0
        return self.worker.worker_id

    def runs(self, attempt: object) -> bool:
        """Whether this is an attempt of its worker."""
        return any(attempt is one for one in self._running())

    async def die(self, closing: AbstractContextManager[None] | None = None) -> None:
        """Drop every task and say nothing to the database; the lease is left to expire.

        Inside of `closing` its connections are let go, which may take a while of the machine's own time.
        """
        self.dead = True
        tasks, attempts = [*self._client_tasks()], list[asyncio.Task[Any]]()
        if self.worker is not None:
            attempts = self._attempts()
            tasks += self._worker_tasks(self.worker)
        for task in [*tasks, *attempts]:
            task.cancel()
        with closing or nullcontext():
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*attempts, return_exceptions=True)
        if self.client.is_open:
            self.client._results.close()
            self.client._replies.close()

    def _client_tasks(self) -> Iterator[asyncio.Task[Any]]:
        if self.client.is_open:
            client = self.client
            batches = (client._starter.batches, client._post.deliveries, client._post.publications)
            others = (client._results.poll, client._replies.poll, client._reading)
            yield from filter(None, (*(each.pump for each in batches), *others))
            yield from client._post.held

    def _attempts(self) -> list[asyncio.Task[Any]]:
        tasks = [attempt.task for attempt in self._running()]
        return [task for task in tasks if task is not None and task is not asyncio.current_task()]

    def _running(self) -> Iterator[StepContext]:
        runners = getattr(self.worker, "_runners", {}).values()  # it may not have come so far
        for runner in runners:
            yield from runner._running.values()

    def _worker_tasks(self, worker: Worker) -> list[asyncio.Task[Any]]:
        worker._state = "stopped"
        if not hasattr(worker, "_watchdog"):  # it has not come so far
            return []
        self.client.detach(worker)
        worker._keeper.stop()
        worker._watchdog.stop()
        tasks = [*worker._tasks, *worker._journal._alone]
        for runner in worker._runners.values():
            runner.refuse()
            runner.close()
        worker._roster.forget_all()
        if hasattr(worker, "_alarm"):
            worker._alarm.stop()
        return tasks
