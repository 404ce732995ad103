"""Scopes: which variable a name is, by the rules of the language."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

Function = ast.FunctionDef | ast.AsyncFunctionDef
Callable = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Holder = ast.Module | ast.ClassDef | Callable


@dataclass(eq=False, slots=True)
class Scope:
    """The names of a module, a class or a function."""

    holder: Holder
    parent: Scope | None
    names: dict[str, str | None] = field(default_factory=dict[str, str | None])
    definitions: dict[str, Function | ast.ClassDef] = field(
        default_factory=dict[str, Function | ast.ClassDef]
    )
    elsewhere: dict[str, Scope | None] = field(default_factory=dict[str, "Scope | None"])
    """Names declared `global` (the module's scope) or `nonlocal` (None)."""
    nodes: list[ast.AST] = field(default_factory=list[ast.AST])
    """What stands in it and in no scope within, in the order of the source."""
    tentative: set[str] = field(default_factory=set[str])
    """Names that so far hold only None, as in `httpx = None`."""

    @property
    def is_function(self) -> bool:
        """Whether its code runs when somebody calls it."""
        return not isinstance(self.holder, ast.Module | ast.ClassDef)

    def owner(self, name: str) -> Scope | None:
        """The scope whose variable this is; None: a builtin, or a name from nowhere."""
        here: Scope | None = self
        while here is not None:
            if here.elsewhere.get(name):
                return here.elsewhere[name]
            if name in here.names and (here is self or not isinstance(here.holder, ast.ClassDef)):
                return here
            here = here.parent
        return None

    def definition(self, name: str) -> Function | ast.ClassDef | None:
        """The function or class of this file that a name means."""
        owner = self.owner(name)
        return owner.definitions.get(name) if owner else None

    def bind(self, name: str, value: str | None) -> None:
        """Let a name mean a value; what means several things means nothing."""
        if name in self.elsewhere:
            return
        if name in self.names and name not in self.tentative and self.names[name] != value:
            value = None
        self.tentative.discard(name)
        self.names[name] = value

    def bind_tentatively(self, name: str) -> None:
        """Let a name hold None until something better comes."""
        if name not in self.elsewhere and name not in self.names:
            self.names[name] = None
            self.tentative.add(name)


def parts(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The children of a node, each with the name of the field in which it stands."""
    for name in node._fields:
        value = cast(object, getattr(node, name, None))
        for child in cast(list[object], value) if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield name, child
