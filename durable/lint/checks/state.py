"""State outside of the history: globals that change, and defaults that are shared."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, shown
from durable.lint.names import Names
from durable.lint.scopes import Callable

_MAKES_A_CONTAINER = frozenset(
    {
        *(f"builtins.{name}" for name in ("list", "dict", "set", "bytearray", "iter")),
        *(
            f"collections.{name}"
            for name in ("defaultdict", "deque", "Counter", "OrderedDict", "ChainMap")
        ),
        *(f"itertools.{name}" for name in ("count", "cycle")),
    }
)
_DISPLAYS = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
_CHANGES = frozenset(
    "append appendleft extend extendleft insert remove pop popleft popitem clear add discard update setdefault sort"
    " reverse rotate subtract intersection_update difference_update symmetric_difference_update".split()
)


def check_state(code: WorkflowCode) -> Iterator[Offence]:
    """Find globals that some function changes where a workflow uses them, and mutable defaults."""
    changing = _changing_globals(code.names)
    for node in code.nodes:
        match node:
            case ast.Name(id=name) if name in changing and _is_global(code.names, node):
                yield Offence("DUR502", node, f"the global {shown(node)}")
            case ast.Attribute(value=ast.Name() as module, ctx=ast.Store() | ast.Del()):
                if _is_imported(code.names, module):
                    yield Offence("DUR502", node, f"the global {shown(node)}")
            case _:
                pass
    for function in _functions(code):
        for default in (*function.args.defaults, *function.args.kw_defaults):
            if default is not None and _is_container(code.names, default):
                yield Offence("DUR503", default, f"the default {shown(default)}")


def _functions(code: WorkflowCode) -> Iterator[Callable]:
    yield from code.functions
    for node in code.nodes:
        if isinstance(node, Callable):
            yield node


def _changing_globals(names: Names) -> frozenset[str]:
    """Containers of the module that some function changes, and names that some function binds anew."""
    containers = {name for node in names.module.nodes for name in _container_name(names, node)}
    changed = {
        name.id
        for node in names.scopes
        if (name := _changed_by(names, node)) is not None and _is_global(names, name)
    }
    rebound = {
        node.id
        for node in names.scopes
        if isinstance(node, ast.Name)
        and not isinstance(node.ctx, ast.Load)
        and names.scopes[node].elsewhere.get(node.id) is names.module
    }
    return frozenset(containers & changed | rebound)


def _container_name(names: Names, node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Assign(value=value, targets=targets) if _is_container(names, value):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(value=ast.expr() as value, target=ast.Name(id=name)):
            if _is_container(names, value):
                yield name
        case _:
            pass


def _is_container(names: Names, node: ast.expr) -> bool:
    if isinstance(node, _DISPLAYS):
        return True
    return isinstance(node, ast.Call) and names.qualify(node.func) in _MAKES_A_CONTAINER


def _changed_by(names: Names, node: ast.AST) -> ast.Name | None:
    """The variable whose value a node changes, when it is run by a function."""
    if names.function_of(node) is None:
        return None
    match node:
        case ast.Subscript(ctx=ast.Store() | ast.Del(), value=ast.expr() as value):
            return _base(value)
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _CHANGES:
            return _base(value)
        case ast.Call(func=func, args=[ast.Name() as name, *_]):
            return name if names.qualify(func) == "builtins.next" else None
        case _:
            return None


def _base(node: ast.expr) -> ast.Name | None:
    """The variable in `name[key][other]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def _is_global(names: Names, name: ast.Name) -> bool:
    scope = names.scopes[name]
    return scope is not names.module and scope.owner(name.id) is names.module


def _is_imported(names: Names, name: ast.Name) -> bool:
    """Whether a name means a module, or something in one, rather than an object that was made here."""
    owner = names.scopes[name].owner(name.id)
    meaning = owner.names.get(name.id) if owner else None
    return owner is names.module and meaning is not None and "()" not in meaning
