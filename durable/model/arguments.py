"""The arguments and the result of a function as payloads, by its signature.

Annotations are looked at when they are first needed, so that what they name may be defined later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from typing_extensions import override

from durable.errors import DefinitionError, PayloadError
from durable.model.packing import native, pack_lowered
from durable.model.refusals import class_of
from durable.model.shape import (
    IMMUTABLE,
    MAX_PAYLOAD,
    MSGPACK,
    Shape,
    json_text,
    parse_json,
    read,
    too_large,
    unwritable,
)
from durable.model.signatures import (
    Function,
    Names,
    Plan,
    parameter_shape,
    plan_of,
    result_shape,
)

_POSITIONAL_ONLY: Final = MSGPACK + b"\x91"
"""How a payload of positional arguments begins: an array of one, which holds them."""


_PASSED_ON: Final = (
    "quick",
    "lower",
    "lift",
    "lift_json",
    "encode",
    "decode",
    "settle",
    "received",
)


class LazyShape(Shape):
    """A shape whose annotation is evaluated at the first use; from then on calls go straight to it."""

    _found: Shape

    def __init__(self, find: Callable[[], Shape]) -> None:
        self._find = find

    def _shape(self) -> Shape:
        try:
            return self._found
        except AttributeError:
            found = self._find()
            self._found = found
            # Found before the methods of the class, which only pass on what they are asked.
            self.__dict__.update({name: getattr(found, name) for name in _PASSED_ON})
            return found

    @property
    @override
    def plain(self) -> bool:
        return self._shape().plain

    @override
    def resolve(self) -> None:
        self._shape().resolve()

    @override
    def quick(self) -> frozenset[type] | None:
        return self._shape().quick()

    @override
    def lower(self, value: Any) -> Any:
        return self._shape().lower(value)

    @override
    def lift(self, value: Any, where: str) -> Any:
        return self._shape().lift(value, where)

    @override
    def lift_json(self, text: bytes, where: str) -> Any:
        return self._shape().lift_json(text, where)

    @override
    def encode(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> bytes:
        return self._shape().encode(value, where, limit)

    @override
    def decode(self, data: bytes, where: str) -> Any:
        return self._shape().decode(data, where)

    @override
    def settle(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> tuple[bytes, Any]:
        return self._shape().settle(value, where, limit)

    @override
    def received(self, value: Any, data: bytes, where: str) -> Any:
        return self._shape().received(value, data, where)


def result_of(fn: Function, *, names: Names = None) -> Shape:
    """The shape of what `fn` returns (of what it gives when awaited).

    `names` says what local names in its annotation mean, such as the locals of the decorator's caller.
    """
    return LazyShape(lambda: result_shape(fn, names))


def parameter_of(fn: Function, name: str, *, names: Names = None) -> Shape:
    """The shape of one parameter of `fn`; `names` as for `result_of`."""
    return LazyShape(lambda: parameter_shape(fn, name, names))


def arguments_of(fn: Function, *, skip: int = 0, names: Names = None) -> ArgumentShape:
    """The shape of the arguments of `fn`, its `skip` leading parameters left out."""
    return ArgumentShape(fn, skip, names)


class ArgumentShape:
    """How the arguments of a call become bytes. Only those given are written; defaults are not bound.

    `where` is the callee, as in "step charge"; errors name the argument as well.
    """

    __slots__ = ("_fn", "_names", "_plan", "_skip")

    _plan: Plan

    def __init__(self, fn: Function, skip: int = 0, names: Names = None) -> None:
        self._fn = fn
        self._skip = skip
        self._names = names

    def resolve(self) -> None:
        """Look at the annotations now; `DefinitionError` if one cannot work."""
        self._resolved()

    def _resolved(self) -> Plan:
        try:
            return self._plan
        except AttributeError:
            plan = plan_of(self._fn, self._skip, self._names)
            self._plan = plan
            return plan

    def encode(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        where: str,
        limit: int = MAX_PAYLOAD,
    ) -> bytes:
        """The payload of a call's arguments; `PayloadError` if one would not come back."""
        return self.written(args, kwargs, where, limit)[0]

    def written(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        where: str,
        limit: int = MAX_PAYLOAD,
    ) -> tuple[bytes, bool]:
        """The payload, and whether the arguments are `plain`: `encode` and `plain` in one look."""
        try:
            plan = self._plan
        except AttributeError:
            plan = self._resolved()
        found = None if kwargs else _quickly(plan.quick, args)
        if found is None:
            data = _packed(_lowered(plan, args, kwargs, where), where)
            found = data, self.plain(args, kwargs)
        if len(found[0]) > limit:
            too_large(found[0], f"arguments of {where}", limit)
        return found

    def decode(self, data: bytes, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in a payload, as `(args, kwargs)`; always fresh copies."""
        plan = self._resolved()
        told = f"arguments of {where}"
        if data[:1] == MSGPACK:
            lift = _lift_packed
            args, kwargs = _parts(read(data, told), told)
        else:
            lift = _lift_parsed
            args, kwargs = _parts(parse_json(json_text(data, told), told), told)
        given = zip(plan.positions(len(args)), args, strict=True)
        return (
            tuple([lift(shape, value, name, where) for (name, shape), value in given]),
            {name: lift(plan.by_name(name), value, name, where) for name, value in kwargs.items()},
        )

    def plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Every argument given is an immutable primitive, which its receiver gets as it is."""
        plan = self._resolved()
        quick = plan.quick
        if kwargs and not all(_keeps(plan.by_name(name).quick(), kwargs[name]) for name in kwargs):
            return False
        if len(args) > len(quick):
            quick += (plan.more.quick(),) * (len(args) - len(quick))
        return all(map(_keeps, quick, args))


def _quickly(
    quick: tuple[frozenset[type] | None, ...], args: tuple[Any, ...]
) -> tuple[bytes, bool] | None:
    """What `written` gives for arguments that msgpack writes by itself; None when they need more than that."""
    if len(args) > len(quick):
        return None
    plain = True
    for value, exact in zip(args, quick):  # noqa: B905  `strict=` costs as much as all the rest here
        if exact is None:
            plain = plain and type(value) in IMMUTABLE
        elif type(value) not in exact:
            return None
    try:
        return _POSITIONAL_ONLY + native(list(args)), plain
    except (TypeError, ValueError, OverflowError):
        return None


def _lowered(plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str) -> list[Any]:
    """The arguments as msgpack keeps them: an array, and a map when some are given by name."""
    lowered: list[Any] = [
        [
            _lower(shape, value, name, where)
            for (name, shape), value in zip(plan.positions(len(args)), args, strict=True)
        ]
    ]
    if kwargs:
        names = plan.in_order(kwargs)
        lowered.append(
            {name: _lower(plan.by_name(name), kwargs[name], name, where) for name in names}
        )
    return lowered


def _lower(shape: Shape, value: Any, name: str, where: str) -> Any:
    try:
        return shape.lower(value)
    except DefinitionError:
        raise
    except Exception as error:
        raise unwritable(error, f"argument {name} of {where}") from error


def _packed(lowered: list[Any], where: str) -> bytes:
    try:
        return MSGPACK + pack_lowered(lowered)
    except Exception as error:
        raise unwritable(error, f"arguments of {where}") from error


def _keeps(exact: frozenset[type] | None, value: Any) -> bool:
    return type(value) in (IMMUTABLE if exact is None else exact)


def _lift_packed(shape: Shape, value: Any, name: str, where: str) -> Any:
    exact = shape.quick()
    if exact is None or type(value) in exact:
        return value
    return shape.lift(value, f"argument {name} of {where}")


def _lift_parsed(shape: Shape, value: Any, name: str, where: str) -> Any:
    return shape.lift_json(json.dumps(value).encode(), f"argument {name} of {where}")


def _parts(value: Any, told: str) -> tuple[list[Any], dict[str, Any]]:
    """The two parts of unpacked arguments."""
    if class_of(value) is list and [class_of(part) for part in value] in ([list], [list, dict]):
        args: list[Any] = value[0]
        kwargs: dict[Any, Any] = value[1] if len(value) > 1 else {}
        if all(isinstance(name, str) for name in kwargs):
            return args, kwargs
    message = f"{told} cannot be read: not a list of arguments"
    raise PayloadError(message)
