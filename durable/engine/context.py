"""The verbs of a workflow: `ctx`. Awaited verbs are coroutines that begin when they are awaited."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from random import Random
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from durable.clock import to_datetime
from durable.engine.calls import Call
from durable.engine.child_verbs import ChildVerbs
from durable.engine.event_verbs import EventVerbs
from durable.engine.group_verbs import GroupVerbs
from durable.engine.input_verbs import InputVerbs
from durable.engine.scope_verbs import ScopeVerbs
from durable.engine.time_verbs import TimeVerbs
from durable.errors import NotAllowedInWorkflow
from durable.model import checks
from durable.model.commands import RunStep, WriteLog
from durable.model.payload import fingerprint
from durable.model.records import RunInfo
from durable.model.scope import ACTIVATION, in_workflow
from durable.model.steps import Step, as_step

if TYPE_CHECKING:
    from durable.engine.host import Host
    from durable.engine.loop import WorkflowLoop

P = ParamSpec("P")
R = TypeVar("R")


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


class Context(TimeVerbs, EventVerbs, InputVerbs, ChildVerbs, GroupVerbs, ScopeVerbs):
    """What a workflow function gets as its first argument."""

    def __init__(self, instance: Host, loop: WorkflowLoop) -> None:
        super().__init__(instance, loop)
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
        checks.usable("step", step)
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
        if step.compensate is None:
            return self._instance.start_step(command)
        return self._instance.start_step(command, self._instance.sagas.scope_for(step))

    # -- values that replay alike

    @property
    def random(self) -> Random:
        """A random source that gives the same numbers on every replay. Not for secrets."""
        if self._random is None:
            self._random = Random(f"random:{self._seed}")
        return self._random

    def uuid(self) -> uuid.UUID:
        """A new UUID, the same one on every replay."""
        if self._uuids is None:
            self._uuids = Random(f"uuid:{self._seed}")
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)

    @property
    def _seed(self) -> str:
        """What no other run has: an id may be used again by a restart, and each generation draws anew."""
        started, base = self._instance.started, self._instance.base
        assert started is not None
        parts = (self.run_id, started.seed, str(base) if base else "")
        return ":".join(part for part in parts if part)

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


def is_replaying() -> bool:
    """Whether workflow code runs here that has run before, and only catches up with its history."""
    context = ACTIVATION.get()
    if not isinstance(context, Context) or not in_workflow():
        return False
    return context._instance.replaying  # noqa: SLF001  not for users


def current_context() -> Context:
    """The context of the workflow that is running here; `NotAllowedInWorkflow` outside of one."""
    context = ACTIVATION.get()
    if not isinstance(context, Context):
        message = "current_context() outside of a workflow: only workflow code has a context"
        raise NotAllowedInWorkflow(message)
    return context
