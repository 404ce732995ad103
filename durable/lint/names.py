"""What the names of a module mean: `dt.now` is `datetime.datetime.now`, whatever was imported as what.

A qualified name is a dotted path from an import; `httpx.Client()` in it is an object made by `httpx.Client`, and
`<ctx>` the context of a workflow. What cannot be told from the source alone is None, and never reported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.forbidden import is_seeded, rule_of
from durable.lint.scopes import Callable, Function, Holder, Scope, parts

CTX = "<ctx>"
_CONTEXT_NAMES = frozenset({"ctx", "_ctx"})
_VAGUE = frozenset({"typing.Any", "builtins.object", "builtins.Context"})
_PUBLIC = frozenset(
    {
        "workflow",
        "step",
        "job",
        "Flow",
        "Context",
        "Client",
        "Worker",
        "current_context",
        "current_step",
    }
)
"""Names of durable that the checks know, wherever inside of the package they were imported from."""


class Names:
    """A parsed module with the parent, the scope and the meaning of each node."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {}
        self.inside: dict[Holder, Scope] = {}
        self.stars: list[str] = []
        """Modules of which everything was imported."""
        self.module = self._place()
        for scope in self.inside.values():
            _Binder(self, scope).bind_all()

    def _place(self) -> Scope:
        """Give each node its parent and its scope, from the top of the file to its end."""
        module = Scope(self.tree, None)
        self.inside[self.tree] = module
        waiting: list[tuple[ast.AST, Scope]] = [(self.tree, module)]
        while waiting:
            node, scope = waiting.pop()
            self.scopes[node] = scope
            scope.nodes.append(node)
            if isinstance(node, Callable | ast.ClassDef):
                self.inside[node] = Scope(node, scope)
            children = [
                (child, self._scope_of_part(node, part, scope)) for part, child in parts(node)
            ]
            for child, _ in children:
                self.parents[child] = node
            waiting.extend(reversed(children))
        return module

    def _scope_of_part(self, node: ast.AST, part: str, scope: Scope) -> Scope:
        """Bodies are in the scope that a node opens; decorators, defaults and annotations are round it."""
        if isinstance(node, Callable | ast.ClassDef):
            return self.inside[node] if part in {"body", "args"} else scope
        if isinstance(node, ast.arguments | ast.arg) and not part.endswith(("args", "arg")):
            return scope.parent or scope
        return scope

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes round a node, from the nearest one."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def function_of(self, node: ast.AST) -> Callable | None:
        """The function whose code a node is."""
        scope: Scope | None = self.scopes[node]
        while scope is not None and isinstance(scope.holder, ast.ClassDef):
            scope = scope.parent
        holder = scope.holder if scope else None
        return holder if isinstance(holder, Callable) else None

    @property
    def functions(self) -> Iterator[Function]:
        """Every `def` of the module, wherever it stands."""
        return (holder for holder in self.inside if isinstance(holder, Function))

    def qualify(self, node: ast.expr, scope: Scope | None = None) -> str | None:
        """What an expression means, seen from where it stands."""
        scope = scope or self.scopes[node]
        match node:
            case ast.Name(id=name):
                return self._name(name, scope)
            case ast.Attribute(attr=attr) if attr in _CONTEXT_NAMES:
                return CTX
            case ast.Attribute(value=value, attr=attr):
                base = self.qualify(value, scope)
                return _public(f"{base}.{attr}") if base else None
            case ast.Call(func=func):
                return self._made_by(self.qualify(func, scope), scope)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.qualify(value, scope)
            case ast.BinOp(left=left, op=ast.Div()):
                made = self.qualify(left, scope)
                return made if made == "pathlib.Path()" else None
            case _:
                return None

    def _name(self, name: str, scope: Scope) -> str | None:
        owner = scope.owner(name)
        if owner is not None:
            return owner.names.get(name)
        if name in _PUBLIC and any(star.partition(".")[0] == "durable" for star in self.stars):
            return f"durable.{name}"
        return f"builtins.{name}"

    @staticmethod
    def _made_by(maker: str | None, scope: Scope) -> str | None:
        if maker is None:
            return None
        if maker == "durable.current_context":
            return CTX
        # A function that makes something forbidden is told so there; what it does with it is no second mistake.
        if scope.is_function and (rule_of(maker) or is_seeded(maker)):
            return None
        return f"{maker}()"

    def annotated(self, annotation: ast.expr | None, scope: Scope) -> str | None:
        """The qualified name of the class in an annotation, through `| None`, `Optional`, `Annotated` and quotes."""
        match annotation:
            case ast.Constant(value=str(text)):
                try:
                    return self.annotated(ast.parse(text, mode="eval").body, scope)
                except (SyntaxError, ValueError):
                    return None
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.annotated(right if _is_none(left) else left, scope)
            case ast.Subscript(value=value, slice=inner):
                outer = self.annotated(value, scope) or ""
                if outer.rpartition(".")[2] not in {"Optional", "Annotated"}:
                    return outer or None
                first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
                return self.annotated(first, scope)
            case ast.Name() | ast.Attribute():
                return self.qualify(annotation, scope)
            case _:
                return None

    def is_context(self, parameter: ast.arg, scope: Scope) -> bool:
        """Whether a parameter is a workflow's context, by its annotation or, without one that says else, its name."""
        said = self.annotated(parameter.annotation, scope)
        if said == "durable.Context":
            return True
        unsaid = parameter.annotation is None or said in _VAGUE
        reexported = said is not None and said.startswith(".") and said.endswith(".Context")
        return parameter.arg in _CONTEXT_NAMES and (unsaid or reexported)


class _Binder:
    """Finds what each name of one scope is bound to."""

    def __init__(self, names: Names, scope: Scope) -> None:
        self.names = names
        self.scope = scope

    def bind_all(self) -> None:
        for node in self.scope.nodes:
            self._declare(node)
        for node in self.scope.nodes:
            self._bind(node)

    def _declare(self, node: ast.AST) -> None:
        if isinstance(node, ast.Global):
            self.scope.elsewhere.update(dict.fromkeys(node.names, self.names.module))
        elif isinstance(node, ast.Nonlocal):
            self.scope.elsewhere.update(dict.fromkeys(node.names))

    def _bind(self, node: ast.AST) -> None:
        bind = self.scope.bind
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    bind(alias.asname or alias.name.partition(".")[0], _imported(alias))
            case ast.ImportFrom(names=aliases, module=module, level=level):
                base = "." * level + (module or "")
                for alias in aliases:
                    if alias.name == "*":
                        self.names.stars.append(base)
                    else:
                        bind(alias.asname or alias.name, _public(f"{base}.{alias.name}"))
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                bind(name, None)
                self.scope.definitions[name] = node
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                self._bind_target(node, name)
            case ast.arg(arg=name):
                bind(name, self._parameter(node))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                bind(name, None)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                bind(name, None)
            case _:
                pass

    def _bind_target(self, target: ast.Name, name: str) -> None:
        match self.names.parents[target]:
            case ast.Assign(value=ast.Constant(value=None)):
                self.scope.bind_tentatively(name)
            case ast.Assign(value=value) | ast.NamedExpr(value=value):
                self.scope.bind(name, self.names.qualify(value))
            case ast.AnnAssign(value=None, annotation=annotation):
                said = self.names.annotated(annotation, self.scope)
                self.scope.bind(name, f"{said}()" if said else None)
            case ast.AnnAssign(value=ast.expr() as value):
                self.scope.bind(name, self.names.qualify(value))
            case ast.withitem(context_expr=value):
                self.scope.bind(name, self.names.qualify(value))
            case _:
                self.scope.bind(name, None)

    def _parameter(self, parameter: ast.arg) -> str | None:
        outer = self.scope.parent or self.scope
        if self.names.is_context(parameter, outer):
            return CTX
        said = self.names.annotated(parameter.annotation, outer)
        return f"{said}()" if said else None


def _imported(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _public(name: str) -> str:
    parts = name.split(".")
    inside = parts[0] == "durable" and parts[1:2] != ["sync"]
    return f"durable.{parts[-1]}" if inside and parts[-1] in _PUBLIC and "(" not in name else name


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
