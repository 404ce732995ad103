"""What stands in for steps and children: their outcomes are given, and everything round them stays real."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from durable.model.naming import is_named, name_of
from durable.model.scope import STEP
from durable.model.steps import Step, make_step

if TYPE_CHECKING:
    from durable.model.runnable import Workflow

UNSET: Final[Any] = object()


class OutcomesUsedUp(AssertionError):
    """A mock is called more often than a test has given it outcomes."""


@dataclass(frozen=True, slots=True)
class MockedCall:
    """One attempt that a mock answered. `args` and `kwargs` are what the step itself would have got."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    attempt: int
    """1 for the first attempt of a call."""


class Mock:
    """Stands in for a step or a child; `calls` has every attempt, in order."""

    def __init__(self, name: str, answer: Callable[..., Any]) -> None:
        self.name = name
        self.calls: list[MockedCall] = []
        self._answer = answer

    async def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], attempt: int) -> Any:
        """Note the attempt, and give its outcome."""
        self.calls.append(MockedCall(args, kwargs, attempt))
        value = self._answer(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    def __repr__(self) -> str:
        return f"<mock of {self.name}, {len(self.calls)} calls>"


def make_mock(name: str, *, returns: Any, raises: Any, outcomes: Any, using: Any) -> Mock:
    """A mock with the one outcome that is given; `TypeError` for none or more than one."""
    given = {"returns": returns, "raises": raises, "outcomes": outcomes, "using": using}
    chosen = [word for word, value in given.items() if value is not UNSET]
    if len(chosen) != 1:
        told = (
            f"not {' and '.join(f'{word}=' for word in chosen)}" if chosen else "and none is given"
        )
        message = f"mock({name}): one of returns=, raises=, outcomes= and using= is needed, {told}"
        raise TypeError(message)
    return Mock(name, _ANSWERS[chosen[0]](name, given[chosen[0]]))


def _returns(_: str, value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


def _raises(_: str, error: BaseException) -> Callable[..., Any]:
    def answer(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return answer


def _outcomes(name: str, outcomes: Sequence[Any]) -> Callable[..., Any]:
    rest = iter(tuple(outcomes))

    def answer(*_args: Any, **_kwargs: Any) -> Any:
        outcome = next(rest, UNSET)
        if outcome is UNSET:
            message = (
                f"mock({name}): all {len(outcomes)} outcomes are used up, and it is called again"
            )
            raise OutcomesUsedUp(message)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return answer


def _using(_: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return function


_ANSWERS: Final[Mapping[str, Callable[[str, Any], Callable[..., Any]]]] = {
    "returns": _returns,
    "raises": _raises,
    "outcomes": _outcomes,
    "using": _using,
}


class Mocks:
    """Which steps are mocked; the newest mock of a step counts.

    A step as it is defined stands for all names of its function (`options(name=...)`) that have no mock of
    their own; a step under another name stands for that name only.
    """

    def __init__(self) -> None:
        self._by_function: dict[object, dict[str | None, Mock]] = {}

    def add(self, step: Any, mock: Mock) -> None:
        """From now on `mock` stands in for `step`: a `Step`, or the plain function of one."""
        if isinstance(step, Step):
            self._of_function(step.fn)[None if _is_as_defined(step) else step.name] = mock
        else:
            found = self._of_function(step)
            found.clear()
            found[None] = mock

    def _of_function(self, fn: Any) -> dict[str | None, Mock]:
        return self._by_function.setdefault(_function_of(fn), {})

    def of(self, step: Step[..., Any]) -> Mock | None:
        """The mock that stands in for this step."""
        found = self._by_function.get(_function_of(step.fn))
        if found is None:
            return None
        return found.get(step.name) or found.get(None)


def _function_of(fn: Any) -> Any:
    """A method is mocked for all instances."""
    return getattr(fn, "__func__", fn)


def _is_as_defined(step: Any) -> bool:
    """Whether it has the name that its definition has given it."""
    function = _function_of(step.fn)
    if is_named(function) and step.name == name_of(function):
        return True
    return bool(getattr(_defined(function), "name", None) == step.name)


def _defined(function: Any) -> object:
    """What has been made of a function where it is defined, as by `@step(name=...)`; None if nobody knows."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found


def stand_in(workflow: Workflow[Any, Any], mock: Mock, driven: set[str]) -> Workflow[Any, Any]:
    """A workflow that a run takes for the real one: its only step is the mock. `driven` gets the run's id."""

    async def answered(ctx: Any, *given: Any) -> Any:
        driven.add(ctx.run_id)

        async def step() -> Any:
            attempt: Any = STEP.get()
            return await mock.call(given, {}, attempt.attempt)

        asked = make_step(step, {"name": workflow.name})
        asked._signature = _Answer(workflow)  # type: ignore[assignment]  # noqa: SLF001
        return await ctx.step(asked)

    copy: Workflow[Any, Any] = object.__new__(type(workflow))
    copy.__dict__.update(workflow.__dict__)
    copy.__dict__.update(fn=answered, input=workflow.input, result=workflow.result)
    return copy


class _Answer:
    """The signature of a step that takes nothing and gives what a workflow gives."""

    def __init__(self, workflow: Workflow[Any, Any]) -> None:
        from durable.model.payload import arguments_of

        self.arguments = arguments_of(_nothing)
        self.result = workflow.result


def _nothing() -> None:
    """Take no arguments."""
