"""Calls of what a replay would see, draw or do again: families 1 and 2."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from durable.lint.code import WorkflowCode
from durable.lint.finding import Offence, called, shown
from durable.lint.forbidden import READS, rule_of_call, rule_of_callback


def check_calls(code: WorkflowCode) -> Iterator[Offence]:
    """Find calls of forbidden names, and looks at forbidden variables."""
    for node in code.nodes:
        match node:
            case ast.Call():
                yield from _of_call(code, node)
            case ast.Attribute() | ast.Name(ctx=ast.Load()):
                rule = READS.get(code.names.qualify(node) or "")
                if rule:
                    yield Offence(rule, node, shown(node))
            case _:
                pass


def _of_call(code: WorkflowCode, call: ast.Call) -> Iterator[Offence]:
    name = code.names.qualify(call.func)
    rule = rule_of_call(name, call)
    if rule:
        yield Offence(rule, call, called(call))
    for first in call.args[:1]:
        rule = rule_of_callback(name, code.names.qualify(first))
        if rule:
            yield Offence(rule, first, shown(first))
