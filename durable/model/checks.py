"""Checks of what `@step`, `@workflow` and `@job` are given: options, and the function itself.

A check of an option takes what was given and answers what is kept. Each raises `DefinitionError`
with the reason, to which the definition adds the function's name and line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

from durable.errors import DefinitionError
from durable.model import naming
from durable.model.calendar import Cron, Every, Schedule
from durable.model.duration import seconds_of
from durable.model.retry import Retry
from durable.model.scope import WorkflowContext

Check: TypeAlias = Callable[[Any], Any]


class Definition(Protocol):
    """A step or something that can be run."""

    name: str
    unsupported: str | None


def usable(kind: str, definition: Definition) -> None:
    """`NotImplementedError` for a definition that asks for what is not built yet."""
    if definition.unsupported:
        message = f"{kind} {definition.name}: {definition.unsupported} cannot be used yet"
        raise NotImplementedError(message)


def text(option: str) -> Check:
    """A printable string of 1 to `naming.MAX_NAME` characters."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not naming.is_name(value):
            message = (
                f"{option}= must be 1 to {naming.MAX_NAME} printable characters, not {value!r}"
            )
            raise DefinitionError(message)
        return value

    return check


def one_of(option: str, *choices: str) -> Check:
    """One of these words."""

    def check(value: object) -> object:
        if value not in choices:
            message = f"{option}= must be one of {', '.join(choices)}, not {value!r}"
            raise DefinitionError(message)
        return value

    return check


def function(option: str) -> Check:
    """Something to call."""

    def check(value: object) -> object:
        if not callable(value):
            message = f"{option}= must be a function, not {value!r}"
            raise DefinitionError(message)
        return value

    return check


def optional(check: Check) -> Check:
    """None, or what `check` takes."""
    return lambda value: None if value is None else check(value)


def seconds(value: Any) -> float:
    """A duration, kept as seconds; `TypeError` or `ValueError` for what is none."""
    return seconds_of(value, "timeout=")


def retry(value: Any) -> Retry | None:
    """A `Retry`, or how many attempts; `TypeError` or `ValueError` for anything else."""
    return Retry.of(value)


def version(value: object) -> int:
    """A whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        message = f"version= must be a whole number from 1 on, not {value!r}"
        raise DefinitionError(message)
    return value


def tags(value: Mapping[str, str] | None) -> Mapping[str, str]:
    """Strings by strings, kept as a read-only copy."""
    check = text("tags")
    return MappingProxyType({check(key): check(tag) for key, tag in (value or {}).items()})


def schedules(value: Any) -> tuple[Schedule, ...]:
    """One schedule or several, kept as a tuple."""
    given = (value,) if isinstance(value, Cron | Every) else cast(Sequence[Any], value or ())
    for schedule in given:
        if not isinstance(schedule, Cron | Every):
            message = f"schedule= must be Cron(...) or Every(...), not {schedule!r}"
            raise DefinitionError(message)
    return tuple(given)


def parameter(given: inspect.Parameter) -> None:
    """A parameter of a workflow or job is positional and has no default."""
    if given.kind not in (given.POSITIONAL_ONLY, given.POSITIONAL_OR_KEYWORD):
        message = f"`{given}` is not a positional parameter"
        raise DefinitionError(message)
    if given.default is not given.empty:
        message = (
            f"{given.name!r} has a default, which is not stored with the run: "
            f"write `{given.name}: T | None`, or put defaults into a model's fields"
        )
        raise DefinitionError(message)


def context(fn: Callable[..., Any], first: inspect.Parameter) -> None:
    """The first parameter of a workflow is not annotated with something else than the context."""
    annotation = first.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, inspect.unwrap(fn).__globals__)  # noqa: S307  the user's own words
        except Exception:
            return  # not defined yet, or for type checkers only
    if annotation in (Any, object, first.empty) or not isinstance(annotation, type):
        return
    if not issubclass(annotation, WorkflowContext):
        message = f"its first parameter must be the Context, but {first.name!r} is {annotation!r}"
        raise DefinitionError(message)


def known(given: Mapping[str, Any], options: Mapping[str, Any], what: str) -> None:
    """Options that do not exist raise `TypeError`, as wrong arguments of a function do."""
    for option in given:
        if option not in options and option != "name":
            message = f"{what}() has no option {option!r}"
            raise TypeError(message)


def placement(
    fn: Callable[..., Any], *, executor: str | None = None, queue: str | None = None
) -> None:
    """Only sync functions have an executor; what runs elsewhere is found there by its name."""
    if executor is not None and naming.is_async(fn):
        message = "executor= is for sync functions; an async def runs on the event loop"
        raise DefinitionError(message)
    option = "queue=" if queue is not None else 'executor="process"'
    if (queue is not None or executor == "process") and not naming.at_module_level(fn):
        message = f"{option} needs a function at module level, where others find it by name"
        raise DefinitionError(message)
