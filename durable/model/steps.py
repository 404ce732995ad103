"""What `@step` leaves behind: a function with its options, typed by its parameters and result."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property, lru_cache
from types import FunctionType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from durable.errors import DefinitionError, NotAllowedInWorkflow
from durable.model import checks, naming
from durable.model.duration import Duration
from durable.model.retry import Retry
from durable.model.runnable import Runnable
from durable.model.scope import in_workflow

if TYPE_CHECKING:
    from durable.model.payload import ArgumentShape, Shape

P = ParamSpec("P")
P2 = ParamSpec("P2")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
C = TypeVar("C")

Executor: TypeAlias = Literal["thread", "process"]
"""Where a sync step runs: a thread of its worker, or a process of its own."""

Fingerprint: TypeAlias = Literal["strict", "warn", "ignore"]
"""What other arguments on a replay do: block the run, write a warning, or nothing."""

_UNSET: Any = object()


class _Signature:
    """The types of a function without its first `skip` parameters; shared by its steps."""

    def __init__(self, fn: Callable[..., Any], skip: int) -> None:
        self.fn = fn
        self.skip = skip

    @cached_property
    def arguments(self) -> ArgumentShape:
        from durable.model.payload import arguments_of  # noqa: PLC0415  not at `import durable`

        return arguments_of(self.fn, skip=self.skip)

    @cached_property
    def result(self) -> Shape:
        from durable.model.payload import result_of  # noqa: PLC0415  not at `import durable`

        return result_of(self.fn)

    @cached_property
    def bound(self) -> _Signature:
        return _Signature(self.fn, self.skip + 1)


class Step(Generic[P, R_co]):
    """What `@step` leaves behind: `P` its parameters, `R_co` its result. Give it to `ctx.step`."""

    name: str
    """Its identity in history: `__qualname__` without the module, unless `name=` was given."""
    fn: Callable[..., Any]
    """The function to call; a bound method where the step was taken from an instance."""
    is_async: bool
    retry: Retry | None
    """None: one attempt."""
    timeout: float | None
    """Seconds that one attempt may take."""
    queue: str | None
    """The queue whose workers run it; None: the worker that drives the run."""
    compensate: Callable[..., object] | None
    """What undoes the step, given its result."""
    executor: Executor | None
    """None: a sync function runs in a thread."""
    fingerprint: Fingerprint
    transaction: bool
    """The function takes a connection first, which `ctx.step` supplies."""
    unsupported: str | None
    """The first feature that the step asks for and that is not built yet: it cannot be used."""

    _signature: _Signature

    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
        """Use `step`; it chooses the class."""
        self.fn = fn
        self.is_async = naming.is_async(fn)
        self.transaction = isinstance(self, TransactionStep)
        self._signature = _Signature(fn, int(self.transaction))
        checks.known(options, _DEFAULTS, "step")
        name = options.get("name")
        name = naming.name_of(fn) if name is None else name
        self._set({**_DEFAULTS, **options, "name": name})
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            self.__dict__[attribute] = getattr(fn, attribute, None)
        self.__dict__["__wrapped__"] = fn

    @property
    def arguments(self) -> ArgumentShape:
        """How the arguments given to `ctx.step` are stored; resolved at the first use."""
        return self._signature.arguments

    @property
    def result(self) -> Shape:
        """How the result is stored; resolved at the first use."""
        return self._signature.result

    def resolve(self) -> None:
        """Resolve the annotations now; `DefinitionError` where one cannot be stored."""
        self.arguments.resolve()
        self.result.resolve()

    def options(
        self,
        *,
        name: str = _UNSET,
        retry: Retry | int = _UNSET,
        timeout: Duration | None = _UNSET,
        queue: str = _UNSET,
        compensate: Callable[[R_co], object] = _UNSET,
        executor: Executor = _UNSET,
        fingerprint: Fingerprint = _UNSET,
    ) -> Self:
        """The same step with other options, for one place of use; those left out stay."""
        given = {
            "name": name,
            "retry": retry,
            "timeout": timeout,
            "queue": queue,
            "compensate": compensate,
            "executor": executor,
            "fingerprint": fingerprint,
        }
        changed = self._copy()
        changed._set(  # noqa: SLF001  a copy of ours
            {option: value for option, value in given.items() if value is not _UNSET}
        )
        return changed

    def bound_to(self, instance: object) -> Self:
        """The step with `instance` as its first argument, as a method has its `self`."""
        bound = self._copy()
        bound._signature = self._signature.bound  # noqa: SLF001  a copy of ours
        bound.fn = bound.__dict__["__wrapped__"] = MethodType(self.fn, instance)
        return bound

    def _copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def _set(self, options: Mapping[str, Any]) -> None:
        try:
            for option, value in options.items():
                self.__dict__[option] = _CHECKS[option](value)
            self._check()
        except DefinitionError as refused:
            message = f"step {naming.described(self.fn)}: {refused}"
            raise DefinitionError(message) from None
        self.unsupported = next((what for what, asked in _LATER.items() if asked(self)), None)

    def _check(self) -> None:
        """What the options demand of the function."""
        checks.placement(self._signature.fn, executor=self.executor, queue=self.queue)

    def _refuse_in_workflow(self) -> None:
        if in_workflow():
            caller = sys._getframe(2)  # noqa: SLF001  the line that made the call
            message = (
                f"{self.name} is a step: write `await ctx.step({self.name}, ...)` "
                f"at {naming.line_of(caller.f_code, caller.f_lineno)}"
            )
            raise NotAllowedInWorkflow(message)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class AsyncStep(Step[P, R_co]):
    """A step made of an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function itself, no step of a run; `NotAllowedInWorkflow` inside a workflow."""
        self._refuse_in_workflow()
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self, obj: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: AsyncStep[Concatenate[S, P2], R_co], obj: S, owner: type[Any], /
    ) -> AsyncStep[P2, R_co]: ...
    def __get__(self, obj: object, owner: type[Any], /) -> AsyncStep[..., Any]:
        return self if obj is None else self.bound_to(obj)


class SyncStep(Step[P, R_co]):
    """A step made of a plain function; in a run it is called in a thread."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself, no step of a run; `NotAllowedInWorkflow` inside a workflow."""
        self._refuse_in_workflow()
        return self.fn(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def __get__(self, obj: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: SyncStep[Concatenate[S, P2], R_co], obj: S, owner: type[Any], /
    ) -> SyncStep[P2, R_co]: ...
    def __get__(self, obj: object, owner: type[Any], /) -> SyncStep[..., Any]:
        return self if obj is None else self.bound_to(obj)


class TransactionStep(Step[P, R_co], Generic[C, P, R_co]):
    """A step whose completion is committed together with what it writes over its connection.

    Called directly it takes the connection first; `ctx.step` supplies it.
    """

    def __call__(self, conn: C, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function itself over `conn`; `NotAllowedInWorkflow` inside a workflow."""
        self._refuse_in_workflow()
        return self.fn(conn, *args, **kwargs)  # type: ignore[no-any-return]

    def __get__(self, obj: object, owner: type[Any], /) -> Self:
        if obj is not None:
            message = f"{self.name} is a transactional step: make it a function, not a method"
            raise DefinitionError(message)
        return self

    def _check(self) -> None:
        if not self.is_async:
            message = "transaction=True needs an async def"
            raise DefinitionError(message)
        for option in ("queue", "executor", "compensate"):
            if getattr(self, option) is not None:
                message = f"{option}= does not go with transaction=True"
                raise DefinitionError(message)


_DEFAULTS: Mapping[str, Any] = {
    "retry": None,
    "timeout": None,
    "queue": None,
    "compensate": None,
    "executor": None,
    "fingerprint": "strict",
}
_CHECKS: Mapping[str, checks.Check] = {
    "name": checks.text("name"),
    "retry": checks.optional(checks.retry),
    "timeout": checks.optional(checks.seconds),
    "queue": checks.optional(checks.text("queue")),
    "compensate": checks.optional(checks.function("compensate")),
    "executor": checks.optional(checks.one_of("executor", "thread", "process")),
    "fingerprint": checks.one_of("fingerprint", "strict", "warn", "ignore"),
}
# What a definition may ask for although it is not built yet: refused where the step is used.
_LATER: Mapping[str, Callable[[Step[..., Any]], bool]] = {
    "steps on another queue (queue=)": lambda step: step.queue is not None,
    "transactional steps (transaction=True)": lambda step: step.transaction,
}


def make_step(fn: Any, given: Mapping[str, Any]) -> Step[..., Any]:
    """A step of the class that `fn` asks for; `DefinitionError` when it cannot be one."""
    if isinstance(fn, Step):
        return cast(Step[..., Any], fn).options(**given)
    check_function(fn, named=given.get("name") is not None)
    kind = AsyncStep if naming.is_async(fn) else SyncStep
    return cast(type[Step[..., Any]], kind)(fn, given)


def make_transaction_step(fn: Any, given: Mapping[str, Any]) -> Step[..., Any]:
    """A step that is given a connection; `DefinitionError` when `fn` cannot be one."""
    check_function(fn, named=given.get("name") is not None)
    return cast(type[Step[..., Any]], TransactionStep)(fn, given)


def check_function(fn: Any, *, named: bool) -> None:
    """Raise `DefinitionError` unless `fn` can be a step; `named`: a name was given with it."""
    reason = next((reason for reason, holds in _REFUSED.items() if holds(fn)), None)
    if reason is None and not named and not naming.is_named(fn):
        reason = 'it has no name of its own: write step(obj, name="...")'
    if reason is not None:
        message = f"{naming.described(fn)} cannot be a step: {reason}"
        raise DefinitionError(message)


_REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "it is run by itself: write `await ctx.call(...)`": lambda fn: isinstance(fn, Runnable),
    "write @staticmethod above @step": lambda fn: isinstance(fn, staticmethod),
    "write @classmethod above @step": lambda fn: isinstance(fn, classmethod),
    "it cannot be called": lambda fn: not callable(fn),
    "a generator has no result to keep": naming.is_generator,
}


_CACHED = "__durable_step__"


def as_step(fn: Any, /) -> Step[..., Any]:
    """The step that `ctx.step(fn, ...)` means; made once for a function.

    `DefinitionError` for what has no name of its own: lambdas, `partial`, callable objects.
    """
    if isinstance(fn, Step):
        return cast("Step[..., Any]", fn)  # quoted: else the type is made anew in every call
    if isinstance(fn, FunctionType):
        return _step_of_function(fn)
    if isinstance(fn, MethodType):
        return as_step(fn.__func__).bound_to(fn.__self__)
    if isinstance(fn, type) or inspect.ismodule(getattr(fn, "__self__", None)):
        return _step_of_lasting(fn)
    return make_step(fn, {})


def _step_of_function(fn: FunctionType) -> Step[..., Any]:
    # Kept on the function, so that both go together; `functools.wraps` copies it to others.
    known = fn.__dict__.get(_CACHED)
    if known is None or known.fn is not fn:
        known = fn.__dict__[_CACHED] = make_step(fn, {})
    return known


@lru_cache(maxsize=1000)
def _step_of_lasting(fn: Callable[..., Any]) -> Step[..., Any]:
    return make_step(fn, {})
