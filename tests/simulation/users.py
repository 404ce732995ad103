"""People who use a cluster: what they do, what they are told, and a ledger of both outside of any database."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable.errors import DurableError, StoreUnavailable
from tests.simulation.plan import Act
from tests.simulation.programs import ADD, program, stubborn

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process


@dataclass(slots=True)
class Call:
    """One verb of a client, from its beginning to its answer."""

    number: int
    """Unique; it is the payload of what is sent."""
    act: Act
    began: int
    ended: int | None = None
    outcome: str = "unknown"
    """`done`, `refused` (an error that says that nothing happened), or `unknown`."""
    value: Any = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.outcome == "done"


class Users:
    """All of them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.calls: list[Call] = []
        self.unexpected: list[str] = []
        self._desks: dict[int, Process] = {}

    def arm(self) -> None:
        """Everybody acts when it is time."""
        loop = self._cluster.loop
        for act in self._cluster.plan.acts:
            loop.call_later(act.after, self._begin, act, context=loop.kernel.context)

    def _begin(self, act: Act) -> None:
        process = self._where(act)
        if process is not None:
            call = Call(2 * len(self.calls) + 1, act, self._cluster.loop.micros)
            self.calls.append(call)
            self._cluster.note(process, "user", act.verb, act.run, call.number)
            self._cluster.spawn(process, self._perform(process, call))

    def _where(self, act: Act) -> Process | None:
        """A process of the user's own, or one with a worker."""
        if act.verb == "start eagerly":
            ready = [p for p in self._cluster.workers() if p.client.is_open and not p.stopping]
            if ready:
                return self._cluster.random.choice(ready)
        desk = self._desks.get(act.user)
        if desk is None or desk.dead:
            desk = self._desks[act.user] = self._cluster.process(f"user{act.user}")
        return desk

    async def _perform(self, process: Process, call: Call) -> None:
        client = process.client
        try:
            await client.open()
            call.value = await getattr(self, "_" + call.act.verb.replace(" ", "_"))(client, call)
            call.outcome = "done"
        except StoreUnavailable as error:
            call.error = error
        except (DurableError, TimeoutError) as error:
            call.outcome, call.error = "refused", error
        except Exception as error:
            if not client.is_open:  # the process has been stopped meanwhile
                return
            call.error = error
            self.unexpected.append(f"{call.act.verb} of {call.act.run} raised {error!r}")
        call.ended = self._cluster.loop.micros
        self._cluster.note(process, "told", call.number, call.outcome, type(call.error).__name__)

    # -- what they do

    async def _start(self, client: Any, call: Call, **more: Any) -> Any:
        detail = call.act.detail
        handle = await client.start(
            stubborn if detail["stubborn"] else program,
            detail["program"],
            id=call.act.run,
            **detail["options"],
            **more,
        )
        return handle.created

    _start_eagerly = _start

    async def _restart(self, client: Any, call: Call) -> Any:
        return await self._start(client, call, on_conflict="restart")

    async def _send(self, client: Any, call: Call) -> None:
        await client.send_event(call.act.run, call.act.detail, call.number)

    async def _send_again(self, client: Any, call: Call) -> None:
        key = f"once {call.act.detail}"
        await client.send_event(call.act.run, call.act.detail, call.number, idempotency_key=key)

    async def _publish(self, client: Any, call: Call) -> None:
        await client.publish(call.act.detail, call.number, key="k")

    async def _answer(self, client: Any, call: Call) -> None:
        await client.provide_input(call.act.run, "q", call.number, by="ada", wait=1)

    async def _request(self, client: Any, call: Call) -> int:
        return await client.request(call.act.run, ADD, call.number, timeout=4)

    async def _pause(self, client: Any, call: Call) -> None:
        await client.pause(call.act.run)

    async def _resume(self, client: Any, call: Call) -> None:
        await client.resume(call.act.run)

    async def _cancel(self, client: Any, call: Call) -> None:
        await client.cancel(call.act.run, reason=f"call {call.number}")

    async def _end_wait(self, client: Any, call: Call) -> None:
        await client.cancel_wait(call.act.run, "a")

    async def _terminate(self, client: Any, call: Call) -> None:
        await client.terminate(call.act.run, reason=f"call {call.number}")

    async def _result(self, client: Any, call: Call) -> Any:
        handle = client.handle(call.act.run, program)
        return await handle.result(timeout=20)

    async def _look(self, client: Any, call: Call) -> Any:
        await client.list(limit=3)
        await client.count()
        return (await client.get(call.act.run)).status

    # -- once the world is healed

    async def operate(self, process: Process, verb: str, run_id: str) -> None:
        """An operator who knows no faults."""
        await process.client.open()
        with contextlib.suppress(DurableError):
            await getattr(process.client, verb)(run_id)

    def counts(self) -> Counter[str]:
        return Counter(f"{call.act.verb}: {call.outcome}" for call in self.calls)
