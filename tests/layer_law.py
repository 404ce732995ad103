"""The law of the house as data, and the reader that finds what breaks it.

Floors, rooms and forbidden things stand in the tables below; the rest of the file reads the
syntax trees of `durable/` and `durable_testing/` and compares. Imports inside functions and under
`TYPE_CHECKING` count like all others: they are dependencies that somebody hid.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DOOR = "durable"
PACKAGES = ("durable", "durable_testing")

FLOORS: Mapping[str, float] = {
    "durable.errors": 1,
    "durable.clock": 1,
    "durable.model": 2,
    "durable.engine": 3,
    "durable.storage": 3,
    "durable.telemetry": 3,
    "durable.client": 4,
    "durable.worker": 4,
    "durable.flow": 5,
    "durable.sync": 5,
    "durable.telling": 5,
    "durable.lint": 5,
    DOOR: 5.5,  # the front door re-exports what is below it, and only shells go through it
    "durable_testing": 6,
    "durable.cli": 7,
    "durable.web": 7,
}
"""Every room and its floor: a room imports from the floors below it."""

NEIGHBOURS = {("durable.worker", "durable.client")}
"""The only imports within a floor, from room to room."""

SHELL_FLOOR = 7
PUBLIC_MODULES = {DOOR, "durable.sync", "durable.telling", "durable.lint", "durable_testing"}
"""All that shells may import of ours: public names, also those for tests, how histories are told, and the linter."""

THIRD_PARTY: Mapping[str, tuple[str, ...]] = {
    "click": ("durable.cli",),
    "croniter": ("durable.model.calendar",),
    "hypothesis": ("durable_testing",),
    "jinja2": ("durable.web",),
    "markupsafe": ("durable.web",),
    "msgpack": ("durable.model",),
    "opentelemetry": ("durable.telemetry",),
    "psycopg": ("durable.storage.postgres", "durable_testing.postgres"),
    "psycopg_pool": ("durable.storage.postgres",),
    "pydantic": ("durable.model",),
    "pydantic_core": ("durable.model",),
    "pytest": ("durable_testing",),
    "sqlite3": ("durable.storage", "durable_testing"),
    "sse_starlette": ("durable.web",),
    "starlette": ("durable.web",),
    "typing_extensions": ("durable", "durable_testing"),
    "uvicorn": ("durable.web",),
}
"""Packages from outside (and the one database driver of the standard library): where they may live."""

PURE = "durable.engine"
IMPURE = {"logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}
CLOCKS = {"now", "today", "utcnow"}
"""What the engine may not touch: modules, and the methods of `datetime` and `date` that read a clock."""

CONTEXT_MAY: Mapping[str, frozenset[str]] = {
    "random": frozenset({"Random"}),
    "logging": frozenset({"Logger", "LoggerAdapter", "LogRecord", "getLogger"}),
}
"""`engine/context.py` gives these to the user: a seeded `Random`, and a named logger that is silent on replay."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One line that breaks the law, with the law it breaks."""

    file: str
    line: int
    what: str
    law: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}. The law: {self.law}."


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, and the name taken from it if one was."""

    target: str
    name: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the tree."""

    name: str
    file: str
    tree: ast.Module
    is_package: bool
    imports: list[Import] = field(default_factory=list)


# -- reading the tree


def read_tree(root: Path) -> dict[str, Module]:
    """Every module of the packages under `root` by its dotted name, with what it imports of what is there."""
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    modules = {module.name: module for module in (_module(file, root) for file in files)}
    for module in modules.values():
        module.imports.extend(_imports(module, modules.keys() | FLOORS.keys()))
    return modules


def _module(file: Path, root: Path) -> Module:
    relative = file.relative_to(root)
    parts = relative.with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, str(relative), ast.parse(file.read_text(encoding="utf-8")), is_package)


def _imports(module: Module, known: Iterable[str]) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found = (inner, None) if inner in known else (base, alias.name)
                yield Import(*found, node.lineno)
        elif (target := _imported_by_call(node)) is not None:
            yield Import(target, None, node.lineno)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    above = node.level - 1 if module.is_package else node.level
    parts = module.name.split(".")
    return ".".join([*parts[: len(parts) - above], *filter(None, [node.module])])


def _imported_by_call(node: ast.AST) -> str | None:
    """`import_module("x")` and `__import__("x")` are imports as well."""
    match node:
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[argument, *_]):
            if called in {"import_module", "__import__"} and isinstance(argument, ast.Constant):
                return str(argument.value)
    return None


# -- comparing it with the law


def violations(root: Path) -> list[Violation]:
    """Everything under `root` that breaks the law, by file and line."""
    modules = read_tree(root)
    found = [
        violation
        for module in modules.values()
        for check in (_floors, _third_party, _purity, _shells)
        for violation in check(module, modules)
    ]
    found += _circles(modules)
    return sorted(found, key=lambda violation: (violation.file, violation.line, violation.what))


def room_of(module: str) -> str | None:
    """Return the room that a module of ours stands in; None: it has no floor yet."""
    if module == DOOR:
        return DOOR
    rooms = [room for room in FLOORS if room != DOOR and _inside(module, room)]
    return max(rooms, key=len, default=None)


def _inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _ours(module: str) -> bool:
    return any(_inside(module, package) for package in PACKAGES)


def _floors(module: Module, _: Mapping[str, Module]) -> Iterator[Violation]:
    room = room_of(module.name)
    if room is None:
        law = "every room has a floor: give it one in FLOORS (tests/layer_law.py)"
        yield Violation(module.file, 1, f"{module.name} stands on no floor", law)
        return
    for taken in module.imports:
        target = room_of(taken.target) if _ours(taken.target) else room
        if target is None or target == room or _may_import(room, target):
            continue
        law = (
            f"a room imports only from the floors below it ({room} is on floor {FLOORS[room]:g}, "
            f"{target} on {FLOORS[target]:g})"
        )
        yield Violation(module.file, taken.line, f"imports {taken.target}", law)


def _may_import(room: str, target: str) -> bool:
    if room == DOOR:
        return target.startswith("durable.")
    if FLOORS[room] == SHELL_FLOOR:
        return True  # the stricter rule of shells holds for them
    return FLOORS[target] < FLOORS[room] or (room, target) in NEIGHBOURS


def _shells(module: Module, _: Mapping[str, Module]) -> Iterator[Violation]:
    room = room_of(module.name)
    if room is None or FLOORS[room] != SHELL_FLOOR:
        return
    law = f"{room} uses public names only: `from durable import ...`"
    for taken in module.imports:
        private = taken.name is not None and taken.name.startswith("_") and taken.name[1:2] != "_"
        public = taken.target in PUBLIC_MODULES and not private
        if _ours(taken.target) and not public and not _inside(taken.target, room):
            name = f"{taken.target}.{taken.name}" if taken.name else taken.target
            yield Violation(module.file, taken.line, f"imports {name}", law)
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute(value=ast.Name(id="durable"), attr=attribute):
                name = f"durable.{attribute}"
                if name in FLOORS and name not in PUBLIC_MODULES and not _inside(name, room):
                    yield Violation(module.file, node.lineno, f"reaches into {name}", law)


def _third_party(module: Module, _: Mapping[str, Module]) -> Iterator[Violation]:
    for taken in module.imports:
        package = taken.target.partition(".")[0]
        rooms = THIRD_PARTY.get(package)
        if rooms is None and (_ours(package) or package in sys.stdlib_module_names):
            continue
        if rooms is None:
            law = "every package from outside has its room: THIRD_PARTY (tests/layer_law.py)"
        elif not any(_inside(module.name, room) for room in rooms):
            law = f"{package} lives only in {' and '.join(rooms)}"
        else:
            continue
        yield Violation(module.file, taken.line, f"imports {package}", law)


def _purity(module: Module, _: Mapping[str, Module]) -> Iterator[Violation]:
    if not _inside(module.name, PURE):
        return
    law = "the engine is pure: no clock, no chance, no I/O, no threads"
    may = CONTEXT_MAY if module.name == f"{PURE}.context" else {}
    for taken in module.imports:
        package = taken.target.partition(".")[0]
        if package in IMPURE:
            used = {taken.name} if taken.name else _attributes_of(package, module.tree)
            if not used <= may.get(package, frozenset()) or not used:
                yield Violation(module.file, taken.line, f"imports {package}", law)
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute(value=ast.Name(id=base) | ast.Attribute(attr=base), attr=method):
                if base in {"datetime", "date"} and method in CLOCKS:
                    yield Violation(module.file, node.lineno, f"reads {base}.{method}", law)


def _attributes_of(name: str, tree: ast.Module) -> set[str | None]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }


# -- circles


def _circles(modules: Mapping[str, Module]) -> Iterator[Violation]:
    """One violation for every group of modules that import each other, showing a way round it."""
    seen: set[str] = set()
    for name in modules:
        path = [] if name in seen else _way_back(name, modules)
        if path and seen.isdisjoint(path):
            way = " -> ".join([*path, name])
            module = modules[name]
            after = path[1] if len(path) > 1 else name
            line = next(taken.line for taken in module.imports if taken.target == after)
            law = "imports form no circle (lazy and TYPE_CHECKING imports count)"
            yield Violation(module.file, line, f"begins a circle: {way}", law)
        seen.update(path)


def _way_back(start: str, modules: Mapping[str, Module]) -> list[str]:
    """The shortest way from a module over its imports back to itself, without the last stop."""
    came_from: dict[str, str] = {}
    queue = [start]
    for here in queue:
        for taken in modules[here].imports:
            if taken.target == start:
                return _path(start, here, came_from)
            if taken.target in modules and taken.target not in came_from:
                came_from[taken.target] = here
                queue.append(taken.target)
    return []


def _path(start: str, end: str, came_from: Mapping[str, str]) -> list[str]:
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
