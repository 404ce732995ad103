"""What is given to `ctx.step`, and steps that are called without it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, shown
from durable.lint.names import CTX
from durable.lint.scopes import Callable, Scope

_STORES_ITS_ARGUMENTS = frozenset(
    f"{CTX}.{verb}"
    for verb in ("step", "call", "start", "map", "send_event", "publish", "compensate", "set_state")
)


def check_steps(code: WorkflowCode) -> Iterator[Offence]:
    """Find steps called directly, steps without a name, captured variables, and arguments that cannot be stored."""
    for node in code.nodes:
        if isinstance(node, ast.Call):
            yield from _direct(code, node)
            yield from _taken(code, node)
            yield from _arguments(code, node)


def _direct(code: WorkflowCode, call: ast.Call) -> Iterator[Offence]:
    if code.is_step(call.func):
        yield Offence("DUR302", call, shown(call.func))


def _taken(code: WorkflowCode, call: ast.Call) -> Iterator[Offence]:
    named = any(keyword.arg == "name" for keyword in call.keywords)
    for taken in code.step_arguments(call):
        nameless = isinstance(taken, ast.Lambda) or (
            isinstance(taken, ast.Call)
            and code.names.qualify(taken.func) in {"functools.partial", "functools.partialmethod"}
        )
        if nameless and not named:
            yield Offence("DUR304", taken, shown(taken))
            continue
        found = taken if isinstance(taken, ast.Lambda) else code.definition(taken)
        captured = sorted(_captured(code, found)) if isinstance(found, Callable) else []
        if captured:
            uses = ", ".join(f"`{name}`" for name in captured)
            yield Offence("DUR305", taken, f"the step {shown(taken)} uses {uses} of the workflow,")


def _captured(code: WorkflowCode, function: Callable) -> set[str]:
    """The variables that a function reads of the functions round it."""
    read = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    return {
        name.id
        for scope in _functions_around(code.names.scopes[function])
        for name in read
        if code.names.scopes[name].owner(name.id) is scope and _is_variable(scope, name.id)
    }


def _functions_around(scope: Scope) -> Iterator[Scope]:
    here: Scope | None = scope
    while here is not None:
        if here.is_function:
            yield here
        here = here.parent


def _is_variable(owner: Scope, name: str) -> bool:
    """Whether a name is neither a function that is defined there nor something imported."""
    meaning = owner.names.get(name)
    imported = meaning is not None and meaning != CTX and not meaning.endswith("()")
    return name not in owner.definitions and not imported


def _arguments(code: WorkflowCode, call: ast.Call) -> Iterator[Offence]:
    name = code.names.qualify(call.func)
    if name in _STORES_ITS_ARGUMENTS:
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            if code.names.qualify(given) == CTX:
                yield Offence("DUR306", given, shown(given))
    if name == f"{CTX}.sleep_until":
        for given in call.args[:1]:
            if isinstance(given, ast.Call) and _is_naive(code, given):
                yield Offence("DUR307", given, shown(given))


def _is_naive(code: WorkflowCode, call: ast.Call) -> bool:
    zoned = len(call.args) > 7 or any(keyword.arg in {"tzinfo", None} for keyword in call.keywords)
    starred = any(isinstance(each, ast.Starred) for each in call.args)
    return code.names.qualify(call.func) == "datetime.datetime" and not zoned and not starred
