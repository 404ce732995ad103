"""Handlers that swallow a cancellation."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, shown
from durable.lint.scopes import Callable

_EVERYTHING = "builtins.BaseException"
_CANCELLED = frozenset(
    {
        "asyncio.CancelledError",
        "asyncio.exceptions.CancelledError",
        "concurrent.futures.CancelledError",
    }
)


def check_handlers(code: WorkflowCode) -> Iterator[Offence]:
    """Find what a cancelled run cannot get through."""
    for node in code.nodes:
        match node:
            case ast.Try() | ast.TryStar() if _suspends(node.body):
                yield from _handlers(code, node)
                yield from _leaves_finally(code, node)
            case ast.With(items=items, body=body) if _suspends(body):
                for item in items:
                    yield from _suppressed(code, item.context_expr)
            case _:
                pass


def _handlers(code: WorkflowCode, tried: ast.Try | ast.TryStar) -> Iterator[Offence]:
    let_through = False
    for handler in tried.handlers:
        caught = {code.names.qualify(each) for each in _types(handler.type)}
        raises = _has(handler.body, ast.Raise)
        if handler.type is None or _EVERYTHING in caught:
            if not raises and not let_through:
                said = shown(handler.type) if handler.type else ""
                yield Offence("DUR401", handler, f"`except{said and ' '}{said.strip('`')}`")
        elif caught & _CANCELLED:
            let_through = True
            stops = raises or _has(handler.body, ast.Return)
            if not stops and not _ends_own_task(code, tried):
                assert handler.type is not None
                yield Offence("DUR402", handler, f"`except {shown(handler.type).strip('`')}`")


def _suppressed(code: WorkflowCode, manager: ast.expr) -> Iterator[Offence]:
    if (
        not isinstance(manager, ast.Call)
        or code.names.qualify(manager.func) != "contextlib.suppress"
    ):
        return
    caught = {code.names.qualify(each) for each in manager.args}
    if _EVERYTHING in caught:
        yield Offence("DUR401", manager, shown(manager))
    elif caught & _CANCELLED and not _ends_own_task(
        code, code.names.parents[code.names.parents[manager]]
    ):
        yield Offence("DUR402", manager, shown(manager))


def _leaves_finally(code: WorkflowCode, tried: ast.Try | ast.TryStar) -> Iterator[Offence]:
    for node in _nodes(tried.finalbody):
        leaves = isinstance(node, ast.Return) or (
            isinstance(node, ast.Break | ast.Continue)
            and not any(
                isinstance(each, ast.For | ast.AsyncFor | ast.While)
                for each in _up_to(code, node, tried)
            )
        )
        if leaves and isinstance(node, ast.stmt):
            yield Offence("DUR403", node, f"{shown(node)} in `finally`")


def _types(caught: ast.expr | None) -> Iterable[ast.expr]:
    if caught is None:
        return ()
    return caught.elts if isinstance(caught, ast.Tuple) else (caught,)


def _suspends(body: list[ast.stmt]) -> bool:
    return _has(body, ast.Await, ast.AsyncFor, ast.AsyncWith) or any(
        isinstance(node, ast.comprehension) and node.is_async for node in _nodes(body)
    )


def _ends_own_task(code: WorkflowCode, block: ast.AST) -> bool:
    """Whether only a task is awaited that this function itself has cancelled: `task.cancel()` somewhere in it."""
    body = block.body if isinstance(block, ast.Try | ast.TryStar | ast.With) else []
    awaited = [node.value for node in _nodes(body) if isinstance(node, ast.Await)]
    function = code.names.function_of(block)
    cancelled = {
        node.func.value.id
        for node in (code.within(function) if function else ())
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "cancel"
        and isinstance(node.func.value, ast.Name)
    }
    return bool(awaited) and all(
        isinstance(each, ast.Name) and each.id in cancelled for each in awaited
    )


def _has(body: list[ast.stmt], *kinds: type[ast.AST]) -> bool:
    return any(isinstance(node, kinds) for node in _nodes(body))


def _nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """What runs in these statements, without the functions that are only defined there."""
    waiting: list[ast.AST] = [*body]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Callable | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _up_to(code: WorkflowCode, node: ast.AST, end: ast.AST) -> Iterator[ast.AST]:
    for above in code.names.above(node):
        if above is end:
            return
        yield above
