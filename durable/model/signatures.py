"""What a function's signature says of its values: annotations evaluated late, one by one.

One by one, because a context or a connection among the parameters is often imported for type checkers
only, and must not keep the others from being understood.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import typing_extensions

from durable.errors import DefinitionError
from durable.model.refusals import class_of
from durable.model.shape import ANY, Shape
from durable.model.shapes import shape_of

Function: TypeAlias = Callable[..., Any]
Names: TypeAlias = Mapping[str, Any] | None
"""What local names in annotations mean, beside a function's globals and closure."""

_AWAITED: Final = (Awaitable, Coroutine)


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a function and their shapes."""

    names: tuple[str, ...]
    """Of the positional parameters."""
    shapes: tuple[Shape, ...]
    quick: tuple[frozenset[type] | None, ...]
    named: Mapping[str, Shape]
    """Of all parameters that can be given by name, in their order."""
    more: Shape
    """Of further positional arguments."""
    more_named: Shape
    """Of further named arguments."""

    def positions(self, count: int) -> list[tuple[str, Shape]]:
        """Name and shape of the first `count` positional arguments."""
        known = list(zip(self.names, self.shapes, strict=True))[:count]
        return known + [(str(number), self.more) for number in range(len(known), count)]

    def by_name(self, name: str) -> Shape:
        """The shape of a named argument."""
        return self.named.get(name, self.more_named)

    def in_order(self, given: Mapping[str, Any]) -> list[str]:
        """The names given: parameters in the order of the signature, further ones in the order given.

        The order of named arguments in a call means nothing, so it must not show in a fingerprint.
        """
        known = [name for name in self.named if name in given]
        return known + [name for name in given if name not in self.named]


def plan_of(fn: Function, skip: int, names: Names) -> Plan:
    """The plan of `fn` without its `skip` leading parameters."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[skip:]
    except (ValueError, TypeError):  # builtins that do not tell
        return Plan((), (), (), {}, ANY, ANY)
    positional: dict[str, Shape] = {}
    named: dict[str, Shape] = {}
    more: Shape = ANY
    more_named: Shape = ANY
    for parameter in parameters:
        annotation = _evaluated(fn, parameter.annotation, f"parameter {parameter.name}", names)
        if parameter.kind is parameter.VAR_KEYWORD and _is_unpacked(annotation):
            fields = typing.get_type_hints(typing.get_args(annotation)[0])
            named |= {name: shape_of(hint) for name, hint in fields.items()}
            continue
        shape = ANY if _is_unpacked(annotation) else _shape(fn, annotation, parameter.name)
        if parameter.kind is parameter.VAR_KEYWORD:
            more_named = shape
        elif parameter.kind is parameter.VAR_POSITIONAL:
            more = shape
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional[parameter.name] = shape
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            named[parameter.name] = shape
    shapes = tuple(positional.values())
    quick = tuple(shape.quick() for shape in shapes)
    return Plan(tuple(positional), shapes, quick, named, more, more_named)


def result_shape(fn: Function, names: Names) -> Shape:
    """The shape of what `fn` returns, or gives when awaited; of a class, its instances."""
    if isinstance(fn, type):
        return shape_of(fn)
    try:
        annotation = inspect.signature(fn).return_annotation
    except (ValueError, TypeError):
        return ANY
    annotation = _evaluated(fn, annotation, "the result", names)
    if typing.get_origin(annotation) in _AWAITED and not inspect.iscoroutinefunction(fn):
        annotation = typing.get_args(annotation)[-1]
    return _shape(fn, annotation, "result")


def parameter_shape(fn: Function, name: str, names: Names) -> Shape:
    """The shape of one parameter of `fn`."""
    annotation = inspect.signature(fn).parameters[name].annotation
    return _shape(fn, _evaluated(fn, annotation, f"parameter {name}", names), name)


def _shape(fn: Function, annotation: Any, what: str) -> Shape:
    if annotation in (typing.Never, typing.NoReturn):
        return ANY
    shape = shape_of(annotation)
    try:
        shape.resolve()
    except DefinitionError as error:
        message = f"{what} of {_title(fn)}: {error}"
        raise DefinitionError(message) from error
    return shape


def _is_unpacked(annotation: Any) -> bool:
    unpacked = typing.get_origin(annotation) in (typing.Unpack, typing_extensions.Unpack)
    return unpacked or isinstance(annotation, typing.TypeVarTuple)


def _evaluated(fn: Function, annotation: Any, what: str, names: Names) -> Any:
    """An annotation with its forward references resolved."""
    if annotation is inspect.Parameter.empty:
        return Any
    if type(annotation) is type:
        return annotation  # a class, and nothing to resolve
    code = _code_of(fn)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        hints = typing.get_type_hints(
            holder, _globals_of(code), _locals_of(code, names), include_extras=True
        )
    except Exception as error:
        written = annotation if isinstance(annotation, str) else str(annotation)
        message = (
            f"the annotation {written!r} of {what} of {_title(fn)} cannot be resolved: {error};"
            " define or import its names at module level, outside of TYPE_CHECKING"
        )
        raise DefinitionError(message) from error
    return hints["it"]


def _code_of(fn: Any) -> Any:
    """The Python function whose namespace the annotations of `fn` are written in."""
    while (inner := _inner(fn)) is not None:
        fn = inner
    return fn


def _inner(fn: Any) -> Any:
    """What `fn` wraps, binds or calls; None for a function, or what nothing is known of."""
    if isinstance(fn, partial):
        return fn.func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    if hasattr(fn, "__wrapped__"):
        return fn.__wrapped__
    if isinstance(fn, types.FunctionType):
        return None
    owner, name = (fn, "__init__") if inspect.isclass(fn) else (class_of(fn), "__call__")
    call = inspect.getattr_static(owner, name, None)
    return call if isinstance(call, types.FunctionType) else None


def _globals_of(code: Any) -> dict[str, Any]:
    found = getattr(code, "__globals__", None)
    if found is None:
        module = sys.modules.get(getattr(code, "__module__", None) or "")
        found = vars(module) if module is not None else {}
    return found


def _locals_of(code: Any, names: Names) -> dict[str, Any]:
    """Type parameters, what the function closes over, and the names that the caller knows."""
    found = {parameter.__name__: parameter for parameter in getattr(code, "__type_params__", ())}
    cells = getattr(code, "__closure__", None) or ()
    free = code.__code__.co_freevars if cells else ()
    for name, cell in zip(free, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return {**(names or {}), **found}


def _title(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__).split("<locals>.")[-1]
