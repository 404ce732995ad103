"""A failing case as the source of a test: what was given to `explore`, by the names that it has in its modules."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durable.model.refusals import class_of
from durable_testing.playing import Subject

if TYPE_CHECKING:
    from types import ModuleType

_LITERALS: Final = (bool, int, str, bytes, type(None))
_STANDARD: Final = frozenset({"datetime", "decimal", "uuid"})
"""Modules whose values show themselves as code."""
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
            return f"{self._code(type(value))}.{value.name}"
        if type(value) in _LITERALS:
            return repr(value)
        named = self._named(value)
        if named is not None:
            return named
        if _reads_back(value):
            return repr(value)
        kind = class_of(value)
        if kind in (list, tuple, set):
            return _brackets(kind, [self._code(item) for item in value])
        if kind is dict:
            pairs = (f"{self._code(key)}: {self._code(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        return self._record(value)

    def _named(self, value: Any) -> str | None:
        """The name of something that a module holds."""
        for module in self._modules_of(value):
            for name, found in vars(module).items():
                if found is value and name.isidentifier() and not name.startswith("__"):
                    self.imports.setdefault(_importable(module), set()).add(name)
                    return name
        return None

    def _modules_of(self, value: Any) -> list[ModuleType]:
        named = getattr(value, "__module__", None) or getattr(
            getattr(value, "fn", None), "__module__", None
        )
        own = sys.modules.get(named) if isinstance(named, str) else None
        return [*self._modules, *([own] if own is not None else [])]

    def _record(self, value: Any) -> str:
        kind = class_of(value)
        if kind.__module__ in _STANDARD:
            shown, module = repr(value), self.imports.setdefault(kind.__module__, set())
            if not shown.startswith(f"{kind.__module__}."):
                module.add(kind.__name__)
            return shown
        if is_dataclass(value):
            names = [field.name for field in fields(value) if field.init]
        elif hasattr(kind, "__pydantic_fields__"):
            names = list(kind.__pydantic_fields__)
        else:
            raise _NamelessError
        given = ", ".join(f"{name}={self._code(getattr(value, name))}" for name in names)
        return f"{self._code(kind)}({given})"

    def lines(self) -> list[str]:
        """The imports, as statements."""
        return [
            f"from {module} import {', '.join(sorted(names))}" if names else f"import {module}"
            for module, names in sorted(self.imports.items())
        ]


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
