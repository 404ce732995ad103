"""Why a value cannot be stored, in words that say what to write instead."""

from __future__ import annotations

import enum
import inspect
import io
import types
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, Final

_SECRETS: Final = frozenset({"Secret", "SecretStr", "SecretBytes", "_SecretBase"})
_CONNECTIONS: Final = ("Connection", "Cursor", "Session", "Engine", "Pool", "Socket", "socket")
_CODE: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.LambdaType,
    types.CodeType,
)

class_of: Callable[[object], Any] = type
"""`type` of one argument, typed so that its attributes may be asked for."""


class Refused(Exception):
    """A value cannot be stored. `path` leads to it, last step first."""

    def __init__(self, reason: str, found: type[Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.found = found
        """The type that an annotation would have to name, if one would help."""
        self.path: list[str] = []


def refusal(value: Any) -> Refused:
    """Why `value`, which is no plain value, is not stored as it is."""
    kind = class_of(value)
    if is_secret(kind):
        return Refused(
            f"a {kind.__name__} cannot be stored: it would be written as asterisks;"
            " pass the secret's name and read it where it is used, with secret()"
        )
    reason = _never(value, kind)
    if reason is not None:
        return Refused(reason)
    if is_annotatable(value):
        return Refused(f"{kind.__name__} comes back as itself only by an annotation", kind)
    return Refused(f"{kind.__name__} is no plain value and has no annotation", kind)


def is_secret(kind: type[Any]) -> bool:
    """Whether `kind` is one of pydantic's secret types, which write themselves as asterisks."""
    return any(
        base.__module__ == "pydantic.types" and base.__name__ in _SECRETS for base in kind.__mro__
    )


def is_annotatable(value: Any) -> bool:
    """Whether an annotation would make `value` storable: models, dataclasses, enums, named tuples."""
    kind = class_of(value)
    return (
        is_model(kind)
        or is_dataclass(kind)
        or isinstance(value, enum.Enum)
        or hasattr(kind, "_fields")
    )


def is_model(kind: type[Any]) -> bool:
    """Whether `kind` is a pydantic model or a pydantic dataclass."""
    return hasattr(kind, "__pydantic_core_schema__")


def _never(value: Any, kind: type[Any]) -> str | None:
    """The reason for what no annotation can help."""
    name = kind.__name__
    if kind.__module__.split(".")[0] == "durable":
        return f"a {name} cannot be stored: it belongs to this process"
    if inspect.isawaitable(value):
        return f"a {name} cannot be stored: is an `await` missing?"
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return f"a {name} cannot be stored: make it a list"
    if isinstance(value, _CODE):
        return f"a {name} cannot be stored: pass data, and choose the function where it is used"
    if isinstance(value, type | types.ModuleType):
        return f"a {name} cannot be stored: pass its name"
    if isinstance(value, io.IOBase):
        return f"a {name} cannot be stored: pass the file's path or its content"
    if any(part in base.__name__ for base in kind.__mro__ for part in _CONNECTIONS):
        return f"a {name} cannot be stored: open it where it is used, or ask for it with resource()"
    return None


def explain(refused: Refused, where: str) -> str:
    """The message of a `PayloadError`: what, where in it, why, and what to write."""
    place = "".join(reversed(refused.path))
    at = f" (at {place})" if place else ""
    advice = _advice(refused.found, where, bool(place)) if refused.found is not None else ""
    return f"{where}{at} cannot be stored: {refused.reason}{advice}"


def _advice(found: type[Any], where: str, inside: bool) -> str:
    name = found.__name__
    if inside:
        return f"; name {name} in the annotation instead of Any"
    if where.startswith("result"):
        return f"; annotate the result: -> {name}"
    if where.startswith(("argument", "input")):
        return f"; annotate the parameter: {name}"
    return f"; give its type: {name}"


def shown(value: object, limit: int = 60) -> str:
    """A short `repr` for messages, which cannot fail."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
