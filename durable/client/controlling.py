"""What a client does to a run from outside: cancel, terminate, pause, resume."""

from __future__ import annotations

import secrets

from durable.client.base import ClientBase, not_found
from durable.client.checked import asked_id, text_or_none
from durable.client.messaging import Post
from durable.errors import IllegalTransition
from durable.model import history
from durable.model.lifecycle import FINAL, RunStatus, check_transition
from durable.model.messages import CANCEL, pack_cancel
from durable.model.rows import Delivery
from durable.model.wire import encode_event


class Controlling(ClientBase):
    """Verbs that change the course of one run."""

    _post: Post

    async def cancel(self, id: str, /, *, reason: str | None = None) -> None:
        """Ask a run to stop: its code gets `asyncio.CancelledError` where it waits, once, and may clean up.

        What it did is undone, its children are cancelled, and it ends as `cancelled`. Accepted is not yet
        obeyed: `await handle.result()` tells. A paused run obeys when it is resumed. Raises `RunNotFound`,
        and `IllegalTransition` when it has ended.
        """
        asked_id(id)
        text_or_none(reason, "cancel(reason=)")
        key = f"~cancel:{secrets.token_hex(8)}"  # so that a lost answer does not cancel twice
        order = Delivery(id, CANCEL, pack_cancel(reason), key, control=True)
        self._check_open()
        answer = await self._post.deliver(order)
        if not answer.known:
            raise not_found(id)
        if answer.number is None:
            raise _ended(id, await self._status(id), "cancelled")
        self.stirred()

    async def terminate(self, id: str, /, *, reason: str | None = None) -> None:
        """End a run at once: none of its code runs any more, nothing is undone, its children are cancelled.

        A step that is running is not waited for, and what it brings is dropped. Raises `RunNotFound`, and
        `IllegalTransition` when the run has ended.
        """
        asked_id(id)
        text_or_none(reason, "terminate(reason=)")
        event = encode_event(0, history.RunTerminated(self._now(), reason))
        told = pack_cancel(f"its parent {id} was terminated")
        check_transition(id, await self._status(id), "terminated")
        status = await self._try(lambda: self.storage.terminate(id, event, told))
        if status is None:
            raise not_found(id)
        if status != "terminated":
            raise _ended(id, status, "terminated")
        self._ended_from_outside(id)
        self.stirred()

    async def pause(self, id: str, /) -> None:
        """Hold a run: nothing new begins, steps that are running end, and it waits for `resume`.

        Raises `RunNotFound`, and `IllegalTransition` when it has ended.
        """
        asked_id(id)
        event = encode_event(0, history.Paused(self._now()))
        await self._hold(id, await self._try(lambda: self.storage.pause(id, event)), "paused")

    async def resume(self, id: str, /) -> None:
        """Let a paused run go on; nothing happens to one that is not paused.

        Raises `RunNotFound`, and `IllegalTransition` when it has ended.
        """
        asked_id(id)
        event = encode_event(0, history.Resumed(self._now()))
        await self._hold(id, await self._try(lambda: self.storage.resume(id, event)), "running")

    async def _hold(self, run_id: str, status: RunStatus | None, wanted: RunStatus) -> None:
        if status is None:
            raise not_found(run_id)
        if status in FINAL:
            raise _ended(run_id, status, wanted)
        self.stirred()


def _ended(run_id: str, status: RunStatus, wanted: RunStatus) -> IllegalTransition:
    return IllegalTransition(f"run {run_id} is {status} and cannot become {wanted}")
