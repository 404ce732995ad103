"""Calls that are made in the order of a set, which is another one in every process."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, shown
from durable.lint.names import CTX
from durable.lint.scopes import Scope
from durable.lint.verbs import COROUTINES, TASKS

_SETS = frozenset({"builtins.set", "builtins.frozenset"})
_SET_TYPES = _SETS | {
    f"{module}.{name}"
    for module in ("typing", "collections.abc")
    for name in ("Set", "AbstractSet", "FrozenSet", "MutableSet")
}
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_KEEP_THE_ORDER = frozenset(
    f"builtins.{name}"
    for name in (
        "list",
        "tuple",
        "iter",
        "enumerate",
        "zip",
        "map",
        "filter",
        "reversed",
        "dict.fromkeys",
    )
)
_ALGEBRA = ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor
_TAKES_CALLS = frozenset({f"{CTX}.map", f"{CTX}.parallel", *TASKS})
_STORES = frozenset(f"{CTX}.{verb}" for verb in ("step", "call", "start", "send_event", "publish"))


def check_order(code: WorkflowCode) -> Iterator[Offence]:
    """Find loops, groups and arguments that take their order from a set."""
    unordered = _Unordered(code)
    for node in code.nodes:
        match node:
            case ast.For(iter=iterated) if unordered.is_so(iterated) and _commands(
                code, *node.body
            ):
                yield Offence("DUR501", iterated, shown(iterated))
            case ast.ListComp(elt=made) | ast.GeneratorExp(elt=made) | ast.DictComp(value=made):
                first = node.generators[0].iter
                if unordered.is_so(first) and _commands(code, made):
                    yield Offence("DUR501", first, shown(first))
            case ast.Call():
                yield from _given(code, unordered, node)
            case _:
                pass


def _given(code: WorkflowCode, unordered: _Unordered, call: ast.Call) -> Iterator[Offence]:
    """A group over a set, a list of one as an argument, and whichever element comes first."""
    name = code.names.qualify(call.func)
    if name in _TAKES_CALLS:
        for given in call.args:
            value = given.value if isinstance(given, ast.Starred) else given
            told_there = isinstance(value, ast.ListComp | ast.GeneratorExp) and _commands(
                code, value.elt
            )
            if unordered.is_so(value) and not told_there:
                yield Offence("DUR501", value, shown(value))
    elif name in _STORES:
        for given in (*call.args[1:], *(keyword.value for keyword in call.keywords)):
            if unordered.is_so(given) and not unordered.is_set(given):
                yield Offence("DUR501", given, shown(given))
    elif _takes_the_first(unordered, call, name):
        yield Offence("DUR501", call, shown(call))


def _takes_the_first(unordered: _Unordered, call: ast.Call, name: str | None) -> bool:
    """Whether a call takes whichever element of a set comes first."""
    match call:
        case ast.Call(args=[first, *_]):
            return name == "builtins.next" and unordered.is_so(first)
        case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[]):
            return unordered.is_set(value)
        case _:
            return False


def _commands(code: WorkflowCode, *body: ast.AST) -> bool:
    """Whether something in a piece of code asks for something, or waits."""
    return any(
        isinstance(each, ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(each, ast.Call) and _makes_a_call(code, each))
        for node in body
        for each in ast.walk(node)
    )


def _makes_a_call(code: WorkflowCode, call: ast.Call) -> bool:
    name = code.names.qualify(call.func)
    return (
        name in COROUTINES
        or name in TASKS
        or name in {f"{CTX}.compensate", f"{CTX}.random"}
        or isinstance(code.definition(call.func), ast.AsyncFunctionDef)
    )


class _Unordered:
    """Which expressions have the order of a set."""

    def __init__(self, code: WorkflowCode) -> None:
        self.code = code
        self._known: dict[tuple[Scope, str, bool], bool] = {}

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression is certainly a set, of what has no order of its own."""
        match node:
            case ast.Set(elts=elements):
                return not all(_is_number(each) or self._is_task(each) for each in elements)
            case ast.SetComp(elt=made):
                return not self._is_task(made)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ALGEBRA):
                return self.is_set(left) or (self.is_set(right) and isinstance(op, ast.BitOr))
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _SET_METHODS:
                return self.is_set(value)
            case ast.Call(func=func, args=args):
                if self.code.names.qualify(func) not in _SETS:
                    return False
                return not args or not self._of_tasks(args[0])
            case ast.Name():
                return self._name(node, wide=False)
            case _:
                return False

    def is_so(self, node: ast.expr) -> bool:
        """Whether an expression is such a set, or a list, an iterator or a part of one."""
        match node:
            case ast.Call(func=func, args=args) if self.code.names.qualify(func) in _KEEP_THE_ORDER:
                return any(self.is_so(each) for each in args)
            case ast.ListComp(generators=[first, *_]) | ast.GeneratorExp(generators=[first, *_]):
                return self.is_so(first.iter)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return any(
                    isinstance(each, ast.Starred) and self.is_so(each.value) for each in elements
                )
            case ast.Subscript(value=value):
                return self.is_so(value)
            case ast.Name():
                return self.is_set(node) or self._name(node, wide=True)
            case _:
                return self.is_set(node)

    def _name(self, name: ast.Name, *, wide: bool) -> bool:
        """Whether everything that a variable is bound to is so; what others hand in is known by its annotation."""
        owner = self.code.names.scopes[name].owner(name.id)
        if owner is None or not owner.is_function:
            return False
        key = (owner, name.id, wide)
        if key not in self._known:
            self._known[key] = False  # what is made of itself is judged by the rest
            bound = [node for node in owner.nodes if _binds(node, name.id)]
            values = [
                found for node in bound if (found := self._binding(node, wide=wide)) is not None
            ]
            self._known[key] = (
                bool(values) and all(values) and not self._collects_tasks(name.id, owner)
            )
        return self._known[key]

    def _binding(self, node: ast.AST, *, wide: bool) -> bool | None:
        """Whether one binding of a variable is so; None: it says nothing, as `found |= more`."""
        judge = self.is_so if wide else self.is_set
        if isinstance(node, ast.arg):
            return self._is_annotated(node.annotation, node)
        match self.code.names.parents[node]:
            case ast.Assign(value=value, targets=targets) if node in targets:
                return judge(value)
            case ast.NamedExpr(value=value):
                return judge(value)
            case ast.AnnAssign(value=ast.expr() as value, annotation=annotation):
                return judge(value) and not _holds_tasks_or_numbers(annotation)
            case ast.AnnAssign(annotation=annotation):
                return self._is_annotated(annotation, node)
            case ast.AugAssign():
                return None
            case _:
                return False

    def _is_annotated(self, annotation: ast.expr | None, node: ast.AST) -> bool:
        names = self.code.names
        said = names.annotated(annotation, names.scopes[node])
        return said in _SET_TYPES and not _holds_tasks_or_numbers(annotation)

    def _collects_tasks(self, name: str, owner: Scope) -> bool:
        """Whether tasks are put into a set: those are ordered by their numbers."""
        for node in owner.nodes:
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id=found), attr="add"), args=[given]
                ):
                    if found == name and self._is_task(given):
                        return True
                case ast.AugAssign(target=ast.Name(id=found), value=value) if found == name:
                    if isinstance(value, ast.Set | ast.SetComp) and not self.is_set(value):
                        return True
                case _:
                    pass
        return False

    def _of_tasks(self, node: ast.expr) -> bool:
        match node:
            case ast.ListComp(elt=made) | ast.GeneratorExp(elt=made) | ast.SetComp(elt=made):
                return self._is_task(made)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return all(self._is_task(each) or _is_number(each) for each in elements)
            case ast.Call(func=func):
                return self.code.names.qualify(func) == "builtins.range"
            case ast.Name(id=name):
                return any(self._of_tasks(value) for value in self._lists_called(name, node))
            case _:
                return False

    def _lists_called(self, name: str, at: ast.expr) -> Iterator[ast.expr]:
        """The displays of lists that a variable is bound to."""
        owner = self.code.names.scopes[at].owner(name)
        for node in owner.nodes if owner else ():
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=found)], value=ast.List() | ast.ListComp() as value
                ):
                    if found == name:
                        yield value
                case _:
                    pass

    def _is_task(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return (self.code.names.qualify(node) or "").removesuffix("()") in TASKS
        if not isinstance(node, ast.Call):
            return False
        by_group = isinstance(node.func, ast.Attribute) and node.func.attr == "create_task"
        return by_group or self.code.names.qualify(node.func) in TASKS


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.arg):
        return node.arg == name
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _holds_tasks_or_numbers(annotation: ast.expr | None) -> bool:
    """Whether an annotation says that the elements have the same order everywhere."""
    text = ast.unparse(annotation) if annotation is not None else ""
    return any(word in text for word in ("Task", "Future", "[int]", "[bool]"))
