"""Shapes that pydantic reads and writes: models, dataclasses, enums, unions, containers of known types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import override

from durable.errors import DefinitionError, PayloadError
from durable.model.leaves import lower_leaf
from durable.model.likeness import check_alike
from durable.model.packing import lower, pack_lowered
from durable.model.refusals import Refused
from durable.model.shape import MAX_PAYLOAD, MSGPACK, Shape, describe, too_large, unwritable
from durable.model.strictness import STRICTNESS
from durable.model.unpacking import unpack

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_MOST_ERRORS: Final = 3
"""Validation errors that a message tells of."""


class SchemaShape(Shape):
    """The shape of any annotation that pydantic understands. Its schema is made at the first use.

    Whatever is written is read back before it counts as stored: an object that was changed until it no
    longer fits its own class fails where it is written, not in whoever needs it later.
    """

    __slots__ = ("_adapter", "_annotation", "_by_alias", "_json_schema", "_narrowed")

    _adapter: TypeAdapter[Any]
    _by_alias: bool
    """Fields are written by their alias; else by their name, as reading wants another alias."""
    _narrowed: bool
    """The author allowed a subclass to come back as its base (SerializeAsAny)."""
    _json_schema: Mapping[str, Any]

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    @override
    def resolve(self) -> None:
        if not hasattr(self, "_adapter"):
            self._make()

    def _make(self) -> None:
        """Build what depends on the annotation. When two threads do it at once, both do the same."""
        from pydantic import TypeAdapter  # noqa: PLC0415 - 95 ms that plain values need not pay

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(self._annotation)
            schema: Any = adapter.core_schema
        except Exception as error:
            raise _undefinable(self._annotation, error) from error
        if schema["type"] == "generator":
            message = (
                f"{name_of(self._annotation)} cannot be stored: write list[...] or Sequence[...]"
            )
            raise DefinitionError(message)
        self._by_alias = not _renames(schema)
        self._narrowed = _is_narrowed(schema)
        self._adapter = adapter

    @override
    def json_schema(self) -> Mapping[str, Any]:
        self.resolve()
        if not hasattr(self, "_json_schema"):
            try:
                self._json_schema = self._adapter.json_schema()
            except Exception:  # parts of it have no form in JSON
                self._json_schema = {}
        return self._json_schema

    @override
    def lower(self, value: Any) -> Any:
        self.resolve()
        lowered, fitted = self._lowered(value)
        self._read_back(value, fitted, pack_lowered(lowered))
        return lowered

    @override
    def settle(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> tuple[bytes, Any]:
        self.resolve()
        try:
            lowered, fitted = self._lowered(value)
            packed = pack_lowered(lowered)
            copy = self._read_back(value, fitted, packed)
        except Exception as error:
            raise unwritable(error, where) from error
        data = MSGPACK + packed
        return (data if len(data) <= limit else too_large(data, where, limit)), copy

    @override
    def encode(self, value: Any, where: str, limit: int = MAX_PAYLOAD) -> bytes:
        return self.settle(value, where, limit)[0]

    def _lowered(self, value: Any) -> tuple[Any, Any]:
        """`value` lowered, and `value` as it fits the annotation."""
        try:
            dumped = self._dump(value, "error")
        except Exception:
            value = self._fitted(value)
            dumped = self._dump(value, "none")
        return lower(dumped, lower_leaf), value

    def _dump(self, value: Any, warnings: Any) -> Any:
        try:
            return self._adapter.dump_python(
                value, mode="python", round_trip=True, by_alias=self._by_alias, warnings=warnings
            )
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            message = "models and dataclasses as members of a set or keys of a dict; use a list"
            raise Refused(message) from None

    def _read(self, value: Any) -> Any:
        return self._adapter.validate_python(value, strict=False, by_alias=True, by_name=True)

    def _fitted(self, value: Any) -> Any:
        """`value` made to fit the annotation: a list of what is a tuple, a model of a dict."""
        try:
            return self._read(value)
        except Exception as error:
            reason = f"it does not fit {name_of(self._annotation)}: {_told(error)}"
            raise Refused(reason) from error

    def _read_back(self, given: Any, fitted: Any, packed: bytes) -> Any:
        """The value that a receiver will get; `Refused` if it is not what was given."""
        try:
            copy = self._read(unpack(packed))
        except Exception as error:
            reason = f"it could not be read again as {name_of(self._annotation)}: {_told(error)}"
            raise Refused(reason) from error
        check_alike(fitted, copy, narrowed=self._narrowed)
        if STRICTNESS.compare is not None:
            STRICTNESS.compare(given, copy)
        return copy

    @override
    def lift(self, value: Any, where: str) -> Any:
        self.resolve()
        try:
            return self._read(value)
        except Exception as error:
            raise self._unreadable(error, where) from error

    @override
    def lift_json(self, text: bytes, where: str) -> Any:
        self.resolve()
        try:
            return self._adapter.validate_json(text, strict=False, by_alias=True, by_name=True)
        except Exception as error:
            raise self._unreadable(error, where) from error

    def _unreadable(self, error: Exception, where: str) -> PayloadError:
        return PayloadError(
            f"{where} cannot be read as {name_of(self._annotation)}: {_told(error)}"
        )


def _renames(schema: object) -> bool:
    """Whether a field is read by another alias than it is written by: then only its name is safe."""
    here = _named(schema)
    if here.get("validation_alias") != here.get("serialization_alias"):
        return True
    return any(_renames(part) for part in _parts(schema))


def _is_narrowed(schema: object) -> bool:
    """Whether some part of a schema is written by what the value is, not by what it should be."""
    written = _named(_named(schema).get("serialization"))
    # Older versions of pydantic write SerializeAsAny as a function round `any`.
    if "any" in (written.get("type"), _named(written.get("schema")).get("type")):
        return True
    return any(_is_narrowed(part) for part in _parts(schema))


def _named(schema: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", schema) if isinstance(schema, Mapping) else {}


def _parts(schema: object) -> Sequence[object]:
    """What a core schema is made of."""
    if isinstance(schema, Mapping):
        return [part for name, part in _named(cast("object", schema)).items() if name != "metadata"]
    return cast("Sequence[object]", schema) if isinstance(schema, list | tuple) else ()


def name_of(annotation: Any) -> str:
    """An annotation as one would write it, more or less."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _undefinable(annotation: Any, error: Exception) -> DefinitionError:
    first = describe(error).split("\n", 1)[0]
    return DefinitionError(f"{name_of(annotation)} cannot be stored: {first}")


def _told(error: Exception) -> str:
    """An error in one line; of a validation error the first few parts, without the values."""
    errors: Any = getattr(error, "errors", None)
    if not callable(errors):
        return describe(error)
    parts: Any = errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(str(step) for step in part['loc'])}: {part['msg']}"
        if part["loc"]
        else part["msg"]
        for part in parts[:_MOST_ERRORS]
    ]
    more = len(parts) - _MOST_ERRORS
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")
