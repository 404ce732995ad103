"""A failing case as the source of a test: what was given to `explore`, by the names that it has in its modules."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import timezone, tzinfo
from enum import Enum
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durable.model.refusals import class_of
from durable_testing.playing import Subject

if TYPE_CHECKING:
    from types import ModuleType

_LITERALS: Final = (bool, int, str, bytes, type(None))
_STANDARD: Final = frozenset({"datetime", "decimal", "uuid"})
"""Modules whose values show themselves as code."""
_ZONES: Final = frozenset({"datetime", "zoneinfo"})
"""Modules whose time zones do."""
_SHORT: Final = 60
"""Characters of the name of a test, at most."""


class _NamelessError(Exception):
    """There is no code that gives this value."""


class _Names:
    """Turns values into code, and knows what is to be imported for that."""

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self._modules = modules
        self.imports: dict[str, set[str]] = {}
        self.missing: list[str] = []

    def code(self, argument: str, value: Any) -> str:
        """Code that gives `value`; `...` where there is none, which is told in the test."""
        try:
            return self._code(value)
        except _NamelessError:
            self.missing.append(argument)
            return "..."

    def _code(self, value: Any) -> str:
        if isinstance(value, Enum):
            return self._member(value)
        if type(value) in _LITERALS:
            return repr(value)
        named = self._named(value)
        if named is not None:
            return named
        if _reads_back(value):
            return repr(value)
        kind = class_of(value)
        if kind is float:  # infinite, or none
            return f"float({str(value)!r})"
        if kind in (list, tuple, set, frozenset):
            return _brackets(kind, [self._code(item) for item in value])
        if kind is dict:
            pairs = (f"{self._code(key)}: {self._code(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        if kind.__module__ in _STANDARD:
            return self._standard(value)
        return self._record(value)

    def _member(self, value: Enum) -> str:
        """Flags that are combined have no name of their own."""
        kind, name = type(value), value.name
        if name in kind.__members__ and name.isidentifier():
            return f"{self._code(kind)}.{name}"
        return f"{self._code(kind)}({self._code(value.value)})"

    def _named(self, value: Any) -> str | None:
        """The name of something that a module holds, or a class in it."""
        for module in self._modules_of(value):
            for name, found in vars(module).items():
                if found is value and name.isidentifier() and not name.startswith("__"):
                    self.imports.setdefault(_importable(module), set()).add(name)
                    return name
        return self._inside_of_a_class(value)

    def _inside_of_a_class(self, value: Any) -> str | None:
        path = getattr(value, "__qualname__", None)
        module = sys.modules.get(getattr(value, "__module__", None) or "")
        if not isinstance(path, str) or module is None:
            return None
        found: Any = module
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is not value:
            return None
        self.imports.setdefault(_importable(module), set()).add(path.partition(".")[0])
        return path

    def _modules_of(self, value: Any) -> list[ModuleType]:
        named = getattr(value, "__module__", None) or getattr(
            getattr(value, "fn", None), "__module__", None
        )
        own = sys.modules.get(named) if isinstance(named, str) else None
        return [*self._modules, *([own] if own is not None else [])]

    def _standard(self, value: Any) -> str:
        """Shows itself as code, in which the module is named or not."""
        zone = getattr(value, "tzinfo", None)
        if zone is not None and not _shows_itself(zone):
            value = value.replace(tzinfo=_fixed(value))  # that is how it is stored
        elif zone is not None:
            self.imports.setdefault(class_of(zone).__module__, set())
        kind, shown = class_of(value), repr(value)
        module = self.imports.setdefault(kind.__module__, set())
        if not shown.startswith(f"{kind.__module__}."):
            module.add(kind.__name__)
        return shown

    def _record(self, value: Any) -> str:
        kind = class_of(value)
        if isinstance(value, type):
            raise _NamelessError
        if is_dataclass(value):
            names = [field.name for field in fields(value) if field.init]
        elif hasattr(kind, "__pydantic_fields__"):
            names = [*kind.__pydantic_fields__, *(value.__pydantic_extra__ or ())]
        else:
            raise _NamelessError
        given = ", ".join(_given(kind, name, self._code(getattr(value, name))) for name in names)
        return f"{self._code(kind)}({given})"

    def lines(self) -> list[str]:
        """The imports, as statements."""
        return [
            f"from {module} import {', '.join(sorted(names))}" if names else f"import {module}"
            for module, names in sorted(self.imports.items())
        ]


def _shows_itself(zone: tzinfo) -> bool:
    return class_of(zone).__module__ in _ZONES and getattr(zone, "key", "") is not None


def _fixed(value: Any) -> timezone:
    """The zone of a time as what it is then from UTC."""
    offset = value.utcoffset()
    if offset is None:
        raise _NamelessError
    return timezone(offset)


def _given(kind: Any, name: str, code: str) -> str:
    """How a field is given to its class: models may take it by another name only."""
    word = _word(kind, name)
    return f"{word}={code}" if _is_word(word) else f"**{{{word!r}: {code}}}"


def _is_word(word: str) -> bool:
    return word.isidentifier() and not iskeyword(word)


def _word(kind: Any, name: str) -> str:
    field = getattr(kind, "__pydantic_fields__", {}).get(name)
    alias = getattr(field, "validation_alias", None)
    config: Any = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", {}))
    if alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
        return name
    found = next(
        (each for each in getattr(alias, "choices", [alias]) if isinstance(each, str)), None
    )
    if found is None:  # it is deep inside of something
        raise _NamelessError
    return found


def _reads_back(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, RecursionError):
        return False


def _brackets(kind: type[Any], items: Sequence[str]) -> str:
    inside = ", ".join(items)
    if kind is tuple:
        return f"({inside},)" if len(items) == 1 else f"({inside})"
    if kind is set:
        return f"{{{inside}}}" if items else "set()"
    if kind is frozenset:
        return f"frozenset({{{inside}}})" if items else "frozenset()"
    return f"[{inside}]"


def _importable(module: ModuleType) -> str:
    if module.__name__ != "__main__":
        return module.__name__
    file = getattr(module, "__file__", None)
    return Path(file).stem if file else "__main__"


def source_of_test(subject: Subject, schedule: Sequence[str], problem: str) -> str:
    """A test that plays this schedule and fails as it did."""
    names = _Names(_modules(subject))
    workflow = names.code("workflow", subject.workflow)
    given = [workflow, names.code("input", subject.input)]
    plain = Subject(subject.workflow, subject.input, seed=subject.seed)
    for word in (each.name for each in fields(plain)):
        value, default = getattr(subject, word), getattr(plain, word)
        # Not by `==`: an empty ledger is one, too.
        if value is not default and (word == "ledger" or value != default):
            given.append(f"{word}={names.code(word, value)}")
    given += [f"seed={subject.seed}", f"only={list(schedule)!r}"]
    called = _name_of(subject.workflow.name, schedule)
    missing = [f"    # put {', '.join(names.missing)} in place of `...`"] if names.missing else []
    return "\n".join(
        [
            "from durable_testing import explore",
            *names.lines(),
            "",
            "",
            f"def {called}() -> None:",
            *(f"    # {line}" for line in problem.splitlines()[:1]),
            *missing,
            "    report = explore(",
            *(f"        {each}," for each in given),
            "    )",
            "    assert report.ok, report.explanation",
            "",
        ]
    )


def _modules(subject: Subject) -> list[ModuleType]:
    """Where the things that have no module of their own are looked for."""
    functions = (getattr(subject.workflow, "fn", None), subject.check, subject.user)
    found = [sys.modules.get(getattr(each, "__module__", "")) for each in functions]
    return list(dict.fromkeys(module for module in found if module is not None))


def _name_of(workflow: str, schedule: Sequence[str]) -> str:
    words = re.sub(r"\W+", "_", " ".join([workflow, *(schedule or ["undisturbed"])])).lower()
    return f"test_{words[:_SHORT].strip('_')}"
