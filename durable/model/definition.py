"""The decorators `@step`, `@workflow` and `@job`: their types, and what they hand on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from durable.model.calendar import Schedule
from durable.model.duration import Duration
from durable.model.records import Run
from durable.model.retry import Retry
from durable.model.runnable import Job, Runnable, Workflow
from durable.model.scope import WorkflowContext
from durable.model.steps import (
    AsyncStep,
    Executor,
    Fingerprint,
    Step,
    SyncStep,
    TransactionStep,
    as_step,
    make_step,
    make_transaction_step,
)

__all__ = [
    "AsyncStep",
    "Job",
    "Runnable",
    "Step",
    "SyncStep",
    "TransactionStep",
    "Workflow",
    "as_step",
    "job",
    "step",
    "workflow",
]

C = TypeVar("C")
Ctx = TypeVar("Ctx", bound=WorkflowContext)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class _Wrap(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncStep[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncStep[P, R]: ...


class _WrapUndo(Generic[T_contra]):
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self: _WrapUndo[R], fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncStep[P, R]: ...
    @overload
    def __call__(self: _WrapUndo[R], fn: Callable[P, R], /) -> SyncStep[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Step[..., Any]:
        return make_step(fn, self._options)


class _WrapTransaction(Protocol):
    def __call__(
        self, fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /
    ) -> TransactionStep[C, P, R]: ...


@overload
def step(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[P, Coroutine[Any, Any, R]],
    /,
    *,
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
    compensate: Callable[[R], object] | None = None,
    executor: Executor | None = None,
    fingerprint: Fingerprint = "strict",
) -> AsyncStep[P, R]: ...
@overload
def step(
    fn: Callable[P, R],
    /,
    *,
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
    compensate: Callable[[R], object] | None = None,
    executor: Executor | None = None,
    fingerprint: Fingerprint = "strict",
) -> SyncStep[P, R]: ...
@overload
def step(
    *,
    transaction: Literal[True],
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
) -> _WrapTransaction: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
    executor: Executor | None = None,
    fingerprint: Fingerprint = "strict",
) -> _Wrap: ...
@overload
def step(
    *,
    compensate: Callable[[T_contra], object],
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
    executor: Executor | None = None,
    fingerprint: Fingerprint = "strict",
) -> _WrapUndo[T_contra]: ...
def step(
    fn: Callable[..., Any] | None = None, /, *, transaction: bool = False, **options: Any
) -> Any:
    """Make a function a step: what it did is not done again, its result is kept.

    `@step`, `@step(retry=3)`, or `step(fn, retry=3)` for a function that is not yours. `name`
    replaces the function's own in history; `retry` is a `Retry` or a number of attempts, one by
    default; `timeout` (seconds or a timedelta) limits one attempt; `compensate` undoes it, given
    its result; `queue` has it run by workers of that queue; `executor` says where a sync function
    runs; `fingerprint` what other arguments on a replay do; `transaction=True` hands it the
    connection over which its completion is committed. Raises `DefinitionError` for what cannot be a
    step.
    """
    if fn is not None:
        return make_transaction_step(fn, options) if transaction else make_step(fn, options)
    if transaction:
        return partial(make_transaction_step, given=options)
    return _WrapUndo[Any](options)


class _MakeWorkflow(Protocol):
    @overload
    def __call__(self, fn: Callable[[Ctx, T], Coroutine[Any, Any, R]], /) -> Workflow[T, R]: ...
    @overload
    def __call__(self, fn: Callable[[Ctx], Coroutine[Any, Any, R]], /) -> Workflow[None, R]: ...


@overload
def workflow(fn: Callable[[Ctx, T], Coroutine[Any, Any, R]], /) -> Workflow[T, R]: ...
@overload
def workflow(fn: Callable[[Ctx], Coroutine[Any, Any, R]], /) -> Workflow[None, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: int = 1,
    queue: str = "default",
    timeout: Duration | None = None,
    retry: Retry | int | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    on_finish: Callable[[Run], object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> _MakeWorkflow: ...
def workflow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make an `async def f(ctx: Context, input: T) -> R`, or one without an input, a workflow.

    `name` replaces the function's own; `version` pins its runs to this version of the code; `queue`
    is where its runs go unless a start says otherwise; `timeout` (seconds or a timedelta) limits a
    whole run, `retry` is for whole runs; `schedule` starts it by itself; `on_finish` is called with
    every run that has ended; `tags` are put on every run. Raises `DefinitionError` for functions of
    another form.
    """
    make: type[Workflow[Any, Any]] = Workflow
    return partial(make, options=options) if fn is None else make(fn, options)


class _MakeJob(Protocol):
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[[T], Coroutine[Any, Any, R]], /
    ) -> Job[T, R]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[[], Coroutine[Any, Any, R]], /
    ) -> Job[None, R]: ...
    @overload
    def __call__(self, fn: Callable[[T], R], /) -> Job[T, R]: ...
    @overload
    def __call__(self, fn: Callable[[], R], /) -> Job[None, R]: ...


@overload
def job(  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[[T], Coroutine[Any, Any, R]], /
) -> Job[T, R]: ...
@overload
def job(  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[[], Coroutine[Any, Any, R]], /
) -> Job[None, R]: ...
@overload
def job(fn: Callable[[T], R], /) -> Job[T, R]: ...
@overload
def job(fn: Callable[[], R], /) -> Job[None, R]: ...
@overload
def job(
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: Duration | None = None,
    retry: Retry | int | None = None,
    schedule: Schedule | Sequence[Schedule] | None = None,
    executor: Executor | None = None,
    tags: Mapping[str, str] | None = None,
) -> _MakeJob: ...
def job(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function of one input, or of none, a job: one step that is started like a run.

    The options mean what they mean for `step` and `workflow`. Raises `DefinitionError` for
    functions of another form.
    """
    make: type[Job[Any, Any]] = Job
    return partial(make, options=options) if fn is None else make(fn, options)
