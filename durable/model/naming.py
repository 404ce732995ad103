"""Names: which strings will do, and what a user's function is called, where it stands, what it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, MethodType
from typing import Any

MAX_NAME = 255
"""Characters in the name of a workflow, step, queue or event, or in a tag."""

_NAMED = (FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, type)


def is_named(fn: object) -> bool:
    """Whether `fn` carries a name of its own: functions, methods, builtins, classes; no lambdas."""
    return isinstance(fn, _NAMED) and getattr(fn, "__name__", "<lambda>") != "<lambda>"


def name_of(fn: Callable[..., Any]) -> str:
    """`__qualname__` after the last `<locals>.`, no module: moving a function renames nothing."""
    return fn.__qualname__.rpartition("<locals>.")[2]


def at_module_level(fn: Callable[..., Any]) -> bool:
    """Whether another process finds `fn` by its module and name."""
    return is_named(fn) and "." not in fn.__qualname__


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine."""
    if inspect.iscoroutinefunction(fn):
        return True
    return not isinstance(fn, _NAMED) and inspect.iscoroutinefunction(type(fn).__call__)


def is_generator(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a generator, which has no result to keep."""
    return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


def line_of(code: CodeType, line: int | None = None) -> str:
    """`orders.py:41`; without `line`, where the function begins."""
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{line or code.co_firstlineno}"


def described(fn: object) -> str:
    """`charge (orders.py:41)`, for messages."""
    while isinstance(fn, partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None) or repr(fn)
    code = getattr(fn, "__code__", None)
    return f"{name} ({line_of(code)})" if code is not None else str(name)


def is_name(value: object) -> bool:
    """Whether `value` is a printable string of 1 to `MAX_NAME` characters."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def checked_name(value: object, what: str) -> str:
    """`value`, if it is a name; `TypeError` or `ValueError` otherwise."""
    if not isinstance(value, str):
        message = f"the name of {what} must be a string, not {value!r}"
        raise TypeError(message)
    if not is_name(value):
        message = f"the name of {what} must be 1 to {MAX_NAME} printable characters, not {value!r}"
        raise ValueError(message)
    return value


def checked_text(value: object, what: str) -> str:
    """`value`, if it is a string of 1 to `MAX_NAME` characters that a database keeps; else an error as above."""
    if not isinstance(value, str):
        message = f"{what} must be a string, not {value!r}"
        raise TypeError(message)
    if not 0 < len(value) <= MAX_NAME or "\x00" in value or not _encodable(value):
        message = (
            f"{what} must be 1 to {MAX_NAME} characters without a NUL or a lone surrogate, "
            f"not {value[:40]!r}"
        )
        raise ValueError(message)
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
