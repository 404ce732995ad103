"""Durable execution in the user's own database: a program that survives its own death.

Define   `@workflow`, `@step`, `@job`; options: `Retry`, `Cron`, `Every`, `seconds() ... days()`
Inside   `Context` (the first argument of a workflow), `current_context()`, `current_step()`
Outside  `Client` starts runs and asks about them, `Handle` is one of them, `Worker` runs them
Values   `Event`, `Request`, `Decision`, `Ok`, `Err`; records: `Run`, `RunDetail`, `StepRecord`, ...
Errors   all under `DurableError`; steps raise `NonRetryable` and `RetryAfter`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from durable.errors import (
    ChildCancelled,
    ChildFailed,
    DefinitionError,
    DurableError,
    Failed,
    Failure,
    FlowDefinitionError,
    IllegalTransition,
    InputAlreadyProvided,
    InputNotPending,
    InvalidInput,
    MigrationNeeded,
    NondeterminismError,
    NonRetryable,
    NotAllowedInWorkflow,
    NotAwaited,
    PayloadError,
    PayloadTooLarge,
    RequestNotAnswered,
    RequestRejected,
    ResourceMissing,
    RetryAfter,
    RunAlreadyExists,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTerminated,
    RunTimeout,
    StepFailed,
    StepTimeout,
    StoreUnavailable,
    UnknownWorkflow,
    WaitTimeout,
)
from durable.model.calendar import Cron, Every, Schedule
from durable.model.definition import (
    AsyncStep,
    Job,
    Runnable,
    Step,
    SyncStep,
    TransactionStep,
    Workflow,
    job,
    step,
    workflow,
)
from durable.model.duration import Duration, days, hours, minutes, seconds
from durable.model.events import Decision, Err, Event, Ok, Outcome, PendingRequest, Request
from durable.model.lifecycle import RunStatus
from durable.model.records import (
    CompensationRecord,
    Health,
    HistoryEvent,
    Listing,
    LogRecord,
    Page,
    PendingEvent,
    PendingInput,
    Run,
    RunDetail,
    RunInfo,
    StepRecord,
    WorkerRecord,
    WorkflowRecord,
)
from durable.model.retry import Retry

if TYPE_CHECKING:
    from durable.client import Client, Handle
    from durable.engine.child import ChildHandle
    from durable.engine.context import Context, current_context
    from durable.worker import Worker
    from durable.worker.step_context import StepContext, current_step

__all__ = [
    "AsyncStep",
    "ChildCancelled",
    "ChildFailed",
    "ChildHandle",
    "Client",
    "CompensationRecord",
    "Context",
    "Cron",
    "Decision",
    "DefinitionError",
    "DurableError",
    "Duration",
    "Err",
    "Event",
    "Every",
    "Failed",
    "Failure",
    "FlowDefinitionError",
    "Handle",
    "Health",
    "HistoryEvent",
    "IllegalTransition",
    "InputAlreadyProvided",
    "InputNotPending",
    "InvalidInput",
    "Job",
    "Listing",
    "LogRecord",
    "MigrationNeeded",
    "NonRetryable",
    "NondeterminismError",
    "NotAllowedInWorkflow",
    "NotAwaited",
    "Ok",
    "Outcome",
    "Page",
    "PayloadError",
    "PayloadTooLarge",
    "PendingEvent",
    "PendingInput",
    "PendingRequest",
    "Request",
    "RequestNotAnswered",
    "RequestRejected",
    "ResourceMissing",
    "Retry",
    "RetryAfter",
    "Run",
    "RunAlreadyExists",
    "RunCancelled",
    "RunDetail",
    "RunFailed",
    "RunInfo",
    "RunNotFound",
    "RunStatus",
    "RunTerminated",
    "RunTimeout",
    "Runnable",
    "Schedule",
    "Step",
    "StepContext",
    "StepFailed",
    "StepRecord",
    "StepTimeout",
    "StoreUnavailable",
    "SyncStep",
    "TransactionStep",
    "UnknownWorkflow",
    "WaitTimeout",
    "Worker",
    "WorkerRecord",
    "Workflow",
    "WorkflowRecord",
    "current_context",
    "current_step",
    "days",
    "hours",
    "job",
    "minutes",
    "seconds",
    "step",
    "workflow",
]

# What pulls in pydantic, asyncio or a database driver waits until it is asked for, so that a module
# which only defines workflows is quick to import.
_LATER = {
    "ChildHandle": "durable.engine.child",
    "Client": "durable.client",
    "Context": "durable.engine.context",
    "Handle": "durable.client",
    "StepContext": "durable.worker.step_context",
    "Worker": "durable.worker",
    "current_context": "durable.engine.context",
    "current_step": "durable.worker.step_context",
}


if not TYPE_CHECKING:  # a checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        module = _LATER.get(name)
        if module is None:
            message = f"module 'durable' has no attribute {name!r}"
            raise AttributeError(message)
        value = globals()[name] = getattr(import_module(module), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
