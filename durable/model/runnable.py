"""What can be started by name: workflows and jobs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

from durable.errors import DefinitionError
from durable.model import checks, naming
from durable.model.retry import Retry
from durable.model.scope import WorkflowContext

if TYPE_CHECKING:
    from durable.model.calendar import Schedule
    from durable.model.payload import Shape
    from durable.model.records import Run
    from durable.model.rows import Lane

A = TypeVar("A")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

_DEFAULTS: Mapping[str, Any] = {
    "queue": "default",
    "timeout": None,
    "retry": None,
    "schedule": None,
    "tags": None,
}
_CHECKS: Mapping[str, checks.Check] = {
    "name": checks.text("name"),
    "version": checks.version,
    "queue": checks.text("queue"),
    "timeout": checks.optional(checks.seconds),
    "retry": checks.optional(checks.retry),
    "schedule": checks.schedules,
    "tags": checks.tags,
    "on_finish": checks.optional(checks.function("on_finish")),
    "executor": checks.optional(checks.one_of("executor", "thread", "process")),
}


class Runnable(Generic[T_contra, R_co]):
    """Anything that can be started: `T_contra` is its input (None: no input), `R_co` its result."""

    name: str
    version: int = 1
    pinned: bool = False
    """`version=` was given: runs of this version stay with it."""
    queue: str
    timeout: float | None
    """Seconds that a whole run may take."""
    retry: Retry | None
    """Of a workflow: for whole runs. Of a job: for its one step."""
    schedule: tuple[Schedule, ...]
    """When it is started by itself."""
    tags: Mapping[str, str]
    fn: Callable[..., Any]
    takes_input: bool
    unsupported: str | None
    """The first feature that it asks for and that is not built yet: it cannot be run."""

    _kind: ClassVar[str]
    _form: ClassVar[str]
    # How many parameters come before the input.
    _skip: ClassVar[int]
    # Its options besides the name, with their defaults.
    _options: ClassVar[Mapping[str, Any]]

    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any]) -> None:
        """Use `workflow` or `job`."""
        self.fn = fn
        try:
            self._check_function()
            self._input = self._input_parameter()
            self._set(options)
        except DefinitionError as refused:
            message = f"{self._kind} {naming.described(fn)}: {refused}"
            raise DefinitionError(message) from None
        self.takes_input = self._input is not None
        self.unsupported = self._first_unsupported()
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            self.__dict__[attribute] = getattr(fn, attribute, None)
        self.__dict__["__wrapped__"] = fn

    @cached_property
    def input(self) -> Shape:
        """How the input is stored; resolved at the first use. Only None where it takes none."""
        from durable.model.payload import parameter_of, shape_of  # noqa: PLC0415  as below

        return shape_of(None) if self._input is None else parameter_of(self.fn, self._input.name)

    @cached_property
    def result(self) -> Shape:
        """How the result is stored; resolved at the first use."""
        from durable.model.payload import result_of  # noqa: PLC0415  not at `import durable`

        return result_of(self.fn)

    def resolve(self) -> None:
        """Resolve the annotations now; `DefinitionError` where one cannot be stored."""
        self.input.resolve()
        self.result.resolve()

    def lane(self, queue: str | None = None) -> Lane:
        """What workers claim its runs by: any code of its name, unless its version is pinned."""
        from durable.model.rows import Lane  # noqa: PLC0415  not at `import durable`

        return Lane(queue or self.queue, self.name, self.version if self.pinned else 0)

    def _set(self, given: Mapping[str, Any]) -> None:
        name = given.get("name")
        options = {**given, "name": self.fn.__name__ if name is None else name}
        checks.known(options, self._options, self._kind)
        for option, value in {**self._options, **options}.items():
            self.__dict__[option] = _CHECKS[option](value)

    def _check_function(self) -> None:
        """Whether it is a function of the right kind; `DefinitionError` says what is wrong."""
        if not inspect.isfunction(self.fn) or self.fn.__name__ == "<lambda>":
            message = f"it must be a function with a name, as in `{self._form}`"
            raise DefinitionError(message)
        if naming.is_generator(self.fn):
            message = "it yields, and a generator has no result to keep: return a value"
            raise DefinitionError(message)

    def _input_parameter(self) -> inspect.Parameter | None:
        """The parameter that takes the input; None: there is none. `DefinitionError` for others."""
        parameters = list(inspect.signature(self.fn).parameters.values())
        if parameters and parameters[0].name in ("self", "cls"):
            message = "it must be a function, not a method"
            raise DefinitionError(message)
        for parameter in parameters:
            checks.parameter(parameter)
        if not self._skip <= len(parameters) <= self._skip + 1:
            message = (
                f"it has {len(parameters)} parameters: write `{self._form}`, "
                "and put several values into one model"
            )
            raise DefinitionError(message)
        if len(parameters) == self._skip:
            return None
        if parameters[-1].annotation is inspect.Parameter.empty:
            message = f"annotate {parameters[-1].name!r}: an input is stored by its type"
            raise DefinitionError(message)
        return parameters[-1]

    def _first_unsupported(self) -> str | None:
        asked = (what for option, what in _LATER.items() if self.__dict__.get(option))
        return next(asked, None)

    def __repr__(self) -> str:
        return f"<{self._kind} {self.name}>"


# What a definition may ask for although it is not built yet: refused where it is to be run.
_LATER = {
    "schedule": "schedules (schedule=)",
    "on_finish": "on_finish=",
}


class Workflow(Runnable[T_contra, R_co]):
    """What `@workflow` leaves behind. Calling it runs it inline, as a part of the caller's run."""

    on_finish: Callable[[Run], object] | None
    """Called with each run that has ended."""

    _kind = "workflow"
    _form = "async def f(ctx: Context, input: T) -> R"
    _skip = 1
    _options = MappingProxyType({**_DEFAULTS, "version": 1, "on_finish": None})

    @overload
    def __call__(self: Workflow[None, A], ctx: WorkflowContext, /) -> Coroutine[Any, Any, A]: ...
    @overload
    def __call__(self, ctx: WorkflowContext, input: T_contra, /) -> Coroutine[Any, Any, R_co]: ...
    def __call__(self, ctx: WorkflowContext, /, *given: Any) -> Coroutine[Any, Any, Any]:
        """Run the function inline, in the caller's run; `ctx.call` makes it a run of its own."""
        if self.takes_input and not given:
            self.input.encode(
                None, f"input of workflow {self.name}"
            )  # raises unless it may be None
            given = (None,)
        elif not self.takes_input and given == (None,):
            given = ()
        return self.fn(ctx, *given)  # type: ignore[no-any-return]

    def _input_parameter(self) -> inspect.Parameter | None:
        found = super()._input_parameter()
        checks.context(self.fn, next(iter(inspect.signature(self.fn).parameters.values())))
        return found

    def _set(self, given: Mapping[str, Any]) -> None:
        super()._set(given)
        self.pinned = "version" in given

    def _check_function(self) -> None:
        super()._check_function()
        if not inspect.iscoroutinefunction(self.fn):
            message = f"it must be an async def, as in `{self._form}`"
            raise DefinitionError(message)


class Job(Runnable[T_contra, R_co]):
    """What `@job` leaves behind: one step, started like a run. `fn` is the function itself."""

    executor: Literal["thread", "process"] | None

    _kind = "job"
    _form = "def f(input: T) -> R"
    _skip = 0
    _options = MappingProxyType({**_DEFAULTS, "executor": None})

    def _set(self, given: Mapping[str, Any]) -> None:
        super()._set(given)
        checks.placement(self.fn, executor=self.executor)

    def _first_unsupported(self) -> str:
        return "jobs"
