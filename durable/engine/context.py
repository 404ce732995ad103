"""The verbs of a workflow: `ctx`. Awaited verbs are coroutines that begin when they are awaited."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from durable.clock import SECOND, to_datetime, to_micros
from durable.engine.calls import Call
from durable.errors import NotAllowedInWorkflow
from durable.model.commands import RunStep, WriteLog
from durable.model.duration import Duration, seconds_of
from durable.model.payload import fingerprint
from durable.model.records import RunInfo
from durable.model.scope import ACTIVATION
from durable.model.steps import Step, as_step

if TYPE_CHECKING:
    from durable.engine.loop import WorkflowLoop
    from durable.model.commands import Command
    from durable.model.history import RunStarted

P = ParamSpec("P")
R = TypeVar("R")

_NOT_BUILT = {
    **dict.fromkeys(("wait_for_event", "wait_for_any", "wait_for_all", "send_event"), "events"),
    **dict.fromkeys(("publish",), "events by correlation key"),
    **dict.fromkeys(("wait_for_request",), "requests"),
    **dict.fromkeys(
        (
            "wait_for_input",
            "wait_for_approval",
            "wait_for_choice",
            "wait_for_choices",
            "wait_for_text",
            "wait_for_form",
        ),
        "human input",
    ),
    **dict.fromkeys(("call", "start"), "children"),
    **dict.fromkeys(("parallel", "map", "race"), "parallel groups"),
    **dict.fromkeys(("saga", "compensate"), "sagas"),
    "shield": "cancellation of runs",
    "set_state": "state of runs",
    "continue_as_new": "continue_as_new",
    "patched": "patches",
    **dict.fromkeys(("next_business_day", "next_weekday", "end_of_day"), "business calendars"),
}


class Host(Protocol):
    """The run, as its context sees it."""

    run_id: str
    now: int
    length: int
    calls: dict[Call, None]
    started: RunStarted | None

    def emit(self, command: Command) -> None: ...
    def start_step(self, command: RunStep) -> Awaitable[Any]: ...


class WorkflowLog(logging.LoggerAdapter[logging.Logger]):
    """`ctx.log`: silent on replay, and written only once what led to a line is durable."""

    def __init__(self, instance: Host) -> None:
        super().__init__(logging.getLogger("durable.workflow"), {"run_id": instance.run_id})
        self._instance = instance

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if kwargs.get("exc_info") is True:
            # Written later, when this exception is not being handled any more.
            kwargs["exc_info"] = sys.exception()
        self._instance.emit(WriteLog(level, msg, args, kwargs))

    def isEnabledFor(self, level: int) -> bool:  # noqa: ARG002, N802  the worker's logger decides, later
        return True

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


class Context:
    """What a workflow function gets as its first argument."""

    def __init__(self, instance: Host, loop: WorkflowLoop) -> None:
        self._instance = instance
        self._loop = loop
        self._random: Random | None = None
        self._uuids: Random | None = None
        self._log: WorkflowLog | None = None

    # -- steps

    @overload
    async def step(self, fn: Step[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def step(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)` as a step and wait for its result.

        Raises the step's own exception, which is also a `StepFailed`, when its last attempt failed, and
        `PayloadError` when an argument cannot be stored.
        """
        return Call(self._instance.calls, self._begin_step, (fn, args, kwargs))

    def _begin_step(
        self, call: Call, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        step = as_step(fn)
        if step.unsupported:
            message = f"step {step.name}: {step.unsupported} cannot be used yet"
            raise NotImplementedError(message)
        encoded, plain = step.arguments.written(args, kwargs, f"step {step.name}")
        command = RunStep(
            0,
            step,
            encoded,
            args if plain else None,
            kwargs if plain else None,
            fingerprint(encoded),
            call.site,
        )
        return self._instance.start_step(command)

    # -- time

    if TYPE_CHECKING:
        # What a checker must see to type `gather(ctx.step(...), ctx.sleep(1))` and a forgotten await.

        async def sleep(self, duration: Duration, /) -> None: ...
        async def sleep_until(self, when: datetime, /) -> None: ...

    else:

        def sleep(self, duration: Duration, /) -> Call:
            """Sleep for a timedelta or seconds; days cost nothing, and it survives restarts."""
            return Call(self._instance.calls, self._begin_sleep, (seconds_of(duration, "sleep"),))

        def sleep_until(self, when: datetime, /) -> Call:
            """Sleep until an aware datetime; one that has passed is no wait. Naive: `ValueError`."""
            return Call(self._instance.calls, self._begin_sleep_until, (to_micros(when),))

    def _begin_sleep(self, _call: Call, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)

    def _begin_sleep_until(self, _call: Call, when: int) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(max(0.0, (when - self._instance.now) / SECOND))

    def timeout(self, duration: Duration | None, /) -> asyncio.Timeout:
        """`asyncio.timeout` for a timedelta or seconds; use it with `async with`."""
        return asyncio.timeout(None if duration is None else seconds_of(duration, "timeout"))

    def now(self) -> datetime:
        """The time of the event that is being handled, in UTC. The same on every replay; never goes back."""
        return to_datetime(self._instance.now)

    # -- values that replay alike

    @property
    def random(self) -> Random:
        """A random source that gives the same numbers on every replay. Not for secrets."""
        if self._random is None:
            self._random = Random(f"random:{self.run_id}")
        return self._random

    def uuid(self) -> uuid.UUID:
        """A new UUID, the same one on every replay."""
        if self._uuids is None:
            self._uuids = Random(f"uuid:{self.run_id}")
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

    # -- the run

    @property
    def run_id(self) -> str:
        """The id of this run."""
        return self._instance.run_id

    @property
    def info(self) -> RunInfo:
        """What is known of this run; a snapshot."""
        started = self._instance.started
        assert started is not None
        at = to_datetime(started.at)
        return RunInfo(
            run_id=self.run_id,
            workflow=started.name,
            version=started.version,
            queue=started.queue,
            parent_id=started.parent_id,
            root_id=started.root_id or self.run_id,
            tags=dict(started.tags or {}),
            created_at=at,
            started_at=at,
            deadline=None if started.deadline is None else to_datetime(started.deadline),
            history_length=self._instance.length,
            schedule=None,
            scheduled_at=None,
        )

    @property
    def log(self) -> WorkflowLog:
        """A logger that carries the run and is silent on replay."""
        if self._log is None:
            self._log = WorkflowLog(self._instance)
        return self._log

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            feature = _NOT_BUILT.get(name)
            if feature is None:
                message = f"a workflow's context has no {name!r}"
                raise AttributeError(message)
            message = f"ctx.{name}: {feature} cannot be used yet"
            raise NotImplementedError(message)


def current_context() -> Context:
    """The context of the workflow that is running here; `NotAllowedInWorkflow` outside of one."""
    context = ACTIVATION.get()
    if not isinstance(context, Context):
        message = "current_context() outside of a workflow: only workflow code has a context"
        raise NotAllowedInWorkflow(message)
    return context
