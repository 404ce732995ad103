"""Whatever Python there is, the linter reads it to the end."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.lint import RULES, lint_source

LIBRARY = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py"))
PIECES = [
    "import time, asyncio, random as r",
    "from durable import *",
    "x: set[str] = set()",
    "x = y = ctx.step(f, x)",
    "x, *y = await ctx.parallel({n for n in y})",
    "del x",
    "global x",
    "x[0].y += time.time()",
    "for x in {*y}: ctx.sleep(x)",
    "async for x in y: yield x",
    "with open(x) as x.y, y: pass",
    "async with ctx.saga() as (x, y): await x",
    "def f(x=[], *, y={}): return f",
    "async def g(ctx, /, x): await g(ctx, x)",
    "class A(x, metaclass=y): f = lambda self: self.f(ctx)",
    "try: await x\nexcept: pass\nfinally: return",
    "try: await x\nexcept* ValueError: ctx.step(lambda: x)",
    "match await x:\n  case {'a': x, **y} | [x, *y]: x.pop()\n  case A(x) as y: pass",
    "x = [await y for y in set(x) if (z := y)]",
    "f'{x!r:{y}} {time.time()}'",
    "return ctx.map(f, x)",
    "while x: break",
    "self.ctx.step(self.f, ctx)",
    "x @= y if x else (yield)",
    "print(*x, **y)",
    "nonlocal_ = lambda *a, **k: (a, k)",
    "x = durable.step(x)(y).options(compensate=z)",
    "pass  # durable: ignore[DUR101",
]


def as_workflows(tree: ast.Module) -> str:
    """The same module with every function made a workflow, so that all checks look at all of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list.append(ast.parse("__import__durable.workflow", mode="eval").body)
    future = sum(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )
    docstring = ast.get_docstring(tree, clean=False) is not None
    tree.body.insert(future + docstring, ast.parse("import durable as __import__durable").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def check(source: str) -> set[str]:
    """Lint it and hold that each finding stands somewhere in it."""
    found = lint_source(source, "x.py", RULES)
    lines = source.splitlines() or [""]
    for each in found:
        assert 1 <= each.line <= each.end_line <= len(lines)
        assert each.column >= 1
        assert "\n" not in each.message
    return {each.code for each in found}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LIBRARY))
def test_the_standard_library_is_read_as_it_is_and_as_workflows(path):
    """None of it is a workflow; made workflows, its functions are checked from end to end."""
    source = path.read_text(encoding="utf-8")
    assert check(source) == set()
    assert "DUR900" not in check(as_workflows(ast.parse(source)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=8), st.booleans())
def test_pieces_in_any_order_are_read(pieces, nested):
    body = "\n".join(pieces)
    inner = "\n".join(f"    {line}" for line in body.splitlines())
    source = f"from durable import workflow\n@workflow\nasync def w(ctx, x, y, f, z):\n{inner}\n"
    if nested:
        deeper = "\n".join(f"    {line}" for line in inner.splitlines())
        source += f"    def inner(ctx):\n{deeper}\n    inner(ctx)\n"
    check(source)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    codes = {each.code for each in lint_source(text, "x.py", RULES)}
    assert codes <= {"DUR900", "DUR901"}


@given(st.binary())
def test_any_bytes_are_read_or_refused(content):
    codes = {each.code for each in lint_source(content, "x.py", RULES)}
    assert codes <= {"DUR900", "DUR901"}


@pytest.mark.parametrize("depth", [50, 90])
def test_deep_nesting_is_read(depth):
    deep = "+".join(["time.time()"] * depth)
    source = (
        f"import time\nfrom durable import workflow\n@workflow\nasync def f(ctx): return {deep}"
    )
    assert len(lint_source(source, "x.py")) == depth


def test_the_library_is_not_empty():
    assert len(LIBRARY) > 100
