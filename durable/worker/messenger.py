"""Carries out what runs ask of their worker besides steps, in batches; again and again until it has come through.

Everything here may be done twice: the database takes it once, by its idempotency key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from durable.clock import SECOND
from durable.errors import StoreUnavailable
from durable.model import history
from durable.model.commands import Send
from durable.model.messages import CANCEL, child_message, follow_message, pack_cancel
from durable.model.rows import Delivered, Delivery, Publication, Subscription
from durable.model.wire import encode_event
from durable.storage.held_back import HeldBack, Later
from durable.worker.effects import (
    CancelLate,
    Effect,
    Follow,
    LookForChildren,
    RestartChild,
    Subscribe,
)

if TYPE_CHECKING:
    from durable.clock import Clock
    from durable.storage.base import Storage
    from durable.worker.execution import Execution

KEEP_PUBLISHED_SECONDS = 7 * 24 * 3600
"""How long a published event is kept for waits that begin later."""
_RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
_log = logging.getLogger("durable.worker")


class Host(Protocol):
    """What the messenger needs of its worker."""

    def now(self) -> int: ...
    def stirred(self) -> None:
        """Something was sent: somebody may have work."""
        ...


Order = tuple["Execution", Effect]


class Messenger:
    """One queue for all runs of a worker."""

    def __init__(self, store: Storage, host: Host, clock: Clock) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._held = HeldBack(self._pass_on, clock)
        self._queue: list[Order] = []
        self._wake = asyncio.Event()
        self.trouble: str | None = None
        """Why nothing gets through."""

    def submit(self, execution: Execution, effect: Effect) -> None:
        """Carry it out as soon as possible; the execution is told."""
        self._queue.append((execution, effect))
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; survives every error."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                queue, self._queue = self._queue, []
                for kind, carry_out in _WAYS.items():
                    orders = [order for order in queue if _kind(order[1]) is kind]
                    if orders:
                        await self._through(carry_out, orders)
        finally:
            self._held.close()

    async def _through(
        self, carry_out: Callable[[Messenger, Sequence[Order]], Any], orders: Sequence[Order]
    ) -> None:
        tries = 0
        while orders := [order for order in orders if order[0].asks_for(order[1])]:
            try:
                await carry_out(self, orders)
            except StoreUnavailable as error:
                self.trouble = str(error)
                await self._clock.sleep(_RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)])
                tries += 1
                continue
            except Exception:
                _log.exception("%d messages could not be sent", len(orders))
                if len(orders) > 1:  # the others are not to blame for what one of them holds
                    for order in orders:
                        await self._through(carry_out, [order])
                else:
                    self._refused(*orders[0])
            self.trouble = None
            self._host.stirred()
            return

    def _refused(self, execution: Execution, effect: Effect) -> None:
        """The database does not take it."""
        if isinstance(effect, Send):
            execution.carried_out(effect, _sent(execution, effect, "refused by the database"))
        else:
            execution.carried_out(effect)

    async def _pass_on(self, deliveries: Sequence[Delivery], wait: bool) -> list[Delivered]:
        return await self._store.deliver(deliveries, wait=wait)

    def _then(
        self, answer: Delivered | Later, order: Order, tell: Callable[[Order, Delivered], None]
    ) -> None:
        """Tell the execution what has become of its message, now or when the lock on the other run is gone."""

        def told(later: Later) -> None:
            if later.cancelled():
                return
            error = later.exception()
            if error is not None:
                _log.error("a message could not be sent", exc_info=error)
                self._refused(*order)
            else:
                tell(order, later.result())
            self._host.stirred()

        if isinstance(answer, Delivered):
            tell(order, answer)
        else:
            answer.add_done_callback(told)

    # -- each kind

    async def _send(self, orders: Sequence[Order]) -> None:
        sends = [(execution, effect) for execution, effect in orders if isinstance(effect, Send)]
        answers = await self._held.deliver(
            [
                Delivery(
                    effect.target or "", effect.name, effect.payload, _sender(execution, effect)
                )
                for execution, effect in sends
            ]
        )
        for order, answer in zip(sends, answers, strict=True):
            self._then(answer, order, _was_sent)

    async def _publish(self, orders: Sequence[Order]) -> None:
        sends = [(execution, effect) for execution, effect in orders if isinstance(effect, Send)]
        until = self._host.now() + KEEP_PUBLISHED_SECONDS * SECOND
        await self._store.publish(
            [
                Publication(
                    effect.name, effect.key or "", effect.payload, until, _sender(execution, effect)
                )
                for execution, effect in sends
            ]
        )
        for execution, effect in sends:
            execution.carried_out(effect, _sent(execution, effect, None))

    async def _subscribe(self, orders: Sequence[Order]) -> None:
        await self._store.subscribe(
            [
                Subscription(execution.key, effect.names, effect.key)
                for execution, effect in orders
                if isinstance(effect, Subscribe)
            ]
        )
        await self._read_what_was_kept(orders)
        for execution, effect in orders:
            execution.carried_out(effect)

    async def _read_what_was_kept(self, orders: Sequence[Order]) -> None:
        """Before their time is up: a time-out of nothing still takes what was published before."""
        hurried = {
            execution.key: execution
            for execution, effect in orders
            if isinstance(effect, Subscribe) and execution.may_run_out(effect)
        }
        if not hurried:
            return
        behind = [(key, execution.consumed) for key, execution in hurried.items()]
        for message in await self._store.inbox(behind):
            hurried[message.key].receive([message])

    async def _look(self, orders: Sequence[Order]) -> None:
        for execution, effect in orders:
            assert isinstance(effect, LookForChildren)
            found = await self._store.children(execution.key, effect.cmds)
            missing = [cmd for cmd in effect.cmds if cmd not in found]
            execution.carried_out(effect)
            execution.children_missing(missing)

    async def _follow(self, orders: Sequence[Order]) -> None:
        for execution, effect in orders:
            assert isinstance(effect, Follow)
            name = follow_message(execution.key, effect.cmd)
            order = Delivery(effect.run_id, name, b"", name, control=True)
            (answer,) = await self._held.deliver([order])
            if isinstance(answer, Delivered) and answer.number is None:
                await self._report_end(execution, effect)
            else:
                self._then(answer, (execution, effect), self._was_followed)

    def _was_followed(self, order: Order, answer: Delivered) -> None:
        if answer.number is None:  # it has ended while it was waited for
            self.submit(*order)
        else:
            _was_done(order, answer)

    async def _report_end(self, execution: Execution, effect: Follow) -> None:
        """It has ended already: its end comes as if it had been followed."""
        ended = await self._store.finished([effect.run_id])
        if effect.run_id not in ended:  # it was there a moment ago, and is not any more
            execution.children_missing([effect.cmd])
            execution.carried_out(effect)
            return
        _, last = ended[effect.run_id]
        name = child_message(effect.cmd, last.type)
        report = Delivery(execution.id, name, last.data, f"~child:{effect.cmd}")
        (answer,) = await self._held.deliver([report])
        self._then(answer, (execution, effect), _was_done)

    async def _cancel(self, orders: Sequence[Order]) -> None:
        deliveries: list[Delivery] = []
        for execution, effect in orders:
            assert isinstance(effect, CancelLate)
            key = f"~cancel:{execution.key}:{effect.cmd}"
            deliveries.append(Delivery(effect.run_id, CANCEL, effect.data, key, control=True))
        answers = await self._held.deliver(deliveries)
        for order, answer in zip(orders, answers, strict=True):
            self._then(answer, order, _was_done)

    async def _restart(self, orders: Sequence[Order]) -> None:
        for execution, effect in orders:
            assert isinstance(effect, RestartChild)
            reason = f"restarted by run {execution.id}"
            ended = encode_event(0, history.RunTerminated(self._host.now(), reason))
            await self._store.restart(effect.run, ended, pack_cancel(reason))
            execution.carried_out(effect)


def _kind(effect: Effect) -> object:
    """Orders of one kind go out together."""
    return "publish" if isinstance(effect, Send) and effect.key is not None else type(effect)


_WAYS: Mapping[object, Callable[[Messenger, Sequence[Order]], Any]] = {
    Send: Messenger._send,  # noqa: SLF001  a table of its own methods
    "publish": Messenger._publish,  # noqa: SLF001
    Subscribe: Messenger._subscribe,  # noqa: SLF001
    RestartChild: Messenger._restart,  # noqa: SLF001
    CancelLate: Messenger._cancel,  # noqa: SLF001
    Follow: Messenger._follow,  # noqa: SLF001
    LookForChildren: Messenger._look,  # noqa: SLF001
}


def _reason(answer: Delivered) -> str:
    if not answer.known:
        return "unknown"
    return "full" if answer.is_open else "ended"


def _was_sent(order: Order, answer: Delivered) -> None:
    execution, effect = order
    assert isinstance(effect, Send)
    refused = _reason(answer) if answer.number is None else None
    execution.carried_out(effect, _sent(execution, effect, refused))


def _was_done(order: Order, _answer: Delivered) -> None:
    execution, effect = order
    execution.carried_out(effect)


def _sender(execution: Execution, effect: Send) -> str:
    """The same for every try of one command, and for no other."""
    return f"~sent:{execution.key}:{effect.cmd}"


def _sent(execution: Execution, effect: Send, refused: str | None) -> history.Event:
    return history.MessageSent(
        execution.at(),
        effect.cmd,
        effect.name,
        str(effect.site),
        effect.target,
        effect.key,
        refused,
    )
