"""Coroutines that nobody awaits, and tasks that nobody keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, called
from durable.lint.scopes import Callable, Scope
from durable.lint.verbs import COROUTINES, TASKS


def check_awaits(code: WorkflowCode) -> Iterator[Offence]:
    """Find calls whose coroutine or task is dropped, or used as if it were its result."""
    for node in code.nodes:
        if not isinstance(node, ast.Call):
            continue
        if _makes_a_coroutine(code, node):
            if _is_misused(code, node) or _is_returned(code, node):
                yield Offence("DUR301", node, called(node, "..."))
        elif code.names.qualify(node.func) in TASKS and _is_dropped(code, node):
            yield Offence("DUR303", node, called(node, "..."))


def _makes_a_coroutine(code: WorkflowCode, call: ast.Call) -> bool:
    if code.names.qualify(call.func) in COROUTINES:
        return True
    found = code.definition(call.func)
    if not isinstance(found, ast.AsyncFunctionDef) or code.is_step(call.func):
        return False
    return not found.decorator_list and not _is_generator(code, found)


def _is_generator(code: WorkflowCode, function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(node, ast.Yield) for node in code.names.inside[function].nodes)


def _is_misused(code: WorkflowCode, call: ast.Call) -> bool:
    """Whether the coroutine itself is dropped, or taken for its result, here or under the name it gets."""
    if _is_dropped(code, call) or _as_result(code, call):
        return True
    loads = _loads_of_name(code, call) or []
    return bool(loads) and all(_as_result(code, load) for load in loads)


def _is_dropped(code: WorkflowCode, call: ast.Call) -> bool:
    if isinstance(code.names.parents[call], ast.Expr):
        return True
    return _loads_of_name(code, call) == []


def _is_returned(code: WorkflowCode, call: ast.Call) -> bool:
    """Whether a coroutine function returns the coroutine: its caller would have to await twice."""
    holder = code.names.function_of(call)
    return isinstance(code.names.parents[call], ast.Return) and isinstance(
        holder, ast.AsyncFunctionDef
    )


def _as_result(code: WorkflowCode, node: ast.expr) -> bool:
    """Whether a value is used in a way that makes no sense for a coroutine."""
    parent = code.names.parents[node]
    match parent:
        case ast.Attribute() | ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.FormattedValue():
            return True
        case ast.Subscript(value=value):
            return value is node
        case (
            ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test)
        ):
            return test is node
        case ast.Match(subject=subject):
            return subject is node
        case (
            ast.For(iter=iterated) | ast.AsyncFor(iter=iterated) | ast.comprehension(iter=iterated)
        ):
            return iterated is node
        case _:
            return False


def _loads_of_name(code: WorkflowCode, call: ast.Call) -> list[ast.expr] | None:
    """Where the variable is read that this call is assigned to; None: it is not, or others may read it."""
    match code.names.parents[call]:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            scope = code.names.scopes[call]
        case _:
            return None
    if not scope.is_function or name in scope.elsewhere:
        return None
    return [
        node
        for node in _nodes_under(code, scope)
        if isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and code.names.scopes[node].owner(name) in {scope, None}
    ]


def _nodes_under(code: WorkflowCode, scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a scope and of every scope inside it."""
    for node in scope.nodes:
        yield node
        if isinstance(node, Callable | ast.ClassDef):
            yield from _nodes_under(code, code.names.inside[node])
