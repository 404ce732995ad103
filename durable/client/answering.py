"""What a client does for people: it shows what runs ask, and hands on the answers."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime
from typing import Any

from durable.client.base import not_found
from durable.client.checked import asked_id, id_text, text_or_none, workflow_name
from durable.client.messaging import Messaging
from durable.client.paging import checked_limit
from durable.clock import to_datetime, to_micros
from durable.errors import InputAlreadyProvided, InputNotPending, InvalidInput
from durable.model import history
from durable.model.duration import Duration, seconds_of
from durable.model.forms import check_answer, unpack_form
from durable.model.history import InputProvided, InputRequested
from durable.model.lifecycle import FINAL
from durable.model.messages import input_message, pack_input
from durable.model.naming import checked_name
from durable.model.records import Listing, Page, PendingInput
from durable.model.rows import Answer, Answered, WaitFilter, WaitKind, WaitRow
from durable.model.runnable import Runnable
from durable.model.wire import EventRow, decode_event

_PAUSES = (0.02, 0.5)
"""Shortest and longest, in seconds, between two looks for a question."""


class Answering(Messaging):
    """Verbs for inputs."""

    async def provide_input(
        self,
        id: str,
        name: str,
        data: object,
        /,
        *,
        by: str | None = None,
        wait: Duration = 0,
    ) -> None:
        """Answer the oldest open question of this name in a run; `by` says who answers.

        `data` is plain data or an object of the wanted class. An approval takes true, false or
        `{"approved": ..., "comment": ...}`; a choice one of the values that are offered. When nothing of
        this name is asked yet, it waits up to `wait` (seconds or a timedelta). Raises `InvalidInput`
        (see `.errors`; the run goes on waiting), `InputNotPending`, `InputAlreadyProvided` (`.by` and `.at`
        say who was first), `RunNotFound`.
        """
        asked_id(id)
        checked_name(name, "an input")
        text_or_none(by, "provide_input(by=)")
        asked, listed = await self._question(id, name, seconds_of(wait, "provide_input(wait=)"))
        event = decode_event(asked)
        assert isinstance(event, InputRequested)
        try:
            payload = check_answer(unpack_form(event.form), name, data)
        except InvalidInput:
            if listed:
                raise
            raise _not_pending(id, name) from None
        answer = Answer(
            id,
            event.cmd,
            input_message(event.cmd, name),
            pack_input(payload, by),
            secrets.token_hex(12),
            by,
            self._now(),
        )
        answered = await self._try(lambda: self.storage.answer(answer))
        if not answered.accepted:
            raise await self._too_late(id, event, answered)
        self.stirred()

    async def _question(self, run_id: str, name: str, patience: float) -> tuple[EventRow, bool]:
        """The `InputRequested` of the question that is to be answered, and whether it is still open."""
        where = WaitFilter((WaitKind.INPUT,), run_id, name, limit=1)
        give_up = self.clock.monotonic() + patience
        look = asyncio.Event()
        last_look = self.clock.call_later(patience, look.set) if patience else None
        pause = _PAUSES[0]
        try:
            while True:
                look.clear()
                rows, _ = await self._waits(where, None)
                if rows:
                    return rows[0].event, True
                row = await self._try(lambda: self.storage.run(run_id))
                if row is None:
                    raise not_found(run_id)
                if self.clock.monotonic() >= give_up or row.status in FINAL:
                    break
                await self._pause(look, pause)
                pause = min(pause * 1.5, _PAUSES[1])
        finally:
            if last_look is not None:
                last_look.cancel()
        # A question that was answered and not read yet is not listed: whoever answers it is told who was first.
        asked = await self._try(lambda: self.storage.newest(run_id, InputRequested.code, name))
        if asked is None or row.status in FINAL:
            raise _not_pending(run_id, name)
        return asked, False

    async def _pause(self, look: asyncio.Event, seconds: float) -> None:
        timer = self.clock.look_later(seconds, look.set)
        try:
            await look.wait()
        finally:
            timer.cancel()

    async def _too_late(
        self, run_id: str, asked: InputRequested, answered: Answered
    ) -> InputNotPending | InputAlreadyProvided:
        name = asked.name
        if answered.pending and answered.at is not None:
            return _already_provided(run_id, name, answered.by, answered.at)
        read = await self._try(lambda: self.storage.newest(run_id, InputProvided.code, name))
        provided = None if read is None else decode_event(read)
        if isinstance(provided, InputProvided) and provided.cmd == asked.cmd:
            return _already_provided(run_id, name, provided.by, provided.at)
        return _not_pending(run_id, name)

    def pending_inputs(
        self,
        *,
        run_id: str | None = None,
        name: str | None = None,
        workflow: Runnable[Any, Any] | str | None = None,
        to: str | None = None,
        expiring_before: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Listing[PendingInput]:
        """What runs ask people, oldest first: `await` for a page, `async for` for all of it."""
        where = WaitFilter(
            (WaitKind.INPUT,),
            None if run_id is None else id_text(run_id),
            text_or_none(name, "pending_inputs(name=)"),
            workflow_name(workflow, "pending_inputs(workflow=)"),
            to=text_or_none(to, "pending_inputs(to=)"),
            due_before=None if expiring_before is None else to_micros(expiring_before),
            limit=checked_limit(limit),
        )

        async def page(cursor: str | None) -> Page[PendingInput]:
            rows, more = await self._waits(where, cursor)
            return Page([_pending_input(row) for row in rows], more)

        return Listing(page, after)


def _pending_input(row: WaitRow) -> PendingInput:
    event: Any = decode_event(row.event)
    assert isinstance(event, history.InputRequested)
    form = unpack_form(event.form)
    return PendingInput(
        run_id=row.run_id,
        name=event.name,
        type=form.kind,
        prompt=form.prompt,
        metadata=form.metadata,
        schema=form.schema,
        choices=tuple(plain for plain, _ in form.choices),
        to=tuple(form.to),
        requested_at=to_datetime(event.at),
        expires_at=None if row.due is None else to_datetime(row.due),
    )


def _not_pending(run_id: str, name: str) -> InputNotPending:
    return InputNotPending(f"run {run_id} does not ask for input {name}")


def _already_provided(run_id: str, name: str, by: str | None, at: int) -> InputAlreadyProvided:
    when = to_datetime(at)
    whom = f" by {by}" if by else ""
    message = f"input {name} of run {run_id} was provided{whom} at {when:%Y-%m-%d %H:%M:%S} UTC"
    return InputAlreadyProvided(message, by=by, at=when)
