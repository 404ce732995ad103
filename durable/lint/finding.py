"""What the checks say about a module, and what the reader of it is told."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from durable.lint.code import WorkflowCode


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, with its place: lines and columns count from 1, and the end is behind the last character."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.message}"


@dataclass(frozen=True, slots=True)
class Offence:
    """A node that breaks a rule, and how it is called in the message."""

    code: str
    node: ast.expr | ast.stmt | ast.excepthandler
    what: str


Check = Callable[[WorkflowCode], Iterator[Offence]]
"""One subject of the linter: it reads the workflow code of a module and says what is wrong with it."""

_LONGEST = 60


def shown(node: ast.AST) -> str:
    """A piece of code on one line, in backticks, shortened where it is long."""
    text = " ".join(ast.unparse(node).split())
    return f"`{text}`" if len(text) <= _LONGEST else f"`{text[: _LONGEST - 3]}...`"


def called(call: ast.Call, arguments: str = "") -> str:
    """A call in backticks, with this in place of its arguments."""
    return f"{shown(call.func)[:-1]}({arguments})`"
