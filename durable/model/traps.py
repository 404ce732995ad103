"""Finds what pydantic would write without an error and not read back as it was.

A guard walks a value along its annotation's core schema and raises `Refused` for an instance of a
proper subclass under its base (fields would be lost), and for anything but plain values where the
annotation says nothing (a model would come back as a dict). Parts of a schema in which nothing can go
wrong have no guard and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import Any, Final, TypeAlias

from durable.model.packing import lower, native
from durable.model.refusals import Refused, is_model

Guard: TypeAlias = Callable[[Any], None]
Schema: TypeAlias = Mapping[str, Any]
_Step: TypeAlias = tuple[str, str, Guard]
"""Attribute or key, how the path shows it, and the guard of what is there."""

_INNER: Final = ("schema", "python_schema", "lax_schema")
"""Where the schemas that only wrap another one keep it."""
_SEQUENCES: Final = (list, tuple, AbstractSet)


def guard_of(schema: Schema) -> Guard | None:
    """The guard of a core schema; None when it can hold no trap."""
    return _Compiler().compile(schema)


def renames_on_the_way(schema: object) -> bool:
    """Whether a field is read by another alias than it is written by: then only its name is safe."""
    if isinstance(schema, Mapping):
        read, written = schema.get("validation_alias"), schema.get("serialization_alias")
        if read != written:
            return True
        return any(renames_on_the_way(part) for key, part in schema.items() if key != "metadata")
    return isinstance(schema, list | tuple) and any(renames_on_the_way(part) for part in schema)


class _Compiler:
    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {}
        self._guards: dict[str, Guard | None] = {}

    def compile(self, schema: Schema) -> Guard | None:
        written = schema.get("serialization")
        if written is not None and written.get("type") in ("any", "function-plain", "function-wrap"):
            return self._custom(schema, written)
        how = _COMPILE.get(schema["type"])
        if how is not None:
            return how(self, schema)
        for key in _INNER:
            inner = schema.get(key)
            if isinstance(inner, Mapping) and "type" in inner:
                return self.compile(inner)
        return None

    def _custom(self, schema: Schema, written: Schema) -> Guard | None:
        """How a value is written was chosen by its author; a subclass is still a trap."""
        if getattr(written.get("function"), "__name__", "") == "serialize_sequence_via_list":
            return _items(self.compile(written["schema"]))
        if written["type"] != "any" and schema["type"] in ("model", "dataclass"):
            return _record(schema["cls"], (), extras=None)
        return None

    def definitions(self, schema: Schema) -> Guard | None:
        for definition in schema["definitions"]:
            self._definitions[definition["ref"]] = definition
        return self.compile(schema["schema"])

    def reference(self, schema: Schema) -> Guard | None:
        ref = schema["schema_ref"]
        if ref not in self._guards:
            # What refers to itself is looked up when it is needed; in between, it has this guard.
            self._guards[ref] = lambda value: self._follow(ref, value)
            self._guards[ref] = self.compile(self._definitions[ref])
        return self._guards[ref]

    def _follow(self, ref: str, value: Any) -> None:
        guard = self._guards[ref]
        if guard is not None:
            guard(value)

    def anything(self, _schema: Schema) -> Guard | None:
        return check_plain

    def items(self, schema: Schema) -> Guard | None:
        inner = schema.get("items_schema")
        return _items(check_plain if inner is None else self.compile(inner))

    def tuple(self, schema: Schema) -> Guard | None:
        guards = [self.compile(item) for item in schema["items_schema"]]
        if not any(guards):
            return None
        return _tuple(guards, schema.get("variadic_item_index"))

    def dict(self, schema: Schema) -> Guard | None:
        keys, values = (
            check_plain if part is None else self.compile(part)
            for part in (schema.get("keys_schema"), schema.get("values_schema"))
        )
        return None if keys is None and values is None else _dict(keys, values)

    def nullable(self, schema: Schema) -> Guard | None:
        inner = self.compile(schema["schema"])
        if inner is None:
            return None
        return lambda value: None if value is None else inner(value)

    def chain(self, schema: Schema) -> Guard | None:
        guards = [guard for step in schema["steps"] if (guard := self.compile(step)) is not None]
        return guards[-1] if guards else None

    def model(self, schema: Schema) -> Guard | None:
        cls = schema["cls"]
        if schema.get("root_model"):
            inner = self.compile(schema["schema"])
            return _record(cls, [("root", ".root", inner)] if inner else (), extras=None)
        fields = _unwrapped(schema["schema"], "model-fields")
        if fields is None:
            return _record(cls, (), extras=None)
        extras = fields.get("extras_schema")
        return _record(
            cls,
            self._steps(fields["fields"].items(), cls, ".{}"),
            extras=check_plain if extras is None else self.compile(extras),
        )

    def dataclass(self, schema: Schema) -> Guard | None:
        cls = schema["cls"]
        arguments = _unwrapped(schema["schema"], "dataclass-args")
        if arguments is None:
            return _record(cls, (), extras=None)
        named = [(field["name"], field) for field in arguments["fields"]]
        return _record(cls, self._steps(named, cls, ".{}"), extras=None)

    def named_tuple(self, schema: Schema) -> Guard | None:
        guards = [self.compile(field["schema"]) for field in schema["fields"]]
        return _tuple(guards, None) if any(guards) else None

    def call(self, schema: Schema) -> Guard | None:
        """Named tuples, as older versions of pydantic describe them."""
        arguments = schema["arguments_schema"].get("arguments_schema", ())
        guards = [self.compile(argument["schema"]) for argument in arguments]
        return _tuple(guards, None) if any(guards) else None

    def typed_dict(self, schema: Schema) -> Guard | None:
        fields = schema["fields"]
        open_ended = schema.get("extra_behavior") == "allow" or "extras_schema" in schema
        return _typed_dict(
            self._steps(fields.items(), schema.get("cls"), "[{!r}]"),
            None if open_ended else frozenset(fields),
            schema.get("cls_name") or getattr(schema.get("cls"), "__name__", "TypedDict"),
        )

    def union(self, schema: Schema) -> Guard | None:
        choices = schema["choices"]
        arms = choices.values() if isinstance(choices, Mapping) else choices
        # A tagged union may name an arm by another tag, and a choice may carry a label.
        schemas = [arm[0] if isinstance(arm, tuple) else arm for arm in arms if not isinstance(arm, str)]
        guards = [self.compile(arm) for arm in schemas]
        classes = [cls for arm in schemas for cls in self._classes(arm)]
        return None if not any(guards) else _union(guards, classes)

    def _classes(self, schema: Schema, depth: int = 12) -> list[type]:
        """The models and dataclasses that a value may be, at its top."""
        if schema["type"] in ("model", "dataclass"):
            return [schema["cls"]]
        if depth == 0:
            return []
        if schema["type"] == "definition-ref":
            return self._classes(self._definitions[schema["schema_ref"]], depth - 1)
        found: list[type] = []
        choices = schema.get("choices")
        for arm in choices.values() if isinstance(choices, Mapping) else choices or ():
            inner = arm[0] if isinstance(arm, tuple) else arm
            found += [] if isinstance(inner, str) else self._classes(inner, depth - 1)
        for key in _INNER:
            if schema["type"] not in _COMPILE or schema["type"] == "nullable":
                inner = schema.get(key)
                found += self._classes(inner, depth - 1) if isinstance(inner, Mapping) else []
        return found

    def _steps(self, fields: Any, cls: type | None, show: str) -> list[_Step]:
        steps: list[_Step] = []
        for name, field in fields:
            if _is_lost(field):
                steps.append((name, show.format(name), _lost(name, cls)))
                continue
            guard = self.compile(field["schema"])
            if guard is not None:
                steps.append((name, show.format(name), guard))
        return steps


_COMPILE: Final[dict[str, Callable[[_Compiler, Schema], Guard | None]]] = {
    "any": _Compiler.anything,
    "call": _Compiler.call,
    "chain": _Compiler.chain,
    "counter": _Compiler.dict,
    "dataclass": _Compiler.dataclass,
    "default-dict": _Compiler.dict,
    "defaultdict": _Compiler.dict,
    "definition-ref": _Compiler.reference,
    "definitions": _Compiler.definitions,
    "deque": _Compiler.items,
    "dict": _Compiler.dict,
    "frozenset": _Compiler.items,
    "list": _Compiler.items,
    "model": _Compiler.model,
    "named-tuple": _Compiler.named_tuple,
    "nullable": _Compiler.nullable,
    "ordered-dict": _Compiler.dict,
    "set": _Compiler.items,
    "tagged-union": _Compiler.union,
    "tuple": _Compiler.tuple,
    "typed-dict": _Compiler.typed_dict,
    "union": _Compiler.union,
}


def _unwrapped(schema: Schema, kind: str) -> Schema | None:
    """The schema of this kind inside of validators that wrap it."""
    while schema["type"] != kind:
        inner = schema.get("schema")
        if not isinstance(inner, Mapping):
            return None
        schema = inner
    return schema


def _is_lost(field: Schema) -> bool:
    """Whether a field is never written, and yet needed for reading."""
    if not (field.get("serialization_exclude") or field.get("init_only")):
        return False
    return field["schema"]["type"] != "default"


# ------------------------------------------------------------------ guards


def check_plain(value: Any) -> None:
    """Raise `Refused` unless `value` is made of plain values only."""
    try:
        native(value)
    except (TypeError, ValueError, OverflowError):
        lower(value)


def _lost(name: str, cls: type | None) -> Guard:
    owner = "its class" if cls is None else cls.__name__

    def guard(_value: Any) -> None:
        message = f"{owner} never writes {name} (exclude=True or InitVar), and cannot be read without"
        raise Refused(message)

    return guard


def _items(inner: Guard | None) -> Guard | None:
    if inner is None:
        return None

    def guard(value: Any) -> None:
        if not isinstance(value, _SEQUENCES) and type(value).__name__ != "deque":
            return
        for number, item in enumerate(value):
            _at(inner, item, f"[{number}]")

    return guard


def _tuple(guards: list[Guard | None], variadic: int | None) -> Guard:
    def guard(value: Any) -> None:
        if not isinstance(value, list | tuple):
            return
        wanted = guards
        if variadic is not None:
            more = len(value) - len(guards) + 1
            wanted = guards[:variadic] + guards[variadic : variadic + 1] * more + guards[variadic + 1 :]
        for number, (item, inner) in enumerate(zip(value, wanted, strict=False)):
            if inner is not None:
                _at(inner, item, f"[{number}]")

    return guard


def _dict(keys: Guard | None, values: Guard | None) -> Guard:
    def guard(value: Any) -> None:
        if not isinstance(value, Mapping):
            return
        for key, item in value.items():
            if keys is not None:
                _at(keys, key, f"[{key!r}]")
            if values is not None:
                _at(values, item, f"[{key!r}]")

    return guard


def _typed_dict(steps: list[_Step], known: frozenset[str] | None, name: str) -> Guard | None:
    def guard(value: Any) -> None:
        if not isinstance(value, Mapping):
            return
        if known is not None and not known.issuperset(value):
            extra = next(key for key in value if key not in known)
            message = f"the key {extra!r} is not in {name} and would be lost"
            raise Refused(message)
        for key, shown, inner in steps:
            if key in value:
                _at(inner, value[key], shown)

    return guard


def _record(cls: type, steps: Any, *, extras: Guard | None) -> Guard:
    """The guard of a model or dataclass: exactly this class, and what its fields hold."""

    def guard(value: Any) -> None:
        if type(value) is not cls:
            if isinstance(value, cls):
                raise _subclass(value, cls)
            return
        for name, shown, inner in steps:
            _at(inner, getattr(value, name, None), shown)
        if extras is not None and value.__pydantic_extra__:
            for name, item in value.__pydantic_extra__.items():
                _at(extras, item, f".{name}")

    return guard


def _subclass(value: Any, cls: type) -> Refused:
    name, base = type(value).__name__, cls.__name__
    origin = getattr(value, "__pydantic_generic_metadata__", {}).get("origin")
    if origin is cls:
        return Refused(f"it is a {name}, but the annotation says {base}; annotate {name}")
    return Refused(
        f"it is a {name}, but the annotation says {base}, and what {name} adds would be lost;"
        f" annotate a union with a discriminator ({base} | {name}), or SerializeAsAny[{base}]"
    )


def _union(guards: list[Guard | None], classes: list[type]) -> Guard:
    exact = frozenset(classes)

    def guard(value: Any) -> None:
        kind = type(value)
        record = is_model(kind) or is_dataclass(kind)
        if record and kind not in exact:
            base = next((cls for cls in classes if isinstance(value, cls)), None)
            if base is not None:
                raise _subclass(value, base)
        refused: Refused | None = None
        for inner in guards:
            if inner is None:
                continue
            try:
                inner(value)
            except Refused as one:
                refused = one
            else:
                # An arm that has nothing against a record may simply be about something else.
                if not (record and refused is not None):
                    return
        if refused is not None and (record or None not in guards):
            raise refused

    return guard


def _at(guard: Guard, value: Any, step: str) -> None:
    try:
        guard(value)
    except Refused as refused:
        refused.path.append(step)
        raise
