"""From a file to its findings: parse, check, and leave out what was asked to be ignored."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from durable.lint.checks import CHECKS
from durable.lint.code import WorkflowCode
from durable.lint.finding import Finding, Offence
from durable.lint.ignoring import Ignore, ignores_in
from durable.lint.names import Names
from durable.lint.rules import RULES

DEFAULT = frozenset(code for code, rule in RULES.items() if rule.by_default)
"""The rules that are looked for unless others are asked for."""

_UNREADABLE, _UNUSED = "DUR900", "DUR901"


def lint_file(path: Path, select: Iterable[str] = DEFAULT) -> list[Finding]:
    """Check one file; one that cannot be read is a finding itself."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return _unreadable(str(path), 1, 1, error.strerror or str(error), frozenset(select))
    return lint_source(content, str(path), select)


def lint_source(source: str | bytes, path: str, select: Iterable[str] = DEFAULT) -> list[Finding]:
    """Check the text of a module, by the codes in `select`; nothing of it is imported or run.

    `path` is what the findings are told to be in. They come in the order of the source.
    """
    wanted = frozenset(select)
    try:
        text = _with_plain_newlines(source if isinstance(source, str) else _decoded(source))
        names, ignores = Names(_parse(text)), ignores_in(text)
        offences = _offences(names)
    except SyntaxError as error:  # so is an unknown encoding
        return _unreadable(path, error.lineno or 1, error.offset or 1, error.msg, wanted)
    except (ValueError, tokenize.TokenError) as error:  # null bytes, characters that are none
        return _unreadable(path, 1, 1, str(error), wanted)
    except (RecursionError, MemoryError):
        return _unreadable(path, 1, 1, "nested too deeply", wanted)
    reader = _Reader(path, text, names, ignores, wanted)
    return sorted(
        {*reader.findings(offences), *reader.unused()},
        key=lambda found: (found.line, found.column, found.code),
    )


def _decoded(source: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return source.decode(encoding)


def _with_plain_newlines(text: str) -> str:
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is another linter's business
        return ast.parse(text)


def _offences(names: Names) -> list[Offence]:
    code = WorkflowCode(names)
    return [offence for check in CHECKS for offence in check(code)]


def _unreadable(
    path: str, line: int, column: int, why: str, wanted: frozenset[str]
) -> list[Finding]:
    if _UNREADABLE not in wanted:
        return []
    message = RULES[_UNREADABLE].message(why)
    return [Finding(path, line, column, line, column, _UNREADABLE, message)]


class _Reader:
    """Turns offences of one file into findings."""

    def __init__(
        self,
        path: str,
        text: str,
        names: Names,
        ignores: dict[int, Ignore],
        wanted: frozenset[str],
    ) -> None:
        self.path = path
        self.lines = text.split("\n")
        self.names = names
        self.ignores = ignores
        self.wanted = wanted

    def findings(self, offences: Iterable[Offence]) -> Iterator[Finding]:
        for offence in offences:
            if offence.code in self.wanted and not self._is_ignored(offence):
                yield self._finding(offence)

    def unused(self) -> Iterator[Finding]:
        if _UNUSED not in self.wanted:
            return
        for ignore in self.ignores.values():
            if ignore.unused is not None:
                place = (ignore.line, ignore.column + 1, ignore.line, ignore.end_column + 1)
                message = RULES[_UNUSED].message(f"`# {ignore.unused}`")
                yield Finding(self.path, *place, _UNUSED, message)

    def _is_ignored(self, offence: Offence) -> bool:
        return any(
            self.ignores[line].suppresses(offence.code)
            for line in self._lines_of(offence.node)
            if line in self.ignores
        )

    def _lines_of(self, node: ast.expr | ast.stmt | ast.excepthandler) -> list[int]:
        """Where a comment speaks of a node: its own ends, and those of its statement or of that one's header."""
        whole: ast.AST = node
        while not isinstance(whole, ast.stmt | ast.excepthandler):
            whole = self.names.parents[whole]
        lines = {node.lineno, whole.lineno, _last_line(whole)}
        if node is not whole:
            lines.add(node.end_lineno or node.lineno)
        return sorted(lines)

    def _finding(self, offence: Offence) -> Finding:
        node = offence.node
        end_line, end = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
        return Finding(
            self.path,
            node.lineno,
            self._column(node.lineno, node.col_offset),
            end_line,
            self._column(end_line, end),
            offence.code,
            RULES[offence.code].message(offence.what),
        )

    def _column(self, line: int, offset: int) -> int:
        """The column in characters: the parser counts bytes."""
        return len(self.lines[line - 1].encode()[:offset].decode(errors="ignore")) + 1


def _last_line(statement: ast.stmt | ast.excepthandler) -> int:
    """The last line of a statement; of one with a body, of what stands before that."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    if not body:
        return statement.end_lineno or statement.lineno
    return max(statement.lineno, body[0].lineno - 1)
