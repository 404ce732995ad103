"""From the data of a failure to an exception of its own class *and* of durable's.

The class is looked for in modules that are imported already: whoever writes `except CardDeclined` has
imported it. Nothing is imported, and no `__init__` or `__new__` of Python code runs; only a metaclass or
an `__init_subclass__` does, once for each class.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any, Final

from durable.errors import Failed, Failure

_OWN: Final = ("failure", "step", "attempts", "run_id")
"""What durable sets on every exception that it rebuilds; a property of this name must not hide it."""
_PLAIN_ONLY: Final = (BaseExceptionGroup, StopIteration, StopAsyncIteration)
"""Classes with a meaning to Python itself that a rebuilt exception must not have."""
_MOST_CAUSES: Final = 20

_revived: dict[tuple[type[Exception], type[Failed]], type[Failed] | None] = {}


def rebuild(failure: Failure, base: type[Failed], **attributes: Any) -> Failed:
    """The exception to raise for `failure`: a `base`, and of the original class if that is known here.

    `args` and all attributes that were kept are restored; `attributes` (`step=`, `run_id=`, ...) are set
    on top of them, and `failure` has the data in every case.
    """
    return _rebuild(failure, base, attributes, _MOST_CAUSES)


def _rebuild(
    failure: Failure, base: type[Failed], attributes: Mapping[str, Any], causes: int
) -> Failed:
    error = _revive(failure, base) or _plain(failure, base)
    vars(error)["failure"] = failure
    for name, value in attributes.items():
        vars(error)[name] = value
    if failure.cause is not None and causes > 0:
        _set(error, "__cause__", _rebuild(failure.cause, Failed, {}, causes - 1))
    return error


def _plain(failure: Failure, base: type[Failed]) -> Failed:
    return base(failure.message)


def _revive(failure: Failure, base: type[Failed]) -> Failed | None:
    """The exception as its own class; None where that cannot be."""
    original = _find(failure.type)
    if original is None or issubclass(base, original):
        return None
    cls = _both(original, base)
    if cls is None:
        return None
    try:
        error = _construct(cls, tuple(failure.attributes.get("args", ())))
    except Exception:
        return None
    for name, value in failure.attributes.items():
        if name != "args":
            _restore(error, name, value)
    return error


def _find(name: str) -> type[Exception] | None:
    """The exception class of this name, if its module is imported; no `__getattr__` is asked."""
    module_name, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        if not isinstance(found, types.ModuleType | type):
            return None
        found = vars(found).get(part)
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    return None if issubclass(found, _PLAIN_ONLY) else found


def _both(original: type[Exception], base: type[Failed]) -> type[Failed] | None:
    """The class that is `original` and `base`; None if Python does not allow one."""
    key = (original, base)
    if key not in _revived:
        try:
            _revived[key] = _new_class(original, base)
        except Exception:
            _revived[key] = None
    return _revived[key]


def _new_class(original: type[Exception], base: type[Failed]) -> type[Failed]:
    bases = (original,) if issubclass(original, base) else (base, original)
    body: dict[str, Any] = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "__init__": _no_init,
        "__str__": _message,
        "__reduce__": _reduce,
        "__reduce_ex__": _reduce_ex,
        "_durable_base": base,
    }
    # Stands before a property or slot of the original, and leaves the name to the instance.
    body.update({name: None for name in _OWN if inspect.getattr_static(original, name, None)})
    return types.new_class(original.__name__, bases, exec_body=lambda space: space.update(body))


def _construct(cls: type[Failed], args: tuple[Any, ...]) -> Failed:
    """An instance made by the `__new__` and `__init__` of the builtin that `cls` descends from."""
    new = next(
        found
        for one in cls.__mro__
        if isinstance(found := vars(one).get("__new__"), types.BuiltinFunctionType)
    )
    init = next(
        found
        for one in cls.__mro__
        if isinstance(found := vars(one).get("__init__"), types.WrapperDescriptorType)
    )
    error: Failed = new(cls, *args)
    init(error, *args)
    _set(error, "args", args)
    return error


def _set(error: Failed, name: str, value: Any) -> None:
    """Set what `BaseException` itself defines, past any `__setattr__` of the class."""
    vars(BaseException)[name].__set__(error, value)


def _restore(error: Failed, name: str, value: Any) -> None:
    """Set an attribute as data: no `__setattr__` and no property of the class runs."""
    if name.startswith("__") and name != "__notes__":
        return
    slot = inspect.getattr_static(type(error), name, None)
    if isinstance(slot, types.MemberDescriptorType | types.GetSetDescriptorType):
        try:
            slot.__set__(error, value)
        except (TypeError, ValueError, AttributeError):
            return  # read-only, or of another type in this version of Python
    else:
        vars(error)[name] = value


def _no_init(self: Failed, *_args: Any, **_kwargs: Any) -> None:
    """Stands in for the original's, which must not run when a copy is made."""


def _message(self: Failed) -> str:
    failure = vars(self).get("failure")
    return failure.message if failure is not None else Exception.__str__(self)


def _reduce(self: Failed) -> tuple[Any, ...]:
    """Copies and pickles (a user's, durable makes none) are rebuilt from the data in the same way."""
    kept = {name: value for name, value in vars(self).items() if name != "failure"}
    return _again, (self.failure, vars(type(self))["_durable_base"], kept)


def _reduce_ex(self: Failed, _protocol: int) -> tuple[Any, ...]:
    return _reduce(self)


def _again(failure: Failure, base: type[Failed], attributes: dict[str, Any]) -> Failed:
    return rebuild(failure, base, **attributes)
