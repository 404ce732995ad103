"""Which functions of a module are workflow code: workflows, what they call, and what is written inside them.

The functions of steps are not, wherever they stand: a step may do what it likes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

from durable.lint.names import CTX, Names
from durable.lint.scopes import Callable, Function, Scope, parts
from durable.lint.verbs import VERBS

_STEP_DECORATORS = frozenset(
    {"durable.step", "durable.job", "durable.Flow().step", "durable.Flow().map"}
)
_TAKES_A_STEP = frozenset({f"{CTX}.step", f"{CTX}.map", f"{CTX}.compensate", "durable.step"})
_TELLING = frozenset(
    f"{CTX}.{verb}" for verb in VERBS - {"call", "start", "map", "publish", "send_event"}
)
"""Verbs that hardly anybody else's `ctx` has."""
_CALLS_BACK = frozenset(
    {"builtins.map", "builtins.filter", "functools.partial", "functools.reduce"}
)


class WorkflowCode:
    """The part of a module that replay drives."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.calls = tuple(node for node in names.scopes if isinstance(node, ast.Call))
        self.steps: frozenset[ast.AST] = frozenset(self._steps())
        """Functions and lambdas that are steps."""
        self.functions: tuple[Function, ...] = tuple(self._reached())
        """Every function that is workflow code and stands in no other one that is."""
        self.nodes: tuple[ast.AST, ...] = tuple(
            dict.fromkeys(node for function in self.functions for node in self.within(function))
        )
        """Everything in their bodies, nested functions included, in the order of the source."""

    def definition(self, node: ast.expr) -> Function | ast.ClassDef | None:
        """The function or class of this module that an expression names, also as `self.name`."""
        scope = self.names.scopes[node]
        match node:
            case ast.Name(id=name):
                return scope.definition(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=attr):
                return _method(scope, attr)
            case _:
                return None

    def is_step(self, node: ast.expr) -> bool:
        """Whether an expression names a step, made here by a decorator, by `step(...)` or by use."""
        if (
            isinstance(node, ast.Name | ast.Attribute)
            and self.names.qualify(node) == "durable.step()"
        ):
            return True
        return self.definition(node) in self.steps

    def step_arguments(self, call: ast.Call) -> Iterator[ast.expr]:
        """What a call takes as steps: in `ctx.step(fn, x)` it is `fn`."""
        name = self.names.qualify(call.func)
        if name in _TAKES_A_STEP:
            yield from call.args[:1]
        options = isinstance(call.func, ast.Attribute) and call.func.attr == "options"
        for keyword in call.keywords:
            if keyword.arg == "compensate" and (name == "durable.step" or options):
                yield keyword.value
            elif keyword.arg == "steps" and isinstance(keyword.value, ast.List | ast.Tuple):
                yield from keyword.value.elts

    def within(self, function: Callable) -> Iterator[ast.AST]:
        """The nodes of a function's body, without those of steps and annotations."""
        waiting: list[ast.AST] = list(reversed(_body(function)))
        while waiting:
            node = waiting.pop()
            if node in self.steps:
                continue
            yield node
            waiting.extend(reversed(list(_running_parts(node))))

    # -- which are steps

    def _steps(self) -> Iterator[ast.AST]:
        for function in self.names.functions:
            if any(self._decorator(each) in _STEP_DECORATORS for each in function.decorator_list):
                yield function
        for call in self.calls:
            for taken in self.step_arguments(call):
                if isinstance(taken, ast.Lambda):
                    yield taken
                found = self.definition(taken)
                if isinstance(found, Function) and not self._is_workflow(found):
                    yield found

    def _decorator(self, node: ast.expr) -> str | None:
        return self.names.qualify(node.func if isinstance(node, ast.Call) else node)

    def _is_workflow(self, function: Function) -> bool:
        return any(self._decorator(each) == "durable.workflow" for each in function.decorator_list)

    # -- which are workflows

    def _reached(self) -> Iterator[Function]:
        """The workflows, then what they call, once each and without those that stand inside another."""
        reached = dict.fromkeys(
            function for function in self._roots() if function not in self.steps
        )
        waiting = list(reached)
        for function in waiting:  # it grows
            for found in self._called_in(function):
                if found not in reached and found not in self.steps:
                    reached[found] = None
                    waiting.append(found)
        inner = {
            node for each in reached for node in self.within(each) if isinstance(node, Function)
        }
        return (function for function in reached if function not in inner)

    def _roots(self) -> Iterator[Function]:
        calls = self.calls if self._imports_durable else ()
        given = {found for call in calls for found in self._given_as_workflow(call)}
        for function in self.names.functions:
            if self._is_workflow(function) or function in given or self._takes_context(function):
                yield function

    def _given_as_workflow(self, call: ast.Call) -> Iterator[Function]:
        name = self.names.qualify(call.func)
        taken: list[ast.expr] = (
            call.args[:1] if name in {"durable.workflow", "durable.workflow()"} else []
        )
        if isinstance(call.func, ast.Attribute) and call.func.attr == "start":
            taken = call.args[:1]
        for keyword in call.keywords:
            if keyword.arg == "workflows" and isinstance(keyword.value, ast.List | ast.Tuple):
                taken = [*taken, *keyword.value.elts]
        for each in taken:
            found = self.definition(each)
            if isinstance(found, ast.AsyncFunctionDef):
                yield found

    def _takes_context(self, function: Function) -> bool:
        """Whether the first parameter is the context: said by its annotation, or by name and by what is done with it."""
        parameters = [*function.args.posonlyargs, *function.args.args]
        if isinstance(self.names.parents[function], ast.ClassDef):
            parameters = parameters[1:]
        outer = self.names.scopes[function]
        if not parameters or not self.names.is_context(parameters[0], outer):
            return False
        if self.names.annotated(parameters[0].annotation, outer) == "durable.Context":
            return True
        if not isinstance(function, ast.AsyncFunctionDef):
            return False
        return self._uses_verbs(function) or (
            self._imports_durable and not function.decorator_list and not _is_test(function)
        )

    @cached_property
    def _imports_durable(self) -> bool:
        bound = self.names.module.names.values()
        found = [*self.names.stars, *(each for each in bound if each)]
        return any(each.partition(".")[0] == "durable" for each in found)

    def _uses_verbs(self, function: Function) -> bool:
        return any(
            isinstance(node, ast.Call)
            and isinstance(self.names.parents[node], ast.Await)
            and (self.names.qualify(node.func) or "") in _TELLING
            for node in ast.walk(function)
        )

    def _called_in(self, function: Function) -> Iterator[Function]:
        """The functions of this module that a function calls, or hands to something that will."""
        for node in self.within(function):
            if not isinstance(node, ast.Call):
                continue
            used = [node.func]
            if self.names.qualify(node.func) in _CALLS_BACK:
                used += node.args[:1]
            used += [
                each.value for each in node.keywords if each.arg in {"key", "where", "default"}
            ]
            for each in used:
                found = self.definition(each)
                if isinstance(found, ast.ClassDef):
                    yield from _initializers(found)
                elif found is not None:
                    yield found


def _body(function: Callable) -> list[ast.AST]:
    return [function.body] if isinstance(function, ast.Lambda) else [*function.body]


def _running_parts(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node that are run: annotations are not."""
    return (
        child for part, child in parts(node) if part not in {"annotation", "returns", "type_params"}
    )


def _method(scope: Scope | None, name: str) -> Function | ast.ClassDef | None:
    """The method of the class round a scope."""
    while scope is not None and not isinstance(scope.holder, ast.ClassDef):
        scope = scope.parent
    return scope.definitions.get(name) if scope else None


def _initializers(made: ast.ClassDef) -> Iterator[Function]:
    for each in made.body:
        if isinstance(each, Function) and each.name in {"__init__", "__post_init__"}:
            yield each


def _is_test(function: Function) -> bool:
    return function.name.startswith("test_")
